"""Figures: small binned frames come in, Vega-Lite specifications and the same pictures as SVG go out.

Every colour is a variable of the page's style sheet, so that one picture serves light, dark and paper without being
drawn again. Nothing here is a reporter; `html` puts the figures on its page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.reporters import summaries

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

WIDTH = 900
COLUMNS_WIDTH = 790
SERIES = 8
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
# More of them than there are colours: no two of many methods then look alike.
SHAPES = "circle square triangle-up cross diamond triangle-right triangle-down triangle-left stroke arrow wedge".split()
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
PLAIN_POWERS = {-2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100"}
LABELS = {"labelColor": "var(--muted)", "titleColor": "var(--muted)", "labelFontSize": 11, "titleFontSize": 11}
AXIS = {"gridColor": "var(--hair)", "domainColor": "var(--line)", "tickColor": "var(--line)", "titleFontWeight": "normal"}
HEADER = {**LABELS, "labelColor": "var(--ink)", "labelFontSize": 12, "labelFontWeight": "normal"}
NEUTRAL = {"symbolBaseStrokeColor": "var(--muted)", "symbolBaseFillColor": "var(--muted)"}
LEGEND = {
    **LABELS,
    **NEUTRAL,
    "labelColor": "var(--ink)",
    "orient": "top",
    "title": None,
    "symbolStrokeWidth": 2.5,
    "symbolOpacity": 1,
}
CONFIG = {
    "aria": False,  # the page names each picture as one image; a label on every bar would only be noise
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {**LABELS, **AXIS, "titlePadding": 10},
    "header": HEADER,
    "legend": LEGEND,
    "text": {"color": "var(--ink)", "fontSize": 11},
    "facet": {"spacing": 14},
}
GLOBALS = "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;"
SIZES = "format(datum.value, '~s')"
SECONDS = (
    "datum.value < 1e-6 ? format(datum.value * 1e9, '~r') + ' ns' :"
    " datum.value < 1e-3 ? format(datum.value * 1e6, '~r') + ' µs' :"
    " datum.value < 1 ? format(datum.value * 1e3, '~r') + ' ms' : format(datum.value, '~r') + ' s'"
)


@dataclass(frozen=True)
class Figure:
    """A picture: its name, what it shows in words, its Vega-Lite specification, and the same as SVG text."""

    name: str
    label: str
    spec: dict[str, Any]
    svg: str


def render(name: str, label: str, chart: alt.TopLevelMixin) -> Figure:
    """Return the chart as a figure, described for readers who do not see it by the label."""
    import vl_convert

    spec = {**chart.to_dict(), "config": CONFIG}
    return Figure(name=name, label=label, spec=spec, svg=vl_convert.vegalite_to_svg(spec, vl_version=vega_lite_version()))


@cache
def bundle_scripts() -> str:
    """Return the scripts of Vega, Vega-Lite and vega-embed as one text that defines `window.vegaEmbed`."""
    import vl_convert

    return vl_convert.javascript_bundle(snippet=GLOBALS, vl_version=vega_lite_version())


def vega_lite_version() -> str:
    """Return the version of Vega-Lite that Altair writes for, such as v6.4."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.split(".")[:2])


