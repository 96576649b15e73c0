"""Scripts: a case of a user's layer comes in, a short program that shows it wrong goes out, tried in a process of its own.

The program needs NumPy, the layer and at most one framework, which differentiates the formula: the harness has no say in
what it prints. Where there is no framework, it takes differences of the fourth order.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.core import Array
from harness.custom.layer_case import LayerCase

MOST_LINES, MOST_ENTRIES, PATIENCE = 25, 200, 60
GUARD = "BACKPROP_HARNESS_REPLAYS"
NUMBER = re.compile(r"nan|-?inf|-?\d+\.?\d*(?:e[-+]?\d+)?")
PARTED = {
    "jax": (
        'jax.config.update("jax_enable_x64", True)',
        'xp = SimpleNamespace(**vars(jax.numpy) | {"erf": jax.scipy.special.erf})',
    ),
    "torch": (
        'xp = SimpleNamespace(**vars(torch) | {"max": torch.amax, "min": torch.amin, "expand_dims": torch.unsqueeze,',
        '    "permute_dims": torch.permute, "maximum": lambda a, b: torch.maximum(*map(torch.as_tensor, (a, b))),',
        '    "minimum": lambda a, b: torch.minimum(*map(torch.as_tensor, (a, b)))})',
    ),
    "": ('xp = SimpleNamespace(**vars(np) | {"erf": np.vectorize(math.erf)})',),
}


def compose_script(
    case: LayerCase, framework: str, allowed: float, make: str = "Layer()", attributes: Mapping[str, Sequence[str]] | None = None,
    unaided: bool = False,
) -> str:  # fmt: skip
    """Return the program for one framework, "" for none; nothing where it would take more than 25 lines.

    `allowed` is the difference from which on it exits with 1; `make` makes the layer; `attributes` are the other names that
    the layer has for its parameters. Where the layer is `unaided` by any formula, its own forward pass is differentiated.
    """
    if case.dtype == "bfloat16" or sum(v.size for v in (*case.params.values(), *case.inputs, case.dy)) > MOST_ENTRIES:
        return ""
    layer = [f"layer = {make}", *_give_params(case, attributes or {})]
    own = ["def forward(params, *inputs):", *(f"    {line}" for line in [*layer, "return layer.forward(*inputs)"])]
    lines = [*_head(case, framework, unaided), *_arrays(case), *(own if unaided else ()), *_truth(case, framework, unaided)]
    wrong = f'got.dtype != "{case.dtype}" or got.shape != expected.shape or not (abs(got - expected) <= {allowed:.2g}).all()'
    lines += [*_define_narrow(case), *(_narrow_params(case, line) for line in layer), *_run_layer(case)]
    lines += [f'print("{case.quantity} by the layer:", got.tolist())', f"sys.exit(int({wrong}))"]
    return "\n".join(lines) + "\n" if len(lines) <= MOST_LINES else ""


def _head(case: LayerCase, framework: str, unaided: bool) -> list[str]:
    what = "output" if case.quantity == "y" else "gradient"
    whose = "forward pass" if unaided else "formula"
    lines = [f'"""{case.name}: exits with 1 while its {what} {case.quantity} is not that of its {whose}, with 0 once it is."""']
    lines += ["import pathlib, sys"] if framework or unaided else ["import math, pathlib, sys"]
    lines += [] if unaided else ["from types import SimpleNamespace"]
    lines += [f"import {framework}"] if framework else []
    lines += ["import numpy as np"]
    lines += [f"sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / {root!r}))" for root in case.roots]
    formula = case.gradient if case.gradient and case.quantity != "y" else case.formula
    named = {"spec": case.spec} if case.spec else {"Layer": case.layer} | ({"formula": formula} if formula else {})
    return [*lines, *_import(named), *(() if unaided else PARTED[framework])]


def _import(named: Mapping[str, str]) -> list[str]:
    """Return lines that give what is at the addresses the names: one for each module, and one more for what lies deeper."""
    modules: dict[str, list[str]] = {}
    deeper = []
    for name, address in named.items():
        module, _, path = address.partition(":")
        first, _, rest = path.partition(".")
        modules.setdefault(module, []).append(f"{first} as {name}")
        deeper += [f"{name} = {name}.{rest}"] if rest else []
    return [*(f"from {module} import {', '.join(names)}" for module, names in modules.items()), *deeper]


def _arrays(case: LayerCase) -> list[str]:
    params = ", ".join(f"{name!r}: {_write(value)}" for name, value in case.params.items())
    inputs = ", ".join(_write(value) for value in case.inputs)
    return [f"params = {{{params}}}", f"inputs = [{inputs}]", f"dy = {_write(case.dy)}"]


def _write(value: Array) -> str:
    text = f"np.array({value.tolist()!r}, {str(value.dtype)!r})"
    text = text if value.size else f"np.zeros({value.shape}, {str(value.dtype)!r})"
    return re.sub(r"\b(nan|inf)\b", r"np.\1", text).replace(", 'float64')", ")" if value.size else ", 'float64')")


def _truth(case: LayerCase, framework: str, unaided: bool) -> list[str]:
    formula = _name_formula(case)
    if case.quantity == "y":
        lines = [f"expected = np.asarray({'forward(' if unaided else f'{formula}(xp, '}params, *inputs))"]
    elif framework == "jax":
        place = f"[0][{case.quantity[1:]!r}]" if _is_param(case) else f"[{1 + _find_input(case)}]"
        call = f"jax.vjp(lambda params, *inputs: {formula}(xp, params, *inputs), params, *inputs)"
        lines = [f"y, pull = {call}", f"expected = np.array(pull(jax.numpy.asarray(dy, y.dtype)){place})"]
    elif framework == "torch":
        leaf = f"P[{case.quantity[1:]!r}]" if _is_param(case) else f"X[{_find_input(case)}]"
        lines = [
            'leaf = lambda value: torch.tensor(value, requires_grad=value.dtype.kind == "f")',
            "P, X = {name: leaf(value) for name, value in params.items()}, [leaf(value) for value in inputs]",
            f"expected = torch.autograd.grad({formula}(xp, P, *X), {leaf}, torch.tensor(dy))[0].numpy()",
        ]
    else:
        lines = _differences(case, "forward(" if unaided else f"{formula}(xp, ")
    values = "the forward pass in float64" if unaided else "the formula"
    by = framework or (values if case.quantity == "y" else "differences")
    return [*lines, f'print("{case.quantity} by {by}:", expected.tolist())']


def _differences(case: LayerCase, call: str) -> list[str]:
    moved = "x + k * h * (np.arange(x.size).reshape(x.shape) == i)"
    if _is_param(case):
        name = repr(case.quantity[1:])
        value, given = f"params[{name}]", f"{{**params, {name}: {moved}}}, *inputs"
    else:
        place = _find_input(case)
        value, given = f"inputs[{place}]", f"params, *inputs[:{place}], {moved}, *inputs[{place + 1}:]"
    return [
        f"x, h = {value}, 2.0**-9",
        f"at = lambda i, k: np.sum({call}{given}) * dy)",
        "slopes = [(at(i, -2) - 8 * at(i, -1) + 8 * at(i, 1) - at(i, 2)) / (12 * h) for i in range(x.size)]",
        "expected = np.reshape(slopes, x.shape)",
    ]


def _define_narrow(case: LayerCase) -> list[str]:
    """Return the line that stores floats in the case's dtype: the truth is found in float64."""
    return [] if case.dtype == "float64" else [f'narrow = lambda v: v.astype("{case.dtype}") if v.dtype.kind == "f" else v']


