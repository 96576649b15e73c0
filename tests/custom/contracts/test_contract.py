"""Right and raising layers come in; that the form of contracts holds, and no right layer breaks one, must hold."""

from __future__ import annotations

import runpy
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import LayerSpec, check_layer
from harness.custom.api import CHECKS, VALUES
from harness.custom.contracts.contract import THEMES, look
from harness.discovery import find_contracts, find_layers
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken
from tests.custom.contracts.right_layers import CANCELLING, RIGHT

FOLDER = Path(__file__).parents[3]
MOST_PASSES = 60  # a pass over a small NumPy layer takes some 20 microseconds, one of JAX some milliseconds
EXAMPLES = sorted((FOLDER / "examples").glob("style_*.py"))


def test_every_module_of_contracts_is_found_and_has_tests() -> None:
    found = {path.stem for path in (FOLDER / "harness/custom/contracts").glob("*.py") if "\nCONTRACTS = (" in path.read_text()}
    tested = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert found <= tested
    assert len(find_contracts()) >= len(found) == 19


def test_the_checks_are_the_values_and_all_contracts_in_the_order_of_their_themes() -> None:
    contracts = list(find_contracts().values())
    assert list(CHECKS) == [*VALUES, *(contract.name for contract in contracts)]
    places = [THEMES.index(contract.theme) for contract in contracts]
    assert places == sorted(places)
    assert set(places) == set(range(len(THEMES)))


def test_each_contract_says_why_in_one_sentence() -> None:
    assert all(4 < len(one.why.split()) < 30 and not one.why.endswith(".") for one in find_contracts().values())


@pytest.mark.parametrize("spec", RIGHT + CANCELLING, ids=lambda spec: spec.name)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_layers_keep_every_contract(spec: LayerSpec, dtype: str) -> None:
    assert find_broken(draw(spec, dtype=dtype)) == {}


USUAL = [
    (layers.Swish, layers.swish, [(6, 5)]),
    (layers.Linear, layers.linear, [(6, 5)]),
    (layers.Bilinear, lambda xp, params, a, b: a * b, [(4, 3), (4, 3)]),
    (layers.Lookup, lambda xp, params, t: params["W"][t], [np.array([0, 3, 3, 1])]),
]


@pytest.mark.parametrize(("layer", "formula", "inputs"), USUAL, ids=[layer.__name__ for layer, _, _ in USUAL])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_usual_layers_keep_every_contract_in_every_dtype(layer: Any, formula: Any, inputs: Any, dtype: str) -> None:
    assert find_broken(draw(layer, formula, inputs, dtype)) == {}


@pytest.mark.parametrize("name", list(find_layers()))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_reference_layers_keep_every_contract(name: str, dtype: str) -> None:
    kind, rng = find_layers()[name], np.random.default_rng(0)
    inputs = (rng.standard_normal((6, 5)),) if kind.place == "project" else kind.sample_inputs(rng, 6, 5)
    params = kind.initial_params(rng, 5, 4)
    constants = tuple(i for i, differentiable in enumerate(kind.differentiable) if not differentiable)
    spec = LayerSpec(lambda: kind(**params), kind.formula, inputs, params, name=name, constants=constants)
    assert find_broken(draw(spec, dtype=dtype)) == {}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_examples_of_every_style_keep_every_contract(path: Path, dtype: str) -> None:
    assert find_broken(draw(runpy.run_path(str(path))["right"], dtype=dtype)) == {}


def test_what_is_raised_is_told_with_its_place() -> None:
    class Raises(layers.Swish):
        def backward(self, dy: Any) -> Any:
            raise KeyError("gone")

    said = ask("deterministic", draw(Raises))
    assert isinstance(said, str)
    assert "KeyError: 'gone'" in said
    assert "test_contract.py, in backward" in said


def test_every_contract_can_be_switched_on_alone_and_reports_skips_and_notes_as_such() -> None:
    for name in find_contracts():
        report = check_layer(RIGHT[0], checks=[name], dtypes=["float64"], against=[], on_fail="report")
        (result,) = report.results
        assert (result.check, result.state) in {(name, "passed"), (name, "skipped")}
        noted = name in ("kinks", "nonfinite_inputs")
        assert bool(result.message) == (result.state == "skipped" or noted)
        assert any(result.message in finding for finding in report.findings) is noted


def test_the_contract_in_the_guide_works() -> None:
    text = (FOLDER / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Add a contract")[2]
    guide = types.ModuleType("guide")
    exec(text.split("```python\n")[1].partition("```")[0], guide.__dict__)
    (contract,) = guide.CONTRACTS
    assert look(contract, draw(layers.Swish)) == ""

    class Divides(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return super().backward(dy) * self.x / self.x

    assert look(contract, draw(Divides)) == "dx0"


def test_contracts_of_other_distributions_are_found(plug_in: Any, run_python: Any) -> None:
    plug_in(
        "polite",
        """
        from harness.custom.contracts.contract import Contract
        CONTRACT = Contract("polite", "arrays", "a layer says please before it multiplies", lambda subject: "it does not")
        """,
        contracts="polite = polite:CONTRACT",
    )
    program = """
import numpy as np
from harness import check_layer
from harness.custom.api import CHECKS
class Double:
    def forward(self, x): return 2 * x
    def backward(self, dy): return 2 * dy
report = check_layer(Double, lambda xp, params, x: 2 * x, inputs=[(3, 2)], checks=["polite"], against=[], on_fail="report")
print(CHECKS["polite"], "|", report.failures[0].message)
"""
    assert "says please" in (said := run_python(program).stdout)
    assert "it does not" in said


def test_all_contracts_together_run_a_layer_a_bounded_number_of_times() -> None:
    calls = []

    class Counts(layers.Swish):
        def forward(self, x: Any) -> Any:
            calls.append(1)
            return super().forward(x)

    assert find_broken(draw(Counts)) == {}
    assert len(calls) <= MOST_PASSES
