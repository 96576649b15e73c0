"""Smallest cases: the failures of a layer and its trials come in, an example of each, written to be run again, goes out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.example import Example
from harness.custom.layer_case import LayerCase, record_case
from harness.custom.report import CheckResult
from harness.custom.scene import run_once
from harness.custom.script import GUARD, compose_script, try_replay, try_script
from harness.custom.shrink import Found, Judge, Reason, find_truth, list_gradients, looks_right, shrink, take_apart
from harness.custom.spec import LayerSpec
from harness.custom.trials import Trial
from harness.floats import find_format
from harness.isolation import quiet
from harness.minimise import is_available, is_busy

MOST = 3
NOT_SHRUNK = frozenset({"noise-unknown", "vacuous", "crash", "timeout", "unavailable", "unsupported"})
NOT_INSTALLED = "NOT SHRUNK: Hypothesis is not installed (pip install 'backprop-harness[shrink]')"
NOT_IMPORTED = "no script and no replay: {} cannot be imported by another process; define layer and formula in a module"
NOT_SEEN = "no script: so small an error is seen one precision up alone"
SECOND_PASS = "a fresh layer gives the right numbers, and a wrong gradient in a later pass: it keeps something of an earlier one"
VALUE_CHECKS = ("forward", "gradients")


def find_examples(
    spec: LayerSpec, failures: Sequence[CheckResult], trials: Mapping[str, Sequence[Trial]], judge: Judge,
    frameworks: Sequence[str], folder: Path,
) -> tuple[Example, ...]:  # fmt: skip
    """Return the smallest cases found of the first failures of a layer, one for a check.

    There are none in a program that replays one, nor in a property that Hypothesis tests, which shrinks by itself.

    Their files go into the folder, which is made for them: a case for `harness replay`, and of one wrong value a script with
    the first of the frameworks that can run it. Where the layer cannot be imported nothing is written.
    """
    if GUARD in os.environ or is_busy():
        return ()
    found = [_find_example(spec, trial, reason, judge) for trial, reason in _choose(failures, trials, judge)]
    cases = [record_case(spec, trial, reason, folder.resolve()) for _, trial, reason in found]
    examples = [replace(example, case=case) for (example, _, _), case in zip(found, cases, strict=True)]
    if not cases or not cases[0].is_importable:
        return tuple(_add_note(one, NOT_IMPORTED.format(spec.name)) for one in examples)
    try:
        return _write_all(spec, examples, cases, frameworks, folder)
    except OSError as error:
        return tuple(_add_note(one, f"no script and no replay: nothing can be written to {folder} ({error})") for one in examples)


def _choose(
    failures: Sequence[CheckResult], trials: Mapping[str, Sequence[Trial]], judge: Judge
) -> Iterator[tuple[Trial, Reason]]:
    """Yield the smallest trial of each failing check with the first reason why it fails; what is raised fails several alike."""
    done, seen = set[str](), set[Reason]()
    for result in failures:
        if result.state != "failed" or result.backend != "numpy" or result.check in done or len(seen) >= MOST:
            continue
        if (found := _find_smallest(result.check, trials.get(result.dtype, ()), judge)) is not None:
            done.add(result.check)
            alike = replace(found[1], check="")
            if alike not in seen:
                seen.add(alike)
                yield found


def _find_smallest(check: str, trials: Sequence[Trial], judge: Judge) -> tuple[Trial, Reason] | None:
    """Return the first trial, small ones first, that fails in a way that can be shrunk, and why it does."""
    for trial in sorted(trials, key=lambda trial: take_apart(trial).count):
        for reason in judge(trial, check):
            if reason.verdict not in NOT_SHRUNK:
                return trial, reason
    return None


def _find_example(spec: LayerSpec, trial: Trial, reason: Reason, judge: Judge) -> tuple[Example, Trial, Reason]:
    smallest = shrink(spec, trial, reason, judge) if is_available() else trial
    found = judge(smallest, reason.check).get(reason)
    if found is None:  # a layer that gives other numbers each time fails by chance
        smallest, found = trial, Found("it does not fail each time it is run")
    shown = _show(smallest, reason, found)
    if reason.check in VALUE_CHECKS and looks_right(smallest, reason):
        shown = _add_note(shown, SECOND_PASS)
    return shown if is_available() else _add_note(shown, NOT_INSTALLED), smallest, reason


def _show(trial: Trial, reason: Reason, found: Found) -> Example:
    problem = trial.problem
    is_value = reason.check in VALUE_CHECKS
    quantity = _name_quantity(trial, reason) if is_value else ""
    got, expected = _compare(trial, reason, quantity) if is_value else (None, None)
    return Example(
        reason.check, problem.case.dtype, quantity, reason.verdict, found.message, problem.params[trial.node],
        problem.inputs, problem.dy, got, expected, found.in_bounds,
    )  # fmt: skip


def _compare(trial: Trial, reason: Reason, quantity: str) -> tuple[Array | None, Array | None]:
    """Return what the layer gives for the quantity, None where it raises, and what is true."""
    try:
        with quiet():
            expected = find_truth(trial, quantity)
            got = None if reason.quantity == "all" else _run(trial, quantity)
        return (None if got is None else np.asarray(got)), expected
    except (Exception, SystemExit):  # reason: a stranger's layer; what it does is told by the message
        return None, None


def _name_quantity(trial: Trial, reason: Reason) -> str:
    """Return the quantity, of a pass that was broken off the first gradient."""
    return list_gradients(trial)[0] if reason.quantity == "all" else reason.quantity


def _run(trial: Trial, quantity: str) -> Any:
    if quantity != "y":
        return run_once(trial).get(quantity)
    layer = trial.kind(**trial.problem.params[trial.node])
    return np.array(layer.forward(*(trial.problem.inputs[name] for name in trial.problem.case.network.output.inputs)))


def _write_all(
    spec: LayerSpec, examples: Sequence[Example], cases: Sequence[LayerCase], frameworks: Sequence[str], folder: Path
) -> tuple[Example, ...]:
    """Write the cases and one script, and return the examples with the files that were seen to work in a fresh process."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".gitignore").exists():
        _write(folder / ".gitignore", "*\n")
    paths = [folder / f"{name_case(case)}.json" for case in cases]
    for path, case in zip(paths, cases, strict=True):
        _write(path, case.to_json())
    written = [replace(one, case_file=str(path)) for one, path in zip(examples, paths, strict=True)]
    at = next((i for i, one in enumerate(written) if one.expected is not None), None)
    if at is not None:
        written[at] = _add_script(spec, written[at], cases[at], frameworks)
        if written[at].script:
            return tuple(written)
    if not (wrong := try_replay(paths[0])):
        return tuple(written)
    for path in paths:
        path.unlink(missing_ok=True)
    return tuple(_add_note(replace(one, case_file=""), f"no replay: in a fresh process {wrong}") for one in written)


