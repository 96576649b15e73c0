"""HTML: a run comes in, one page goes out that loads nothing and that a person enjoys reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import BadInput
from harness.reporters import evidence, figures, rows, summaries, words
from harness.reporters.conventions import find_atlas
from harness.reporters.kill_score import find_kill_score
from harness.reporters.optional import list_held
from harness.reporters.verdict import decide_verdict, locate_failures

if TYPE_CHECKING:
    import altair as alt
    import jinja2
    import pandas as pd

    from harness.table import Run

MOST_LINES = 300
LONGEST_CASE = 4000
TEMPLATES = Path(__file__).parent / "templates"
FILTERS = ("count", "rough_count", "plural", "share", "measure", "brief", "seconds", "times", "clip", "setting")
SYMBOLS = {"fail": "✕", "warn": "◐", "ok": "✓", "skip": "–"}
MEANINGS = {
    "fails": "failing",
    "deviates": "deviating witnesses",
    "powerless": "powerless",
    "convention": "by convention",
    "finding": "findings",
}
LABELS = {
    "ruler": "Histogram of the errors of all deciding comparisons in units of their bounds",
    "errors": "Histograms of the errors in units of their bounds, a row for each backend and a column for each dtype",
    "ratios": "Time of each backend for forward and backward over NumPy's: median and quartiles over the networks",
    "sizes": "Seconds of each backend for forward and backward over the number of parameters, on logarithmic scales",
    "speedups": "How many times faster backpropagation is than numerical differentiation, over the number of parameters",
    "kills": "Share of the networks in which each method found each kind of planted fault, by dtype",
    "smallest": "Smallest size of each planted fault that each method finds in 99 % of the networks, by dtype",
    "losses": "Loss of each framework over the steps of training",
    "weights": "Distance of each framework's weights from NumPy's over the steps, beside what rounding explains",
    "losses-apart": "Distance of each framework's loss from NumPy's over the steps, beside what rounding explains",
}
Draw = Callable[["pd.DataFrame", Mapping[str, str]], "alt.TopLevelMixin"]


@dataclass(frozen=True)
class HtmlReporter:
    """Writes `index.html`. Raises BadInput when the packages that draw it are not installed."""

    name: str = "html"
    summary: str = "index.html, one self-contained page: verdict, grid, distributions, timings, training, failures, replay"

    def write(self, run: Run, folder: Path) -> list[Path]:
        path = folder / "index.html"
        path.write_text(compose_page(run), encoding="utf-8")
        return [path]


REPORTER = HtmlReporter()


def compose_page(run: Run) -> str:
    """Return the page. Raises BadInput when the packages that draw it are not installed."""
    try:
        return _environment().get_template("page.html.j2").render(_gather(run))
    except ImportError as error:
        needed = "accepted is `pip install 'backprop-harness[report]'`"
        raise BadInput(f"reporter html: {error.name} is missing; {needed}") from None


def _environment() -> jinja2.Environment:
    """Return templates that escape everything, and in which a misspelt name is an error."""
    import jinja2

    loader, strict = jinja2.FileSystemLoader(TEMPLATES), jinja2.StrictUndefined
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=strict, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update({name: getattr(words, name) for name in FILTERS}, zip=zip)
    return environment


def _gather(run: Run) -> dict[str, Any]:
    """Return everything that the template shows, by the names that it uses."""
    frame = summaries.tidy_comparisons(run.comparisons)
    colors = _palette(frame, run)
    tables = [rows.table_failing(frame), rows.table_worst(frame)]
    return {
        "info": {"started": "", "findings": [], "backends": [], **run.info},
        "verdict": decide_verdict(frame, run),
        "places": locate_failures(frame),
        "grid": _grid(frame),
        "errors": _errors(frame, colors),
        "pairs": summaries.list_records(summaries.summarise_discrepancies(run.discrepancies)),
        "timings": _timings(run.timings, colors),
        "speed": _speed(frame, run.timings),
        "training": _training(run.training, colors),
        "arithmetic": evidence.list_arithmetic(frame),
        "culprits": evidence.count_culprits(frame),
        "power": evidence.describe_power(frame),
        "atlas": find_atlas(run),
        "score": _score(run),
        "held": list_held(run),
        "most_lines": MOST_LINES,
        "tables": tables,
        "facts": words.describe(run.info),
        "example": _example(frame, run.cases),
        "assets": _assets(tabled=any(table.rows for table in tables)),
    }


def _palette(frame: pd.DataFrame, run: Run) -> dict[str, str]:
    """Return one colour for every backend of the run, so that a backend has the same in every picture."""
    trained = summaries.name_frameworks(run.training, "loss_")
    seen = [*frame["backend"].unique(), *run.timings["backend"].unique(), *trained]
    return figures.assign_colors(summaries.order_backends(str(name) for name in seen))


def _picture(name: str, table: pd.DataFrame, draw: Draw, colors: Mapping[str, str]) -> figures.Figure | None:
    """Return the table as a picture, or None where there is nothing to draw."""
    return figures.render(name, LABELS[name], draw(table, colors)) if len(table) else None


def _grid(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the columns (backends) and lines (layer and dtype) of the grid, with a cell for each of their meetings."""
    counts = summaries.list_records(summaries.count_verdicts(frame, ["layer", "dtype", "who"]))
    columns = summaries.order_backends(str(row["who"]) for row in counts)
    cells = {(str(row["layer"]), str(row["dtype"]), str(row["who"])): _cell(row) for row in counts}
    lines = list(dict.fromkeys((layer, dtype) for layer, dtype, _ in cells))
    shown = [(layer, dtype, [cells.get((layer, dtype, who)) for who in columns]) for layer, dtype in lines[:MOST_LINES]]
    return {"columns": columns, "lines": shown, "total": len(lines)}


