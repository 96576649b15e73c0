"""The convention atlas: frameworks come in, what each returns as the gradient at every kink goes out, beside what is right.

At a kink every number of the Clarke interval is a right gradient, and frameworks choose differently. Nothing here is
typed in: gradients come from running the frameworks, intervals from difference quotients of the NumPy forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clarke import TOLERANCE, contains, find_interval
from harness.core import USUAL_DTYPES, Array, BadInput, Status
from harness.discovery import choose, find_backends, find_layers
from harness.isolation import quiet
from harness.kinks import OPERATIONS, Function, Operation, Place

if TYPE_CHECKING:
    import pandas as pd

Run = Callable[[tuple[float, ...]], tuple[float, list[Array]]]
FRAMEWORKS = ("numpy", "torch", "jax", "autograd")
NAMESPACES = {
    "torch": "harness.backends.torch_autograd:namespace",
    "jax": "harness.backends.jax_grad:namespace",
    "autograd": "harness.array_api:make_autograd_namespace",
}


@dataclass(frozen=True)
class Convention:
    """What one function of one framework returns at one place, as the gradient along the place's direction.

    `low` and `high` are the ends of the Clarke interval (NaN where there is none); `inside` tells whether the gradient
    lies in it and is None where there is no gradient or no interval. `status` is ok, unsupported (the framework has no
    such function), unavailable (it is not installed) or error.
    """

    operation: str
    place: str
    dtype: str
    framework: str
    function: str
    version: str
    status: Status
    gradient: float
    low: float
    high: float
    inside: bool | None
    note: str = ""


def find_conventions(
    frameworks: str | list[str] | tuple[str, ...] = FRAMEWORKS,
    dtypes: Sequence[str] = USUAL_DTYPES,
    operations: Sequence[Operation] = OPERATIONS,
) -> tuple[Convention, ...]:
    """Return what every function of the frameworks does at every place of every operation, in each dtype, by running it.

    `frameworks` are names of FRAMEWORKS, joined by commas or in a list, or "all". One that cannot be imported, or has no
    such function, has a row for each place that says so. Raises BadInput on an unknown name and on another dtype than
    float64 and float32.
    """
    if unknown := sorted(set(dtypes) - set(USUAL_DTYPES)):
        raise BadInput(f"dtypes: {unknown} in the atlas; accepted are {', '.join(USUAL_DTYPES)}")
    names = choose("framework", frameworks, dict.fromkeys(FRAMEWORKS))
    with quiet():
        rows = [row for name in names for operation in operations for row in _survey(name, operation, dtypes)]
    return tuple(_note_dtypes(rows))


def to_frame(conventions: Iterable[Convention]) -> pd.DataFrame:
    """Return a frame with a column per field and `agrees`: whether all functions that ran at the place return the same.

    `agrees` is None where fewer than two ran.
    """
    import pandas as pd

    rows = list(conventions)
    seen: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        seen.setdefault(_spot(row), []).extend([row.gradient] * (row.status == "ok"))
    frame = pd.DataFrame([vars(row) for row in rows], columns=[column.name for column in fields(Convention)])
    agrees = [_agree(seen[_spot(row)]) for row in rows]
    return frame.astype({"inside": object}).assign(agrees=pd.Series(agrees, dtype=object))


def write_conventions(folder: Path, conventions: Iterable[Convention]) -> Path:
    """Write `conventions.csv` to the folder, with every cell safe to open in a spreadsheet, and return its path."""
    from harness.table import guard_frame

    path = folder / "conventions.csv"
    frame = guard_frame(to_frame(conventions))
    frame.to_csv(path, index=False, na_rep="nan", lineterminator="\r\n", encoding="utf-8")
    return path


def _spot(row: Convention) -> tuple[str, ...]:
    return row.operation, row.place, row.dtype


def _agree(gradients: Sequence[float]) -> bool | None:
    return all(_same(gradients[0], one) for one in gradients) if len(gradients) > 1 else None


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other)) or abs(one - other) <= TOLERANCE


def _survey(framework: str, operation: Operation, dtypes: Sequence[str]) -> Iterator[Convention]:
    """Yield the rows of one operation in one framework; where there is nothing to run, a row for each place says why."""
    version, missing = _find_version(framework)
    functions = [one for one in list_functions(operation) if one.framework == framework and not missing]
    status: Status = "ok" if functions else "unavailable" if missing else "unsupported"
    note = "" if functions else missing or f"{'no layer' if framework == 'numpy' else f'nothing in {framework}'} is named so"
    for dtype in dtypes:
        runs = {one.name: RUNS[framework](one, dtype) for one in functions}
        for place in operation.places:
            found = (math.nan, *find_interval(operation.forward, place))
            row = Convention(operation.name, place.name, dtype, framework, "", version, status, *found, None, note)
            expected = float(np.sum(operation.forward(np, np.array(place.at, dtype))))
            yield from (_measure(replace(row, function=name), run, expected, place) for name, run in runs.items())
            yield from () if runs else (row,)


def _find_version(framework: str) -> tuple[str, str]:
    """Return the framework's version and why it is missing; one of the two is empty."""
    try:
        return find_backends()[framework].version(), ""
    except Exception as error:  # whatever a broken installation raises, the table says so
        return "", f"{framework} is not installed ({error})"


