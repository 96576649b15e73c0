"""Single files outside the packages come in as entry points; a layer, a backend and a reporter of the harness go out."""

from __future__ import annotations

import pandas as pd
import pytest

LAYER = '''
    """A toy layer, in a file of its own."""

    import numpy as np

    from reference_layers import BackwardBound, Hazard, LayerBase


    class Softsign(LayerBase):
        """x / (1 + |x|), whose derivative is 1 / (1 + |x|)^2."""

        name = "toy"
        place = "map"
        hazards = (Hazard("toy-flat", "the slope vanishes", lambda rng, columns: columns * 1e3),)

        def forward(self, x):
            self.cache = (x,)
            return x / (1 + np.abs(x))

        def backward(self, dy, cache=None):
            (x,) = self._recall(cache)
            return dy / (1 + np.abs(x)) / (1 + np.abs(x))

        @staticmethod
        def formula(xp, params, x):
            return x / (1 + xp.abs(x))

        @staticmethod
        def forward_bound(r, params, x):
            size = np.abs(x.value)
            return x.error / (1 + np.maximum(size - x.error, 0)) ** 2 + 4 * r.u * np.minimum(1, size + x.error) + r.tiny

        @staticmethod
        def backward_bound(r, params, x, dy):
            near = 1 + np.maximum(np.abs(x.value) - x.error, 0)
            slope, bend = near**-2, 2 * near**-3 * x.error
            rounded = 12 * r.u * (1 + np.abs(x.value)) if r.rule == "formula" else 6 * r.u
            return BackwardBound((dy.error * slope + dy.size * (bend + rounded * slope) + 4 * r.tiny * (1 + dy.size),))

        @staticmethod
        def sample_inputs(rng, batch, width):
            return (rng.standard_normal((batch, width)),)
'''
WRONG = LAYER.replace("dy / (1 + np.abs(x)) / (1 + np.abs(x))", "dy / (1 + x) / (1 + np.abs(x))")
BACKEND = '''
    """A toy backend: the hand-written layers in longdouble, rounded at the end."""

    from dataclasses import dataclass, replace

    import numpy as np

    from harness.backends.numpy_reference import NumpyProgram
    from harness.core import Arithmetic, Outcome


    @dataclass(frozen=True)
    class Wide:
        name: str = "toy_backend"
        framework: str = "toy_backend"
        variant: str = "layer"
        default: bool = True
        decides: bool = True
        arithmetic: Arithmetic = Arithmetic(flushes=False, accumulator="longdouble")
        threads: str = "one"

        def version(self):
            return "1.0"

        def rule(self, layer):
            return "layer"

        def prepare(self, network, dtype, layers):
            return WideProgram(NumpyProgram(network, layers), dtype)


    @dataclass(frozen=True)
    class WideProgram:
        program: NumpyProgram
        dtype: str

        def run(self, problem):
            wide = replace(
                problem,
                params={name: {key: lift(value) for key, value in group.items()} for name, group in problem.params.items()},
                inputs={name: lift(value) for name, value in problem.inputs.items()},
                dy=lift(problem.dy),
            )
            found = self.program.run(wide)
            gradients = {name: value.astype(self.dtype) for name, value in found.gradients.items()}
            return Outcome("ok", found.y.astype(self.dtype), gradients)

        def trace(self, problem):
            return None


    def lift(value):
        return value.astype(np.longdouble) if value.dtype.kind == "f" else value


    BACKEND = Wide()
'''
REPORTER = '''
    """A toy reporter: one line of text."""


    class Counts:
        name = "toy_reporter"
        summary = "how many rows there are"

        def write(self, run, folder):
            path = folder / "counts.txt"
            path.write_text(f"{len(run.comparisons)} rows")
            return [path]


    REPORTER = Counts()
'''
SMALL = ("--cases", "24", "--draws", "4", "--seed", "2", "--jobs", "0", "--no-timings", "--quiet", "--out", "run")
LAYERS = ("--layers", "toy,affine,add,mean_squared_error")


@pytest.fixture
def toys(plug_in) -> None:
    """Install the three toys."""
    plug_in("toy_layer", LAYER, layers="toy = toy_layer:Softsign")
    plug_in("toy_backend", BACKEND, backends="toy = toy_backend:BACKEND")
    plug_in("toy_reporter", REPORTER, reporters="toy = toy_reporter:REPORTER")


