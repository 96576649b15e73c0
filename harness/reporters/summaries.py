"""Summaries: a run's tables come in, the small frames that every report shows go out.

Nothing here is longer than the number of layers, backends, dtypes, hazards or phases allows, so that a report of a
million comparisons is as short as one of a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core import DTYPES, PASSING

if TYPE_CHECKING:
    import pandas as pd

    from harness.table import Run

KEYS = ("case", "network", "hazards", "backend", "variant", "dtype", "layer", "quantity", "verdict")
NUMBERS = ("error_in_bounds", "n_compared", "n_wrong", "seen_percent", "seen_millionth")
ARITHMETIC = ("reduced-precision", "constant")
LEAST_HEIGHT = 0.04
SKIPPED = ("unsupported", "unavailable")
PER_NETWORK = ["network", "dtype", "batch"]
WHOLE = "forward+backward"
EXPLAINED = "explained by rounding"
REFERENCE = "numpy"


def tidy_comparisons(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons with keys as categories, numbers as numbers, and more columns.

    `who` is the backend with its variant; `fails` (it decides and does not pass), `deviates` (it decides nothing and
    would not pass), `ok`, `powerless`, `convention`, `finding` (about arithmetic) and `skipped` are booleans. Columns that
    older runs lack are there, and unknown.
    """
    frame = _numeric(order_by_dtype(_categorical(_complete(comparisons), (*KEYS, "culprit"))), NUMBERS)
    verdict = frame["verdict"]
    decides = _booleans(frame["decides"])
    return frame.assign(
        who=_name_backends(frame),
        decides=decides,
        fails=decides & ~verdict.isin(list(PASSING)),
        deviates=~decides & ~verdict.isin(list(PASSING)),
        ok=verdict.eq("ok"),
        powerless=verdict.eq("powerless"),
        convention=verdict.eq("convention"),
        finding=verdict.isin(ARITHMETIC),
        skipped=verdict.isin(SKIPPED),
    )