def assign_colors(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of every name, in order, from the variables of the page's style sheet.

    >>> assign_colors(["numpy", "jax"])
    {'numpy': 'var(--series-0)', 'jax': 'var(--series-1)'}
    """
    return {name: f"var(--series-{index % SERIES})" for index, name in enumerate(names)}


def draw_ruler(binned: pd.DataFrame) -> alt.TopLevelMixin:
    """Return all errors on one ruler whose mark is the bound; `binned` is what `bin_errors` returns without keys."""
    import altair as alt

    x = _error_scale(binned)
    color = alt.condition("datum.low >= 0", alt.value("var(--fail)"), alt.value("var(--accent)"))
    bars = (
        alt.Chart(binned)
        .mark_bar(binSpacing=1)
        .encode(x=x, x2="high:Q", y=alt.Y("height:Q", axis=None), color=color, tooltip=_bin_tooltip())
    )
    return alt.layer(*_bound(binned, labelled=True), bars).properties(width=WIDTH, height=104)


def draw_errors(binned: pd.DataFrame, colors: Mapping[str, str]) -> alt.TopLevelMixin:
    """Return the errors' histograms, a row for each of the names (`who`) and a column for each dtype."""
    import altair as alt

    bars = (
        alt.Chart()
        .mark_bar(binSpacing=0.5)
        .encode(
            x=_error_scale(binned),
            x2="high:Q",
            y=alt.Y("height:Q", axis=None),
            color=_series("who", colors, legend=False),
            tooltip=["who:N", *_bin_tooltip()],
        )
    )
    row = alt.Row("who:N", title=None, sort=list(colors), header=alt.Header(labelAngle=0, labelAlign="left", labelPadding=4))
    layers = alt.layer(*_bound(binned), bars, data=binned).properties(width=_column_width(binned) - 30, height=38)
    return layers.facet(row=row, column=_by_dtype(binned))


def draw_ratios(table: pd.DataFrame, colors: Mapping[str, str]) -> alt.TopLevelMixin:
    """Return each backend's time for forward and backward over NumPy's: median and quartiles over the networks, by dtype.

    `table` holds the rows of `summarise_timings` that are to be shown.
    """
    import altair as alt

    low, high = min(table["low"].min(), 1.0), max(table["high"].max(), 1.0)
    axis = alt.Axis(values=_steps(low, high), labelExpr="format(datum.value, '~r') + '×'")
    scale = alt.Scale(type="log", domain=[low / 1.2, high * 1.2], nice=False)
    x = alt.X("low:Q", scale=scale, axis=axis, title="time over NumPy's: further right is slower")
    base = alt.Chart().encode(y=alt.Y("backend:N", title=None, sort=list(colors)), tooltip=_ratio_tooltip())
    color = _series("backend", colors, legend=False)
    bars = base.mark_bar(height=12, opacity=0.45, cornerRadius=2).encode(x=x, x2="high:Q", color=color)
    ticks = base.mark_tick(thickness=3, height=20).encode(x="ratio:Q", color=color)
    rule = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color="var(--ink)", strokeDash=[3, 3]).encode(x=alt.datum(1))
    layers = alt.layer(rule, bars, ticks, data=table).properties(width=_column_width(table), height=alt.Step(30))
    return layers.facet(column=_by_dtype(table))


def draw_sizes(binned: pd.DataFrame, colors: Mapping[str, str]) -> alt.TopLevelMixin:
    """Return the seconds of forward and backward over the network's parameters, a line for each backend, by dtype."""
    import altair as alt

    x = _log_axis(binned["parameters"], "parameters", "number of parameters", SIZES)
    y = _log_axis(binned["seconds"], "low", "seconds, forward and backward", SECONDS)
    tooltip = [alt.Tooltip(name) for name in ("backend:N", "parameters:Q", "networks:Q")]
    base = alt.Chart().encode(x=x, color=_series("backend", colors), tooltip=[*tooltip, alt.Tooltip("seconds:Q", format=".3s")])
    band = base.mark_area(opacity=0.14).encode(y=y, y2="high:Q")
    line = base.mark_line(point={"size": 26}, strokeWidth=2).encode(y="seconds:Q")
    layers = alt.layer(band, line, data=binned).properties(width=_column_width(binned), height=250)
    return layers.facet(column=_by_dtype(binned))


def draw_speedups(binned: pd.DataFrame, trend: pd.DataFrame, colors: Mapping[str, str]) -> alt.TopLevelMixin:
    """Return how many times faster backprop is than numerical differentiation, over the number of parameters.

    `trend` holds the ends of the fitted line.
    """
    import altair as alt

    points = (
        alt.Chart(binned)
        .mark_point(filled=True, size=52, opacity=0.9)
        .encode(
            x=_log_axis(binned["parameters"], "parameters", "number of parameters", SIZES),
            y=_log_axis(binned["speedup"], "speedup", "times faster", "format(datum.value, ',.3~r') + '×'"),
            color=_series("dtype", colors),
            shape=alt.Shape("dtype:N", scale=alt.Scale(domain=list(colors))),
            tooltip=["dtype:N", "parameters:Q", alt.Tooltip("speedup:Q", format=",.3r"), "networks:Q"],
        )
    )
    line = alt.Chart(trend).mark_line(strokeDash=[4, 4], strokeWidth=1.5, color="var(--muted)")
    line = line.encode(x="parameters:Q", y="speedup:Q")
    return alt.layer(*([line] if len(trend) else []), points).properties(width=WIDTH - 60, height=300)


def draw_losses(losses: pd.DataFrame, colors: Mapping[str, str]) -> alt.TopLevelMixin:
    """Return the loss over the steps; lines that lie on one another stay visible, each thinner than the one below."""
    import altair as alt

    base = alt.Chart().encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=10)),
        y=alt.Y("value:Q", title="loss of the batch"),
        color=_series("framework", colors),
        tooltip=["framework:N", "step:Q", alt.Tooltip("value:Q", format=".6g")],
    )
    lines = [
        base.mark_line(strokeWidth=max(1.1, 4.4 - 1.7 * index), strokeJoin="round").transform_filter(alt.datum.framework == name)
        for index, name in enumerate(colors)
    ]
    return alt.layer(*lines, data=losses).properties(width=WIDTH - 60, height=240)