@pytest.mark.usefixtures("toys")
def test_a_layer_a_backend_and_a_reporter_of_single_files_take_part(run_harness, tmp_path):
    chosen = ("--backends", "numpy,toy_backend,torch", "--reporters", "toy_reporter", "--hazards", "toy-flat")
    done = run_harness("run", *SMALL, *LAYERS, *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = pd.read_csv(tmp_path / "run" / "comparisons.csv", keep_default_na=False)
    toy = rows[rows.layer == "toy"]
    assert len(toy) > 20
    assert set(toy[toy.check != "worked"].backend) == {"numpy", "toy_backend", "torch", "torch:native"}
    assert set(toy[toy.check != "worked"].verdict) == {"ok"}
    assert set(rows[rows.check != "worked"].backend) == {"numpy", "toy_backend", "torch", "torch:native"}
    assert set(rows[rows.check == "worked"].verdict) == {"powerless"}  # nobody has worked out any values of the toy layer
    assert (rows[rows.backend == "toy_backend"].verdict == "ok").sum() > 20
    assert "toy-flat" in {name for names in rows.hazards for name in names.split("+")}
    assert (tmp_path / "run" / "counts.txt").read_text() == f"{len(rows)} rows"


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("layers", "toy", "x / (1 + |x|)"),
        ("backends", "toy_backend", "1.0; layer; judged"),
        ("reporters", "toy_reporter", "how many rows there are"),
        ("hazards", "toy-flat", "the slope vanishes"),
    ],
)
def test_they_are_listed(run_harness, kind, name, text):
    done = run_harness("list", kind)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith(f"{name} ") and text in line for line in done.stdout.splitlines())


def test_a_wrong_layer_of_a_single_file_turns_the_run_red(run_harness, plug_in, tmp_path):
    plug_in("toy_layer", WRONG, layers="toy = toy_layer:Softsign")
    done = run_harness("run", *SMALL, *LAYERS, "--backends", "numpy,autograd", "--reporters", "none")
    assert done.returncode == 1, done.stdout + done.stderr
    rows = pd.read_csv(tmp_path / "run" / "comparisons.csv", keep_default_na=False)
    failing = rows[rows.verdict.isin(["mismatch", "nonfinite"])]
    assert set(failing.backend) == {"numpy"}
    assert "toy" in set(failing.layer)


SPECS = '''
    """Two layers as anybody writes them, placed by their specifications."""

    import numpy as np

    from harness import LayerSpec


    class Softsign:
        """x / (1 + |x|), by hand."""

        def forward(self, x):
            self.x = x
            return x / (1 + np.abs(x))

        def backward(self, dy):
            return dy / (1 + np.abs(self.x)) / (1 + np.abs(self.x))


    def softsign(xp, params, x):
        return x / (1 + xp.abs(x))


    toy = LayerSpec(Softsign, softsign, [(6, 5)], name="toy", place="map")
    lone = LayerSpec(Softsign, softsign, [(6, 5)], name="lone_toy")
'''


@pytest.fixture
def specs(plug_in) -> None:
    """Install two specifications."""
    plug_in("toy_specs", SPECS, layers="toy = toy_specs:toy\nlone = toy_specs:lone")


@pytest.mark.usefixtures("specs")
def test_specifications_take_part_in_runs_and_selftests(run_harness, tmp_path):
    listed = run_harness("list", "layers")
    assert "toy  x / (1 + |x|), by hand." in listed.stdout
    for name, others in (("toy", ",affine,mean_squared_error"), ("lone_toy", "")):
        done = run_harness("run", *SMALL, "--layers", name + others, "--backends", "numpy,autograd", "--reporters", "none")
        assert done.returncode == 0, done.stdout + done.stderr
        rows = pd.read_csv(tmp_path / "run" / "comparisons.csv", keep_default_na=False)
        own = rows[(rows.layer == name) & (rows.check != "worked")]
        assert set(own.backend) == {"numpy", "autograd"}
        assert set(own.verdict) == {"ok"}
    words = ("--networks", "2", "--mutated", "2", "--jobs", "0", "--backends", "numpy", "--dtypes", "float64", "--quiet")
    done = run_harness("selftest", "--layers", "toy", *words, "--out", "selftest")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    trials = pd.read_csv(tmp_path / "selftest" / "selftest.csv", keep_default_na=False)
    assert len(trials) > 5
