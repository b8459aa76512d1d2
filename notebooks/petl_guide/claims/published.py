"""The claims checked on the study's published numbers. One seed each, so an effect often has no control to stand on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from petl_core.study.statistics import Interval, interval
from petl_guide import published, robust
from petl_guide.low_shot import affinity as domain
from petl_guide.low_shot.similar import deviations
from petl_guide.mistakes import confidence
from petl_guide.verdict import Control, Evidence

MARGIN = 2.0  # points below the median PEFT method that still count as "competes", for C2
POOL = 10_000  # test images of CIFAR-100, from which the sets of Fig. 1b are taken
FIG_1B = {
    ("LoRA", "adapter"): (4925, 4902, 2413),
    ("LoRA", "SSF"): (4925, 4934, 2303),
    ("adapter", "SSF"): (4902, 4934, 2355),
}
BEYOND_CHANCE = 2.0  # standard deviations by which the sets of every pair should overlap more than unrelated ones
LEVELS = (74.0, 75.0, 76.0)  # per cent on ImageNet at which shifts are compared: most methods' curves pass them
RATES = 3  # of full fine-tuning that a fair comparison needs: one between two others
BASELINES = ["full", "linear"]


def _rates_of_full(count: int) -> tuple[Control, ...]:
    return (Control("learning rates of full fine-tuning", count, RATES, count >= RATES),)


def similar() -> Evidence:
    """C1: deviation between the counted methods' means, against that between re-runs of a method's mean."""
    scores = published.scores()
    counted = scores[published.counted(scores.columns)]
    cells = published.reruns()
    change = cells.assign(change=cells["last"] - cells["first"]).groupby("method")["change"].mean()
    again = float(np.sqrt((change[counted.columns] ** 2).mean() / 2))  # of one mean of tasks
    return Evidence(
        bootstrap_deviation(counted),
        "points between methods",
        f"re-runs of a method's mean deviate by {again:.2f}, but with other settings, and no seed was repeated",
        (Control("seeds of one method", 1, 2, passes=False),),
        margin=again,
        below=True,
    )


def bootstrap_deviation(scores: pd.DataFrame) -> Interval:
    """Standard deviation between methods (columns) of their means over tasks (rows), resampling tasks."""
    found, drawn = deviations(scores)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(found, float(low), float(high), len(scores))


def bitfit() -> Evidence:
    """C2: BitFit minus the median of the other PEFT methods on each task, not worse by more than ``MARGIN``."""
    effect = bitfit_gap(published.scores().drop(columns=BASELINES))
    control = "BitFit had 4 trials, the others up to 80"
    return Evidence(effect, "points from the median method", control, margin=-MARGIN)


def bitfit_gap(scores: pd.DataFrame) -> Interval:
    """The difference on tasks (rows) of PEFT methods (columns)."""
    return interval((scores["bitfit"] - scores.drop(columns="bitfit").median(axis=1)).to_numpy())


def beats_baselines() -> Evidence:
    """C3: the closer of the two baselines decides; full fine-tuning's control is missing."""
    effect, closer = baseline_gap(published.scores())
    if closer != "full":
        return Evidence(effect, f"points above {closer}", "equal grids")
    control = "full fine-tuning had the rates 1e-3 and 1e-2 only, at the lower of which it sat at the edge of its grid"
    return Evidence(effect, f"points above {closer}", control, _rates_of_full(2))


def baseline_gap(scores: pd.DataFrame) -> tuple[Interval, str]:
    """Median PEFT method minus a baseline, on tasks (rows); of linear and full the one it is less ahead of."""
    median = scores.drop(columns=BASELINES).median(axis=1)
    gaps = {name: interval((median - scores[name]).to_numpy()) for name in ("linear", "full")}
    closer = min(gaps, key=lambda name: gaps[name].mean)
    return gaps[closer], closer


def drop_path() -> Evidence:
    """C4: validation accuracy of the few-shot twins of the many-shot tasks, drop path 0.1 minus 0."""
    trials = published.read("manyshot_tuning")
    few = trials[trials["train_images"] < 1000]
    cell = ["task", "method", "size", "lr", "weight_decay", "scale"]
    wide = few.pivot_table(index=cell, columns="drop_path", values="val_accuracy", dropna=False)
    effect = interval((wide[0.1] - wide[0.0]).dropna().groupby("task").mean().to_numpy())
    control = "tuned without augmentation on one task, with two or three steps an epoch on the other"
    return Evidence(
        effect, "points of validation", control, (Control("tasks tuned as they were trained", 0, 2, passes=False),)
    )


def trend_of_size(scores: pd.DataFrame, params: Mapping[str, float]) -> Interval:
    """C5: over tasks, full's gain on linear against the rank correlation of parameters and accuracy."""
    sizes = domain.size_matters(scores.drop(columns=BASELINES), params)
    return domain.trend(domain.distance(scores["linear"], scores["full"]), sizes)