def _cell(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a cell of the grid says: tone, symbol, the share that is ok, the worst error, and its gauge."""
    tone, worst = _tone(row), row["worst"]
    found = [f"{words.count(row[name])} {what}" for name, what in MEANINGS.items() if row[name]]
    title = ", ".join([f"{words.count(row['ok'])} of {words.plural(row['rows'], 'comparison')} ok", *found])
    gauge = 100 if tone == "fail" else min(100, round(100 * worst)) if worst == worst else 0
    return {"tone": tone, "symbol": SYMBOLS[tone], "ok": row["ok"] / row["rows"], "worst": worst, "gauge": gauge, "title": title}


def _tone(row: Mapping[str, Any]) -> str:
    if row["fails"]:
        return "fail"
    if row["skipped"] == row["rows"]:
        return "skip"
    return "warn" if row["powerless"] or row["deviates"] or row["finding"] else "ok"


def _errors(frame: pd.DataFrame, colors: Mapping[str, str]) -> dict[str, Any]:
    """Return the ruler of all deciding errors, the histograms by backend, and the hazards' table."""
    backends = {str(who): str(backend) for who, backend in frame[["who", "backend"]].drop_duplicates().itertuples(index=False)}
    order = summaries.order_backends(backends)
    bounded = frame[~frame["finding"]]  # no bound holds a finding about arithmetic, and nobody is to take it for a fault
    ruler = summaries.bin_errors(bounded[bounded["decides"]], [])
    binned = summaries.bin_errors(bounded, ["who", "dtype"])
    by_backend = summaries.list_records(summaries.count_verdicts(frame, ["who", "dtype"]))
    return {
        "ruler": _picture("ruler", ruler, lambda table, _: figures.draw_ruler(table), {}),
        "histograms": _picture("errors", binned, figures.draw_errors, {who: colors[backends[who]] for who in order}),
        "findings": int(frame["finding"].sum()),
        "unmeasured": int(frame["error_in_bounds"].isna().sum()),
        "by_backend": sorted(by_backend, key=lambda row: order.index(str(row["who"]))),
        "hazards": summaries.list_records(summaries.tally_hazards(frame)),
    }


def _timings(timings: pd.DataFrame, colors: Mapping[str, str]) -> dict[str, Any]:
    """Return the table of timings, its two pictures, and the ratios of forward and backward together."""
    table = summaries.summarise_timings(timings)
    ratios = table[(table["phase"] == summaries.WHOLE) & table["ratio"].gt(0) & (table["backend"] != summaries.REFERENCE)]
    sizes = summaries.bin_timings(timings, summaries.WHOLE)
    return {
        "rows": summaries.list_records(table),
        "ratios": summaries.list_records(ratios),
        "ratio_figure": _picture("ratios", ratios, figures.draw_ratios, _only(colors, ratios["backend"])),
        "size_figure": _picture("sizes", sizes, figures.draw_sizes, _only(colors, sizes["backend"])),
    }


def _speed(frame: pd.DataFrame, timings: pd.DataFrame) -> dict[str, Any]:
    """Return how numerical differentiation agrees, how many times slower it is, and a picture of how that grows."""
    numerical = frame[summaries.is_numerical(frame)]
    speed = summaries.compare_speed(timings)
    exponent, trend = summaries.fit_growth(speed)
    binned = summaries.bin_speed(speed)
    colors = figures.assign_colors(summaries.order_dtypes(binned["dtype"].unique()))
    return {
        "agreement": summaries.list_records(summaries.count_verdicts(numerical, ["who", "dtype"])),
        "exponent": exponent,
        "ends": summaries.list_records(summaries.smallest_and_largest(speed)),
        "figure": _picture("speedups", binned, lambda table, palette: figures.draw_speedups(table, trend, palette), colors),
    }


def _score(run: Run) -> dict[str, Any] | None:
    """Return the kill score with its two pictures; None where the run holds none."""
    score = find_kill_score(run)
    if score is None:
        return None
    colors = figures.assign_colors(dict.fromkeys(score.smallest["method"]))
    finite = score.smallest[score.smallest["smallest_99"].between(0, float("inf"), inclusive="neither")]
    return {
        "table": score,
        "alarms": summaries.list_records(score.alarms),
        "named": summaries.list_records(score.named),
        "kills": _picture("kills", score.found, lambda table, _: figures.draw_kills(table), {}),
        "smallest": _picture("smallest", finite, figures.draw_smallest, colors),
    }


def _training(training: pd.DataFrame, colors: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the pictures of the trajectories, how they part, and the accuracies reached; None where nothing was trained."""
    if training.empty or "step" not in training:
        return None
    losses = summaries.thin_training(summaries.gather_losses(training))
    return {
        "steps": len(training),
        "accuracies": summaries.final_accuracies(training),
        "parted": summaries.summarise_parting(training),
        "loss_figure": _picture("losses", losses, figures.draw_losses, _only(colors, losses["framework"])),
        "weights_figure": _parting("weights", summaries.part_weights(training), colors),
        "apart_figure": _parting("losses-apart", summaries.part_losses(training), colors),
    }


def _parting(name: str, wide: pd.DataFrame, colors: Mapping[str, str]) -> figures.Figure | None:
    """Return the picture of how trajectories part; where they do not differ there is nothing to show on a log scale."""
    long = summaries.thin_training(wide)
    long = long[long["value"] > 0]
    return _picture(name, long, figures.draw_parting, _only({**colors, summaries.EXPLAINED: "var(--muted)"}, long["framework"]))


def _example(frame: pd.DataFrame, cases: Mapping[str, str]) -> dict[str, str] | None:
    """Return the case that a reader would replay first, with its JSON where the run holds it."""
    first = summaries.failing_rows(frame).head(1) if frame["fails"].any() else summaries.worst_rows(frame, 1)
    if not len(first):
        return None
    case = str(first["case"].iloc[0])
    text = cases.get(case, "")
    return {"case": case, "json": text if len(text) <= LONGEST_CASE else ""}


def _assets(*, tabled: bool) -> dict[str, Any]:
    """Return the styles and scripts that the page holds inside itself: our own files and installed libraries, as they are."""
    from markupsafe import Markup

    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    table_style, table_script = _itables_assets() if tabled else ("", "")
    return {
        "style": Markup(style),
        "script": Markup(script),
        "vega": Markup(_inline(figures.bundle_scripts())),
        "table_style": Markup(table_style),
        "table_script": table_script,
    }


def _itables_assets() -> tuple[str, str]:
    from itables import options

    script = Path(options.dt_bundle)
    return script.with_suffix(".css").read_text(encoding="utf-8"), script.read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """Return a script as it may stand within a script element, which the text `</script` would end."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _only(colors: Mapping[str, str], names: pd.Series[Any]) -> dict[str, str]:
    present = set(names.astype("str"))
    return {name: color for name, color in colors.items() if name in present}
