"""The claims checked on our own records: equal trials for all methods, and other seeds as the control."""

from __future__ import annotations

import pandas as pd

from petl_core import methods
from petl_core.analysis import mistakes, published, select, tuning
from petl_core.analysis import similar as similarity
from petl_core.analysis.accuracy import scores
from petl_core.analysis.predictions import Predictions
from petl_core.errors import UserError
from petl_core.profiles import LONGER
from petl_core.report.claims_published import MARGIN, baseline_gap, bitfit_gap, trend_of_size, trend_verdict
from petl_core.report.results import Results
from petl_core.report.verdict import Verdict, judged

FEWEST_TASKS = 2  # for an interval over tasks
EQUAL = "every method has the same number of trials"


def _tuned(results: Results) -> pd.DataFrame:
    runs = select.runs(results.table, "tuned")
    if runs["task"].nunique() < FEWEST_TASKS:
        raise UserError(f"an interval over tasks needs {FEWEST_TASKS} or more; there are runs of one")
    return runs


def _with_baselines(results: Results) -> pd.DataFrame:
    runs = _tuned(results)
    absent = {"linear", "full"} - set(runs["method"])
    if absent:
        raise UserError(
            f"the baselines are part of this check; there are no tuned runs of {' and '.join(sorted(absent))}"
        )
    return runs


def _peft(results: Results) -> pd.DataFrame:
    runs = _tuned(results)
    return runs[runs["method"].isin(select.peft(dict.fromkeys(runs["method"])))]


def similar(results: Results) -> Verdict:
    """C1: the methods that the study counts, against seeds."""
    runs = _peft(results)
    counted = published.counted(dict.fromkeys(runs["method"]))
    word, parts = similarity.methods_and_seeds(runs[runs["method"].isin(counted)])
    control = f"seeds of one method deviate by {parts.seed:.2f}; {EQUAL}"
    ends = (parts.method, parts.method_low, parts.method_high)
    note = f"a method's liking for single tasks: {parts.interaction:.2f}"
    return Verdict(
        word,
        *ends,
        f"points between {len(counted)} methods",
        runs["task"].nunique(),
        "tasks",
        control,
        True,
        note,
        threshold=parts.seed,
        below=True,
    )


def bitfit(results: Results) -> Verdict:
    """C2: BitFit minus the median of the other PEFT methods."""
    return judged(bitfit_gap(scores(_peft(results))), "points from the median method", EQUAL, margin=-MARGIN)


def beats_baselines(results: Results) -> Verdict:
    """C3: the closer of linear and full, both tuned with the same care."""
    effect, closer = baseline_gap(scores(_with_baselines(results)))
    lowest = f"{min(methods.get('full').lrs):g}"
    control = f"{EQUAL}, full fine-tuning down to a rate of {lowest}"
    note = ""
    if results.has("longer"):
        longer = scores(select.runs(results.table, "longer"))
        gap, of = baseline_gap(longer)
        note = f"trained {LONGER} times as long on {len(longer)} tasks, the median of {longer.shape[1] - 2} PEFT "
        note += f"methods is {gap.mean:+.1f} from {of}"
    return judged(effect, f"points above {closer}", control, note=note)


def drop_path(results: Results) -> Verdict:
    """C4: the tuned setting with drop path switched on and off."""
    low, high = results.profile.drop_paths[0], results.profile.drop_paths[-1]
    effect = tuning.mean_difference(tuning.paired(results.table, f"drop_path_{high:g}", f"drop_path_{low:g}"))
    return judged(effect, "points", "the same settings and seeds, drop path switched")


def affinity(results: Results) -> Verdict:
    """C5: distance against the rank correlation of parameters and accuracy, over our tasks."""
    runs = _with_baselines(results)
    table = scores(runs)
    params = runs.groupby("method")["params"].mean().to_dict()  # of the sizes that were chosen
    return trend_verdict(trend_of_size(table, params), EQUAL, behaves=True)


def _found(results: Results) -> dict[str, Predictions]:
    return mistakes.load(results.records, _peft(results))


def disagreement(results: Results) -> Verdict:
    """C6: more than seeds, among methods of like accuracy; how much for all is in the note."""
    found = _found(results)
    near, everyone = mistakes.disagreement(mistakes.near(found)), mistakes.disagreement(found)
    control = f"seeds of one method disagree on {near['within'].mean():.1f} % of the images"
    note = f"methods within {mistakes.NEAR:g} points of the best; of all methods {everyone['difference'].mean():+.1f}"
    return judged(mistakes.over_tasks(near["difference"]), "points of disagreement", control, note=note)


def overlap(results: Results) -> Verdict:
    """C7: fewer shared than other seeds, where sets do overlap beyond chance."""
    table = mistakes.overlaps(_found(results))
    sure = table[table["which"] == "confident_correct"]
    behaves = bool((sure["seeds"] > sure["chance"]).all())
    others, seeds, chance = (sure[column].mean() for column in ("methods", "seeds", "chance"))
    control = f"seeds share {seeds:.1f} % of the set, methods {others:.1f}, unrelated sets {chance:.1f}"
    return judged(mistakes.over_tasks(-sure["difference"]), "points of the set", control, behaves)


def ensembles(results: Results) -> Verdict:
    """C8: methods gain more than seeds, at equal size."""
    found = _found(results)
    size = min(3, len(results.profile.seeds), min(part.runs["method"].nunique() for part in found.values()))
    table = mistakes.equal_sizes(found, size)
    gain = (table["seeds"] - table["single"]).mean()
    control = f"{size} seeds of one method gain {gain:.2f} points over their members"
    near = mistakes.near(found, size)
    note = ""
    if near:
        fair = mistakes.equal_sizes(near, size)["difference"]
        note = f"among methods within {mistakes.NEAR:g} points of the best {fair.mean():+.2f} ({len(fair)} tasks)"
    return judged(mistakes.over_tasks(table["difference"]), f"points more by {size} methods", control, note=note)