def affinity() -> Evidence:
    """C5: the trend of the published table."""
    frame = published.read("final")
    effect = trend_of_size(published.scores(), frame.groupby("method")["params"].mean().to_dict())
    control = "larger methods had more trials (4 to 80), so size and tuning cannot be told apart"
    ratio = frame["trials"].max() / frame["trials"].min()
    return Evidence(effect, "rank correlation", control, (Control("most trials over fewest", ratio, 1, ratio == 1),))


def overlaps() -> list[confidence.Overlap]:
    """The published overlaps of the confident and correct images, each pair of methods beside unrelated sets."""
    return [confidence.overlap_of_counts(POOL, (a, b), shared) for a, b, shared in FIG_1B.values()]


def overlap() -> Evidence:
    """C7: the published counts against unrelated sets in the 10,000 test images of CIFAR-100."""
    met = overlaps()
    least, most = min(m.z for m in met), max(m.z for m in met)
    return Evidence(
        interval([one.beyond_chance for one in met]),
        "beyond chance",
        f"unrelated sets share as much (z from {least:+.1f} to {most:+.1f})",
        (Control("least overlap in deviations above chance", least, BEYOND_CHANCE, least > BEYOND_CHANCE),),
        sample="pairs",
        note="models of one backbone should share more than chance; perhaps rows of logits belonged to other images",
    )


def many_shot() -> Evidence:
    """C9: best PEFT run with at most 5 % of the parameters minus full fine-tuning, on the three full-size tasks."""
    frame = published.read("manyshot")
    most = frame.groupby("task")["train_images"].transform("max") == frame["train_images"]
    whole = float(frame.loc[frame["method"] == "full", "params"].iloc[0])
    peft = frame[most & (frame["params"] <= 0.05 * whole) & ~frame["method"].isin(BASELINES)]
    full = frame[most & (frame["method"] == "full")].set_index("task")["accuracy"]
    effect = interval((peft.groupby("task")["accuracy"].max() - full).to_numpy())
    control = "full fine-tuning had the rates 5e-4 and 1e-3 only; "
    control += "the best PEFT run is the best of 22 on the test images"
    return Evidence(effect, "points above full", control, _rates_of_full(2))


def _curves() -> pd.DataFrame:
    curves = published.read("interpolation")
    return curves[curves["interpolated"] == "backbone and head"]


def robustness() -> Evidence:
    """C11: mean shift of tuned PEFT models minus the full model's, which has the same accuracy on ImageNet."""
    table = published.read("clip").set_index("method")
    peft = table.drop(["zero_shot", *BASELINES])
    matched = peft[(peft["imagenet"] - table.loc["full", "imagenet"]).abs() <= 1.0]
    effect = interval((matched["shift"] - table.loc["full", "shift"]).to_numpy())
    ahead = table.loc["zero_shot", "shift"] - peft["shift"].max()
    control = f"zero-shot is {ahead:.1f} points above the best PEFT model; "
    control += "full fine-tuning had one rate, 3e-5, that of PEFT"
    unit = "points under shift at equal ImageNet accuracy"
    return Evidence(effect, unit, control, _rates_of_full(1), sample="methods")


def interpolation() -> Evidence:
    """C12: at alpha 0.5, shift minus the better end, for each PEFT method with a curve."""
    table = _curves().pivot(index="method", columns="alpha", values="shift").drop(index="full")
    effect = interval((table[0.5] - table[[0.0, 1.0]].max(axis=1)).to_numpy())
    ends = published.read("clip").set_index("method")
    zero = float((table[0.0] - ends.loc["zero_shot", "shift"]).abs().max())
    tuned = float((table[1.0] - ends.loc[table.index, "shift"]).abs().max())
    apart = max(zero, tuned)
    control = f"both ends are the models they should be (within {apart:.3f} points)"
    controls = (Control("points from an end of a curve to its model", apart, 0.01, apart < 0.01),)
    return Evidence(effect, "points under shift", control, controls, sample="methods of one seed")


def balance() -> Evidence:
    """C13: shift of full's curve minus that of the best PEFT curve at matched ImageNet accuracy."""
    curves = _curves()
    table = robust.matched(curves, LEVELS)
    effect = interval((table.loc["full"] - table.drop("full").max()).to_numpy())
    top = curves.groupby("method")["imagenet"].max()
    note = f"only full reaches more than {top.drop('full').max():.1f} % on ImageNet (up to {top['full']:.1f})"
    levels = ", ".join(f"{level:g}" for level in LEVELS)
    control = f"matched at {levels} % on ImageNet; points of one pair of curves, one seed, one rate for full"
    return Evidence(effect, "points under shift", control, _rates_of_full(1), sample="levels", note=note)
