"""The claims' verdicts: on the published numbers, on photographs and on the embedded suite.

    python -m petl_guide claims [--profile laptop] [--json]

A check gives numbers, and ``verdict.judged`` says the word. "Undecided" is an answer: little data, or a control that
fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from petl_core.study.records import Records
from petl_core.utils import UserError
from petl_guide.claims import ours
from petl_guide.claims.statements import CLAIMS, PAPER, Claim
from petl_guide.results import SHIPPED, Results, named_shortly, open_real, open_results
from petl_guide.verdict import NOT_RUN, NOT_TESTABLE, TOLD, Verdict, judged

__all__ = ["CLAIMS", "LAPTOP", "PAPER", "PHOTOGRAPHS", "PUBLISHED", "SOURCES", "Claim"]
__all__ += ["changed", "get", "ledger", "on_false", "on_ours", "on_published", "sources"]
COMMAND = "python -m petl_core study"
PUBLISHED, PHOTOGRAPHS, LAPTOP = SOURCES = ("published", "photographs", "laptop")


def get(number: str) -> Claim:
    """The claim called ``number``. ``UserError`` listing the numbers if there is none."""
    for claim in CLAIMS:
        if claim.number == number:
            return claim
    raise UserError(f"unknown claim {number!r}; the claims are {', '.join(claim.number for claim in CLAIMS)}")


def _without(claim: Claim, why: str) -> Verdict:
    """Where there is no check: "not testable", or "told" of what is no measurement at all."""
    checked = claim.on_published or claim.on_ours
    return Verdict(NOT_TESTABLE if checked else TOLD, reason=why)


def on_published(claim: Claim) -> Verdict:
    """The claim's verdict on the published numbers."""
    return judged(claim.on_published()) if claim.on_published else _without(claim, claim.why_published)


def on_ours(claim: Claim, results: Results) -> Verdict:
    """The claim's verdict on our records of a profile; "not run", with what is missing, where they do not suffice."""
    name = results.profile.name
    if claim.on_ours is None:
        return replace(_without(claim, claim.why_ours), profile=name)
    found = replace(ours.verdict(claim.on_ours, results), profile=name)
    if found.verdict == NOT_RUN:
        missing = found.reason.partition(COMMAND)[0].rstrip(": ")
        return replace(found, reason=f"{missing}: {COMMAND} --profile {name}")
    return found


def on_false(claim: Claim, results: Results, seed: int = 0) -> Verdict:
    """The claim's verdict where it cannot be true: on our records after the change of its false case."""
    if claim.false is None:
        having = ", ".join(other.number for other in CLAIMS if other.false)
        raise UserError(f"there is no false case of claim {claim.number}; there are: {having}")
    return on_ours(claim, results.of(claim.false.change(results.table, np.random.default_rng(seed))))


def sources(results: Results) -> dict[str, Results]:
    """The records of both columns of the ledger: these in their own, and the shipped ones in the other."""
    if results.embedded:
        return {PHOTOGRAPHS: open_real(), LAPTOP: results}
    return {PHOTOGRAPHS: named_shortly(results), LAPTOP: open_results(SHIPPED)}


def changed(here: Results, there: Records) -> dict[str, tuple[str, str]]:
    """By number, the claims on which other records of the same runs give another verdict: the words here and there.

    ``UserError`` if ``there`` has none of the runs.
    """
    theirs = there.table().drop_duplicates("digest").drop(columns="variant")
    parts = here.table[["digest", "variant"]]  # there, a run may serve other parts of another profile
    same = Results(here.profile, there, fresh=False).of(parts.merge(theirs, on="digest")[here.table.columns])
    if same.table.empty:
        raise UserError(
            f"{there.root} has none of the runs in {here.records.root}; name another folder to compare with"
        )
    words = {claim.number: (on_ours(claim, here).verdict, on_ours(claim, same).verdict) for claim in CLAIMS}
    return {number: pair for number, pair in words.items() if pair[0] != pair[1]}


def ledger(results: Results, numbers: Sequence[str] = ()) -> pd.DataFrame:
    """A row for each claim, or for those of these numbers: number, chapter, text, figure (theirs), and a ``Verdict``
    for each of ``SOURCES``."""
    records = sources(results)
    rows = [
        {
            "claim": claim.number,
            "chapter": claim.chapter,
            "text": claim.text,
            "figure": claim.published,
            PUBLISHED: on_published(claim),
            **{source: on_ours(claim, its) for source, its in records.items()},
        }
        for claim in ([get(number) for number in numbers] or CLAIMS)
    ]
    return pd.DataFrame(rows)
