"""The examples of every style come in; that each right layer conforms and each wrong twin is found and explained goes out."""

from __future__ import annotations

import ast
import runpy
from importlib import import_module
from pathlib import Path

import pytest

from harness import check_layer, styles

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("style_*.py"))
GLUE = 5


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda path: path.stem)
def example(request):
    return runpy.run_path(str(request.param), run_name=request.param.stem)


def test_there_is_an_example_for_each_of_the_13_styles():
    assert [int(path.stem.split("_")[1]) for path in EXAMPLES] == list(range(1, 14))


def test_the_right_layer_conforms(example):
    report = check_layer(example["right"], on_fail="report", **example.get("SETTINGS", {}))
    assert report.passed, report.describe()
    assert {"forward", "gradients", "power"} <= {one.check for one in report.results if one.state == "passed"}


def test_the_wrong_twin_is_found_and_explained(example):
    report = check_layer(example["wrong"], on_fail="report", **example.get("SETTINGS", {}))
    check, words = example["FINDS"]
    assert check in {one.check for one in report.failures}
    assert words
    assert words in report.describe()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_a_user_adds_to_his_layer_and_formula_is_five_lines_or_fewer(path):
    """Counted are the statements that name a function of `harness.styles` or LayerSpec, for the right layer."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    glue = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.If) and _is_glue(node)]
    lines = sum(node.end_lineno - node.lineno + 1 for node in glue if "wrong" not in ast.unparse(node).split("=")[0])
    assert 1 <= lines <= GLUE


def _is_glue(node):
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return bool(names & ({"LayerSpec"} | {name for name in vars(styles) if name == "adjust" or name.startswith("from_")}))


def test_examples_can_be_run_as_scripts(capsys):
    runpy.run_path(str(EXAMPLES[0]), run_name="__main__")
    told = capsys.readouterr().out
    assert "Affine conforms" in told
    assert "AffineOfMeans does not conform" in told


def test_the_package_of_styles_offers_nothing_that_no_example_uses():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in EXAMPLES]
    used = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    offered = {name for name in vars(import_module("harness.styles")) if name == "adjust" or name.startswith("from_")}
    assert offered - used == {"from_loss_layer"}
