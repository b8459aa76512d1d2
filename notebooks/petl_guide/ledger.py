"""The ledger of claims for readers: as text, JSON, Markdown; what stands, what differs, and what was never shown.

``false_cases`` feeds each check with our own records, changed so that the claim cannot be true: a check that supports
its claim on any data proves nothing. ``issues`` computes the weak points of the published record from its own files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from petl_guide import published
from petl_guide import runs as select
from petl_guide.chapters import chapters
from petl_guide.claims import table as claims
from petl_guide.claims.published import overlaps
from petl_guide.results import Results
from petl_guide.verdict import CONTRADICTED, NOT_RUN, NOT_TESTABLE, SUPPORTED, UNDECIDED, Verdict

TEXTS = ("number", "chapter", "text", "published", "check", "falsifier", "source")  # of a claim, in JSON


def as_json(results: Results) -> str:
    """The ledger as JSON, NaN as null."""
    rows = []
    for claim in claims.CLAIMS:
        row: dict[str, Any] = {name: getattr(claim, name) for name in TEXTS}
        for source, verdict in (
            ("on_published", claims.on_published(claim)),
            ("on_ours", claims.on_ours(claim, results)),
        ):
            row[source] = {name: _plain(value) for name, value in asdict(verdict).items()}
        rows.append(row)
    return json.dumps({"profile": results.profile.name, "claims": rows}, indent=1, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(results: Results) -> str:
    """The ledger for a terminal."""
    lines = [f"Claims of {claims.PAPER}; published numbers, and ours at profile {results.profile.name}", ""]
    for claim in claims.CLAIMS:
        lines.append(f"{claim.number:<4}{claim.text}")
        lines.append(f"    published: {claims.on_published(claim)}")
        lines.append(f"    ours:      {claims.on_ours(claim, results)}")
    return "\n".join(lines)


def markdown(table: pd.DataFrame) -> str:
    """The ledger (``claims.ledger``) as a Markdown table, with a relative link to each chapter that is there."""
    there = chapters()
    lines = ["| | claim | published figure | published, re-analysed | ours | chapter |", "|---|---|---|---|---|---|"]
    for _, row in table.iterrows():
        cells = [f"**{row[source].verdict}** {row[source].size}".strip() for source in ("published", "ours")]
        number = row["chapter"]
        link = f"[{number}]({there[number].stem}.ipynb)" if number in there else f"{number}, planned"
        lines.append(f"| {row['claim']} | {row['text']} | {row['figure']} | {cells[0]} | {cells[1]} | {link} |")
    return "\n".join(lines)


def details(row: pd.Series) -> str:
    """One claim in full: check, falsifier, and both verdicts with effect, control and note."""
    claim = claims.get(row["claim"])
    return (
        f"**{claim.number}. {claim.text}**\n\n- *Check*: {claim.check}\n- *Refuted if*: {claim.falsifier}\n"
        f"- *Published*: {row['published']}\n- *Ours*: {row['ours']}"
    )


def false_cases(results: Results, real_ones: Mapping[str, Verdict]) -> pd.DataFrame:
    """Columns claim, what was done, on our records, on the false case (words), effect, and passes: the check did not
    support what cannot be true. ``real_ones``: our verdicts by claim."""
    rows = []
    for claim in claims.CLAIMS:
        if claim.false is None:
            continue
        verdict = claims.on_false(claim, results)
        passes = {NOT_RUN: "–", SUPPORTED: "no"}.get(verdict.verdict, "yes")
        words = real_ones[claim.number].verdict, verdict.verdict
        rows.append((claim.number, claim.false.what, *words, verdict.size, passes))
    columns = ["claim", "what was done", "on our records", "on the false case", "effect", "passes"]
    return pd.DataFrame(rows, columns=columns)


def standing(table: pd.DataFrame) -> dict[str, list[str]]:
    """Claims by what stands: supported by both, by ours alone, by theirs alone, contradicted by one, open, not run."""
    names = ("both", "ours alone", "published alone", "contradicted", "open", "not run", "not testable")
    groups: dict[str, list[str]] = {name: [] for name in names}
    for _, row in table.iterrows():
        groups[_standing(row["published"].verdict, row["ours"].verdict)].append(row["claim"])
    return groups


def _standing(theirs: str, ours: str) -> str:
    if CONTRADICTED in (theirs, ours):
        return "contradicted"
    if theirs == ours == SUPPORTED:
        return "both"
    if ours == SUPPORTED:
        return "ours alone"
    if theirs == SUPPORTED:
        return "published alone"
    if UNDECIDED in (theirs, ours):
        return "open"
    return "not run" if NOT_RUN in (theirs, ours) else "not testable"


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Claims on which both sides have an effect: words, do the effects lie on one side of the threshold, and why."""
    rows = []
    for _, row in table.iterrows():
        theirs, ours = row["published"], row["ours"]
        if {NOT_RUN, NOT_TESTABLE} & {theirs.verdict, ours.verdict}:
            continue
        same = (theirs.standardised[0] > 0) == (ours.standardised[0] > 0)
        text = "the same side" if same else "other sides"
        rows.append((row["claim"], theirs.verdict, ours.verdict, text, claims.get(row["claim"]).differs))
    return pd.DataFrame(rows, columns=["claim", "published", "ours", "effects", "what differs between the two"])