def _give_params(case: LayerCase, attributes: Mapping[str, Sequence[str]]) -> list[str]:
    if not case.params:
        return []
    places = {f"layer.{other}": f"layer.params[{name!r}]" for name, others in attributes.items() for other in others}
    return ["layer.params.update(params)", *([f"{', '.join(places)} = {', '.join(places.values())}"] if places else [])]


def _narrow_params(case: LayerCase, line: str) -> str:
    narrow = "update({k: narrow(v) for k, v in params.items()})"
    return line if case.dtype == "float64" else line.replace("update(params)", narrow)


def _run_layer(case: LayerCase) -> list[str]:
    narrow = case.dtype != "float64"
    y = "layer.forward(*map(narrow, inputs))" if narrow else "layer.forward(*inputs)"
    if case.quantity == "y":
        return [f"got = np.array({y})"]
    lines = [f"y, dx = {y}, layer.backward({'narrow(dy)' if narrow else 'dy'})"]
    if _is_param(case):
        return [*lines, f"got = np.array(layer.grads.get({case.quantity[1:]!r}))"]
    return [*lines, f"got = np.array(dx[{_find_input(case)}] if isinstance(dx, tuple) else dx)"]


def _name_formula(case: LayerCase) -> str:
    if not case.spec:
        return "formula"
    return "(spec.gradient or spec.formula)" if case.quantity != "y" else "spec.formula"


