"""Evidence: tidied comparisons come in, what they could have shown, what they say of arithmetic and who is wrong go out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.reporters import summaries, words

if TYPE_CHECKING:
    import pandas as pd

SAYINGS = {"reduced-precision": "accumulates in reduced precision", "constant": "a low-precision constant"}
SHARES = ("seen_percent", "seen_millionth")
MOST_CASES = 5


def share_seen(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return by the keys in which share of the gradients' entries a 1 % and a 1e-6 relative error would have been seen.

    Only rows that decide and say so count, each by its numbers compared; `entries` is how many these are, `blind` tells
    that no error of 1 % would have been seen in any. Without keys there is one row, or none.
    """
    return _divide(_add_up(_weigh(frame), keys))


def share_by_hazard(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the same by hazard, from the least; entries with two hazards count for each, those without any for `none`."""
    sums = _add_up(_weigh(frame), ["hazards"])
    named = sums.assign(hazard=sums["hazards"].astype("str").replace("", "none").str.split("+")).explode("hazard")
    return _divide(_add_up(named, ["hazard"])).sort_values("seen_percent", kind="stable")


def list_blind(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cases in which no entry of any gradient would have shown a 1 % error: `case`, `dtype` and `hazards`."""
    shares = share_seen(frame, ["case", "dtype", "hazards"])
    return shares.loc[shares["blind"], ["case", "dtype", "hazards"]]


def describe_power(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the shares of the whole run, by layer, backend and dtype, and by hazard, and which cases show nothing.

    `rows` are those of `share_seen`; `lines` hold the same as layer, dtype and a cell for each backend of `columns`.
    """
    blind, rows = list_blind(frame), summaries.list_records(share_seen(frame, ["layer", "dtype", "who"]))
    columns = summaries.order_backends(str(row["who"]) for row in rows)
    cells = {(str(row["layer"]), str(row["dtype"]), str(row["who"])): row for row in rows}
    places = dict.fromkeys((layer, dtype) for layer, dtype, _ in cells)
    return {
        "total": next(iter(summaries.list_records(share_seen(frame, []))), None),
        "rows": rows,
        "columns": columns,
        "lines": [(*place, [cells.get((*place, who)) for who in columns]) for place in places],
        "hazards": summaries.list_records(share_by_hazard(frame)),
        "blind": len(blind),
        "cases": int(_weigh(frame)["case"].nunique()),
        "checks": say_checks(frame),
        "examples": [str(case) for case in blind["case"].head(MOST_CASES)],
    }


def say_checks(frame: pd.DataFrame) -> str:
    """Return a sentence that says for how many gradients the end-to-end noise check ran, and why not for the others."""
    gradients = frame.loc[frame["decides"] & frame["quantity"].ne("y") & frame["n_compared"].gt(0), "check"].astype("str")
    ran = int(gradients.str.split("+").map(lambda checks: "noise" in checks).sum())
    of = words.plural(len(gradients), "gradient")
    return (
        f"The end-to-end check against calibrated noise ran for {words.count(ran)} of {of}: where no proven bound could "
        "have shown an error of 1 %. Elsewhere it adds nothing, and was left out."
    )


def list_arithmetic(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the findings about arithmetic: by finding, backend, layer, quantity and dtype how many rows and the worst factor.

    `of` is how many rows there are of the same place, and `case` holds one to replay.
    """
    keys = ["who", "layer", "quantity", "dtype"]
    found = frame[frame["finding"]].sort_values("error_in_bounds", ascending=False, kind="stable")
    groups = found.groupby(["verdict", *keys], observed=True, sort=True)
    table = groups.agg(rows=("case", "size"), worst=("error_in_bounds", "max"), case=("case", "first")).reset_index()
    total = frame.groupby(keys, observed=True).size().rename("of").reset_index()
    records = summaries.list_records(table.merge(total, on=keys, how="left"))
    return [{**row, "saying": SAYINGS.get(str(row["verdict"]), row["verdict"])} for row in records]


def count_culprits(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return who is wrong in how many rows, by layer, in which dtypes, from the most; nothing where no row says."""
    named = frame[frame["culprit"].ne("")]
    groups = named.groupby(["culprit", "layer"], observed=True, sort=True)
    table = groups.agg(
        rows=("case", "size"),
        fails=("fails", "sum"),
        dtypes=("dtype", lambda column: ", ".join(summaries.order_dtypes(column.astype("str").unique()))),
        worst=("error_in_bounds", "max"),
        case=("case", "first"),
    )
    return summaries.list_records(table.reset_index().sort_values("rows", ascending=False, kind="stable"))


def say_culprits(frame: pd.DataFrame) -> str:
    """Return a sentence that says who is wrong in the rows that fail, nothing where that is not known."""
    failing = frame.loc[frame["fails"], "culprit"]
    counts: Mapping[Any, int] = failing[failing.ne("")].astype("str").value_counts().to_dict()
    told = [f"{culprit} in {words.plural(rows, 'comparison')}" for culprit, rows in counts.items()]
    return f"Which one is wrong: {', '.join(told)}." if told else ""


def _weigh(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of gradients that decide and say what they could have shown, in entries instead of shares."""
    known = frame["decides"] & frame["quantity"].ne("y") & frame["n_compared"].gt(0) & frame["seen_percent"].notna()
    columns = ["case", "hazards", "layer", "who", "dtype", *SHARES, "n_compared"]
    rows = frame.loc[known, columns].rename(columns={"n_compared": "entries"})
    return rows.assign(**{name: rows[name] * rows["entries"] for name in SHARES})


def _add_up(weighed: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    if not keys:
        return weighed[[*SHARES, "entries"]].sum().to_frame().T.head(len(weighed))
    return weighed.groupby(keys, observed=True, sort=True)[[*SHARES, "entries"]].sum().reset_index()


def _divide(sums: pd.DataFrame) -> pd.DataFrame:
    shares = {name: sums[name] / sums["entries"] for name in SHARES}
    return sums.assign(**shares, blind=sums["seen_percent"].eq(0))