def draw_parting(parting: pd.DataFrame, colors: Mapping[str, str]) -> alt.TopLevelMixin:
    """Return how far each framework parts from NumPy over the steps, and dashed what rounding explains, on a log scale.

    `parting` is what `thin_training` makes of `part_weights` or `part_losses`, with values above 0.
    """
    import altair as alt

    label = _powers(_decades(parting["value"]), log=True)
    dashes = [[5, 4] if name == summaries.EXPLAINED else [1, 0] for name in colors]
    lines: alt.Chart = alt.Chart(parting).mark_line(strokeWidth=1.7)
    encoded = lines.encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=10)),
        y=_log_axis(parting["value"], "value", "relative distance from NumPy", label),
        color=_series("framework", colors),
        strokeDash=alt.StrokeDash("framework:N", scale=alt.Scale(domain=[*colors], range=dashes)),
        tooltip=["framework:N", "step:Q", alt.Tooltip("value:Q", format=".3g")],
    )
    return encoded.properties(width=WIDTH - 60, height=240)


def draw_kills(found: pd.DataFrame) -> alt.TopLevelMixin:
    """Return a square for each kind of fault and method, the fuller the more was found, with a column for each dtype.

    `found` is that of a `KillScore`.
    """
    import altair as alt

    methods, kinds = list(dict.fromkeys(found["method"])), list(dict.fromkeys(found["kind"]))
    x = alt.X("method:N", sort=methods, title=None, axis=alt.Axis(labelAngle=-60, domain=False, ticks=False))
    y = alt.Y("kind:N", sort=kinds, title=None, axis=alt.Axis(labelLimit=260, labelColor="var(--ink)", domain=False, ticks=False))
    shade = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 1]), legend=None)
    tooltip = [f"{name}:N" for name in ("kind", "method", "dtype")] + [
        alt.Tooltip("share:Q", format=".1%"),
        "networks:Q",
        "size:Q",
    ]
    squares = alt.Chart(found).mark_rect(fill="var(--accent)", stroke="var(--line)", strokeWidth=0.5)
    room = max(12, min(26, (_column_width(found) - 290 // found["dtype"].nunique()) // max(1, len(methods))))
    sized = squares.encode(x=x, y=y, opacity=shade, tooltip=tooltip).properties(width=alt.Step(room), height=alt.Step(14))
    out: alt.FacetChart = sized.facet(column=_by_dtype(found))
    return out


def draw_smallest(smallest: pd.DataFrame, colors: Mapping[str, str]) -> alt.TopLevelMixin:
    """Return the smallest size of each graded fault that each method finds in 99 % of the networks, by dtype.

    `smallest` is that of a `KillScore`, without what is never found.
    """
    import altair as alt

    sizes = smallest["smallest_99"]
    label = _powers(_decades(sizes), log=True)
    scale, axis = alt.Scale(type="log"), alt.Axis(values=[10.0**one for one in _decades(sizes)[::3]], labelExpr=label)
    points = alt.Chart(smallest).mark_point(filled=True, size=46, opacity=0.85)
    encoded = points.encode(
        x=alt.X("smallest_99:Q", title="smallest size found in 99 %", scale=scale, axis=axis),
        y=alt.Y("kind:N", title=None, sort=list(dict.fromkeys(smallest["kind"])), axis=alt.Axis(labelLimit=260, grid=True)),
        color=alt.Color("method:N", legend=alt.Legend(columns=6), scale=alt.Scale(domain=[*colors], range=[*colors.values()])),
        shape=alt.Shape("method:N", scale=alt.Scale(domain=[*colors], range=[*SHAPES])),
        tooltip=["kind:N", "method:N", "dtype:N", alt.Tooltip("smallest_99:Q", format=".2g"), "networks:Q"],
    )
    width = _column_width(smallest) - 260 // smallest["dtype"].nunique()
    out: alt.FacetChart = encoded.properties(width=width, height=alt.Step(18)).facet(column=_by_dtype(smallest))
    return out


def power_label(exponent: int) -> str:
    """Return the power of ten as the axes write it.

    >>> power_label(-12), power_label(-1), power_label(0)
    ('10⁻¹²', '0.1', '1')
    """
    return PLAIN_POWERS.get(exponent, f"10{str(exponent).translate(SUPERSCRIPTS)}")


def _series(field: str, colors: Mapping[str, str], legend: bool = True) -> alt.Color:
    import altair as alt

    shown = alt.Legend(symbolType="stroke") if legend and field != "dtype" else alt.Legend() if legend else None
    return alt.Color(f"{field}:N", legend=shown, scale=alt.Scale(domain=[*colors], range=[*colors.values()]))


def _by_dtype(table: pd.DataFrame) -> alt.Column:
    """Return the columns of a picture, one for each dtype, from the widest."""
    import altair as alt

    return alt.Column("dtype:N", title=None, sort=summaries.order_dtypes(table["dtype"].astype("str").unique()))


def _column_width(table: pd.DataFrame) -> int:
    """Return the width of one of the columns for the dtypes, so that the picture is as wide with one as with four."""
    return COLUMNS_WIDTH // max(1, table["dtype"].nunique())


def _error_scale(binned: pd.DataFrame) -> alt.X:
    """Return the axis of errors in units of the bound: the bin of exact zeros, then the decades."""
    import altair as alt

    floor, ceiling = int(binned["floor"].iloc[0]), int(binned["ceiling"].iloc[0])
    decades = [*range(floor, ceiling + 1)]
    zero = floor - 1 + (binned["high"] - binned["low"]).iloc[0] / 2
    label = f"datum.value < {floor} ? 'exact' : {_powers(decades)}"
    axis = alt.Axis(values=[zero, *decades], labelExpr=label, grid=False, labelOverlap=True)
    scale = alt.Scale(domain=[floor - 1, ceiling], nice=False)
    return alt.X("low:Q", bin="binned", axis=axis, scale=scale, title="error in units of the bound")


def _bound(binned: pd.DataFrame, labelled: bool = False) -> list[alt.Chart]:
    """Return the region beyond the bound and the line of the bound, for the background of an error scale."""
    import altair as alt

    ceiling = int(binned["ceiling"].iloc[0])
    once = alt.Chart(alt.InlineData(values=[{}]))  # data of its own: on the shared rows it would be drawn once a row
    region = once.mark_rect(color="var(--fail-tint)").encode(x=alt.datum(0), x2=alt.datum(ceiling))
    line = once.mark_rule(color="var(--fail)", strokeWidth=1.5).encode(x=alt.datum(0))
    text = once.mark_text(baseline="bottom", color="var(--fail)", text="the bound")
    return [region, line, text.encode(x=alt.datum(0), y=alt.value(-5))] if labelled else [region, line]


def _bin_tooltip() -> list[alt.Tooltip]:
    import altair as alt

    error = alt.Tooltip("range:N", title="error in bounds")
    return [error, alt.Tooltip("rows:Q", format=","), alt.Tooltip("share:Q", format=".2%")]


def _ratio_tooltip() -> list[alt.Tooltip]:
    import altair as alt

    numbers = {"ratio": "median", "low": "lower quartile", "high": "upper quartile"}
    return [alt.Tooltip("backend:N"), *(alt.Tooltip(f"{name}:Q", title=title, format=".2f") for name, title in numbers.items())]


def _log_axis(values: pd.Series[Any], field: str, title: str, label: str) -> Any:
    """Return a logarithmic position that is labelled at whole decades, or at 1, 2 and 5 where there are few of them."""
    import altair as alt

    decades = _decades(values)
    ticks = [10.0**decade for decade in decades] if len(decades) > 3 else _steps(values.min(), values.max())
    kind = alt.X if field == "parameters" else alt.Y
    axis = alt.Axis(values=ticks, labelExpr=label, labelOverlap=True)
    return kind(f"{field}:Q", title=title, scale=alt.Scale(type="log"), axis=axis)


def _decades(values: pd.Series[Any]) -> list[int]:
    """Return the decades around the values."""
    return [*range(math.floor(math.log10(values.min())), math.ceil(math.log10(values.max())) + 1)]


def _steps(low: float, high: float) -> list[float]:
    """Return round numbers from just below `low` to just above `high`, closer together where the range is short."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 1.5, 2, 3, 5, 7) if high / low < 10 else (1, 2, 5)
    steps = [round(factor * 10.0**decade, 12 - decade) for decade in range(first, last + 1) for factor in factors]
    return [step for step in steps if low / 2.5 <= step <= high * 2.5]


def _powers(decades: Sequence[int], log: bool = False) -> str:
    """Return the expression that labels the decades; on a log scale the axis holds the numbers, else their exponents."""
    labels = ", ".join(f"'{decade}': '{power_label(decade)}'" for decade in decades)
    return f"{{{labels}}}[{'round(log(datum.value) / LN10)' if log else 'datum.value'}]"
