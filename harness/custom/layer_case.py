"""Cases of anybody's layers: a trial that a layer fails comes in, JSON from which it can be made again goes out, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from harness.core import DTYPES, STORAGES, Array, BadInput
from harness.custom.places import Place, load, locate, on_path
from harness.custom.shrink import Reason, take_apart
from harness.custom.spec import LayerSpec
from harness.custom.trials import Trial, Variation, make_trial, shape_of_output

ARRAY_DTYPES = ("float64", "int64", "bool")


@dataclass(frozen=True, eq=False)
class LayerCase:
    """Everything that makes one trial of a user's layer again, and why it fails.

    `layer`, `formula` and `gradient`, or `spec` alone, are the addresses (`module:name`) of what is judged, all empty where
    none can be imported; `roots` are the folders that hold the modules, from the folder of the case's file. Floats are in
    float64, whatever `dtype` they are given to the layer in.
    """

    name: str
    check: str
    quantity: str
    verdict: str
    dtype: str
    storage: str
    seed: int
    trial: int
    constants: tuple[int, ...]
    params: Mapping[str, Array]
    inputs: tuple[Array, ...]
    dy: Array
    layer: str = ""
    formula: str = ""
    gradient: str = ""
    spec: str = ""
    roots: tuple[str, ...] = ()

    @property
    def is_importable(self) -> bool:
        """Whether another process can make the layer."""
        return bool(self.layer or self.spec)

    def to_json(self) -> str:
        """Return the case as JSON, from which `case_from_json` makes it again to the last bit."""
        arrays = {
            "params": {name: _write(value) for name, value in self.params.items()},
            "inputs": [_write(value) for value in self.inputs],
            "dy": _write(self.dy),
        }
        record = {one.name: getattr(self, one.name) for one in fields(self)} | arrays
        return json.dumps(record, indent=1, allow_nan=False) + "\n"


def record_case(spec: LayerSpec, trial: Trial, reason: Reason, folder: Path) -> LayerCase:
    """Return the case of a trial, with the addresses of the layer as seen from the folder that the case will be in."""
    found, parts = find_places(spec), take_apart(trial)
    roots = dict.fromkeys(place.root for place in found.values() if place.root)
    problem = trial.problem
    return LayerCase(
        spec.name, reason.check, reason.quantity, reason.verdict, problem.case.dtype, problem.case.storage, problem.case.seed,
        int(problem.case.origin.rpartition("t")[2]), spec.constants, parts.params, parts.inputs, parts.dy,
        **{field: place.path for field, place in found.items()}, roots=tuple(os.path.relpath(root, folder) for root in roots),
    )  # fmt: skip


def find_places(spec: LayerSpec) -> dict[str, Place]:
    """Return where layer and formulas are, or the specification as a whole; nothing where they can't all be imported."""
    every = {"layer": spec.layer, "formula": spec.formula, "gradient": spec.gradient}
    wanted = {field: thing for field, thing in every.items() if thing is not None}
    found = {field: place for field, thing in wanted.items() if (place := locate(thing))}
    if len(found) == len(wanted):
        return found
    whole = locate(spec)
    return {"spec": whole} if whole else {}


def is_case(text: str) -> bool:
    """Whether the JSON text is a case of a user's layer, not one of a network."""
    try:
        record = json.loads(text)
    except ValueError:
        return False
    return isinstance(record, dict) and "check" in record and "network" not in record


