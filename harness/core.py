"""The nouns of the harness as frozen dataclasses: case, problem, outcome, trace, comparison; imports nothing of ours."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy.typing as npt

Array = npt.NDArray[Any]
DTYPES = ("float64", "float32", "bfloat16", "float16")
USUAL_DTYPES = DTYPES[:2]
PROJECTIONS = "projections"
LABELS = ("integer", "one_hot", "soft")
STORAGES = ("C", "fortran", "strided")

Status = Literal["ok", "error", "unsupported", "unavailable", "crash", "timeout", "memory"]
Verdict = Literal[
    "ok",
    "mismatch",
    "convention",
    "nonfinite",
    "oracle-nonfinite",
    "shape",
    "dtype",
    "missing",
    "vacuous",
    "noise-unknown",
    "powerless",
    "reduced-precision",
    "constant",
    "contract",
    "error",
    "unsupported",
    "unavailable",
    "crash",
    "timeout",
    "memory",
]
FINDINGS: frozenset[Verdict] = frozenset({"convention", "reduced-precision", "constant"})
PASSING: frozenset[Verdict] = FINDINGS | {"ok", "powerless", "unsupported", "unavailable"}


class BadInput(ValueError):
    """A setting that the user got wrong; the text names it, its value and what is accepted."""


@dataclass(frozen=True)
class NodeSpec:
    """One node of a graph: its name, its layer's name, the values it reads, and the width of its output."""

    name: str
    layer: str
    inputs: tuple[str, ...]
    width: int


@dataclass(frozen=True)
class NetworkSpec:
    """A graph of layers with its sizes: `widths` gives each input's width; the last node is the output."""

    widths: Mapping[str, int]
    nodes: tuple[NodeSpec, ...]
    batch: int

    @cached_property
    def digest(self) -> str:
        """Eight hexadecimal digits that two networks share only when they are the same."""
        return _digest(asdict(self))

    @property
    def output(self) -> NodeSpec:
        """The node whose value is the network's."""
        return self.nodes[-1]


@dataclass(frozen=True)
class Case:
    """Everything that determines one experiment.

    `origin` tells where in a seeded plan the case came from and is part of no digest; `scale`
    multiplies the inputs, `gain` the weights; `hazards` names what is planted.
    """

    network: NetworkSpec
    dtype: str
    seed: int
    scale: float = 1.0
    gain: float = 1.0
    labels: str = "integer"
    storage: str = "C"
    hazards: tuple[str, ...] = ()
    origin: str = "c"

    @cached_property
    def id(self) -> str:
        """A stable name: where the case came from, its dtype, and a digest of its content."""
        content = {key: value for key, value in asdict(self).items() if key != "origin"}
        return f"{self.origin}-{self.dtype.replace('float', 'f')}-{_digest(content)}"

    def to_json(self) -> str:
        """Return the case as one line of JSON, from which `case_from_json` makes an equal case."""
        return json.dumps(asdict(self), sort_keys=True)


def case_from_json(text: str) -> Case:
    """Return the case that the JSON text describes. Raises BadInput, naming the field, when it describes none."""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise BadInput(f"case: not valid JSON ({error})") from None
    graph = _fields(record, Case, "case")["network"]
    graph = _fields(graph, NetworkSpec, "network")
    if not isinstance(graph["nodes"], list) or not graph["nodes"]:
        raise BadInput(f"network.nodes: {graph['nodes']!r}; accepted is a list of at least one node")
    nodes = tuple(NodeSpec(**_node(_fields(node, NodeSpec, "node"))) for node in graph["nodes"])
    network = NetworkSpec(widths=_widths(graph["widths"]), nodes=nodes, batch=_number(graph["batch"], "network.batch", 0))
    case = Case(**{**record, "network": network, "hazards": _texts(record.get("hazards", []), "case.hazards")})
    _check(case)
    return case