def list_functions(operation: Operation) -> tuple[Function, ...]:
    """Return the frameworks' functions, and, where a hand-written layer has the operation's name, that layer and its formula."""
    layer = find_layers().get(operation.name)
    if layer is None:
        return operation.functions
    formulas = (
        Function(name, partial(_evaluate_formula, layer, space), f"{layer.__name__}.formula in {name}")
        for name, space in NAMESPACES.items()
    )
    return (*operation.functions, Function("numpy", lambda _, x: layer(), layer.__name__), *formulas)


def _evaluate_formula(layer: Any, space: str, _: Any, x: Any) -> Any:
    return layer.formula(resolve_name(space)(), {}, x)


def _measure(row: Convention, run: Run, expected: float, place: Place) -> Convention:
    """Return the row with the gradient that the function gives, or with why it gives none."""
    try:
        y, gradients = run(place.at)
        first, *others = (float(np.asarray(one, float) @ np.asarray(place.along)) for one in gradients)
    except Exception as error:  # what a framework refuses to do is told in the table
        status: Status = "unsupported" if isinstance(error, NotImplementedError) else "error"
        return replace(row, status=status, note=" ".join(f"{type(error).__name__}: {error}".split())[:200])
    if not _same(y, expected):
        return replace(row, status="error", note=f"not this function: it returns {y:.6g} here instead of {expected:.6g}")
    note = "; ".join(f"without jit {other:.6g}" for other in others if not _same(first, other))
    return replace(row, gradient=first, inside=contains(row.low, row.high, first), note=note)


def _note_dtypes(rows: Sequence[Convention]) -> Iterator[Convention]:
    """Yield the rows; one whose gradient is another in another dtype says so."""
    groups: dict[tuple[str, ...], list[Convention]] = {}
    for row in rows:
        groups.setdefault((row.framework, row.function, row.operation, row.place), []).append(row)
    for row in rows:
        group = groups[row.framework, row.function, row.operation, row.place]
        others = [f"in {one.dtype} {one.gradient:.6g}" for one in group if not _same(one.gradient, row.gradient)]
        yield replace(row, note="; ".join(filter(None, [row.note, *others])))


def _prepare_layer(function: Function, dtype: str) -> Run:
    def run(at: tuple[float, ...]) -> tuple[float, list[Array]]:
        layer = function.call(None, None)
        y = layer.forward(np.array(at, dtype))
        return float(y.sum()), [np.asarray(layer.backward(np.ones_like(y)))]

    return run


def _prepare_torch(function: Function, dtype: str) -> Run:
    torch = import_module("torch")

    def run(at: tuple[float, ...]) -> tuple[float, list[Array]]:
        x = torch.tensor(at, dtype=getattr(torch, dtype), requires_grad=True)
        with torch.enable_grad():
            y = function.call(resolve_name(function.path), x).sum()
        return float(y), [torch.autograd.grad(y, x)[0].numpy()]

    return run


def _prepare_jax(function: Function, dtype: str) -> Run:
    """Return what computes the gradient under jit, compiled once for all places, and in float64 op by op as well.

    Op by op every primitive is compiled alone, which takes twice as long as all the rest of the atlas.
    """
    from harness.backends.jax_grad import wide_types

    jax = import_module("jax")
    eager = jax.value_and_grad(lambda x: function.call(resolve_name(function.path), x).sum())
    ways = [jax.jit(eager), eager] if dtype == "float64" else [jax.jit(eager)]

    def run(at: tuple[float, ...]) -> tuple[float, list[Array]]:
        with wide_types(dtype == "float64"):
            found = [way(jax.numpy.asarray(np.array(at, dtype))) for way in ways]
            return float(found[0][0]), [np.asarray(gradient) for _, gradient in found]

    return run


def _prepare_autograd(function: Function, dtype: str) -> Run:
    from harness.backends.autograd_hips import differentiate

    total = import_module("autograd.numpy").sum

    def run(at: tuple[float, ...]) -> tuple[float, list[Array]]:
        f = resolve_name(function.path)
        y, gradient = differentiate(lambda x: total(function.call(f, x)), np.array(at, dtype), np.ones(()))
        return float(y), [gradient]

    return run


RUNS: Mapping[str, Callable[[Function, str], Run]] = {
    "numpy": _prepare_layer,
    "torch": _prepare_torch,
    "jax": _prepare_jax,
    "autograd": _prepare_autograd,
}
