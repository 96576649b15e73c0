"""HTML: a run comes in, one page goes out that loads nothing and that a person enjoys reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import BadInput
from harness.reporters import figures, summaries, words
from harness.reporters.verdict import decide_verdict, locate_failures

if TYPE_CHECKING:
    import jinja2
    import pandas as pd

    from harness.table import Run

MOST_FAILING = 2000
MOST_WORST = 200
MOST_LAYERS = 200
PREVIEW = 10
LONGEST_MESSAGE = 160
CHOSEN = ("case", "verdict", "layer", "quantity", "backend", "dtype", "error in bounds", "ulps", "relative to norm")
TEMPLATES = Path(__file__).parent / "templates"
APART, EXPLAINED = "weights_apart_", "rounding_explains_"


@dataclass(frozen=True)
class HtmlReporter:
    """Writes `index.html`. Raises BadInput when the packages that draw it are not installed."""

    name: str = "html"
    summary: str = "one self-contained page: verdict, grid, distributions, timings, training, failures, and how to replay them"

    def write(self, run: Run, folder: Path) -> list[Path]:
        path = folder / "index.html"
        path.write_text(compose_page(run), encoding="utf-8")
        return [path]


REPORTER = HtmlReporter()


def compose_page(run: Run) -> str:
    """Return the page. Raises BadInput when the packages that draw it are not installed."""
    try:
        parts = _gather(run)
        template = _environment().get_template("page.html.j2")
    except ImportError as error:
        raise BadInput(f"reporter html: {error.name} is missing; accepted is `pip install 'backprop-harness[report]'`") from None
    return template.render(parts)


def _gather(run: Run) -> dict[str, Any]:
    """Return everything that the template shows, by the names that it uses."""
    frame = summaries.tidy_comparisons(run.comparisons)
    frame = frame.assign(who=_name_backends(frame))
    tables = {"failing": _table_failing(frame), "worst": _table_worst(frame)}
    return {
        "run": run,
        "info": run.info,
        "verdict": decide_verdict(frame, run),
        "places": locate_failures(frame),
        "powerless_share": summaries.share_powerless(frame, run),
        "grid": _grid(frame),
        "hazards": _records(summaries.tally_hazards(frame)),
        **_errors(frame),
        "pairs": _records(summaries.summarise_discrepancies(run.discrepancies)),
        "timings": _timings(run.timings),
        "speed": _speed(frame, run.timings),
        "training": _training(run.training),
        "tables": tables,
        "example": _example(frame, run),
        "assets": _assets(any(table["shown"] for table in tables.values())),
    }


def _name_backends(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return the backend of every row with its variant, for a reader who tells the columns of the grid apart by it."""
    pairs = frame[["backend", "variant"]].drop_duplicates().astype("str")
    names = {(backend, variant): _join(backend, variant) for backend, variant in pairs.itertuples(index=False)}
    order = [names[key] for key in sorted(names, key=lambda key: (key[0] != summaries.REFERENCE, *key))]
    joined = frame.groupby(["backend", "variant"], observed=True)["case"].transform("size") if frame.empty else None
    if joined is not None:
        return joined.astype("str").astype("category")
    codes = {pair: order.index(name) for pair, name in names.items()}
    import numpy as np
    import pandas as pd

    backend, variant = frame["backend"].astype("category"), frame["variant"].astype("category")
    lookup = np.zeros((len(backend.cat.categories), len(variant.cat.categories)), dtype=int)
    for (one, other), code in codes.items():
        lookup[backend.cat.categories.astype("str").get_loc(one), variant.cat.categories.astype("str").get_loc(other)] = code
    return pd.Series(pd.Categorical.from_codes(lookup[backend.cat.codes, variant.cat.codes], order), index=frame.index)