def case_from_json(text: str) -> LayerCase:
    """Return the case that the JSON text describes. Raises BadInput, naming the field, when it describes none."""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise BadInput(f"case: not valid JSON ({error})") from None
    accepted = [one.name for one in fields(LayerCase)]
    if not isinstance(record, dict) or set(record) != set(accepted):
        given = sorted(record) if isinstance(record, dict) else record
        raise BadInput(f"case: {given!r:.200}; accepted is an object with just the fields {', '.join(accepted)}")
    for name in ("name", "check", "quantity", "verdict", "layer", "formula", "gradient", "spec"):
        _require(isinstance(record[name], str), name, record[name], "text")
    _require(record["dtype"] in DTYPES, "dtype", record["dtype"], ", ".join(DTYPES))
    _require(record["storage"] in STORAGES, "storage", record["storage"], ", ".join(STORAGES))
    for name in ("seed", "trial"):
        _require(_is_whole(record[name]), name, record[name], "a whole number of at least 0")
    _require(_is_list(record["constants"], _is_whole), "constants", record["constants"], "a list of places of inputs")
    _require(_is_list(record["roots"], lambda root: isinstance(root, str)), "roots", record["roots"], "a list of folders")
    _require(isinstance(record["params"], dict), "params", record["params"], "an object of arrays by name")
    _require(isinstance(record["inputs"], list) and record["inputs"] != [], "inputs", record["inputs"], "a list of arrays")
    arrays = {
        "params": {name: _read(f"params.{name}", value) for name, value in record["params"].items()},
        "inputs": tuple(_read(f"inputs[{i}]", value) for i, value in enumerate(record["inputs"])),
        "dy": _read("dy", record["dy"]),
    }
    return LayerCase(**{**record, **arrays, "constants": tuple(record["constants"]), "roots": tuple(record["roots"])})


def load_spec(case: LayerCase, folder: Path) -> LayerSpec:
    """Return the specification of the case's layer, imported as seen from the folder of the case's file.

    What is imported is run: take cases from those alone whose programs you would run. Raises BadInput where it is not there.
    """
    if not case.is_importable:
        raise BadInput("layer: ''; accepted is module:name; this case's layer could not be imported where it was found")
    with on_path([(folder / root).resolve() for root in case.roots]):
        if case.spec:
            spec = load(case.spec, "spec")
            _require(isinstance(spec, LayerSpec), "spec", case.spec, "the address of a LayerSpec")
            return spec  # type: ignore[no-any-return]  # reason: the line above has looked
        layer = load(case.layer, "layer")
        formula, gradient = _load_any(case.formula, "formula"), _load_any(case.gradient, "gradient")
    return LayerSpec(layer, formula, list(case.inputs), dict(case.params), case.name, case.constants, gradient)


def _load_any(address: str, field: str) -> Any:
    return load(address, field) if address else None


def make_case_trial(case: LayerCase, spec: LayerSpec) -> Trial:
    """Return the trial of the case, of the layer of a specification. Raises BadInput where the formula fails on it."""
    shape = shape_of_output(spec, case.params, case.inputs)
    if shape != case.dy.shape:
        raise BadInput(f"dy: the shape is {list(case.dy.shape)}; accepted is {list(shape)}, that of the formula's output")
    variation = Variation(storage=case.storage)
    return make_trial(spec, case.params, case.inputs, case.dy, case.dtype, case.seed, case.trial, variation)


def _require(holds: bool, field: str, value: Any, accepted: str) -> None:
    if not holds:
        raise BadInput(f"case.{field}: {value!r:.80}; accepted is {accepted}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: Any, holds: Any) -> bool:
    return isinstance(value, list) and all(holds(one) for one in value)


def _write(value: Array) -> dict[str, Any]:
    """Return an array as JSON has it: what is no finite number as text."""
    values = value.tolist()
    return {"dtype": str(value.dtype), "shape": list(value.shape), "values": _write_numbers(values)}


def _write_numbers(values: Any) -> Any:
    if isinstance(values, list):
        return [_write_numbers(one) for one in values]
    return values if isinstance(values, bool | int) or np.isfinite(values) else str(values)


def _read(field: str, record: Any) -> Array:
    fits = isinstance(record, dict) and set(record) == {"dtype", "shape", "values"} and record["dtype"] in ARRAY_DTYPES
    fits = fits and _is_list(record["shape"], _is_whole)
    _require(fits, field, record, "an object with dtype, shape and values")
    try:
        kind = {"float64": float, "int64": int, "bool": bool}[record["dtype"]]
        return np.array([kind(one) for one in _flatten(record["values"])], record["dtype"]).reshape(record["shape"])
    except (ValueError, TypeError, OverflowError) as error:
        words = f"is no array ({error}); accepted are as many numbers as fit the shape"
        raise BadInput(f"case.{field}: {record!r:.80} {words}") from None


def _flatten(values: Any) -> Iterator[Any]:
    if not isinstance(values, Iterable) or isinstance(values, str):
        yield values
        return
    for one in values:
        yield from _flatten(one)
