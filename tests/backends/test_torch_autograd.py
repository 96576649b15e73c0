"""Problems come in; torch's gradients, the same to the bit whether its nodes are tapped or not, go out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.backends.torch_autograd import BACKENDS, TorchAutograd, to_array, to_tensor
from harness.cases import make_problem
from harness.core import DTYPES, Case, NetworkSpec, NodeSpec

torch = pytest.importorskip("torch")
FORMULA, NATIVE = BACKENDS


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_tapped_trace_gives_the_bits_of_the_untapped_run(draw_small, layers, backend):
    compared = 0
    for seed in range(40):
        problem = draw_small(seed, DTYPES[seed % 4])
        program = backend.prepare(problem.case.network, problem.case.dtype, layers)
        outcome, trace = program.run(problem), program.trace(problem)
        assert trace[problem.case.network.output.name].y.tobytes() == outcome.y.tobytes()
        for name, seen in trace.items():
            for key, value in seen.dparams.items():
                assert value.tobytes() == outcome.gradients[f"{name}.{key}"].tobytes()
                compared += value.size
    assert compared > 1000


def test_a_tapped_trace_hands_on_every_value_and_sums_the_gradients_of_a_value_used_twice(layers):
    network = NetworkSpec(
        {"x": 3},
        (NodeSpec("relu1", "relu", ("x",), 3), NodeSpec("multiply1", "multiply", ("relu1", "x"), 3)),
        4,
    )
    problem = make_problem(Case(network, "float64", 1), layers)
    program = FORMULA.prepare(network, "float64", layers)
    trace, gradient = program.trace(problem), program.run(problem).gradients["x"]
    assert trace["multiply1"].inputs[0].tobytes() == trace["relu1"].y.tobytes()
    assert trace["multiply1"].dx[0].tobytes() == trace["relu1"].dy.tobytes()
    assert (trace["relu1"].dx[0] + trace["multiply1"].dx[1]).tobytes() == gradient.tobytes()


def test_the_native_program_calls_torchs_own_ops(draw_small, layers, monkeypatch):
    called = []
    original = torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda *given: called.append(1) or original(*given))
    problem = draw_small(1, alone="softmax_cross_entropy")
    FORMULA.prepare(problem.case.network, "float64", layers).run(problem)
    assert not called
    NATIVE.prepare(problem.case.network, "float64", layers).run(problem)
    assert called


def test_the_native_backend_has_nothing_for_a_network_without_an_op_of_torch(draw_small):
    class Foreign:
        native: dict[str, object] = {}

    assert NATIVE.prepare(draw_small(1, alone="relu").case.network, "float64", {"relu": Foreign}) is None


@pytest.mark.parametrize("storage", ["C", "fortran", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_layout_survives_the_way_to_torch(layers, storage, dtype):
    network = NetworkSpec({"x": 5}, (NodeSpec("affine1", "affine", ("x",), 3),), 4)
    problem = make_problem(Case(network, dtype, 1, storage=storage), layers)
    for array in (problem.inputs["x"], problem.params["affine1"]["W"], problem.params["affine1"]["b"]):
        tensor = to_tensor(torch, array)
        assert tuple(stride * array.itemsize for stride in tensor.stride()) == array.strides
        assert tensor.dtype == getattr(torch, dtype)
        assert to_array(torch, tensor).tobytes() == array.tobytes()


@pytest.mark.parametrize("storage", ["C", "fortran", "strided"])
def test_a_tensor_shares_no_memory_with_the_array(layers, storage):
    problem = make_problem(
        Case(NetworkSpec({"x": 5}, (NodeSpec("relu1", "relu", ("x",), 5),), 4), "float64", 1, storage=storage), layers
    )
    tensor = to_tensor(torch, problem.inputs["x"])
    assert not np.shares_memory(tensor.numpy(), problem.inputs["x"])


def test_thread_count_default_dtype_and_gradient_mode_are_left_alone(draw_small, layers):
    before = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed())
    problem = draw_small(3, "float32")
    program = FORMULA.prepare(problem.case.network, "float32", layers)
    program.run(problem)
    program.trace(problem)
    assert (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed()) == before


def test_phases_give_what_a_run_gives_each_time(draw_small, layers):
    problem = draw_small(3)
    program = TorchAutograd().prepare(problem.case.network, "float64", layers)
    phases, outcome = program.phases(problem), program.run(problem)
    for _ in range(2):
        assert phases["forward"]().detach().numpy().tobytes() == outcome.y.tobytes()
        for phase in ("backward", "forward+backward"):
            found = phases[phase]()
            assert [value.numpy().tobytes() for value in found] == [value.tobytes() for value in outcome.gradients.values()]
