"""The claims checked on the study's published numbers. One seed each, so a verdict often has no control to stand on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from petl_core.study.statistics import Interval, interval
from petl_guide import published, shift
from petl_guide.claims.verdict import UNDECIDED, Verdict, judged
from petl_guide.low_shot import affinity as domain
from petl_guide.mistakes import confidence

MARGIN = 2.0  # points below the median PEFT method that still count as "competes", for C2
FULL_RATES = "full fine-tuning had the rates 1e-3 and 1e-2 only, at the lower of which it sat at the edge of its grid"
FIG_1B = {
    ("LoRA", "adapter"): (4925, 4902, 2413),
    ("LoRA", "SSF"): (4925, 4934, 2303),
    ("adapter", "SSF"): (4902, 4934, 2355),
}
LEVELS = (74.0, 75.0, 76.0)  # per cent on ImageNet at which shifts are compared: most methods' curves pass them


def similar() -> Verdict:
    """C1: deviation between the counted methods' means, against that between re-runs of a method's mean."""
    scores = published.scores()
    counted = scores[published.counted(scores.columns)]
    spread = bootstrap_deviation(counted)
    cells = published.reruns()
    change = cells.assign(change=cells["last"] - cells["first"]).groupby("method")["change"].mean()
    again = float(np.sqrt((change[counted.columns] ** 2).mean() / 2))  # of one mean of tasks
    control = f"re-runs of a method's mean deviate by {again:.2f}, but with other settings, and no seed was repeated"
    ends, unit = (spread.mean, spread.low, spread.high), "points between methods"
    return Verdict(UNDECIDED, *ends, unit, spread.n, "tasks", control, False, threshold=again, below=True)


def bootstrap_deviation(scores: pd.DataFrame, draws: int = 2000) -> Interval:
    """Standard deviation between methods (columns) of their means over tasks (rows), resampling tasks."""
    values = scores.to_numpy()
    picks = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    drawn = values[picks].mean(axis=1).std(axis=1, ddof=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values.mean(axis=0).std(ddof=1)), float(low), float(high), len(values))


def bitfit() -> Verdict:
    """C2: BitFit minus the median of the other PEFT methods on each task, not worse by more than ``MARGIN``."""
    effect = bitfit_gap(published.scores().drop(columns=["full", "linear"]))
    return judged(effect, "points from the median method", "BitFit had 4 trials, the others up to 80", margin=-MARGIN)


def bitfit_gap(scores: pd.DataFrame) -> Interval:
    """The difference on tasks (rows) of PEFT methods (columns)."""
    return interval((scores["bitfit"] - scores.drop(columns="bitfit").median(axis=1)).to_numpy())


def beats_baselines() -> Verdict:
    """C3: the closer of the two baselines decides; full fine-tuning's control is missing."""
    effect, closer = baseline_gap(published.scores())
    control = FULL_RATES if closer == "full" else "equal grids"
    return judged(effect, f"points above {closer}", control, behaves=closer != "full")


def baseline_gap(scores: pd.DataFrame) -> tuple[Interval, str]:
    """Median PEFT method minus a baseline, on tasks (rows); of linear and full the one it is less ahead of."""
    median = scores.drop(columns=["full", "linear"]).median(axis=1)
    gaps = {name: interval((median - scores[name]).to_numpy()) for name in ("linear", "full")}
    closer = min(gaps, key=lambda name: gaps[name].mean)
    return gaps[closer], closer


def drop_path() -> Verdict:
    """C4: validation accuracy of the few-shot twins of the many-shot tasks, drop path 0.1 minus 0."""
    trials = published.manyshot_tuning()
    few = trials[trials["train_images"] < 1000]
    cell = ["task", "method", "size", "lr", "weight_decay", "scale"]
    wide = few.pivot_table(index=cell, columns="drop_path", values="val_accuracy", dropna=False)
    effect = interval((wide[0.1] - wide[0.0]).dropna().groupby("task").mean().to_numpy())
    control = "tuned without augmentation on one task, with two or three steps an epoch on the other"
    return judged(effect, "points of validation", control, behaves=False)


def trend_of_size(scores: pd.DataFrame, params: dict[str, float]) -> domain.Trend:
    """C5: over tasks, full's gain on linear against the rank correlation of parameters and accuracy."""
    peft = scores.drop(columns=["full", "linear"])
    return domain.trend(domain.distance(scores["linear"], scores["full"]), domain.size_matters(peft, params))


