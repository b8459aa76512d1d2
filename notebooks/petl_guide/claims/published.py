"""The claims checked on the study's published numbers: effects, noise and controls. ``verdict.judged`` says the word.

Here are those on VTAB-1K; ``claims.published_large`` has the others, which are named here too.

The numbers were known when the rules were written, so here a rule registers nothing; it is only written down. One seed
of each setting was run, so noise comes from cells that were run again (``variance``), from test images, or from what
neighbouring settings show.

Whether a chosen rate lies at an end of its grid can be asked of a baseline, whose rates then carry a handicap; of the
PEFT methods it cannot, because a grid of two rates has no inside. What they can be asked is whether the best of as many
trials for all (``low_shot.budgets``) gives the same word.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pandas as pd

from petl_guide import published
from petl_guide.claims import measures
from petl_guide.claims.published_large import balance, interpolation, many_images, robustness
from petl_guide.low_shot import budgets
from petl_guide.mistakes import confidence
from petl_guide.verdict import ByTask, Control, Estimate, Evidence, judged

__all__ = [
    "above_full",
    "above_linear",
    "balance",
    "bitfit",
    "drop_path",
    "interpolation",
    "many_images",
    "overlap",
    "overlaps",
    "robustness",
    "similar_means",
    "similar_tasks",
    "size_and_distance",
]

BASELINES = ["full", "linear"]
POOL = 10_000  # test images of CIFAR-100, from which the sets of Fig. 1b are taken
FIG_1B = {
    ("LoRA", "adapter"): (4925, 4902, 2413),
    ("LoRA", "SSF"): (4925, 4934, 2303),
    ("adapter", "SSF"): (4902, 4934, 2355),
}
BEYOND_CHANCE = 2.0  # standard deviations by which the sets of every pair should overlap more than unrelated ones


def noise() -> float:
    """The standard deviation of one published run, in points, from the cells that were run more than once."""
    return math.sqrt(float((published.reruns()["change"] ** 2).mean()) / 2)


def variance() -> float:
    """The noise of a difference of two published runs, in points squared."""
    return 2 * noise() ** 2


@functools.cache
def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tasks x methods: test accuracy of the chosen settings, and the expected best of 4 trials on validation."""
    return published.scores(), budgets.best_of(budgets.FEWEST)


def similar_means() -> Evidence:
    """C1a: the root mean square difference of two of the thirteen counted methods' means."""
    test, four = (table[published.counted(table.columns)] for table in _tables())
    pair = math.sqrt(2 / len(test)) * noise()
    quiet = Control("noise of a difference of two means in points", pair, 1.0, pair < 1)
    with_all = measures.rho(_tables()[0].drop(columns=BASELINES))
    told = f"with VPT-Shallow {with_all.mean:.2f} [{with_all.low90:.2f}, {with_all.high90:.2f}]"
    return _also_with_four_trials(measures.similar_means(test), measures.similar_means(four), told, quiet)


def similar_tasks() -> Evidence:
    """C1b: the same difference on single tasks, its median over tasks."""
    test, four = (table[published.counted(table.columns)] for table in _tables())
    found, equal = (measures.similar_on_tasks(table, variance()) for table in (test, four))
    within = sum(effect < measures.MARGIN for effect in found.effects.values())
    return _also_with_four_trials(found, equal, f"{within} of {len(test)} tasks lie below {measures.MARGIN:g}")


def _also_with_four_trials(test: Evidence, four: Evidence, told: str, *controls: Control) -> Evidence:
    """``test`` with the control that the best of 4 trials gives the same word."""
    other = int(judged(test).verdict != judged(four).verdict)
    same = Control("words that equal trials change", other, 0, other == 0)
    told = f"best of {budgets.FEWEST} trials {judged(four).size}; {told}"
    return replace(test, controls=(*controls, same), told=told)


def bitfit() -> Evidence:
    """C2: BitFit minus the median of the other PEFT methods, task by task.

    BitFit had 4 trials and others up to 80. Where the best of 4 trials gives another word, that effect is judged, and
    the first is told.
    """
    test, four = (_bitfit(table.drop(columns=BASELINES)) for table in _tables())
    if judged(test).verdict == judged(four).verdict:
        return replace(test, told=f"best of {budgets.FEWEST} trials {judged(four).size}")
    return replace(four, told=f"judged at the best of {budgets.FEWEST} trials; as run, with 4 to 80, {judged(test)}")


def _bitfit(scores: pd.DataFrame) -> Evidence:
    difference = scores["bitfit"] - scores.drop(columns="bitfit").median(axis=1)
    return Evidence(difference.to_dict(), kind="not worse", variances=dict.fromkeys(difference.index, variance()))


def above_linear() -> Evidence:
    """C3a: the median PEFT method minus linear probing, task by task."""
    scores = _tables()[0]
    headroom = scores.drop(columns=BASELINES).max(axis=1) - scores["linear"]
    little = int((headroom < measures.HEADROOM).sum())
    return _above("linear", f"headroom below {measures.HEADROOM:g} points on {little} of {len(scores)} tasks")


def above_full() -> Evidence:
    """C3b: the median PEFT method minus full fine-tuning, task by task."""
    scores = _tables()[0]
    gap = scores.drop(columns=BASELINES).median(axis=1) - scores["full"]
    near, far = (gap[tasks].mean() for tasks in measures.halves(100 - scores["linear"]))
    return _above("full", f"on far tasks {far:+.1f}, on near ones {near:+.1f}")


