"""Layers that disturb one another come in; that they are told must hold."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class OneCacheForAll(layers.Swish):
    """Its cache is the class's."""

    cache: ClassVar[dict[str, Any]] = {}

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        self.cache.update(x=self.x, s=self.s)
        return y

    def backward(self, dy: Any) -> Any:
        self.x, self.s = self.cache["x"], self.cache["s"]
        return super().backward(dy)


def test_a_cache_of_the_class_is_told_by_this_contract_alone() -> None:
    broken = find_broken(draw(OneCacheForAll))
    assert set(broken) == {"shared_cotangent"}
    assert "the first of two layers that share one cotangent gives other numbers than alone: dx0" in broken["shared_cotangent"]


def test_a_cotangent_that_is_spoilt_for_the_second_is_told() -> None:
    assert "the second of two layers" in str(ask("shared_cotangent", draw(layers.ChangesCotangent)))
