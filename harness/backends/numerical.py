"""Numerical differentiation as a witness: a problem comes in, gradients made of the formulas' values alone go out, with a doubt.

Only the formulas are evaluated, in float64 whatever the case's dtype; f(x) = sum(output * dy) is what is differentiated.

- Complex step where the formulas are analytic: f'(x) = Im f(x + ih) / h. Nothing is subtracted, so h can be so small
  that truncation vanishes; only rounding is left. Comparisons of complex numbers go by the real part first, so
  branches are those of the real program; at an exact tie the imaginary part would choose, and the entry is given up.
- Central differences with Richardson's extrapolation (Ridders, 1982) elsewhere: the step starts relative to the
  entry's size and shrinks as long as it crosses a branch (a rectifier's gate) or the estimate gets better.

Rounding is observed, not guessed: float32 rounds 2^29 times as coarsely as float64, so the same evaluation once more
in float32, with the branches of the first, shows 2^29 times its rounding error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from harness.array_api import Unsupported, make_complex_namespace, make_numpy_namespace
from harness.backends.graph import decide, evaluate, name_gradients, split_inputs
from harness.cases import make_problem
from harness.core import PROJECTIONS, Arithmetic, Array, Case, NetworkSpec, NodeTrace, Outcome, Problem
from harness.floats import is_float
from harness.networks import SeededChooser, draw_single

# Entries up to which each is differentiated alone (a complex step takes two evaluations, central differences about ten);
# beyond, so many random directions, and few of them where one evaluation takes about LARGE multiplications or more.
PER_ELEMENT = {"complex": 600, "central": 150}
DIRECTIONS, FEWER, LARGE = 8, 2, 1e6
# The complex step: its square vanishes beside 1, and its products with small derivatives are still normal in float32.
STEP = 2.0**-66
COARSER = 2.0**29
# How much larger than one observation the doubt is, a unit roundoff, what may underflow, and a plain disagreement.
SAFETY, FLOOR, TINY, PLAIN = 32.0, 2.0**-53, 2.0**-900, 1e-3
FIRST_STEP, SHRINK, LEVELS, TRIES = 2.0**-5, 4.0, 6, 12

Direction = Mapping[str, Array]
Estimate = tuple[float, float]
Estimator = Callable[[Direction], Estimate]


@dataclass(frozen=True)
class Numerical:
    """A witness: its rows never fail a run. `analytic` lets it take the complex step where it can."""

    name: str = "numerical"
    variant: str = "numerical"
    framework: str = "numerical"
    default: bool = True
    decides: bool = False
    analytic: bool = True
    arithmetic: Arithmetic = field(default_factory=lambda: Arithmetic(flushes=False, accumulator="float64"))
    threads: str = "the BLAS library's, limited to one"

    def version(self) -> str:
        return np.__version__

    def rule(self, layer: Any) -> str:
        return "formula"

    def prepare(self, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> NumericalProgram:
        return NumericalProgram(network, layers, self.analytic)


class NumericalProgram:
    """One graph of formulas, differentiated by the complex step when all of them are analytic."""

    def __init__(self, network: NetworkSpec, layers: Mapping[str, Any], analytic: bool) -> None:
        self.network = network
        self.layers = layers
        kinds = {layers[node.layer] for node in network.nodes}
        self.method = "complex" if analytic and all(is_analytic(kind) for kind in kinds) else "central"

    def run(self, problem: Problem) -> Outcome:
        """Return float64 gradients and their uncertainty: per element on small problems, else in random directions."""
        if not self.network.batch:
            return Outcome("unsupported", message="an empty batch: the mean loss is NaN, and so is every difference of it")
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            return self._differentiate(problem, start)

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace] | None:
        return None

    def _differentiate(self, problem: Problem, start: float) -> Outcome:
        double = Function(problem, self.layers, np.float64)
        single = Function(problem, self.layers, np.float32, double.decisions)
        estimate = _ESTIMATORS[self.method](double, single)
        if sum(leaf.size for leaf in double.leaves.values()) <= PER_ELEMENT[self.method]:
            found = {name: collect([estimate(unit) for unit in _units(name, leaf)], leaf) for name, leaf in double.leaves.items()}
            directions = 0
        else:
            directions = DIRECTIONS if double.work <= LARGE else FEWER
            drawn = draw_directions(problem, directions)
            found = {PROJECTIONS: collect([estimate(direction) for direction in drawn], np.empty(directions))}
        return Outcome(
            "ok",
            np.asarray(double.values[self.network.output.name]),
            {name: value for name, (value, _) in found.items()},
            double.decisions,
            {name: doubt for name, (_, doubt) in found.items()},
            directions,
            seconds=time.perf_counter() - start,
        )


def draw_directions(problem: Problem, k: int) -> list[dict[str, Array]]:
    """Return k random directions, each a float64 array for every gradient's name, the same ones for the same case.

    Entries have random signs and sizes from 0.5 to 1, so that no entry of a gradient is hidden from any of them.
    """
    rng = np.random.default_rng([problem.case.seed, 1982])
    leaves = name_gradients(problem.params, split_inputs(problem)[0])

    def entries(shape: tuple[int, ...]) -> Array:
        return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.0, shape)

    return [{name: entries(value.shape) for name, value in leaves.items()} for _ in range(k)]


class Function:
    """f = sum(output * dy) of a problem's parameters and inputs in one precision, and the branches taken at the problem itself.

    `leaves` are the arrays that it is a function of, by their gradients' names. Given `decisions`, these are taken
    everywhere, whatever the values say.
    """

    def __init__(
        self, problem: Problem, layers: Mapping[str, Any], dtype: Any, decisions: Mapping[str, Array] | None = None
    ) -> None:
        variable, constants = split_inputs(problem)
        self.network = problem.case.network
        self.layers = layers
        self.replayed = decisions or {}
        self.params = {node: {key: _cast(value, dtype) for key, value in group.items()} for node, group in problem.params.items()}
        self.inputs = {name: _cast(value, dtype) for name, value in {**variable, **constants}.items()}
        self.leaves: dict[str, Array] = name_gradients(self.params, {name: self.inputs[name] for name in variable})
        self.dy = _cast(problem.dy, dtype)
        self.dtype = dtype
        self.values = evaluate(self.network, self._call(make_numpy_namespace()), self.params, self.inputs)
        self.decisions = decide(self.network, layers, make_numpy_namespace(), self.params, self.values)

    @property
    def work(self) -> float:
        """About how many multiplications one evaluation takes."""
        return float(self.network.batch) * sum(value.size for group in self.params.values() for value in group.values())

    def value(self, direction: Direction, step: complex) -> complex:
        """Return f at the problem plus the step along the direction."""
        return self._move(direction, step)[0]

    def value_and_crossing(self, direction: Direction, step: complex) -> tuple[complex, bool]:
        """Return f there, and whether the step, or its mirror image if it is complex, takes another branch than no step."""
        value, params, values = self._move(direction, step)
        mirrored = isinstance(step, complex)
        return value, self._crosses(params, values) or (mirrored and self._crosses(params, values, np.conj))

    def _move(self, direction: Direction, step: complex) -> tuple[complex, dict[str, dict[str, Array]], dict[str, Array]]:
        """Evaluate f, but no node that the direction does not reach."""
        moved = {name: self.leaves[name] + step * part.astype(self.dtype) for name, part in direction.items()}
        params, inputs, reached = dict(self.params), {**self.inputs}, set(moved)
        for name, value in moved.items():
            node, dot, key = name.partition(".")
            if dot:
                params[node] = {**params[node], key: value}
                reached.add(node)
            else:
                inputs[name] = value
        formula = self._call(make_complex_namespace() if isinstance(step, complex) else make_numpy_namespace())

        def call(node: Any, group: Mapping[str, Any], *arguments: Any) -> Any:
            if node.name not in reached and reached.isdisjoint(node.inputs):
                return self.values[node.name]
            reached.add(node.name)
            return formula(node, group, *arguments)

        values = evaluate(self.network, call, params, inputs)
        return np.sum(values[self.network.output.name] * self.dy), params, values

    def _call(self, xp: Any) -> Callable[..., Any]:
        def call(node: Any, group: Mapping[str, Any], *arguments: Any) -> Any:
            held = {"decisions": self.replayed[node.name]} if node.name in self.replayed else {}
            return self.layers[node.layer].formula(xp, group, *arguments, **held)

        return call

    def _crosses(self, params: Mapping[str, Any], values: Mapping[str, Any], mirror: Callable[[Any], Any] = np.asarray) -> bool:
        """Whether another branch is taken than at the problem itself, by these values or their mirror images."""
        for node in self.network.nodes:
            if node.name in self.decisions:
                group = {key: mirror(value) for key, value in params[node.name].items()}
                arguments = [mirror(values[name]) for name in node.inputs]
                now = self.layers[node.layer].decisions(make_numpy_namespace(), group, *arguments)
                if not np.array_equal(now, self.decisions[node.name]):
                    return True
        return False


def make_complex_estimator(double: Function, single: Function) -> Estimator:
    """Return an estimator by the complex step; its doubt is the rounding seen in float32, infinite at an exact kink."""

    def estimate(direction: Direction) -> Estimate:
        value, crosses = double.value_and_crossing(direction, 1j * STEP)
        coarse = single.value(direction, 1j * STEP)
        slope = float(value.imag / STEP)
        return slope, np.inf if crosses else abs(float(coarse.imag) / STEP - slope) / COARSER

    return estimate


def make_central_estimator(double: Function, single: Function) -> Estimator:
    """Return an estimator by central differences; its doubt is truncation, as extrapolation shows it, plus rounding."""
    noise = _observe_noise(double, single)

    def estimate(direction: Direction) -> Estimate:
        best: Estimate = (np.nan, np.inf)
        rows: list[list[float]] = []
        for step, slope in _quotients(double, direction):
            rows.append(extrapolate(rows[-1] if rows else [], slope))
            latest = choose(rows[-2:], noise / step)
            if len(rows) > 3 and latest[1] > best[1]:
                break
            best = min(best, latest, key=lambda pair: pair[1])
        return best

    return estimate


_ESTIMATORS = {"complex": make_complex_estimator, "central": make_central_estimator}


@cache
def is_analytic(kind: Any) -> bool:
    """Whether the complex step agrees with central differences on a small random problem of one layer class.

    A formula may refuse complex numbers, or silently drop their imaginary parts, as abs(x) does.
    """
    network = draw_single(SeededChooser(np.random.default_rng(1)), kind)
    layers = {kind.name: kind}
    problem = make_problem(Case(network, "float64", seed=1), layers)
    double = Function(problem, layers, np.float64)
    single = Function(problem, layers, np.float32, double.decisions)
    direction = draw_directions(problem, 1)[0]
    with np.errstate(all="ignore"):
        try:
            slope, _ = make_complex_estimator(double, single)(direction)
        except (Unsupported, TypeError):
            return False
        other, doubt = make_central_estimator(double, single)(direction)
    return abs(slope - other) <= 100 * doubt + PLAIN * (abs(slope) + abs(other))


def _observe_noise(double: Function, single: Function) -> float:
    """Return about how far rounding moves f, from float32 at four points beside one another, so that luck evens out."""
    around = dict(double.leaves)
    steps = [0.0, 2.0**-12, -(2.0**-12), 2.0**-11]
    seen = [abs(single.value(around, step) - double.value(around, step)) for step in steps]
    y = double.values[double.network.output.name]
    return max(seen) / COARSER + 2.0**-53 * float(np.sum((1 + np.abs(y)) * np.abs(double.dy)))


def _quotients(double: Function, direction: Direction) -> Iterator[tuple[float, float]]:
    """Yield ever smaller steps that cross no branch, with the central difference quotient of each."""
    step, levels = FIRST_STEP * find_reach(double.leaves, direction), 0
    for _ in range(TRIES):
        (up, crosses_up), (down, crosses_down) = [double.value_and_crossing(direction, sign * step) for sign in (1.0, -1.0)]
        if not (crosses_up or crosses_down):
            levels += 1
            yield step, float((up - down).real) / (2 * step)
        if levels == LEVELS:
            return
        step /= SHRINK


def find_reach(leaves: Mapping[str, Array], direction: Direction) -> float:
    """Return the size of what the direction moves: of the entry that is moved, or of the array that has the least."""
    sizes = []
    for name, part in direction.items():
        leaf = leaves[name]
        typical = float(np.sqrt(np.mean(np.square(leaf)))) if leaf.size else 0.0
        entry = float(np.max(np.abs(leaf[part != 0]), initial=0.0)) if np.count_nonzero(part) == 1 else 0.0
        sizes.append(max(typical, entry))
    return min((size for size in sizes if size > 0), default=1.0)


def extrapolate(last: list[float], slope: float) -> list[float]:
    """Return the next row of Richardson's tableau: its first entry is the quotient, each next one cancels a power of h^2."""
    row = [slope]
    for column, before in enumerate(last):
        factor = SHRINK ** (2 * (column + 1))
        row.append((factor * row[column] - before) / (factor - 1))
    return row


