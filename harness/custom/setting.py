"""Settings of a check: a specification, a seed and names of backends come in, trials and what is prepared for them go out.

A setting travels to a guarded process, which keeps the first that arrives and all that it learns of it: the layers of one
specification have one class, for which noise, compiled programs and trials are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.custom.spec import LayerSpec
from harness.custom.targets import Address, load
from harness.custom.trials import Trial, TrialId, draw_numbered
from harness.isolation import quiet
from harness.shards import Programs


@dataclass(frozen=True)
class About:
    """What is to be known of a specification where its code never is: its name, and which formulas it has."""

    name: str
    has_formula: bool
    is_unaided: bool


def describe(spec: LayerSpec) -> About:
    """Return what is to be known of a specification."""
    return About(spec.name, spec.formula is not None, spec.is_unaided)


@dataclass(frozen=True, eq=False)
class Setting:
    """A layer under check, and what this process has made of it.

    `spec` is a specification, or the address at which another process finds it; `name` is the layer's; `key` tells the
    setting from others in a guarded process.
    """

    spec: LayerSpec | Address
    name: str
    key: str = ""
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}  # what was learned stays: compiled programs cannot travel

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def recall(self) -> Setting:
        """Return the first setting of this key that the process has seen."""
        return _SEEN.setdefault(self.key, self) if self.key else self

    def find_spec(self) -> LayerSpec:
        """Return the specification. Raises BadInput where its address leads to none."""
        if isinstance(self.spec, LayerSpec):
            return self.spec
        found: LayerSpec = self._keep("spec", load, self.spec)
        return found

    def meet(self) -> None:
        """Make the first layer: what is no layer at all is the caller's mistake, and raises BadInput; nothing is after it."""
        self._keep("met", self.find_spec().meet)

    def draw(self, trial: TrialId) -> Trial:
        """Return a trial, the same each time; raises what the stranger's code raises while it is drawn."""
        found: Trial = self._keep(trial, self._draw, trial)
        return found

    def _draw(self, trial: TrialId) -> Trial:
        with quiet():
            return draw_numbered(self.find_spec(), trial)

    def prepared(self, trial: Trial) -> Programs:
        """Return what backends prepared for the trial's graph; it serves all trials of its sizes."""
        programs: Programs = self._keep(("programs", trial.problem.case.network.digest), Programs)
        return programs

    def _keep(self, key: Any, make: Any, *arguments: Any) -> Any:
        if key not in self._kept:
            self._kept[key] = make(*arguments)
        return self._kept[key]


_SEEN: dict[str, Setting] = {}
