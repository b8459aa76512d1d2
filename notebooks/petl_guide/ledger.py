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

import numpy as np
import pandas as pd

from petl_guide import published
from petl_guide import runs as select
from petl_guide.chapters import chapters
from petl_guide.claims import table as claims
from petl_guide.claims.published import overlaps
from petl_guide.results import Results
from petl_guide.verdict import HETEROGENEOUS, NOT_RUN, SUPPORTED, UNDECIDED, Verdict

TEXTS = ("number", "chapter", "text", "published", "check", "falsifier", "counted")  # of a claim, in JSON


def as_json(results: Results) -> str:
    """The ledger as JSON, NaN as null: for each claim and evidence the word and all that it rests on."""
    rows = []
    for (_, row), claim in zip(claims.ledger(results).iterrows(), claims.CLAIMS, strict=True):
        evidence = {source: _verdict(row[source]) for source in claims.SOURCES}
        rows.append({**{name: getattr(claim, name) for name in TEXTS}, "evidence": evidence})
    about = {"study": claims.PAPER, "profile": results.profile.name, "claims": rows}
    return json.dumps(about, indent=1, allow_nan=False, ensure_ascii=False)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON values: what ``Verdict`` has, but for the interval and the type."""
    plain = {
        name: _plain(value) for name, value in vars(verdict).items() if name not in ("low", "high", "kind", "parts")
    }
    parts = {name: _verdict(part) for name, part in verdict.parts.items()}
    interval = [_plain(verdict.low), _plain(verdict.high)]
    return {**plain, "interval": interval, "type": verdict.kind, "parts": parts}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [{name: _plain(inner) for name, inner in asdict(control).items()} for control in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(results: Results) -> str:
    """The ledger for a terminal."""
    lines = [f"Claims of {claims.PAPER}; with our records of profile {results.profile.name}", ""]
    for _, row in claims.ledger(results).iterrows():
        lines.append(f"{row['claim']:<4}{row['text']}")
        lines += [f"    {source + ':':<13}{row[source]}" for source in claims.SOURCES]
    return "\n".join(lines)


def markdown(table: pd.DataFrame) -> str:
    """The ledger (``claims.ledger``) as a Markdown table; numbers are relative links to the chapters that are there."""
    there = chapters()
    heads = ["", "claim", "the study's figure", "published, re-analysed", "photographs", "laptop"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for _, row in table.iterrows():
        cells = [f"**{row[source].verdict}** {row[source].size}".strip() for source in claims.SOURCES]
        chapter, number = row["chapter"], row["claim"]
        link = f"[{number}]({there[chapter].stem}.ipynb)" if chapter in there else number
        lines.append(f"| {' | '.join([link, row['text'], row['figure'], *cells])} |")
    return "\n".join(lines)


def rows_of(results: Results, *numbers: str) -> str:
    """Some claims of the ledger as Markdown lists: the text, and each verdict with what stands beside it."""
    table = claims.ledger(results, numbers)
    return "\n\n".join(
        f"**{row['claim']}. {row['text']}**\n\n"
        + "\n".join(f"- *{source.capitalize()}*: {row[source]}" for source in claims.SOURCES)
        for _, row in table.iterrows()
    )


def details(row: pd.Series) -> str:
    """One claim in full: check, falsifier, and the verdicts with effect, controls and what stands beside them."""
    claim = claims.get(row["claim"])
    said = [f"**{claim.number}. {claim.text}**\n", f"- *Check*: {claim.check}", f"- *Refuted if*: {claim.falsifier}"]
    return "\n".join([*said, *(f"- *{source.capitalize()}*: {row[source]}" for source in claims.SOURCES)])


def false_cases(results: Results, real_ones: Mapping[str, Verdict]) -> pd.DataFrame:
    """Columns claim, what was done, on our records, on the false case (words), effect, and passes: the check did not
    support what cannot be true. ``real_ones``: the verdicts on these records by claim."""
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
    """The counted claims by what stands over all evidence: supported by some and contradicted by none, and so on; the
    first of these names that fits. "Equivalent" speaks for a claim that is of the kind "not worse", else against it."""
    groups: dict[str, list[str]] = {name: [] for name in ("mixed", "for", "against", "open", "not run", "not testable")}
    counted = {claim.number for claim in claims.CLAIMS if claim.counted}
    for _, row in table[table["claim"].isin(counted)].iterrows():
        groups[_standing([row[source] for source in claims.SOURCES])].append(row["claim"])
    return groups


def _standing(verdicts: list[Verdict]) -> str:
    words = {verdict.verdict for verdict in verdicts}
    speaks = any(verdict.speaks_for for verdict in verdicts)
    against = any(verdict.speaks_against for verdict in verdicts)
    if HETEROGENEOUS in words or (speaks and against):
        return "mixed"
    if speaks or against:
        return "for" if speaks else "against"
    if UNDECIDED in words:
        return "open"
    return "not run" if NOT_RUN in words else "not testable"


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Claims with an effect on the published numbers and on ours: words, do the effects lie on one side of the
    threshold, and why they may not. A row for each of our kinds of evidence."""
    rows = []
    for _, row in table.iterrows():
        for source in claims.SOURCES[1:]:
            places = [row[name].standardised[0] for name in (claims.SOURCES[0], source)]
            if all(math.isfinite(place) for place in places):
                text = "the same side" if (places[0] > 0) == (places[1] > 0) else "other sides"
                words = row[claims.SOURCES[0]].verdict, row[source].verdict
                rows.append((row["claim"], source, *words, text, claims.get(row["claim"]).differs))
    return pd.DataFrame(rows, columns=["claim", "ours", "published", "here", "effects", "what differs between the two"])


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
    ("the figures fit the best epoch on the test images", _epochs, "C1a, C1b, C3b"),
    ("unequal numbers of trials", _trials, "C1a, C1b, C2, C5"),
    ("VPT-Shallow is left out of “similar”", _left_out, "C1a"),
    ("full fine-tuning had two rates, both high", _rates, "C3b, C9, C10"),
    ("one seed", _seeds, "all"),
    ("the overlaps of Fig. 1b are those of unrelated sets", _overlaps, "C7"),
    ("no predictions were released", lambda: "nothing to compute", "C6, C7, C8a, C8b"),
    ("CLEVR's validation images are training images", _clevr, "C9"),
    ("CLIP's checkpoint was chosen on the test images", _checkpoints, "C11, C13"),
    ("two versions of CIFAR-100, with and without normalised, augmented input", _two_cifars, "C1a, C7"),
    ("Retinopathy stays at the level of its largest class", _retinopathy, "C3a"),
)


def issues() -> pd.DataFrame:
    """What the published record cannot show, each with its number: columns issue, computed, what it touches."""
    rows = [(issue, computed(), touches) for issue, computed, touches in ISSUES]
    return pd.DataFrame(rows, columns=["issue", "computed", "touches"])