# ---- what the published record cannot show


def _means() -> tuple[pd.Series, pd.Series]:
    """Means of tasks by method, after the last epoch and at the best one."""
    tables = (published.by_group(which) for which in published.WHICH)
    last, best = (table[table["group"] == "mean of tasks"].set_index("method")["mean"] for table in tables)
    return last, best


def _epochs() -> str:
    last, best = _means()
    rise = (best - last)[select.peft(last.index)]
    text = f"full fine-tuning {last['full']:.1f} after the last epoch, {best['full']:.1f} at its best; "
    return text + f"PEFT {rise.min():+.1f} to {rise.max():+.1f}"


def _trials() -> str:
    tried = published.optimism()["trials"]
    text = f"{tried.min():.0f} to {tried.max():.0f} for a task; over methods log(trials) and the gap between "
    return text + f"validation and test correlate with {published.optimism_correlation():+.2f}"


def _counted() -> list[str]:
    return published.counted(published.scores().columns)


def _left_out() -> str:
    without = published.relative_spread("best_accuracy", _counted())
    with_it = published.relative_spread("best_accuracy")
    return f"relative deviation {without:.2f} % without it, {with_it:.2f} % with it"


def _rates() -> str:
    final = published.read("final")
    chosen = final.loc[final["method"] == "full", "lr"]
    text = f"{published.collapsed('full', 1e-2):.0f} % of its trials at 1e-2 collapse; 1e-3, the edge of the grid, "
    return text + f"was chosen on {(chosen < 5e-3).sum()} of {len(chosen)} tasks"


def _seeds() -> str:
    again = published.reruns()["change"]
    text = f"re-runs of {len(again)} cells (settings unknown) differ by {again.median():.1f} points in the middle, "
    return text + f"{again.quantile(0.9):.1f} at the ninth decile"


def _overlaps() -> str:
    beyond = [met.beyond_chance for met in overlaps()]
    text = f"beyond chance {min(beyond):+.3f} to {max(beyond):+.3f} (1: the same images)"
    return f"{text}, if the pool is CIFAR-100's test set"


def _clevr() -> str:
    trials, final = (
        frame[frame["task"] == "clevr_distance"] for frame in map(published.read, ("manyshot_tuning", "manyshot"))
    )
    validation, test = trials["val_accuracy"].max(), final["accuracy"].max()
    return f"validation accuracy up to {validation:.1f} %, test accuracy {test:.1f} % at best"


def _checkpoints() -> str:
    clip = published.read("clip").set_index("method").drop("zero_shot")
    late = clip["best_accuracy"] - clip["accuracy"]
    return f"best minus last epoch {late.min():+.2f} to {late.max():+.2f} points (largest: {late.idxmax()})"


def _two_cifars() -> str:
    every = published.read("final", everything=True)
    both = every[every["reported"]].pivot(index="method", columns="task", values="accuracy")
    wider = (both["cifar_aug_norm"] - both["cifar"])[select.peft(both.index)]
    return f"PEFT methods {wider.min():+.1f} to {wider.max():+.1f} points apart"


def _retinopathy() -> str:
    accuracy, names = published.scores().loc["diabetic_retinopathy"], _counted()
    above = int((accuracy[names] > accuracy["linear"]).sum())
    return f"{above} of {len(names)} PEFT methods are above linear probing after the last epoch"


ISSUES: tuple[tuple[str, Callable[[], str], str], ...] = (  # what it is, its number, the claims that it touches
    ("the figures fit the best epoch on the test images", _epochs, "C1, C3"),
    ("unequal numbers of trials", _trials, "C1, C2, C5"),
    ("VPT-Shallow is left out of “similar”", _left_out, "C1"),
    ("full fine-tuning had two rates, both high", _rates, "C3, C9, C10"),
    ("one seed", _seeds, "all"),
    ("the overlaps of Fig. 1b are those of unrelated sets", _overlaps, "C7"),
    ("no predictions were released", lambda: "nothing to compute", "C6, C7, C8"),
    ("CLEVR's validation images are training images", _clevr, "C9"),
    ("CLIP's checkpoint was chosen on the test images", _checkpoints, "C11, C13"),
    ("two versions of CIFAR-100, with and without normalised, augmented input", _two_cifars, "C1, C7"),
    ("Retinopathy stays at the level of its largest class", _retinopathy, "C3"),
)


def issues() -> pd.DataFrame:
    """What the published record cannot show, each with its number: columns issue, computed, what it touches."""
    rows = [(issue, computed(), touches) for issue, computed, touches in ISSUES]
    return pd.DataFrame(rows, columns=["issue", "computed", "touches"])
