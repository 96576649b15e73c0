"""Items: layers of anybody's come in, one named check after the other, ready for a test runner, goes out.

The checks of one layer share one run of it: the first that is called runs everything, the others read what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core import BadInput
from harness.custom.report import CheckReport, ConformanceError
from harness.custom.spec import LayerSpec

OWN = "numpy"
PER_BACKEND = ("forward", "gradients")
Run = Callable[..., CheckReport]


@dataclass(eq=False)
class SharedRun:
    """One run of a layer, made when a check first asks for it."""

    spec: LayerSpec
    settings: Mapping[str, Any]
    report: CheckReport | None = None

    def read(self) -> CheckReport:
        """Return the report; what failed on the way to it fails every check."""
        if self.report is None:
            from harness.custom.api import check_layer

            self.report = check_layer(self.spec, **{**self.settings, "on_fail": "report"})
        return self.report


@dataclass(frozen=True, eq=False)
class LayerCheck:
    """One check of one layer on one backend: called with the layer's specification, it raises where the layer fails it."""

    check: str
    backend: str
    run: SharedRun = field(repr=False)

    @property
    def name(self) -> str:
        """The check and, where it is another's than the layer's own, the backend."""
        return self.check if self.backend == OWN else f"{self.check}-{self.backend}"

    def __call__(self, layer: Any = None) -> None:
        """Raise ConformanceError where this check fails, in any dtype, or never ran.

        Raises BadInput where it is called with another layer than its own.
        """
        if layer is not None and layer is not self.run.spec:
            raise BadInput(f"layer: {layer!r:.80} is not the one of this check; accepted is {self.run.spec.name}'s specification")
        report = self.run.read()
        own = tuple(one for one in report.results if (one.check, one.backend) == (self.check, self.backend))
        rows = tuple(row for row in report.comparisons if row.backend == self.backend) or report.comparisons
        if not own or any(one.fails for one in own):
            raise ConformanceError(replace(report, results=own, comparisons=rows))
        if all(one.state == "skipped" for one in own):
            _skip(own[0].message)
        if any(one.state == "expected" for one in own):
            _expect(next(one.message for one in own if one.state == "expected"))


def layer_checks_generator(layer: LayerSpec, **settings: Any) -> Iterator[tuple[LayerSpec, LayerCheck]]:
    """Yield every check of a layer with its specification; `settings` are those of `check_layer`.

    Raises BadInput on anything but a LayerSpec, and on wrong settings when the first check is called.
    """
    from harness.custom.api import CHECKS, FRAMEWORKS

    if not isinstance(layer, LayerSpec):
        raise BadInput(f"layers: {layer!r:.80}; accepted are specifications: LayerSpec(layer, formula, inputs)")
    against = settings.get("against", FRAMEWORKS)
    shared, chosen = SharedRun(layer, settings), settings.get("checks") or CHECKS
    for check in (name for name in CHECKS if name in chosen):
        for backend in (OWN, *(against or ())) if check in PER_BACKEND else (OWN,):
            yield layer, LayerCheck(check, backend, shared)


def parametrize_with_checks(
    layers: Iterable[LayerSpec], *, expected_failures: Mapping[str, Mapping[str, str]] | None = None, **settings: Any
) -> Any:
    """Return a pytest mark that calls a test with every check of every layer, as `layer` and `check`.

    `expected_failures` gives for a layer's name the checks that may fail, each with its reason; the other `settings` are
    those of `check_layer`. Raises BadInput on a name that no layer has, and on two layers of one name.

    >>> from reference_layers import ReLU
    >>> relu = LayerSpec(ReLU, ReLU.formula, [(4, 3)], name="relu")
    >>> @parametrize_with_checks([relu])
    ... def test_layers(layer, check):
    ...     check(layer)
    """
    import pytest

    specs, reasons = list(layers), dict(expected_failures or {})
    names = [spec.name for spec in specs if isinstance(spec, LayerSpec)]
    if unknown := sorted(set(reasons) - set(names)):
        raise BadInput(f"expected_failures: no layer is named {', '.join(unknown)}; accepted are {', '.join(names)}")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"layers: {', '.join(doubled)} stands for more than one; give each LayerSpec a name of its own")
    pairs = []
    for spec in specs:
        own = reasons.get(getattr(spec, "name", ""), {})
        pairs += list(layer_checks_generator(spec, expected_failures=own, **settings))
    return pytest.mark.parametrize(("layer", "check"), pairs, ids=[f"{spec.name}-{check.name}" for spec, check in pairs])


def _skip(reason: str) -> None:
    import pytest

    pytest.skip(reason)


def _expect(reason: str) -> None:
    import pytest

    pytest.xfail(reason)