def _is_param(case: LayerCase) -> bool:
    return case.quantity[1:] in case.params


def _find_input(case: LayerCase) -> int:
    """Return the place of the input that the quantity is the gradient of: of the lone one that has any, where it says none."""
    if case.quantity[2:]:
        return int(case.quantity[2:])
    return next(i for i, value in enumerate(case.inputs) if i not in case.constants and value.dtype.kind == "f")


def try_script(path: Path, got: Array | None, expected: Array, allowed: float) -> str:
    """Run the script in a fresh process; return nothing where it exits with 1 and prints both arrays, else what it does.

    Where the layer gives nothing, since it raises, only the truth is printed.
    """
    ran = _run([sys.executable, str(path)])
    if isinstance(ran, str):
        return ran
    if ran.returncode != 1:
        return f"it exits with {ran.returncode}, not 1: {_read_end(ran)}"
    lines = [line.partition(":")[2] for line in ran.stdout.splitlines() if " by " in line]
    printed = [numbers for line in lines if (numbers := list(map(float, NUMBER.findall(line)))) or got is not None]
    wanted = [expected] if got is None else [expected, got]
    if len(printed) != len(wanted) or not all(_is_same(a, b, allowed) for a, b in zip(printed, wanted, strict=True)):
        return f"it does not print both arrays as they are: {_read_end(ran)}"
    return ""


def try_replay(path: Path) -> str:
    """Replay the case in a fresh process; return nothing where it exits with 1, else what it does."""
    ran = _run([sys.executable, "-m", "harness", "replay", str(path), "--backends", "numpy"])
    if isinstance(ran, str):
        return ran
    return "" if ran.returncode == 1 else f"it exits with {ran.returncode}, not 1: {_read_end(ran)}"


def _read_end(ran: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of what a program said, of its errors first."""
    return (ran.stderr.strip() or ran.stdout.strip() or "it says nothing").splitlines()[-1][-200:]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str] | str:
    """Run a program whose own checks are not to start more programs."""
    environment = {**os.environ, GUARD: "no"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"it takes more than {PATIENCE} seconds"
    except OSError as error:
        return f"it cannot be started: {error}"


def _is_same(printed: Sequence[float], array: Array, allowed: float) -> bool:
    """Whether what was printed is the array, to half of what the script allows."""
    flat = np.asarray(array, np.float64).ravel()
    if len(printed) != flat.size:
        return False
    both = np.isfinite(flat) & np.isfinite(printed)
    with np.errstate(invalid="ignore"):
        return bool((~both | (np.abs(flat - printed) <= allowed / 2)).all() and (np.isfinite(flat) == np.isfinite(printed)).all())