def name_case(case: LayerCase) -> str:
    """Return a name for the files of a case: the same for the same case alone, wherever it is found."""
    digest = sha256(case.to_json().encode()).hexdigest()[:8]
    return "-".join(re.sub(r"\W", "_", part) for part in (case.name, case.check, case.quantity, digest) if part)


def _add_script(spec: LayerSpec, example: Example, case: LayerCase, frameworks: Sequence[str]) -> Example:
    """Return the example with the first script that does in a fresh process what it says, or with why there is none."""
    if SECOND_PASS in example.note:
        return example
    if example.expected is None or 0 <= example.in_bounds <= 2:
        return _add_note(example, NOT_SEEN)
    case = replace(case, quantity=example.quantity)
    allowed, said = find_allowed(example), "it would take more than 25 lines"
    path = Path(example.case_file).with_suffix(".py")
    unaided = spec.is_unaided
    for framework in [*_order(spec, frameworks), ""] if case.quantity != "y" and not unaided else [""]:
        text = compose_script(case, framework, allowed, *_read_layer(spec, case), unaided=unaided)
        if not text:
            continue
        _write(path, text)
        said = try_script(path, example.got, example.expected, allowed)
        if not said:
            return replace(example, script=str(path))
    path.unlink(missing_ok=True)
    return _add_note(example, f"no script: {said}")


def find_allowed(example: Example) -> float:
    """Return the difference from which on a script calls the layer wrong: half way, in digits, from rounding to the error.

    A mended layer errs by no more than rounding does; what the framework adds is as little. Where the layer's number is no
    number, or missing, it is half the digits of the dtype.
    """
    expected = np.asarray(example.expected, np.float64)
    digits = find_format(example.dtype).digits
    usual = 2.0 ** (-digits // 2) * max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
    if example.got is None or example.got.shape != expected.shape or not example.in_bounds > 1:
        return usual
    apart = np.abs(np.asarray(example.got, np.float64) - expected).max(initial=0.0)
    return float(apart / np.sqrt(example.in_bounds)) if np.isfinite(apart) and apart else usual


def _order(spec: LayerSpec, frameworks: Sequence[str]) -> list[str]:
    """Return the frameworks in the order in which to try them: the one that the layer's own module has, then JAX."""
    module = sys.modules.get(str(getattr(spec.layer, "__module__", "")))
    known = [name for name in ("jax", "torch") if name in frameworks]
    return sorted(known, key=lambda name: getattr(module, name, None) is not sys.modules.get(name, module))


def _read_layer(spec: LayerSpec, case: LayerCase) -> tuple[str, dict[str, list[str]]]:
    """Return what makes a layer in a script, and the names besides `params` under which it holds its parameters."""
    if case.spec:
        make = "spec.make()"
    else:
        make = "Layer()" if isinstance(spec.layer, type) or not hasattr(spec.layer, "forward") else "Layer"
    layer = spec.make()
    own = {name: id(value) for name, value in (getattr(layer, "params", None) or {}).items()}
    held = getattr(layer, "__dict__", {})
    others = {name: [key for key, value in held.items() if id(value) == at] for name, at in own.items()}
    return make, {name: keys for name, keys in others.items() if keys}


def _write(path: Path, text: str) -> None:
    """Write a file whole: several processes may write the same one at once."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _add_note(example: Example, note: str) -> Example:
    return replace(example, note="; ".join(filter(None, (example.note, note))))
