"""The claims checked on our records, on photographs and on the embedded suite, by the rules registered before the runs.

A check takes the ``Results`` of a profile and returns numbers; it raises ``UserError`` where their runs are missing,
which makes "not run". C14 compares the verdicts of both kinds of records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from petl_core.utils import UserError
from petl_guide.claims.ours_low_shot import (
    above_full,
    above_linear,
    bitfit,
    drop_path,
    resolution,
    similar_means,
    similar_tasks,
    size_and_distance,
)
from petl_guide.claims.ours_many import many_images, regulariser
from petl_guide.claims.ours_predictions import disagreement, ensembles_seeds, ensembles_single, overlap
from petl_guide.claims.ours_robust import balance, interpolation, robustness
from petl_guide.results import SHIPPED, Results, open_real, open_results
from petl_guide.verdict import NOT_RUN, Elsewhere, Found, Verdict, judged

__all__ = [
    "above_full",
    "above_linear",
    "balance",
    "bitfit",
    "disagreement",
    "drop_path",
    "elsewhere",
    "ensembles_seeds",
    "ensembles_single",
    "interpolation",
    "many_images",
    "overlap",
    "regulariser",
    "resolution",
    "robustness",
    "similar_means",
    "similar_tasks",
    "size_and_distance",
    "verdict",
]
Check = Callable[[Results], Found]
COMPARED: Mapping[str, Check] = {  # what tuned runs alone can decide
    "C1a": similar_means,
    "C2": bitfit,
    "C3a": above_linear,
    "C3b": above_full,
    "C6": disagreement,
    "C7": overlap,
    "C8a": ensembles_single,
}


def verdict(check: Check, results: Results) -> Verdict:
    """The verdict on what a check computes; "not run" with the reason where the runs do not suffice."""
    try:
        return judged(check(results))
    except UserError as error:
        return Verdict(NOT_RUN, reason=str(error))


def elsewhere(results: Results) -> Elsewhere:
    """C14: the verdicts on these records and on those of another backbone (``other``), of the methods both have."""
    there = other(results)
    shared = set.intersection(*(set(one.table.loc[_tuned(one), "method"]) for one in (results, there)))
    here, there = (one.of(one.table[one.table["method"].isin(shared)]) for one in (results, there))
    return Elsewhere({claim: (verdict(check, here), verdict(check, there)) for claim, check in COMPARED.items()})


def _tuned(results: Results) -> pd.Series:
    return (results.table["variant"] == "tuned") & (results.table["stage"] == "final")


def other(results: Results) -> Results:
    """Tuned runs of another backbone: of the part "second_backbone", or the shipped ones on photographs for a profile
    of the embedded suite, and the reverse."""
    if results.has("second_backbone"):
        part = results.table[results.table["variant"].isin(["second_backbone", "second_backbone_trial"])]
        names = {"second_backbone": "tuned", "second_backbone_trial": "trial"}
        return results.of(part.assign(variant=part["variant"].map(names)))
    return open_real() if results.embedded else open_results(SHIPPED)
