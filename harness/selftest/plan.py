"""The plan of a selftest: settings come in, the correct networks and those to plant faults in go out, of one part of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness import runner
from harness.cases import list_hazards, make_problem, plan_cases
from harness.core import DTYPES, BadInput
from harness.discovery import choose, find_backends, find_layers
from harness.engines import Shard
from harness.judge.oracle import check_precision
from harness.rivals.rival import Rival, choose_rivals, count_numbers, find_absent
from harness.selftest.tables import CHECKS
from harness.selftest.trials import Task

TENTH = 10
SLOW_NETWORKS = 30
PARTS = "selftest_parts"  # the folder within the output folder


@dataclass(frozen=True)
class Settings:
    """What a selftest is asked for; names are comma-separated, "all", or "none" for `against`."""

    networks: int = 100
    mutated: int = 20
    seed: int = 0
    dtypes: str = "all"
    backends: str = "numpy,torch,jax"
    against: str = "none"
    layers: str = "all"
    out: Path = Path("reports/latest")
    jobs: int = -1
    part: str = "1/1"
    timeout: float = 600.0


@dataclass(frozen=True)
class Plan:
    """Settings that were checked: the names found, and which part of how many this is."""

    settings: Settings
    layers: Mapping[str, Any]
    dtypes: tuple[str, ...]
    backends: tuple[str, ...]
    rivals: tuple[Rival, ...]
    missing: Mapping[str, str]
    part: int
    parts: int

    @property
    def folder(self) -> Path:
        """Where this part keeps its rows."""
        return self.settings.out / PARTS / f"{self.part}-of-{self.parts}"

    @property
    def asked(self) -> dict[str, Any]:
        """What all parts of one selftest have in common."""
        own = {key: getattr(self.settings, key) for key in ("networks", "mutated", "seed")}
        names = {"dtypes": self.dtypes, "backends": self.backends, "layers": tuple(self.layers)}
        rivals = tuple(rival.name for rival in self.rivals)
        asked: dict[str, Any] = json.loads(json.dumps({**own, **names, "rivals": rivals, "parts": self.parts}))
        return asked

    @property
    def jobs(self) -> int:
        """How many worker processes, as in a run."""
        return runner.Plan(runner.Settings(jobs=self.settings.jobs), {}, (), (), (), {}).jobs

    @property
    def methods(self) -> list[str]:
        """The checks and rivals that trials have columns for."""
        return [*CHECKS, *(rival.name for rival in self.rivals)]


def make_plan(settings: Settings) -> Plan:
    """Return the plan of the settings. Raises BadInput, naming the setting, on an unknown name or an impossible number."""
    for name, value, least in (("networks", settings.networks, 0), ("mutated", settings.mutated, 0), ("seed", settings.seed, 0),
                               ("jobs", settings.jobs, -1)):  # fmt: skip
        if value < least:
            raise BadInput(f"--{name} {value}; accepted is a whole number of at least {least}")
    if settings.networks == settings.mutated == 0:
        raise BadInput("--networks 0 and --mutated 0: nothing is left to do; accepted is at least 1 of one of them")
    if not settings.timeout > 0:
        raise BadInput(f"--timeout {settings.timeout:g}; accepted is a number of seconds above 0")
    every = find_layers()
    layers = {name: every[name] for name in choose("layer", settings.layers, every)}
    dtypes = tuple(choose("dtype", settings.dtypes, dict.fromkeys(DTYPES)))
    for dtype in dtypes:
        check_precision(dtype)
    part, parts = _read_part(settings.part)
    named, rivals = runner.choose_backends(settings.backends), tuple(choose_rivals(settings.against))
    missing = {**runner.find_missing(named), **find_absent(rivals)}
    kept = tuple(name for name in named if name not in missing)
    return Plan(settings, layers, dtypes, kept, rivals, missing, part, parts)


def _read_part(text: str) -> tuple[int, int]:
    first, _, last = text.partition("/")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise BadInput(f"--part {text!r}; accepted is a part of a whole, such as 3/10")
    return int(first), int(last)


def find_lost(plan: Plan) -> str:
    """Return what was asked for by name and cannot be imported, nothing when all is there."""
    rivals = {rival.name for rival in plan.rivals}
    lost = {name: why for name, why in plan.missing.items() if name in rivals or plan.settings.backends != "all"}
    return "; ".join(f"{name} was asked for and is missing ({why})" for name, why in lost.items())


def list_shards(plan: Plan) -> Iterator[Shard]:
    """Return the correct networks of this part, one draw in each dtype; JAX runs every tenth of them."""
    names = list(list_hazards(plan.layers))
    count, draws = plan.settings.networks * len(plan.dtypes), len(plan.dtypes)
    cases = plan_cases(count, plan.settings.seed, plan.layers, dtypes=plan.dtypes, hazards=names, draws=draws)
    known = find_backends()
    cheap = tuple(name for name in plan.backends if known[name].framework != "jax")
    for index, drawn in _own(plan, enumerate(cases)):
        is_tenth = (index // TENTH + index) % TENTH == 0  # every part of ten has some of them
        if chosen := plan.backends if is_tenth else cheap:
            yield Shard(tuple(drawn), chosen)


def list_tasks(plan: Plan) -> Iterator[Task]:
    """Return the networks of this part in which faults are planted, each in every dtype, without hazards.

    The slow rivals are asked in the first 30 networks, of the whole selftest, that are small enough for them.
    """
    count, draws = plan.settings.mutated * len(plan.dtypes), len(plan.dtypes)
    cases = plan_cases(count, plan.settings.seed, plan.layers, dtypes=plan.dtypes, hazards=(), draws=draws)
    limits = [rival.most for rival in plan.rivals if rival.most is not None]
    rivals, slow = tuple(rival.name for rival in plan.rivals), 0
    for index, drawn in enumerate(cases):
        is_slow = bool(limits) and slow < SLOW_NETWORKS and count_numbers(make_problem(drawn[0], plan.layers)) <= max(limits)
        slow += is_slow
        if index % plan.parts == plan.part - 1:
            yield from (Task(index, case, tuple(plan.layers), rivals, is_slow, plan.settings.seed) for case in drawn)


def count_steps(plan: Plan) -> int:
    """Return how many networks this part judges, a mutated one once for each dtype."""
    settings = plan.settings
    return sum(
        len(range(plan.part - 1, count, plan.parts)) for count in (settings.networks, *[settings.mutated] * len(plan.dtypes))
    )


def _own(plan: Plan, numbered: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    return islice(numbered, plan.part - 1, None, plan.parts)
