"""The claims checked on our own records: equal trials for all methods, and other seeds as the control."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from petl_core import methods
from petl_core.study.predictions import Predictions
from petl_core.study.profile import LONGER
from petl_core.study.statistics import Interval
from petl_core.utils import UserError
from petl_guide import mechanism, published, robust, sweep
from petl_guide import runs as select
from petl_guide.accuracy import scores
from petl_guide.claims.published import MARGIN, baseline_gap, bitfit_gap, trend_of_size
from petl_guide.low_shot import tuning, variance
from petl_guide.mistakes import mistakes
from petl_guide.results import Results, open_real
from petl_guide.verdict import CONTRADICTED, NOT_RUN, SUPPORTED, UNDECIDED, Control, Evidence, Verdict, judged

FEWEST_TASKS = 2  # for an interval over tasks
LEVEL = 1.0  # points below full fine-tuning that still count as matching it, for C9 and C10
EQUAL = "every method has the same number of trials"


def _tuned(results: Results) -> pd.DataFrame:
    runs = select.runs(results.table, "tuned")
    if runs["task"].nunique() < FEWEST_TASKS:
        raise UserError(f"an interval over tasks needs {FEWEST_TASKS} or more; there are runs of one")
    return runs


def _with_baselines(results: Results) -> pd.DataFrame:
    runs = _tuned(results)
    if absent := sorted({"linear", "full"} - set(runs["method"])):
        raise UserError(f"the baselines are part of this check; there are no tuned runs of {' and '.join(absent)}")
    return runs


def similar(results: Results) -> Evidence:
    """C1: the methods that the study counts, against seeds."""
    runs = select.peft_rows(_tuned(results))
    counted = published.counted(dict.fromkeys(runs["method"]))
    parts = variance.components(runs[runs["method"].isin(counted)])
    return Evidence(
        Interval(parts.method, parts.method_low, parts.method_high, runs["task"].nunique()),
        f"points between {len(counted)} methods",
        f"seeds of one method deviate by {parts.seed:.2f}; {EQUAL}",
        margin=parts.seed,
        below=True,
        note=f"a method's liking for single tasks: {parts.interaction:.2f}",
    )


def bitfit(results: Results) -> Evidence:
    """C2: BitFit minus the median of the other PEFT methods."""
    effect = bitfit_gap(scores(select.peft_rows(_tuned(results))))
    return Evidence(effect, "points from the median method", EQUAL, margin=-MARGIN)


def beats_baselines(results: Results) -> Evidence:
    """C3: the closer of linear and full, both tuned with the same care."""
    effect, closer = baseline_gap(scores(_with_baselines(results)))
    control = f"{EQUAL}, full fine-tuning down to a rate of {min(methods.get('full').lrs):g}"
    note = ""
    if results.has("longer"):
        longer = scores(select.runs(results.table, "longer"))
        gap, of = baseline_gap(longer)
        note = f"trained {LONGER} times as long on {len(longer)} tasks, the median of {longer.shape[1] - 2} PEFT "
        note += f"methods is {gap.mean:+.1f} from {of}"
    return Evidence(effect, f"points above {closer}", control, note=note)


def drop_path(results: Results) -> Evidence:
    """C4: the tuned setting with drop path switched on and off."""
    low, high = min(results.profile.drop_paths), max(results.profile.drop_paths)
    effect = tuning.mean_difference(tuning.paired(results.table, f"drop_path_{high:g}", f"drop_path_{low:g}"))
    return Evidence(effect, "points", "the same settings and seeds, drop path switched")


def affinity(results: Results) -> Evidence:
    """C5: distance against the rank correlation of parameters and accuracy, over our tasks."""
    runs = _with_baselines(results)
    params = runs.groupby("method")["params"].mean().to_dict()  # of the sizes that were chosen
    return Evidence(trend_of_size(scores(runs), params), "rank correlation", EQUAL)


def _predictions(results: Results) -> Mapping[str, Predictions]:
    runs = select.peft_rows(_tuned(results))
    kept = [results.records.get(digest)["predictions"] for digest in runs["digest"]]
    shown = runs[runs["task"].isin(runs.loc[kept, "task"])]  # a pack may leave the logits of a task out
    return mistakes.load(results.records, shown if len(shown) else runs)


def disagreement(results: Results) -> Evidence:
    """C6: more than seeds, among methods of like accuracy; how much for all is in the note."""
    found = _predictions(results)
    near, everyone = mistakes.disagreement(mistakes.near(found)), mistakes.disagreement(found)
    control = f"seeds of one method disagree on {near['within'].mean():.1f} % of the images"
    note = f"methods within {mistakes.NEAR:g} points of the best; of all methods {everyone['difference'].mean():+.1f}"
    return Evidence(mistakes.over_tasks(near["difference"]), "points of disagreement", control, note=note)


def overlap(results: Results) -> Evidence:
    """C7: fewer shared than other seeds, where sets do overlap beyond chance."""
    table = mistakes.overlaps(_predictions(results))
    sure = table[table["which"] == "confident_correct"]
    least = float((sure["seeds"] - sure["chance"]).min())
    others, seeds, chance = (sure[column].mean() for column in ("methods", "seeds", "chance"))
    control = f"seeds share {seeds:.1f} % of the set, methods {others:.1f}, unrelated sets {chance:.1f}"
    controls = (Control("least overlap of seeds above chance, points", least, 0.0, least > 0),)
    return Evidence(mistakes.over_tasks(-sure["difference"]), "points of the set", control, controls)


def ensembles(results: Results) -> Evidence:
    """C8: methods gain more than seeds, at equal size."""
    found = _predictions(results)
    size = min(3, len(results.profile.seeds), min(part.runs["method"].nunique() for part in found.values()))
    table = mistakes.equal_sizes(found, size)
    gain = (table["seeds"] - table["single"]).mean()
    control = f"{size} seeds of one method gain {gain:.2f} points over their members"
    note = ""
    if near := mistakes.near(found, size):
        fair = mistakes.equal_sizes(near, size)["difference"]
        note = f"among methods within {mistakes.NEAR:g} points of the best {fair.mean():+.2f} ({len(fair)} tasks)"
    effect = mistakes.over_tasks(table["difference"])
    return Evidence(effect, f"points more by {size} methods", control, note=note)


def many_shot(results: Results) -> Evidence:
    """C9: with the most images, the small method that validation chooses minus full fine-tuning."""
    found = sweep.runs(results.table)
    sweep.check_many(found)
    parts = sweep.by_amount(found)
    amounts = list(parts)
    few, most = amounts[0], amounts[-1]
    linear = sweep.gap(parts[most], methods=["linear"])
    return Evidence(
        sweep.gap(parts[most]),
        "points above full",
        f"linear probing in their place {linear.mean:+.1f}; {EQUAL}",
        (Control("linear probing in their place, upper end", linear.high, -LEVEL, linear.high < -LEVEL),),
        margin=-LEVEL,
        sample="seeds",
        note=f"with {most} images, mean of {found['task'].nunique()} tasks; with {few} "
        f"{sweep.gap(parts[few]).mean:+.1f}",
    )


def regulariser(results: Results) -> Evidence:
    """C10: where PEFT is ahead of full fine-tuning, full fine-tuning that is held back explicitly minus PEFT."""
    found = mechanism.runs(results.table, results.records)
    ahead = mechanism.ahead(found)
    spared = mechanism.train_gap(found)
    note = f"gap of training and test accuracy, PEFT minus full: {spared.mean:+.1f} points"
    controls = (Control("settings where PEFT is ahead", len(ahead), 1, len(ahead) >= 1),)
    if ahead.empty:
        leads = mechanism.lead(found)
        control = f"PEFT is ahead of full fine-tuning in none of {len(leads)} settings (at best {leads.max():+.1f} "
        return Evidence(control=f"{control}points), so there is no advantage to explain", controls=controls, note=note)
    effect = mechanism.closed(found, ahead)
    control = f"in the {len(ahead)} settings where PEFT is ahead, by {ahead.mean():.1f} points on average; {EQUAL}"
    unit = "points, held-back full minus PEFT"
    return Evidence(effect, unit, control, controls, margin=-LEVEL, sample="seeds", note=note)


def robustness(results: Results) -> Evidence:
    """C11: accuracy under shift, PEFT minus full fine-tuning, between runs of equal accuracy on the target."""
    found = robust.curves(results.table, results.records)
    pairs = robust.matched_to_full(found)
    controls = (Control("pairs of runs of like accuracy on the target", len(pairs), 1, len(pairs) >= 1),)
    if pairs.empty:
        control = f"no PEFT run is within {robust.NEAR:g} point of full on the target"
        return Evidence(control=control, controls=controls)
    zero, best = robust.zero_shot(found), select.peft_rows(robust.tuned(found)).groupby(["method", "lr"])["shift"]
    control = f"zero-shot {zero['shift']:.1f}, the best PEFT run {best.mean().max():.1f}; full fine-tuning at "
    control += f"{found.loc[found['method'] == 'full', 'lr'].nunique()} rates"
    apart, seeds = robust.by_seed(pairs, "target").mean, robust.by_seed(pairs)
    cells = pairs.groupby(["method", "lr"])["shift"].mean()
    note = f"{len(cells)} pairs of runs, {apart:+.1f} apart on the target, from {cells.min():+.1f} to "
    note += f"{cells.max():+.1f}; over seeds alone the interval would be [{seeds.low:+.1f}, {seeds.high:+.1f}]"
    unit = "points under shift at equal target accuracy"
    return Evidence(robust.by_method(pairs), unit, control, controls, sample="methods", note=note)


def interpolation(results: Results) -> Evidence:
    """C12: halfway between zero-shot and tuned, shift minus the better end, mean of the PEFT methods of which the study
    shows curves; the others are in the note."""
    chosen = robust.curves(results.table, results.records, "robustness_chosen")
    there = set(published.read("interpolation")["method"])
    small = select.peft(chosen["method"])
    shown = [method for method in small if method in there]
    if not shown:
        raise UserError("none of the PEFT methods whose curves the study shows has runs of the part 'robustness'")
    full = robust.by_seed(robust.halfway(chosen, ["full"]))
    control = f"full fine-tuning {full.mean:+.1f}; the end alpha = 0 is the zero-shot model in every run"
    every = robust.halfway(robust.curves(results.table, results.records), shown)
    note = f"at every learning rate, not the one of the best validation alone, {robust.by_seed(every).mean:+.1f}"
    for method in [method for method in small if method not in there]:
        note += f"; {method}, of which no curve was published, {robust.halfway(chosen, [method])['shift'].mean():+.1f}"
    effect = robust.by_seed(robust.halfway(chosen, shown))
    return Evidence(effect, "points under shift", control, sample="seeds", note=note)


def balance(results: Results) -> Evidence:
    """C13: shift on full's curve minus the best PEFT curve's, at matched accuracy on the target."""
    chosen = robust.curves(results.table, results.records, "robustness_chosen")
    table = robust.balance(chosen)
    if table.empty:
        return Evidence(control="the curves of full fine-tuning and PEFT share no level of target accuracy")
    tops = robust.summary(chosen).groupby("method")["target"].max()
    note = f"highest target accuracy: full {tops['full']:.1f}, PEFT {tops[select.peft(tops.index)].max():.1f}"
    control = f"matched at {len(robust.SHARES)} levels from zero-shot to the top; best PEFT method at each level"
    return Evidence(robust.by_seed(table, "difference"), "points under shift", control, sample="seeds", note=note)


ELSEWHERE: Mapping[str, Callable[[Results], Evidence]] = {  # what tuned runs alone can decide
    "C1": similar,
    "C2": bitfit,
    "C3": beats_baselines,
    "C6": disagreement,
    "C7": overlap,
    "C8": ensembles,
}


def beside(
    results: Results, there: Results, numbers: Sequence[str] = tuple(ELSEWHERE)
) -> dict[str, tuple[Verdict, Verdict]]:
    """The verdicts of these checks here and on another backbone (``elsewhere``), with the methods that both have."""
    shared = set(_tuned(results)["method"]) & set(_tuned(there)["method"])
    here, there = (one.of(one.table[one.table["method"].isin(shared)]) for one in (results, there))
    return {number: (checked(ELSEWHERE[number], here), checked(ELSEWHERE[number], there)) for number in numbers}


def checked(check: Callable[[Results], Evidence | Verdict], results: Results) -> Verdict:
    """The verdict on what a check computes; "not run" with the reason where the runs do not suffice."""
    try:
        found = check(results)
    except UserError as error:
        return Verdict(NOT_RUN, note=str(error))
    return judged(found) if isinstance(found, Evidence) else found


def other_backbone(results: Results) -> Verdict:
    """C14, a verdict on verdicts: the checks of C1 and C6 on another backbone; the effect is that of C6 there."""
    other = elsewhere(results)
    found = beside(results, other, ("C1", "C6"))
    words = {there.verdict for _, there in found.values()}
    if NOT_RUN in words:
        raise UserError("; ".join(sorted({there.note for _, there in found.values() if there.verdict == NOT_RUN})))
    word = UNDECIDED
    if CONTRADICTED in words:
        word = CONTRADICTED
    elif words == {SUPPORTED}:
        word = SUPPORTED
    told = [f"{n} is {there.verdict} there ({there.size}), {here.verdict} here" for n, (here, there) in found.items()]
    note = f"there: {', '.join(sorted(set(other.table['backbone'])))}"
    return dataclasses.replace(found["C6"][1], verdict=word, control="; ".join(told), note=note)


def elsewhere(results: Results) -> Results:
    """Tuned runs on another backbone: of the part "second_backbone" or, for an embedded profile, the shipped ones of
    ViT-Ti on photographs, so on other tasks too. ``UserError`` if there are none."""
    if not results.has("second_backbone"):
        if not results.embedded:
            raise UserError(f"there are no runs of a second backbone at profile '{results.profile.name}'")
        photographs = open_real()
        return photographs.of(photographs.table[photographs.table["variant"] == "tuned"])
    part = results.table[results.table["variant"] == "second_backbone"]
    return results.of(part.assign(variant="tuned"))
