"""Verdict: a run and its tidied comparisons come in, what the run says, in words, goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.reporters import evidence, summaries, words

if TYPE_CHECKING:
    import pandas as pd

    from harness.table import Run

Tone = Literal["pass", "fail", "empty"]
PLACE = ("verdict", "culprit", "layer", "quantity", "who", "dtype")


@dataclass(frozen=True)
class Verdict:
    """What a run says: its tone, a headline, a sentence of numbers, notes, and facts by name."""

    tone: Tone
    headline: str
    sentence: str
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def decide_verdict(frame: pd.DataFrame, run: Run) -> Verdict:
    """Return the verdict on the run, whose comparisons `summaries.tidy_comparisons` has tidied into `frame`."""
    tone, headline = _headline(frame, run)
    return Verdict(tone, headline, _sentence(frame, run), tuple(_notes(frame, run)), tuple(_facts(frame, run)))


def locate_failures(frame: pd.DataFrame, most: int = 10) -> list[dict[str, Any]]:
    """Return where the failures are: each combination of what PLACE names with how many there are, the largest first.

    Each holds an example: the case of its first row and that row's message.
    """
    failing = summaries.failing_rows(frame)
    groups = failing.groupby(list(PLACE), observed=True, sort=True)
    first = {"case": ("case", "first"), "message": ("message", "first"), "worst": ("error_in_bounds", "max")}
    named = groups.agg(rows=("case", "size"), **first).reset_index()
    return summaries.list_records(named.sort_values("rows", ascending=False, kind="stable").head(most))


def _headline(frame: pd.DataFrame, run: Run) -> tuple[Tone, str]:
    failing = int(frame["fails"].sum())
    if failing:
        return "fail", f"{words.plural(failing, 'comparison')} {'fails' if failing == 1 else 'fail'}."
    if not frame["decides"].any() or not frame.loc[frame["decides"], "n_compared"].sum():
        return "empty", "Nothing was compared."
    if run.info.get("exit_code"):
        return "fail", f"The run does not conform: {run.info.get('status', 'no reason given')}."
    return "pass", "Every gradient conforms."


def _sentence(frame: pd.DataFrame, run: Run) -> str:
    deciding = frame[frame["decides"]]
    if not len(deciding):
        return "No comparison decides, so this run says nothing about the gradients."
    cases = run.info.get("cases_done", deciding["case"].nunique())
    graphs = run.info.get("graphs", deciding["network"].nunique())
    numbers = words.rough_count(deciding["n_compared"].sum())
    counted = f"{words.plural(len(deciding), 'comparison')} of {numbers} numbers"
    found = words.plural(int(deciding["finding"].sum()), "finding") if deciding["finding"].any() else ""
    about = f" {found} about arithmetic {'stands' if found.startswith('1 ') else 'stand'} apart." if found else ""
    return f"{counted} in {words.plural(cases, 'case')} on {words.plural(graphs, 'network')}. {_worst(deciding)}{about}"


def _worst(deciding: pd.DataFrame) -> str:
    worst = deciding.loc[~deciding["finding"], "error_in_bounds"].max()
    if worst != worst:
        return "No error could be measured."
    bound = "of its bound" if worst <= 1 else "times its bound"
    return f"The worst error is {words.measure(worst)} {bound}, the most that rounding can do."


def _notes(frame: pd.DataFrame, run: Run) -> list[str]:
    """Return what a reader must know beside the numbers: interruptions, missing backends, witnesses that deviate."""
    missing = [one for one in run.info.get("backends", ()) if one.get("status", "ok") != "ok"]
    notes = ["The run was interrupted; what was finished is here."] if run.info.get("interrupted") else []
    notes += [f"The backend {one.get('name')} took no part: {one.get('message') or one.get('status')}." for one in missing]
    notes += [f"The known finding {stale} was not met: take it off the list." for stale in run.info.get("stale_findings", ())]
    notes += [said] if (said := evidence.say_culprits(frame)) else []
    unmeasured = int((frame["fails"] & frame["error_in_bounds"].isna()).sum())
    if unmeasured:
        notes.append(f"{words.plural(unmeasured, 'failing comparison')} had no error to measure (not finite, missing, crashed).")
    if deviating := int(frame["deviates"].sum()):
        witnesses = ", ".join(sorted(frame.loc[frame["deviates"], "backend"].astype("str").unique()))
        notes.append(f"{words.plural(deviating, 'comparison')} of witnesses ({witnesses}) deviated; these decide nothing.")
    return notes


def _facts(frame: pd.DataFrame, run: Run) -> list[tuple[str, str]]:
    if frame.empty:
        return []
    plain = frame[frame["decides"] & frame["hazards"].eq("")]
    ok = float(run.info.get("ok_share", plain["ok"].mean() if len(plain) else float("nan")))
    facts = [
        ("ok, outside the hazards", words.share(ok)),
        ("powerless, outside the hazards", words.share(summaries.share_powerless(frame, run))),
        ("comparisons by witnesses", words.count((~frame["decides"]).sum())),
        *_seen(frame),
        ("known findings", words.count(len(run.info.get("findings", ())))),
    ]
    return [*facts, ("wall time", words.seconds(float(run.info["seconds"])))] if "seconds" in run.info else facts


def _seen(frame: pd.DataFrame) -> list[tuple[str, str]]:
    shares = evidence.share_seen(frame, [])["seen_percent"]
    return [("of gradient entries would have shown a 1 % error", words.share(float(share))) for share in shares]
