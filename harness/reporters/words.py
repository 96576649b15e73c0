"""Words: a number comes in, the text that a reader sees goes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "–"
SCALES = ((1e9, "billion"), (1e6, "million"))
PLAIN = ("seed", "started", "platform", "threads", "status", "exit_code")
GROUPS = ("counts", "versions", "settings")
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def count(number: float) -> str:
    """Return a whole number with thousands separated.

    >>> count(52310)
    '52,310'
    """
    return f"{int(number):,}"


def rough_count(number: float) -> str:
    """Return a large whole number in words, a small one exactly.

    >>> rough_count(18_345_678), rough_count(9_120)
    ('18.3 million', '9,120')
    """
    for scale, name in SCALES:
        if number >= scale:
            return f"{number / scale:.3g} {name}"
    return count(number)


def plural(number: float, word: str) -> str:
    """Return the number with the word, which gets an s unless the number is one.

    >>> plural(1, "case"), plural(1200, "case")
    ('1 case', '1,200 cases')
    """
    return f"{count(number)} {word}{'' if number == 1 else 's'}"


def share(fraction: float) -> str:
    """Return a fraction as a percentage that says 0 % and 100 % only when it is exactly that.

    >>> share(1.0), share(0.99999), share(0.5), share(0.00001)
    ('100 %', '99.9 %', '50.0 %', '0.01 %')
    """
    if math.isnan(fraction):
        return MISSING
    if fraction in (0, 1):
        return f"{fraction:.0%}".replace("%", " %")
    if fraction < 0.1:
        return f"{max(fraction * 100, 0.01):.2g} %"
    return f"{min(fraction * 100, 99.9) if fraction < 1 else fraction * 100:.1f} %"


def measure(number: float) -> str:
    """Return a measured number with three digits, in words where it is not finite.

    What is not exactly 1 never reads as 1: an error is within its bound or beyond it.

    >>> measure(0.3142), measure(1.2e-7), measure(float("inf")), measure(float("nan")), measure(12345.0)
    ('0.314', '1.2e-7', 'infinite', '–', '12,345')
    >>> measure(0.99998), measure(1.0), measure(1.000004)
    ('0.99998', '1', '1.000004')
    """
    if math.isnan(number):
        return MISSING
    if math.isinf(number):
        return "infinite" if number > 0 else "-infinite"
    if 1000 <= abs(number) < 1e6:
        return f"{number:,.0f}"
    digits = next((digits for digits in range(3, 17) if float(f"{number:.{digits}g}") != 1 or number == 1), 17)
    return _short(f"{number:.{digits}g}")


def brief(number: float) -> str:
    """Return a measured number with two digits or the whole number, for a narrow cell.

    >>> brief(0.3142), brief(1.26e-7), brief(373.4), brief(842761.0), brief(float("nan"))
    ('0.31', '1.3e-7', '373', '8.4e5', '–')
    >>> brief(0.999), brief(1.0), brief(1.001)
    ('<1', '1', '>1')
    """
    if not math.isfinite(number):
        return measure(number)
    if 100 <= abs(number) < 1e4:
        return f"{number:.0f}"
    shown = _short(f"{number:.2g}")
    return shown if shown != "1" or number == 1 else "<1" if number < 1 else ">1"


def seconds(duration: float) -> str:
    """Return a duration in the unit that suits it.

    >>> seconds(0.00123), seconds(192.0), seconds(2.5e-7)
    ('1.23 ms', '3 min 12 s', '250 ns')
    """
    if math.isnan(duration):
        return MISSING
    if duration >= 60:
        return f"{int(duration) // 60} min {int(duration) % 60} s"
    factor, unit = next((step for step in UNITS if abs(duration) >= step[0]), UNITS[-1])
    return f"{duration / factor:.3g} {unit}"


def times(ratio: float) -> str:
    """Return a ratio.

    >>> times(4216.0), times(0.831), times(12.34)
    ('4,216×', '0.83×', '12.3×')
    """
    if math.isnan(ratio):
        return MISSING
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.1f}×" if ratio >= 10 else f"{ratio:.2f}×"


def clip(text: object, most: int) -> str:
    """Return the text, cut to at most so many characters.

    >>> clip("abcdef", 4)
    'abc…'
    """
    words = str(text)
    return words if len(words) <= most else f"{words[: most - 1]}…"


def describe(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of a run by name, and nothing for what is not.

    >>> describe({"seed": 1, "settings": {"layers": None, "dtypes": ["float32"]}})
    [('seed', '1'), ('settings', 'layers all, dtypes float32')]
    """
    told = [(name.replace("_", " "), str(info[name])) for name in PLAIN if name in info]
    if info.get("phases"):
        spent = (f"{phase} {seconds(float(duration))}" for phase, duration in info["phases"].items())
        told.append(("seconds by phase", ", ".join(spent)))
    groups = [name for name in GROUPS if info.get(name)]
    return told + [(group, setting(info[group])) for group in groups]


def setting(value: Any) -> str:
    """Return a setting as text; None is the default of every choice, which takes all.

    >>> setting({"flushes": False, "accumulator": "float64"}), setting(["a", "b"]), setting("")
    ('flushes no, accumulator float64', 'a b', 'none')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {setting(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    named = {None: "all", "": "none", True: "yes", False: "no"}
    return named[value] if value is None or isinstance(value, bool) or value == "" else str(value)


def _short(number: str) -> str:
    """Return a number in scientific notation without the zeros and the plus of its exponent."""
    return number.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
