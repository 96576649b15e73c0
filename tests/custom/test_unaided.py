"""Right and wrong layers without a formula come in; the verdict, its reference and its power must be as they should."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import ConformanceError, LayerSpec, check_layer
from harness.core import BadInput
from tests.custom import layers
from tests.custom import own_layers as own

VALUES = ["forward", "gradients", "power"]
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("style_*.py"))


def draw_labels(rng: np.random.Generator) -> list[Any]:
    return [rng.standard_normal((4, 3)), rng.integers(0, 3, 4)]


RIGHT: dict[Any, Any] = {
    layers.Swish: [(8, 5)], layers.Linear: [(6, 5)], layers.Bilinear: [(4, 3), (4, 3)],
    layers.Lookup: [np.array([0, 3, 3, 1])], own.LayerNorm: [(4, 5)], own.VarNorm: [(4, 5)], own.ReLU: [(6, 4)],
    own.InPlaceReLU: [(6, 4)], own.Abs: [(6, 4)], own.SignTimes: [(6, 4)], own.Norm: [(4, 3)], own.Softmax: [(4, 6)],
    own.MaxPool: [(4, 6)], own.Buffered: [(4, 3)], own.Listed: [(4, 3)], own.Cast: [(4, 3)], own.RealPart: [(4, 3)],
    own.Sorted: [(4, 5)], own.BatchNorm: [(6, 5)], own.Huber: [(4, 5)], own.CrossEntropy: draw_labels,
}  # fmt: skip


def check(layer: Any, inputs: Any, **settings: Any) -> Any:
    return check_layer(layer, inputs=inputs, **{"against": [], "on_fail": "report", "checks": VALUES, "cases": 3, **settings})


@pytest.mark.parametrize("layer", RIGHT, ids=lambda layer: layer.__name__)
def test_right_layers_pass_without_a_formula(layer: Any) -> None:
    report = check(layer, RIGHT[layer], cases=7)
    assert report.passed, report
    assert {one.state for one in report.results if one.check == "gradients"} == {"passed"}
    assert {one.message for one in report.results if one.check == "forward"} == {
        "no formula was given, so the forward pass is not judged"
    }
    assert {one.state for one in report.results if one.check == "forward"} == {"skipped"}
    least = re.search(r"a fault below (\S+) in float64, (\S+) in float32", report.reference)
    assert least is not None
    assert float(least[1]) < 1e-11
    assert float(least[2]) < 1e-4


@pytest.mark.parametrize("layer", [own.ReLU, own.Abs, own.VarNorm, own.Buffered, own.Huber], ids=lambda layer: layer.__name__)
def test_no_right_layer_is_accused_over_many_seeds(layer: Any) -> None:
    for seed in range(1, 4):
        report = check(layer, RIGHT[layer], seed=seed, cases=7)
        assert report.passed, report


@pytest.mark.parametrize("error", [1e-3, 1e-6, 1e-10, -2.0])
@pytest.mark.parametrize("layer", [layers.Swish, own.Softmax, own.VarNorm, own.Abs, own.Listed], ids=lambda one: one.__name__)
def test_a_scaled_gradient_is_found_and_named(layer: Any, error: float) -> None:
    class Scaled(layer):  # type: ignore[misc]  # reason: the class is a parameter of the test
        def backward(self, dy: Any) -> Any:
            return super().backward(dy) * dy.dtype.type(1 + error)

    report = check(Scaled, RIGHT[layer], dtypes=["float64"])
    (failure,) = report.failures
    assert failure.check == "gradients"
    assert failure.diagnosis.endswith("its sign is wrong" if error == -2 else "a constant factor")


def test_a_transposed_weight_a_missing_term_and_a_forgotten_mean_are_found_and_named() -> None:
    class Square(layers.Linear):
        def __init__(self) -> None:
            self.W, self.b = np.random.default_rng(2).standard_normal((5, 5)), np.zeros(5)
            self.params, self.grads = {"W": self.W, "b": self.b}, dict[str, Any]()

    class Transposed(Square):
        def backward(self, dy: Any) -> Any:
            super().backward(dy)
            return dy @ self.W

    class Averaged(layers.Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.grads["b"] = dy.mean(axis=0)
            return dx

    class Forgets(own.LayerNorm):
        def backward(self, dy: Any) -> Any:
            super().backward(dy)
            return dy * self.params["g"] * self.r

    assert check(Square, [(6, 5)]).passed
    said = check(Transposed, [(6, 5)], dtypes=["float64"]).describe()
    assert "dx: the parameter W is transposed" in said
    assert "db: it is 1/6 of the truth, and 6 is the batch" in check(Averaged, [(6, 5)], dtypes=["float64"]).describe()
    said = check(Forgets, [(4, 5)], dtypes=["float64"]).describe()
    assert "mismatch" in said
    assert "dx: no known fault explains it" in said


def test_ties_and_kinks_are_right_between_the_slopes_and_wrong_outside() -> None:
    class Half(own.ReLU):
        def backward(self, dy: Any) -> Any:
            return dy * np.where(self.at_zero, dy.dtype.type(self.share), self.mask.astype(dy.dtype))

        def forward(self, x: Any) -> Any:
            self.at_zero = x == 0
            return super().forward(x)

        share = 0.5

    class Outside(Half):
        share = 1.5

    x = np.array([[-1.0, 0.0, 2.0], [0.0, 3.0, -0.5]])
    for layer in (own.ReLU, Half):
        report = check(layer, [x])
        assert report.passed
        assert "12 entries at kinks were held against the slopes to both sides" in report.reference
    report = check(Outside, [x], dtypes=["float64"])
    assert [one.check for one in report.failures] == ["gradients"]
    assert "2 of 6 entries" in report.failures[0].message


def test_what_lies_at_kinks_alone_is_powerless() -> None:
    report = check(own.ReLU, [np.zeros((3, 4))], dtypes=["float64"])
    assert [one.check for one in report.failures] == ["power"]
    assert {row.verdict for row in report.comparisons} == {"powerless"}


def test_a_cast_inside_blunts_the_reference_and_accuses_nobody() -> None:
    report = check(own.Singled, [(3, 4)])
    assert report.passed
    assert re.search(r"a fault below \de-0[5-7] in float64", report.reference)
    assert [one.check for one in check(own.Halved, [(3, 4)], dtypes=["float64"]).failures] == ["power"]


def test_a_gradient_that_is_nothing_but_noise_is_powerless() -> None:
    class Coarse:
        """Its forward pass keeps four digits, and hides any slope beneath their jumps."""

        def forward(self, x: Any) -> Any:
            self.x = x
            return np.round(x * 1e7) % 2 + 1e-9 * x

        def backward(self, dy: Any) -> Any:
            return dy * 1e-9

    report = check(Coarse, [(3, 4)], dtypes=["float64"])
    assert not report.passed
    assert {row.verdict for row in report.comparisons} <= {"powerless", "noise-unknown"}


class Noisy(layers.Swish):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * np.random.default_rng().uniform(size=x.shape).astype(x.dtype)


class Raises(layers.Swish):
    def forward(self, x: Any) -> Any:
        raise RuntimeError("not today")


class Nothing(layers.Swish):
    def forward(self, x: Any) -> Any:
        return None


class Nan(layers.Swish):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * np.nan


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Noisy, "the layer is random or keeps a state outside of it; seed it before every pass"),
        (Raises, "RuntimeError: not today (line"),
        (Nothing, "forward returned None; accepted is an array"),
        (Nan, "forward returned numbers that are not finite"),
    ],
)
def test_a_layer_that_gives_no_reference_fails_and_is_told_why(layer: Any, words: str) -> None:
    report = check(layer, [(3, 4)], dtypes=["float64"])
    assert not report.passed
    assert words in report.describe()
    assert report.reference.startswith("none: ")


@pytest.mark.parametrize("returned", [None, [1.0], 1.0, "dx", np.array([[object()]]), (1, 2, 3)])
def test_whatever_backward_returns_becomes_a_verdict(returned: Any) -> None:
    class Odd(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return returned

    report = check(Odd, [(6, 5)])
    assert {one.dtype for one in report.failures if one.check == "gradients"} == {"float64", "float32"}


def test_a_layer_that_keeps_something_of_the_pass_before_is_found() -> None:
    report = check(layers.RemembersTheFirst, [(6, 5)], dtypes=["float64"])
    assert "contract" in report.failures[0].message


def test_an_output_of_another_dtype_fails_and_a_right_one_is_not_judged() -> None:
    class Widens(layers.Swish):
        def forward(self, x: Any) -> Any:
            return super().forward(x).astype(np.float64)

    report = check(Widens, [(6, 5)])
    failed = [one for one in report.failures if one.check == "forward"]
    assert [(one.dtype, "the dtype is float64; it must be float32" in one.message) for one in failed] == [("float32", True)]
    assert {one.state for one in report.results if one.check == "forward" and one.dtype == "float64"} == {"skipped"}


def test_nothing_but_skipped_checks_is_no_pass() -> None:
    assert not check(layers.Swish, [(6, 5)], checks=["forward"]).passed


def test_frameworks_stay_idle_and_say_so_and_need_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.custom.api.find_spec", lambda name: None)
    report = check(layers.Swish, [(6, 5)], against=["torch", "jax"])
    idle = [one for one in report.results if one.backend != "numpy" and one.check == "gradients"]
    assert {one.state for one in idle} == {"skipped"}
    assert {one.message for one in idle} == {
        f"no formula was given: {name} has nothing to differentiate" for name in ("torch", "jax")
    }
    assert "torch and jax had nothing to differentiate" in repr(report)
    assert "torch and jax had nothing to differentiate" in report._repr_html_()
    with pytest.raises(BadInput, match="against: 'tensorflow'"):
        check(layers.Swish, [(6, 5)], against=["tensorflow"])


def test_every_contract_is_put_to_a_layer_without_a_formula() -> None:
    assert check(layers.Linear, [(6, 5)], checks=None).passed
    failed = check(layers.Clips, [(6, 5)], checks=None, dtypes=["float64"])
    assert {one.check for one in failed.failures} == {"linear_in_cotangent"}
    report = check(layers.FailsOnEmpty, [(6, 5)], checks=["empty_batch", "deterministic"])
    assert {one.state for one in report.results if one.check == "empty_batch"} == {"skipped"}


def test_a_declared_gradient_needs_no_formula_of_the_forward_pass() -> None:
    class Reversed:
        def forward(self, x: Any) -> Any:
            return x.copy()

        def backward(self, dy: Any) -> Any:
            return -dy

    assert not check(Reversed, [(6, 4)]).passed
    report = check(Reversed, [(6, 4)], gradient=lambda xp, params, x: -x)
    assert report.passed
    assert {one.state for one in report.results if one.check == "forward"} == {"skipped"}
    assert report.reference == ""


def test_a_large_layer_is_judged_by_some_entries_and_by_directions_through_all() -> None:
    class Wide(layers.Linear):
        def __init__(self) -> None:
            rng = np.random.default_rng(6)
            self.W, self.b = rng.standard_normal((40, 30)), rng.standard_normal(30)
            self.params, self.grads = {"W": self.W, "b": self.b}, dict[str, Any]()

    class OneEntry(Wide):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.grads["W"][17, 23] *= 1.001
            return dx

    report = check(Wide, [(4, 40)], cases=1)
    assert report.passed
    assert "some entries were looked at one by one, and all along random directions" in report.reference
    wrong = check(OneEntry, [(4, 40)], cases=1, dtypes=["float64"])
    assert [one.check for one in wrong.failures] == ["gradients"]


def test_narrow_dtypes_are_judged_too() -> None:
    for dtype in ("bfloat16", "float16"):
        assert check(layers.Linear, [(6, 5)], dtypes=[dtype]).passed

        class Scaled(layers.Linear):
            def backward(self, dy: Any) -> Any:
                return super().backward(dy) * dy.dtype.type(1.2)

        assert not check(Scaled, [(6, 5)], dtypes=[dtype]).passed


def test_a_specification_needs_no_formula_either() -> None:
    spec = LayerSpec(layers.Swish, inputs=[(6, 5)])
    assert spec.is_unaided
    assert check_layer(spec, against=[], checks=VALUES, cases=1).passed
    with pytest.raises(ConformanceError, match="reference: the complex step"):
        check_layer(layers.IgnoresCotangent, inputs=[(6, 5)], against=[], shrink=False)


def test_a_function_of_torch_is_judged_by_the_autodiff_of_its_code() -> None:
    torch = pytest.importorskip("torch")
    from harness.styles import from_torch

    class Softplus(torch.autograd.Function):  # type: ignore[misc, name-defined]  # reason: torch is imported as a test asks for it
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.log(1 + torch.exp(x))

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy * torch.sigmoid(ctx.saved_tensors[0])

    class Wrong(Softplus):
        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy * torch.sigmoid(ctx.saved_tensors[0]) * (1 + 1e-6)

    right = check(from_torch(Softplus), [(4, 3)])
    assert right.passed
    assert right.reference.startswith("the autodiff of its forward pass's own code")
    wrong = check(from_torch(Wrong), [(4, 3)], dtypes=["float64"])
    assert "a constant factor" in wrong.describe()


def test_a_module_is_judged_by_differences_and_says_that_nothing_in_it_is_written_by_hand() -> None:
    torch = pytest.importorskip("torch")
    from harness.styles import from_torch

    report = check(from_torch(torch.nn.Linear(4, 3).double()), [(5, 4)])
    assert report.passed
    assert "nothing written by hand in it" in report.reference
    assert "autodiff of its forward" not in report.reference


def test_a_function_of_jax_is_judged_by_the_autodiff_of_what_it_decorates() -> None:
    jax = pytest.importorskip("jax")
    from harness.styles import from_jax

    @jax.custom_vjp
    def cube(x: Any) -> Any:
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, dy: (dy * 3 * x * x,))

    @jax.custom_vjp
    def wrong(x: Any) -> Any:
        return x**3

    wrong.defvjp(lambda x: (x**3, x), lambda x, dy: (dy * 2 * x * x,))
    before = jax.config.jax_enable_x64
    right = check(from_jax(cube), [(4, 3)], cases=2)
    assert right.passed
    assert right.reference.startswith("the autodiff of its forward pass's own code")
    assert "it is 0.6666667 times the truth" in check(from_jax(wrong), [(4, 3)], cases=1, dtypes=["float64"]).describe()
    assert jax.config.jax_enable_x64 == before


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_of_every_style_are_told_right_from_wrong_without_their_formulas(path: Path) -> None:
    found = runpy.run_path(str(path))
    for name, right in (("right", True), ("wrong", False)):
        own = found[name]
        spec = LayerSpec(own.layer, inputs=own.inputs, params=own.params, constants=own.constants)
        report = check_layer(spec, against=[], checks=VALUES, cases=2, dtypes=["float64"], on_fail="report")
        assert report.passed is right, report
        assert right or {one.check for one in report.failures} == {"gradients"}


@pytest.mark.parametrize("layer", [layers.Swish, layers.Linear, own.VarNorm, own.Buffered], ids=lambda one: one.__name__)
def test_the_smallest_fault_that_is_said_to_be_seen_is_seen(layer: Any) -> None:
    told = re.search(r"a fault below (\S+) in float64", check(layer, RIGHT[layer], dtypes=["float64"]).reference)
    assert told is not None

    class Scaled(layer):  # type: ignore[misc]  # reason: the class is a parameter of the test
        factor = 1 + 2 * float(told[1])

        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            if getattr(self, "grads", None):
                self.grads = {name: value * self.factor for name, value in self.grads.items()}
            return dx * self.factor

    report = check(Scaled, RIGHT[layer], dtypes=["float64"])
    wrong = {row.quantity for row in report.comparisons if row.verdict == "mismatch"}
    assert wrong == {row.quantity for row in report.comparisons}