@dataclass(frozen=True, eq=False)
class Problem:
    """A case's arrays, all read-only: parameters by node, inputs by name, and the cotangent of the output.

    `constants` names the inputs that are not differentiated (labels and targets).
    """

    case: Case
    params: Mapping[str, Mapping[str, Array]]
    inputs: Mapping[str, Array]
    constants: frozenset[str]
    dy: Array


@dataclass(frozen=True, eq=False)
class NodeTrace:
    """What one node received and returned: its inputs, output, upstream dy, and gradients; `contract` says what it broke."""

    inputs: tuple[Array, ...]
    y: Array
    dy: Array
    dx: tuple[Array | None, ...]
    dparams: Mapping[str, Array]
    contract: str = ""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a backend made of a problem.

    `y` is the output; `gradients` are named node.parameter or by the input; `decisions` are the
    branches taken, by node; `uncertainty` is given by witnesses that estimate their own error;
    `directions` is how many random directions the
    gradients are projected on, 0 when they are not.
    """

    status: Status
    y: Array | None = None
    gradients: Mapping[str, Array] = field(default_factory=dict)
    decisions: Mapping[str, Array] = field(default_factory=dict)
    uncertainty: Mapping[str, Array] = field(default_factory=dict)
    directions: int = 0
    message: str = ""
    seconds: float = 0.0
    compile_seconds: float = 0.0


@dataclass(frozen=True)
class Arithmetic:
    """What a backend says of its arithmetic: the error of exp and log in unit roundoffs, and whether subnormals flush.

    Networks in bfloat16 and float16 compute in float32 and round at their edges; ops of a framework's own compute
    in the narrow format, and their sums and products in `accumulator` where that is wider.
    """

    elementary: float = 5.0
    flushes: bool = True
    accumulator: str = "float32, or the storage dtype where that is wider"


@dataclass(frozen=True)
class Comparison:
    """One row of the table: a case, a backend, a quantity, and how far it is from the truth.

    Errors are measured three ways: in units of the bound, in ulps of the true value, and relative
    to the tensor's norm. `power` is the smallest relative error that would surely have been seen;
    `seen_percent` and `seen_millionth` are the shares of the entries in which a relative error of
    1e-2 and of 1e-6 would have been. `culprit` says who is wrong, where something is.
    """

    case: str
    network: str
    hazards: str
    backend: str
    variant: str
    dtype: str
    node: str
    layer: str
    quantity: str
    check: str
    verdict: Verdict
    decides: bool
    error_in_bounds: float = float("nan")
    local_error_in_bounds: float = float("nan")
    network_error_in_bounds: float = float("nan")
    noise_error_in_bounds: float = float("nan")
    lifted_error_in_bounds: float = float("nan")
    ulps: float = float("nan")
    relative_to_norm: float = float("nan")
    power: float = float("nan")
    seen_percent: float = float("nan")
    seen_millionth: float = float("nan")
    n_compared: int = 0
    n_wrong: int = 0
    worst_index: str = ""
    got: float = float("nan")
    expected: float = float("nan")
    culprit: str = ""
    message: str = ""

    @property
    def fails(self) -> bool:
        """Whether this row turns the run red."""
        return self.decides and self.verdict not in PASSING


@dataclass(frozen=True)
class Discrepancy:
    """How far two backends are from one another in one quantity, with no verdict."""

    case: str
    dtype: str
    quantity: str
    backend_a: str
    backend_b: str
    n_compared: int
    max_abs: float
    max_relative_to_norm: float
    max_ulps: float
    cosine: float


@dataclass(frozen=True)
class Timing:
    """The time of one phase of one backend on one network: seconds (median and quartiles) and processor time over wall time."""

    network: str
    parameters: int
    batch: int
    dtype: str
    backend: str
    phase: str
    median: float
    lower_quartile: float
    upper_quartile: float
    repeats: int
    threads: int
    cpu_over_wall: float
    ratio_to_numpy: float


class Program(Protocol):
    """A network made ready by one backend for one dtype; compiled once, run on many problems."""

    def run(self, problem: Problem) -> Outcome:
        """Return what a user of the framework would get."""
        ...

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace] | None:
        """Return what every node received and returned, or None where the inside cannot be seen."""
        ...


class Backend(Protocol):
    """One way to compute gradients.

    `name` is its own, `framework` what it needs installed and what a user may say for all its
    backends that are `default`; a witness has `decides` false: its rows never fail a run.
    """

    @property
    def name(self) -> str: ...
    @property
    def framework(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def default(self) -> bool: ...
    @property
    def decides(self) -> bool: ...
    @property
    def arithmetic(self) -> Arithmetic: ...
    @property
    def threads(self) -> str: ...

    def version(self) -> str:
        """Return the framework's version. Raises ImportError when it is not installed."""
        ...

    def rule(self, layer: Any) -> str:
        """Return whose backward pass this is for the layer class: layer, formula or native."""
        ...

    def prepare(self, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> Program | None:
        """Return the network ready to run, None where this backend has nothing of its own for it.

        Raises Unsupported when a layer is not for this backend.
        """
        ...


def freeze(array: Array) -> Array:
    """Return a read-only view of the array, so that layers under test cannot change what others are given."""
    view = array.view()
    view.setflags(write=False)
    return view


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _fields(record: Any, kind: type, name: str) -> dict[str, Any]:
    """Return the record when it has just the fields of the dataclass, those without a default among them."""
    accepted = kind.__dataclass_fields__  # type: ignore[attr-defined]  # reason: `type` does not tell that it is a dataclass
    if not isinstance(record, dict):
        raise BadInput(f"{name}: {record!r:.80}; accepted is an object with the fields {sorted(accepted)}")
    unknown = sorted(set(record) - set(accepted))
    missing = sorted(key for key in accepted if key not in record and key in _REQUIRED)
    if unknown or missing:
        raise BadInput(f"{name}: unknown fields {unknown}, missing fields {missing}; accepted are {sorted(accepted)}")
    return record


_REQUIRED = frozenset({"network", "dtype", "seed", "widths", "nodes", "batch", "name", "layer", "inputs", "width"})


def _node(record: dict[str, Any]) -> dict[str, Any]:
    for name in ("name", "layer"):
        _text(record[name], f"node.{name}")
    inputs = _texts(record["inputs"], f"node {record['name']!r}: inputs")
    return {**record, "inputs": inputs, "width": _number(record["width"], f"{record['name']}.width", 0)}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{name}: {value!r:.80}; accepted is a name")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BadInput(f"{name}: {value!r:.80}; accepted is a list of names")
    return tuple(value)


def _widths(record: Any) -> dict[str, int]:
    if not isinstance(record, dict):
        raise BadInput(f"network.widths: {record!r}; accepted is an object of input names and widths")
    return {name: _number(width, f"network.widths.{name}", 0) for name, width in record.items()}


def _number(value: Any, name: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadInput(f"{name}: {value!r}; accepted is a whole number of at least {least}")
    return value


def _check(case: Case) -> None:
    for name, value, accepted in (
        ("dtype", case.dtype, DTYPES),
        ("labels", case.labels, LABELS),
        ("storage", case.storage, STORAGES),
    ):
        if value not in accepted:
            raise BadInput(f"case.{name}: {value!r}; accepted are {', '.join(accepted)}")
    _text(case.origin, "case.origin")
    _number(case.seed, "case.seed", 0)
    for name, factor in (("scale", case.scale), ("gain", case.gain)):
        if not isinstance(factor, int | float) or not abs(factor) <= sys.float_info.max:
            raise BadInput(f"case.{name}: {factor!r}; accepted is a finite number")
    known = set(case.network.widths)
    for node in case.network.nodes:
        if unknown := sorted(set(node.inputs) - known):
            raise BadInput(f"node {node.name!r}: inputs {unknown} are unknown; accepted are {sorted(known)}")
        known.add(node.name)
    used = {name for node in case.network.nodes for name in node.inputs} | {case.network.output.name}
    if idle := sorted(known - used):
        raise BadInput(f"network: nobody reads {idle}; accepted is a graph in which all but the last node's value is read")