def trend_verdict(found: domain.Trend, control: str, behaves: bool) -> Verdict:
    """A trend as a verdict."""
    return judged(Interval(found.rho, found.low, found.high, found.n), "rank correlation", control, behaves)


def affinity() -> Verdict:
    """C5: the trend of the published table."""
    frame = published.final()
    params = frame.groupby("method")["params"].mean().to_dict()
    control = "larger methods had more trials (4 to 80), so size and tuning cannot be told apart"
    return trend_verdict(trend_of_size(published.scores(), params), control, behaves=False)


def overlap() -> Verdict:
    """C7: the published counts against unrelated sets in the 10,000 test images of CIFAR-100."""
    met = [confidence.overlap_of_counts(10_000, (a, b), shared) for a, b, shared in FIG_1B.values()]
    beyond = interval([one.beyond_chance for one in met])
    control = f"unrelated sets share as much (z from {min(m.z for m in met):+.1f} to {max(m.z for m in met):+.1f})"
    note = "models of one backbone should share more than chance; perhaps rows of logits belonged to different images"
    return judged(beyond, "beyond chance", control, behaves=False, note=note, sample="pairs")


def many_shot() -> Verdict:
    """C9: best PEFT run with at most 5 % of the parameters minus full fine-tuning, on the three full-size tasks."""
    frame = published.manyshot()
    most = frame.groupby("task")["train_images"].transform("max") == frame["train_images"]
    whole = float(frame.loc[frame["method"] == "full", "params"].iloc[0])
    peft = frame[most & (frame["params"] <= 0.05 * whole) & ~frame["method"].isin(["full", "linear"])]
    full = frame[most & (frame["method"] == "full")].set_index("task")["accuracy"]
    effect = interval((peft.groupby("task")["accuracy"].max() - full).to_numpy())
    control = (
        "full fine-tuning had the rates 5e-4 and 1e-3 only; the best PEFT run is the best of 22 on the test images"
    )
    return judged(effect, "points above full", control, behaves=False)


def _curves() -> pd.DataFrame:
    curves = published.interpolation()
    return curves[curves["interpolated"] == "backbone and head"]


def robustness() -> Verdict:
    """C11: mean shift of tuned PEFT models minus the full model's, which has the same accuracy on ImageNet."""
    table = published.clip().set_index("method")
    peft = table.drop(["zero_shot", "full", "linear"])
    matched = peft[(peft["imagenet"] - table.loc["full", "imagenet"]).abs() <= 1.0]
    effect = interval((matched["shift"] - table.loc["full", "shift"]).to_numpy())
    ahead = table.loc["zero_shot", "shift"] - peft["shift"].max()
    control = (
        f"zero-shot is {ahead:.1f} points above the best PEFT model; full fine-tuning had one rate, 3e-5, that of PEFT"
    )
    return judged(effect, "points under shift at equal ImageNet accuracy", control, behaves=False, sample="methods")


def interpolation() -> Verdict:
    """C12: at alpha 0.5, shift minus the better end, for each PEFT method with a curve."""
    table = _curves().pivot(index="method", columns="alpha", values="shift").drop(index="full")
    effect = interval((table[0.5] - table[[0.0, 1.0]].max(axis=1)).to_numpy())
    ends = published.clip().set_index("method")
    zero = float((table[0.0] - ends.loc["zero_shot", "shift"]).abs().max())
    tuned = float((table[1.0] - ends.loc[table.index, "shift"]).abs().max())
    behaves = max(zero, tuned) < 0.01
    control = f"both ends are the models they should be (within {max(zero, tuned):.3f} points)"
    return judged(effect, "points under shift", control, behaves, sample="methods of one seed")


def balance() -> Verdict:
    """C13: shift of full's curve minus that of the best PEFT curve at matched ImageNet accuracy."""
    curves = _curves()
    table = shift.matched(curves, LEVELS)
    effect = interval((table.loc["full"] - table.drop("full").max()).to_numpy())
    top = curves.groupby("method")["imagenet"].max()
    peft = float(top.drop("full").max())
    note = f"only full reaches more than {peft:.1f} % on ImageNet (up to {top['full']:.1f})"
    levels = ", ".join(f"{level:g}" for level in LEVELS)
    control = f"matched at {levels} % on ImageNet; points of one pair of curves, one seed, one rate for full"
    return judged(effect, "points under shift", control, behaves=False, note=note, sample="levels")