def count_verdicts(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return one row per combination of the keys with its rows, verdicts, numbers compared and worst error in bounds."""
    groups = frame.groupby(list(keys), observed=True, dropna=False, sort=True)
    counts = groups[["ok", "powerless", "convention", "finding", "skipped", "fails", "deviates", "n_compared"]].sum()
    counts.insert(0, "rows", groups.size())
    return counts.assign(worst=groups["error_in_bounds"].max(), median=groups["error_in_bounds"].median()).reset_index()


def tally_hazards(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts by hazard; a row with two hazards counts for each, one without any for the hazard `none`."""
    counts = count_verdicts(frame, ["hazards"]).drop(columns="median")
    named = counts.assign(hazard=counts["hazards"].astype("str").replace("", "none").str.split("+")).explode("hazard")
    how = {name: "max" if name == "worst" else "sum" for name in counts.columns.drop("hazards")}
    tallied = named.groupby("hazard", sort=True).agg(how).reset_index()
    return tallied.sort_values("hazard", key=lambda names: names.ne("none"), kind="stable")


def order_backends(names: Iterable[str]) -> list[str]:
    """Return the backends in the order in which reports show them: the reference first, then by name.

    >>> order_backends(["torch", "jax", "numpy"])
    ['numpy', 'jax', 'torch']
    """
    return sorted(set(names), key=lambda name: (name.split(" ")[0] != REFERENCE, name))


def order_dtypes(names: Iterable[str]) -> list[str]:
    """Return the dtypes in the order in which reports show them: from the widest, then others by name.

    >>> order_dtypes(["bfloat16", "float16", "float32", "float64"])
    ['float64', 'float32', 'bfloat16', 'float16']
    """
    return sorted(set(names), key=lambda name: (DTYPES.index(name) if name in DTYPES else len(DTYPES), name))


def order_by_dtype(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its dtypes as categories in the order of `order_dtypes`, by which groups are then sorted."""
    import pandas as pd

    names = frame["dtype"].astype("str")
    return frame.assign(dtype=pd.Categorical(names, categories=order_dtypes(names.unique())))


def is_numerical(frame: pd.DataFrame) -> pd.Series[Any]:
    """Tell which rows come from numerical differentiation."""
    return frame["backend"].eq("numerical") | frame["variant"].eq("numerical")


def list_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a small table as dictionaries, as templates want them."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def failing_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that turn the run red, those without a measurable error first, then from the worst."""
    return frame[frame["fails"]].sort_values("error_in_bounds", ascending=False, na_position="first", kind="stable")


def worst_rows(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the rows that decide with the largest errors in units of their bound, at most so many."""
    return measured_rows(frame).nlargest(most, "error_in_bounds")


def measured_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that decide and have an error, without the findings about arithmetic, which no bound holds."""
    return frame[frame["decides"] & frame["error_in_bounds"].notna() & ~frame["finding"]]


def bin_errors(frame: pd.DataFrame, keys: Sequence[str], width: float = 0.25) -> pd.DataFrame:
    """Return a histogram of log10 of the error in bounds for each combination of the keys.

    The columns are the keys, `low` and `high` (edges of the bin), `rows`, `share` of the combination's rows, `height`
    (the share, but never too little to be seen), `range` in words, and the ends of the scale, `floor` and `ceiling`.
    Errors of exactly 0 stand in a bin of their own, one decade below the others; what lies beyond the ends is
    in the last bin.
    """
    measured = frame.loc[frame["error_in_bounds"].notna(), [*keys, "error_in_bounds"]]
    error = measured["error_in_bounds"].to_numpy(dtype=float)
    floor, ceiling = error_range(error)
    with np.errstate(divide="ignore"):
        exponent = np.clip(np.log10(error), floor + width / 2, ceiling - width / 2)
    low = np.where(error == 0, floor - 1, np.ceil(exponent / width) * width - width)  # what lies on the bound is within it
    counted = measured[list(keys)].assign(low=low).groupby([*keys, "low"], observed=True, sort=True).size()
    binned = counted.rename("rows").reset_index()
    totals = binned.groupby(list(keys), observed=True)["rows"].transform("sum") if keys else binned["rows"].sum()
    binned = binned.assign(high=binned["low"] + width, share=binned["rows"] / totals, floor=floor, ceiling=ceiling)
    least = LEAST_HEIGHT * binned["share"].max()  # one row beyond the bound among a million is what the reader looks for
    ranges = [_range(low, low + width, floor) for low in binned["low"]]
    return binned.assign(height=binned["share"].clip(lower=least), range=ranges)


def error_range(error: np.typing.NDArray[Any]) -> tuple[int, int]:
    """Return the decades that a histogram of the errors spans; it always shows the bound with room on either side."""
    known = error[np.isfinite(error) & (error > 0)]
    if known.size == 0:
        return -2, 1
    low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
    return int(np.clip(low, -8, -2)), int(np.clip(high, 1, 4))


def _range(low: float, high: float, floor: int) -> str:
    return "exactly 0" if low < floor else f"{10**low:.2g} to {10**high:.2g}"


def summarise_discrepancies(discrepancies: pd.DataFrame) -> pd.DataFrame:
    """Return the median and largest discrepancy of every pair of backends in every dtype."""
    names = ("max_relative_to_norm", "max_ulps", "cosine", "n_compared")
    frame = _numeric(order_by_dtype(_categorical(discrepancies, ("backend_a", "backend_b"))), names)
    groups = frame.groupby(["backend_a", "backend_b", "dtype"], observed=True, sort=True)
    pairs = groups.agg(
        rows=("cosine", "size"),
        n_compared=("n_compared", "sum"),
        relative_median=("max_relative_to_norm", "median"),
        relative_max=("max_relative_to_norm", "max"),
        ulps_median=("max_ulps", "median"),
        ulps_max=("max_ulps", "max"),
        cosine_min=("cosine", "min"),
    )
    return pairs.reset_index()


def summarise_timings(timings: pd.DataFrame) -> pd.DataFrame:
    """Return the seconds, the ratio to NumPy and their spread over the networks for every phase, dtype and backend."""
    frame = _tidy_timings(timings)
    groups = frame.groupby(["phase", "dtype", "backend"], observed=True, sort=True)
    table = groups.agg(
        networks=("network", "nunique"),
        seconds=("median", "median"),
        spread=("spread", "median"),
        low=("ratio_to_numpy", lambda ratio: ratio.quantile(0.25)),
        ratio=("ratio_to_numpy", "median"),
        high=("ratio_to_numpy", lambda ratio: ratio.quantile(0.75)),
        cpu_over_wall=("cpu_over_wall", "max"),
        threads=("threads", "max"),
    ).reset_index()
    return table.sort_values(["phase", "dtype", "backend"], key=_timing_order, kind="stable")


def bin_timings(timings: pd.DataFrame, phase: str, bins_per_decade: int = 3) -> pd.DataFrame:
    """Return the median and quartile seconds of a phase by backend, dtype and size of the network.

    `parameters` is the median of the bin's networks, so that a bin of one network stands where the network does.
    """
    frame = _tidy_timings(timings)
    frame = frame[(frame["phase"] == phase) & (frame["parameters"] > 0) & (frame["median"] > 0)]
    frame = frame.assign(size=np.floor(np.log10(frame["parameters"].to_numpy(dtype=float)) * bins_per_decade))
    groups = frame.groupby(["backend", "dtype", "size"], observed=True, sort=True)
    binned = groups.agg(
        parameters=("parameters", "median"),
        networks=("network", "nunique"),
        seconds=("median", "median"),
        low=("median", lambda values: values.quantile(0.25)),
        high=("median", lambda values: values.quantile(0.75)),
    )
    return binned.reset_index()


def compare_speed(timings: pd.DataFrame) -> pd.DataFrame:
    """Return how many times faster one backward pass is than numerical differentiation, network by network.

    A row holds the network, its parameters, dtype and batch, the seconds of a numerical gradient element by element
    (`numerical`), of the reference's forward and backward pass (`backprop`), and `speedup`, their ratio.
    """
    frame = _tidy_timings(timings)
    slow = frame.loc[frame["phase"] == "numerical", [*PER_NETWORK, "parameters", "median"]]
    reference = (frame["phase"] == WHOLE) & (frame["backend"] == REFERENCE) & (frame["median"] > 0)
    fast = frame.loc[reference, [*PER_NETWORK, "median"]].rename(columns={"median": "backprop"})
    both = slow.rename(columns={"median": "numerical"}).merge(fast, on=PER_NETWORK, how="inner")
    both = both.assign(speedup=both["numerical"] / both["backprop"])
    return both[(both["parameters"] > 0) & (both["speedup"] > 0)].sort_values("parameters", kind="stable")


def bin_speed(speed: pd.DataFrame, bins_per_decade: int = 12) -> pd.DataFrame:
    """Return the median speedup by dtype and size of the network, as `compare_speed` returned it."""
    size = np.floor(np.log10(speed["parameters"].to_numpy(dtype=float)) * bins_per_decade)
    groups = speed.assign(size=size).groupby(["dtype", "size"], observed=True, sort=True)
    how = {"parameters": ("parameters", "median"), "speedup": ("speedup", "median"), "networks": ("network", "nunique")}
    return groups.agg(**how).reset_index()


def smallest_and_largest(speed: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the smallest and of the largest network; one row where they are the same, none where there are none."""
    return speed.iloc[[0, -1]].drop_duplicates("parameters") if len(speed) else speed


def fit_growth(speed: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """Return the exponent with which the speedup grows with the parameters, and the ends of the line that says so.

    Where too few sizes are known to tell, the exponent is NaN and the line is empty.
    """
    ends = smallest_and_largest(speed)[["parameters", "speedup"]]
    if speed["parameters"].nunique() < 3:
        return float("nan"), ends.iloc[:0]
    exponent, offset = np.polyfit(np.log10(speed["parameters"]), np.log10(speed["speedup"]), 1)
    return float(exponent), ends.assign(speedup=10**offset * ends["parameters"] ** exponent)


def gather_losses(training: pd.DataFrame) -> pd.DataFrame:
    """Return the loss of every framework: a column `step`, and one for each framework."""
    return _columns(training, {name: training[f"loss_{name}"] for name in name_frameworks(training, "loss_")})


def part_weights(training: pd.DataFrame) -> pd.DataFrame:
    """Return how far the weights of each framework are from the reference's, relative to their norm, and `EXPLAINED`.

    A column `step`, one for each framework, and last what rounding alone explains.
    """
    apart = {name: training[f"weights_apart_{name}"] for name in name_frameworks(training, "weights_apart_")}
    explained = [f"rounding_explains_{name}" for name in name_frameworks(training, "rounding_explains_")]
    return _columns(training, apart | ({EXPLAINED: training[explained].max(axis=1)} if apart and explained else {}))


def part_losses(training: pd.DataFrame) -> pd.DataFrame:
    """Return the same as `part_weights` for the loss of the batch, relative to the reference's loss."""
    losses = gather_losses(training)
    if REFERENCE not in losses:
        return losses[["step"]]
    reference = losses.pop(REFERENCE)
    apart = {name: (losses[name] - reference).abs() / reference.abs() for name in losses.columns.drop("step")}
    explained = training.get("loss_rounding_explains")
    return _columns(training, apart if explained is None else apart | {EXPLAINED: explained})


def summarise_parting(training: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each framework how far its weights and its losses parted at most, beside the most that rounding explains.

    `beyond` counts the steps that rounding does not explain; both are None where it is not known what it explains.
    """
    if "step" not in training:
        return []
    named = {"weights": part_weights(training), "loss": part_losses(training)}
    return [
        {"what": what, "framework": name, "largest": float(wide[name].max()), **_explain(wide, name)}
        for what, wide in named.items()
        for name in wide.columns.drop(["step", EXPLAINED], errors="ignore")
    ]


def _explain(wide: pd.DataFrame, framework: str) -> dict[str, float | None]:
    if EXPLAINED not in wide:
        return {"explained": None, "beyond": None}
    return {"explained": float(wide[EXPLAINED].max()), "beyond": int((wide[framework] > wide[EXPLAINED]).sum())}


def thin_training(wide: pd.DataFrame, most: int = 400) -> pd.DataFrame:
    """Return the columns in long form (`step`, `framework`, `value`) with steps left out evenly; the first and last stay."""
    kept = np.unique(np.linspace(0, len(wide) - 1, min(len(wide), most)).round().astype(int))
    return wide.iloc[kept].melt(id_vars="step", var_name="framework", value_name="value").dropna(subset="value")


def _columns(training: pd.DataFrame, columns: Mapping[str, pd.Series[Any]]) -> pd.DataFrame:
    return training[["step"]].assign(**columns)


def name_frameworks(training: pd.DataFrame, prefix: str) -> list[str]:
    """Return the frameworks whose columns start with the prefix."""
    names = [str(name).removeprefix(prefix) for name in training.columns if str(name).startswith(prefix)]
    return [name for name in names if name != "rounding_explains"]  # `loss_rounding_explains` is no framework's loss


def final_accuracies(training: pd.DataFrame) -> dict[str, float]:
    """Return the accuracy that each framework reached last."""
    last = {name: training[f"accuracy_{name}"].dropna() for name in name_frameworks(training, "accuracy_")}
    return {framework: float(values.iloc[-1]) for framework, values in last.items() if len(values)}


def share_powerless(frame: pd.DataFrame, run: Run) -> float:
    """Return the share of the deciding rows outside the hazards that are powerless, as the run says or else as counted."""
    if "powerless_share" in run.info:
        return float(run.info["powerless_share"])
    plain = frame[frame["decides"] & frame["hazards"].eq("")]
    return float(plain["powerless"].mean()) if len(plain) else float("nan")


def _name_backends(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return the backend of every row with its variant, which is left out where it says nothing more."""
    groups = frame.groupby(["backend", "variant"], observed=True, dropna=False, sort=True)
    names = [f"{one}" if str(one).endswith(str(variant)) else f"{one} {variant}" for one, variant in groups.size().index]
    return groups.ngroup().map(dict(enumerate(names))).astype("str").astype("category")


def _tidy_timings(timings: pd.DataFrame) -> pd.DataFrame:
    quartiles = ("lower_quartile", "upper_quartile")
    numbers = ("parameters", "batch", "median", *quartiles, "threads", "cpu_over_wall", "ratio_to_numpy")
    frame = _numeric(order_by_dtype(timings), numbers)
    return frame.assign(spread=(frame["upper_quartile"] - frame["lower_quartile"]) / frame["median"])


def _timing_order(column: pd.Series[Any]) -> pd.Series[Any]:
    first = [*DTYPES, "forward", "backward", WHOLE, "compile", REFERENCE]
    return column.astype("str").map(lambda name: f"{first.index(name):02}" if name in first else f"99{name}")


def _complete(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons with the columns that older runs lack."""
    absent = [name for name in NUMBERS if name not in comparisons]
    frame = comparisons.assign(**dict.fromkeys(absent, float("nan")))
    if "culprit" not in frame:
        return frame.assign(culprit="")
    return frame.assign(culprit=frame["culprit"].astype(object).where(frame["culprit"].notna(), "").astype("str"))


def _categorical(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the frame with the columns as categories; grouping a million rows by text takes ten times as long."""
    return frame.assign(**{name: frame[name].astype("category") for name in names if frame[name].dtype != "category"})


def _numeric(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the frame with the columns as numbers, also where an empty table was read as text."""
    import pandas as pd

    return frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce").astype(float) for name in names})


def _booleans(column: pd.Series[Any]) -> pd.Series[Any]:
    return column if column.dtype == bool else column.astype("str").str.lower().eq("true")
