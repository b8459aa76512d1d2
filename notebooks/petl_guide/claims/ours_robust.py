"""The claims about robustness, checked on our records: C11 to C13. The unit is the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from petl_core.utils import UserError
from petl_guide import published, robust
from petl_guide import runs as select
from petl_guide.results import Results
from petl_guide.verdict import Balance, Control, Estimate, Evidence, over

RATES = 3  # of full fine-tuning, between which its shift at another accuracy is read
SAME = 0.01  # points, within which an end of a curve is the model that it should be
ROUNDED = 0.3  # the same at the tuned end: a record's accuracy is that of logits in half precision, so images may flip
ROOM = 10.0  # points that tuning should gain on the target, for an ensemble to have room between its ends
ZERO_SHOT = (45.0, 60.0)  # per cent right on the target before tuning
SHIFTED = (35.0, 75.0)  # and under each shift
GAINS = {"linear": 12.0, "full": 15.0}  # points by which tuning should raise the target
HIGHEST = 90.0  # per cent right on the target, of full fine-tuning
LOSS = 8.0  # points that full fine-tuning should lose under shift
GAP = 40.0  # points between training and target, the most


def robustness(results: Results) -> Evidence:
    """C11: shift of each PEFT run minus that of full fine-tuning where it is equally accurate on the target."""
    found = robust.curves(results.table, results.records)
    ends, by_seed, outside = robust.tuned(found), {}, 0
    for seed, runs in ends.groupby("seed"):
        full = runs[runs["method"] == "full"].sort_values("target")
        small = select.peft_rows(runs)
        if full.empty or small.empty:
            raise UserError("PEFT methods are compared with full fine-tuning under shift; run them both")
        within = small[small["target"].between(full["target"].min(), full["target"].max())]
        outside += len(small) - len(within)
        if len(within):
            at_equal = np.interp(within["target"], full["target"], full["shift"])
            by_seed[str(seed)] = float((within["shift"] - at_equal).mean())
    told = f"{outside} of {len(select.peft_rows(ends))} PEFT runs lie outside full's range of accuracies"
    controls = (*_rates(ends), *_headroom(results, found))
    unit = "points under shift at equal target accuracy"
    estimate = over(by_seed) if by_seed else Estimate()
    return Evidence(by_seed, unit, "better", 1.0, controls=controls, sample="seeds", estimate=estimate, told=told)


def _rates(ends: pd.DataFrame) -> tuple[Control, ...]:
    """Has full fine-tuning rates enough, and does it learn more at another than the lowest?"""
    means = ends[ends["method"] == "full"].groupby("lr")["target"].mean()
    least = float(means.max() - means.loc[means.index.min()])
    return (
        Control("learning rates of full", len(means), RATES, len(means) >= RATES),
        Control("full's best on the target, above its lowest rate", least, 0.0, least > 0),
    )


def _headroom(results: Results, found: pd.DataFrame) -> tuple[Control, ...]:
    """Is there something to gain on the target, and something to lose and to keep under shift?"""
    zero, ends = robust.zero_shot(found), robust.tuned(found)
    means = ends.groupby(["method", "lr"])[["target", "shift"]].mean()
    controls = [_within("zero-shot on the target", zero["target"], ZERO_SHOT)]
    controls += [_within(f"zero-shot on {name}", zero[name], SHIFTED) for name in robust.shifts(found)]
    for method, least in GAINS.items():
        gain = _best(means, method)["target"] - zero["target"]
        controls.append(Control(f"{method}'s gain on the target", gain, least, gain >= least))
    full = _best(means, "full")
    loss = zero["shift"] - full["shift"]
    controls.append(Control("full on the target", full["target"], HIGHEST, full["target"] <= HIGHEST))
    controls.append(Control("full's loss under shift", loss, LOSS, loss >= LOSS))
    finals = results.table[(results.table["variant"] == "robustness") & (results.table["stage"] == "final")]
    fitted = finals[(finals["method"] == "full") & (finals["lr"] == full["lr"])]["train_accuracy"].mean()
    gap = float(fitted) - full["target"]
    return (*controls, Control("full's training accuracy above the target's", gap, GAP, gap <= GAP))


def _within(name: str, value: float, ends: tuple[float, float]) -> Control:
    low, high = ends
    return Control(name, float(value), low if value < low else high, low <= value <= high)


def _best(means: pd.DataFrame, method: str) -> Mapping[str, float]:
    """Target, shift and rate of a method at the rate that is best on the target; NaN where it was not run."""
    if method not in means.index.get_level_values("method"):
        return dict.fromkeys(("target", "shift", "lr"), float("nan"))
    mine = means.loc[method]
    rate = mine["target"].idxmax()
    return {"lr": float(rate), **{name: float(value) for name, value in mine.loc[rate].items()}}


def interpolation(results: Results) -> Evidence:
    """C12: halfway between zero-shot and tuned, shift minus the better end, mean of the PEFT methods of which the study
    shows curves."""
    chosen = robust.curves(results.table, results.records, "robustness_chosen")
    there = set(published.read("interpolation")["method"])
    shown = [method for method in select.peft(chosen["method"]) if method in there]
    if not shown:
        raise UserError("none of the PEFT methods whose curves the study shows has runs of the part 'robustness'")
    half = robust.halfway(chosen, shown)
    every = robust.halfway(robust.curves(results.table, results.records), shown)
    told = "; ".join(
        f"{rates} {part['shift'].mean():+.2f} under shift, {part['target'].mean():+.2f} on the target"
        for rates, part in (("halfway", half), ("at every rate", every))
    )
    mine = chosen[chosen["method"].isin(shown)]
    start, end = _from_models(results, mine)
    room = float(robust.tuned(mine)["target"].mean() - robust.zero_shot(mine)["target"])
    return Evidence(
        {str(seed): float(value) for seed, value in half.groupby("seed")["shift"].mean().items()},
        "points under shift",
        margin=0.5,
        controls=(
            Control("points from alpha 0 to the zero-shot model", start, SAME, start <= SAME),
            Control("points from alpha 1 to the tuned model", end, ROUNDED, end <= ROUNDED),
            Control("gain by tuning on the target", room, ROOM, room >= ROOM),
        ),
        sample="seeds",
        told=told,
    )


def _from_models(results: Results, curves: pd.DataFrame) -> tuple[float, float]:
    """The largest distances on the target between the ends of a curve and its models: the zero-shot model, which is the
    same for all, and the tuned one, whose accuracy the run's record has."""
    finals = results.table[(results.table["variant"] == "robustness_chosen") & (results.table["stage"] == "final")]
    keys = ["method", "lr", "seed"]
    both = robust.tuned(curves).merge(finals[[*keys, "accuracy"]], on=keys)
    start = curves.loc[(curves["alpha"] == 0) & (curves["kind"] == "both"), "target"]
    return float(start.max() - start.min()), float((both["target"] - both["accuracy"]).abs().max())


def balance(results: Results) -> Balance:
    """C13: full's curve minus the best PEFT curve at equal target accuracy; and full's top minus the best PEFT top."""
    chosen = robust.curves(results.table, results.records, "robustness_chosen")
    found = robust.curves(results.table, results.records)
    table = robust.balance(chosen)
    along = {str(seed): float(value) for seed, value in table.groupby("seed")["difference"].mean().items()}
    tops = chosen[chosen["kind"] == "both"].groupby(["seed", "method"])["target"].max().unstack()
    small = select.peft(tops.columns)
    higher = {str(seed): float(value) for seed, value in (tops["full"] - tops[small].max(axis=1)).items()}
    controls = (*_rates(robust.tuned(found)), *_headroom(results, found))
    curve = Evidence(
        along,
        "points under shift",
        margin=0.5,
        controls=controls,
        sample="seeds",
        estimate=over(along) if along else Estimate(),
    )
    return Balance(curve, replace(curve, effects=higher, unit="points on the target", controls=(), estimate=None))