def choose(rows: list[list[float]], rounding: float) -> Estimate:
    """Return the entry of the last row that differs least from its two neighbours in the tableau, and how uncertain it is."""
    if len(rows) < 2:
        return rows[-1][0], np.inf
    last, row = rows
    found = [(row[j], max(abs(row[j] - row[j - 1]), abs(row[j] - last[j - 1])) + 2 * rounding) for j in range(1, len(row))]
    return min(found, key=lambda pair: pair[1])


def collect(estimates: list[Estimate], leaf: Array, safety: float = SAFETY) -> tuple[Array, Array]:
    """Return values and uncertainties shaped like the leaf, these `safety` times what was seen.

    One observation of rounding may be small by luck, or 0 where contributions cancel alike in both precisions: what is
    typical of the leaf relative to the values is added, and a unit roundoff of its root mean square.
    """
    values, seen = np.array(estimates, np.float64).reshape(-1, 2).T
    relative = (seen / np.abs(values))[np.isfinite(seen) & (values != 0)]
    typical = float(np.median(relative)) if relative.size else 0.0
    known = values[np.isfinite(values)]
    whole = float(np.sqrt(np.mean(np.square(known)))) if known.size else 0.0
    doubt = safety * (seen + (typical + FLOOR) * np.abs(values) + FLOOR * whole) + TINY
    return values.reshape(leaf.shape), np.where(np.isfinite(doubt), doubt, np.inf).reshape(leaf.shape)


def _units(name: str, leaf: Array) -> Iterator[Direction]:
    """Yield a direction for every entry of the leaf."""
    for index in range(leaf.size):
        unit = np.zeros(leaf.shape)
        unit.flat[index] = 1.0
        yield {name: unit}


def _cast(value: Array, dtype: Any) -> Array:
    """Return floats in the dtype, contiguous; integers as they are."""
    return np.ascontiguousarray(value, dtype).reshape(value.shape) if is_float(value) else value


BACKENDS = (Numerical(), Numerical(name="numerical:central", default=False, analytic=False))