def _above(baseline: str, told: str) -> Evidence:
    scores = _tables()[0]
    gap = scores.drop(columns=BASELINES).median(axis=1) - scores[baseline]
    ends, gained = at_the_ends(baseline)
    name = f"{baseline}'s rate at an end, % of tasks"
    rates = Control(name, ends, measures.MOST_AT_ENDS, ends <= measures.MOST_AT_ENDS, handicapped=True)
    return Evidence(
        gap.to_dict(),
        f"points above {baseline}",
        variances=dict.fromkeys(gap.index, variance()),
        handicaps={} if rates.passes else gained.to_dict(),
        controls=(rates,),
        told=f"the end gained {gained.mean():.1f} in validation accuracy; {told}",
    )


def at_the_ends(baseline: str) -> tuple[float, pd.Series]:
    """Per cent of tasks whose chosen learning rate is the lowest or highest tried; and by task the handicap: what this
    end gained in validation accuracy on the best of the other rates, in points, 0 or more."""
    trials = published.read("tuning")
    by_rate = trials[trials["method"] == baseline].groupby(["task", "lr"])["val_accuracy"].max().unstack()
    final = published.read("final")
    chosen = final[final["method"] == baseline].set_index("task")["lr"]
    found = {task: measures.gained(row, chosen[task]) for task, row in by_rate.iterrows()}
    share = 100 * sum(end for end, _ in found.values()) / len(found)
    return share, pd.Series({task: gain if end else 0.0 for task, (end, gain) in found.items()})


def drop_path() -> ByTask:
    """C4: validation accuracy of the few-shot twins of the many-shot tasks, drop path 0.1 minus 0 at the same setting;
    each task for itself, over PEFT methods. Two tasks decide nothing unless they clearly differ in sign."""
    trials = published.read("manyshot_tuning")
    few = trials[(trials["train_images"] < 1000) & ~trials["method"].isin(BASELINES)]
    parts = {}
    for (task, images), mine in few.groupby(["task", "train_images"]):
        cell = ["method", "size", "lr", "weight_decay", "scale"]
        wide = mine.pivot_table(index=cell, columns="drop_path", values="val_accuracy", dropna=False)
        effects = (wide[0.1] - wide[0.0]).dropna().groupby("method").mean().to_dict()
        fitted = mine[mine["drop_path"] == 0].groupby("method")["train_accuracy"].mean()
        told = f"without it the methods fit {fitted.min():.0f} to {fitted.max():.0f} % of the training images"
        parts[f"{task} with {images} images"] = Evidence(effects, margin=1.0, sample="methods", told=told)
    return ByTask(parts, fewest=5)


def size_and_distance() -> Evidence:
    """C5: what ten times the parameters give on Structured tasks, minus the same on Natural ones.

    A method's parameters are the mean over tasks of those of its chosen settings, because the best of 4 trials has no
    setting of its own; with those of each cell the effect is told.
    """
    frame = published.read("final")
    cells = frame.pivot(index="task", columns="method", values="params")
    means = pd.DataFrame([cells.mean()] * len(cells), index=cells.index)
    test, four = (table[published.counted(table.columns)] for table in _tables())
    found, equal = _far_minus_near(test, means), _far_minus_near(four, means)
    towards = equal.low if found.mean > 0 else -equal.high
    agrees = Control("best of 4 trials: its end towards 0, on the same side", towards, 0, towards > 0)
    by_cell = _far_minus_near(test, cells)
    told = f"best of {budgets.FEWEST} trials {equal.mean:+.1f} [{equal.low:.1f}, {equal.high:.1f}]"
    told += f"; with each cell's parameters {by_cell.mean:+.1f} [{by_cell.low:.1f}, {by_cell.high:.1f}]"
    unit = "points for ten times the parameters"
    return Evidence(unit=unit, margin=1.0, controls=(agrees,), estimate=found, told=told)


def _far_minus_near(scores: pd.DataFrame, params: pd.DataFrame) -> Estimate:
    groups = published.read("final").groupby("task")["group"].first()
    slopes = pd.Series(measures.slopes(scores, params))
    far, near = (slopes[groups[slopes.index] == group].tolist() for group in ("structured", "natural"))
    return measures.contrast(far, near)


def overlaps() -> list[confidence.Overlap]:
    """The published overlaps of the confident and correct images, each pair of methods beside unrelated sets."""
    return [confidence.overlap_of_counts(POOL, (a, b), shared) for a, b, shared in FIG_1B.values()]


def overlap() -> Evidence:
    """C7: the published counts against unrelated sets in the 10,000 test images of CIFAR-100.

    The claim compares methods with seeds, and no second seed was run; what is left is the control on which it stands.
    """
    met = dict(zip((f"{one} and {other}" for one, other in FIG_1B), overlaps(), strict=True))
    effects = {pair: 100 * (one.shared - one.chance) / one.smaller for pair, one in met.items()}
    least, most = min(one.z for one in met.values()), max(one.z for one in met.values())
    controls = (
        Control("least overlap of a pair in deviations above chance", least, BEYOND_CHANCE, least > BEYOND_CHANCE),
        Control("seeds of one method", 1, 2, passes=False),
    )
    told = f"unrelated sets share as much or more (z from {least:.1f} to {most:.1f}), though models of one backbone "
    told += "should share more; perhaps rows of logits belonged to other images"
    return Evidence(effects, "points of a set beyond chance", sample="pairs", controls=controls, told=told)
