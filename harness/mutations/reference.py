"""Mutated reference: mutations by node and a wrong wiring come in, a backend that runs NumPy layers with them goes out.

What a judge sees of it is what it would see of a user's faulty code: one run, and one trace of what every node
received and returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from harness.backends.numpy_reference import NumpyProgram, NumpyReference, Recorder, _another
from harness.core import NetworkSpec, NodeTrace, Problem
from harness.floats import find_format
from harness.judge.rounding import make_rounding
from harness.mutations.mutation import Mutation
from harness.mutations.wiring import Wiring
from reference_layers import Network, Node


@dataclass(frozen=True)
class MutatedReference(NumpyReference):
    """The NumPy layers with faults: by the node's name its mutation and size, and the wiring of the whole graph.

    A node that a network does not have is not run, and its mutation is nowhere.
    """

    mutations: Mapping[str, tuple[Mutation, float]] = field(default_factory=dict)
    wiring: Wiring | None = None
    seed: int = 0

    def prepare(self, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> MutatedProgram:
        """Return the network ready to run, its mutated layers and its wrong wiring in the place of the right ones."""
        program = MutatedProgram(network, layers, find_format(dtype))
        rounding = make_rounding(dtype, self.arithmetic, "layer")
        program.steps = [(name, self._plant(name, kind, rounding), inputs) for name, kind, inputs in program.steps]
        program.wiring, program.seed = self.wiring, self.seed
        return program

    def _plant(self, node: str, kind: Any, rounding: Any) -> Any:
        if node not in self.mutations:
            return kind
        mutation, size = self.mutations[node]
        return mutation.plant(kind, size, self.seed, rounding)


class MutatedProgram(NumpyProgram):
    """A graph of layer objects, some of them with a fault, in a network that may be wired wrong."""

    wiring: Wiring | None = None
    seed: int = 0

    def build(self, problem: Problem) -> Network:
        """Return the graph of fresh layer objects, wired wrong where that is the fault."""
        graph = super().build(problem)
        return graph if self.wiring is None else self.wiring.plant(graph, self.network, self.seed)

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace]:
        """Return what every node received and returned in a second pass, behind one over other numbers."""
        if self.wiring is None:
            return super().trace(problem)
        graph = self.build(problem)
        graph.forward({name: _another(value) for name, value in problem.inputs.items()})
        graph.backward(problem.dy)
        recorders = {node.name: Recorder(node.layer) for node in graph.nodes}
        recorded = copy(graph)  # keeps the wiring, which a network made anew would not have
        recorded.nodes = tuple(Node(node.name, recorders[node.name], node.inputs) for node in graph.nodes)
        recorded.forward(problem.inputs)
        recorded.backward(problem.dy)
        return {name: recorder.trace() for name, recorder in recorders.items() if recorder.dy is not None}
