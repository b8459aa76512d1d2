"""The claims checked on the study's many-shot sweep (C9) and on CLIP tuned on ImageNet (C11 to C13).

One seed of each setting was run, so noise comes from test images and from what neighbouring settings show.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from petl_guide import published, robust
from petl_guide.claims import measures
from petl_guide.verdict import Balance, ByTask, Control, Estimate, Evidence

BASELINES = ["full", "linear"]
RATES = 3  # of full fine-tuning that a fair comparison takes: one between two others
SMALL = 0.05  # of the backbone's parameters, at most, for "small suffices"
IMAGES = {"cifar100": 10_000, "resisc45": 6_300, "clevr_distance": 15_000}  # tests of the sweep
SHIFTED = {"v2": 10_000, "r": 30_000, "a": 7_500, "sketch": 50_889}  # tests of the shifts of ImageNet
IMAGENET = 50_000
Z95, Z90 = 1.96, 1.645  # standard errors on either side of a normal estimate


def _near(mean: float, error: float, n: int) -> Estimate:
    """A normal estimate with its standard error."""
    wide, narrow = Z95 * error, Z90 * error
    return Estimate(mean, mean - wide, mean + wide, mean - narrow, mean + narrow, n)


def many_images() -> ByTask:
    """C9: by task, the setting with at most 5 % of the parameters that validation chose, minus full fine-tuning."""
    frame = published.read("manyshot")
    whole = frame[frame.groupby("task")["train_images"].transform("max") == frame["train_images"]]
    return ByTask({str(task): _small_against_full(str(task), runs) for task, runs in whole.groupby("task")})


def _small_against_full(task: str, runs: pd.DataFrame) -> Evidence:
    full, linear = (runs[runs["method"] == name].iloc[0] for name in ("full", "linear"))
    small = runs[(runs["params"] <= SMALL * full["params"]) & ~runs["method"].isin(BASELINES)]
    best = small.sort_values(["val_accuracy", "params"], ascending=[False, True]).iloc[0]
    again = noise_of_sizes(small)

    def less_full(run: pd.Series) -> Estimate:
        images = binomial(run["accuracy"], IMAGES[task]) ** 2 + binomial(full["accuracy"], IMAGES[task]) ** 2
        return _near(run["accuracy"] - full["accuracy"], math.sqrt(images + 2 * again**2), IMAGES[task])

    trials = published.read("manyshot_tuning")
    mine = trials[(trials["task"] == task) & (trials["train_images"] == full["train_images"])]
    by_rate = mine[mine["method"] == "full"].groupby("lr")["val_accuracy"].max()
    _, handicap = measures.gained(by_rate, full["lr"])  # of two rates, both are ends
    found, fails = less_full(best), less_full(linear).high
    size = "" if math.isnan(best["size"]) else f" {best['size']:.0f}"
    return Evidence(
        {task: found.mean},
        kind="not worse",
        margin=1.0,
        controls=(Control("upper end of linear probing in its place", fails, -1, fails < -1),),
        sample="test images",
        estimate=found,
        lessened=found.less(handicap),
        told=f"{best['method']}{size}, full's {len(by_rate)} rates give a handicap of {handicap:.2f}",
    )


def noise_of_sizes(runs: pd.DataFrame) -> float:
    """The standard deviation of one of these runs, in points: neighbouring sizes of a method taken as repeats.

    Robust, 1.4826 times the median step over the root of 2. Sizes do differ, so it is rather too wide.
    """
    sized = runs.dropna(subset=["size"]).sort_values("size")
    steps = sized.groupby("method")["accuracy"].diff().abs().dropna()
    return 1.4826 * float(steps.median()) / math.sqrt(2)


def binomial(accuracy: float, images: int) -> float:
    """The standard error, in points, of an accuracy in percent that was measured on so many images."""
    return 100 * math.sqrt(accuracy / 100 * (1 - accuracy / 100) / images)


# ---- CLIP, ImageNet and its shifts


def _curves() -> pd.DataFrame:
    curves = published.read("interpolation")
    return curves[curves["interpolated"] == "backbone and head"]


def _rates_of_full() -> Control:
    tried = published.read("clip_tuning")
    count = int(tried.loc[tried["method"] == "full", "lr"].nunique())
    return Control("learning rates of full fine-tuning", count, RATES, count >= RATES)


def robustness() -> Evidence:
    """C11: shift of tuned PEFT models minus the full model's, for those within a point of its ImageNet accuracy.

    The rule compares along full's rates at equal accuracy; full had one.
    """
    table = published.read("clip").set_index("method")
    peft = table.drop(["zero_shot", *BASELINES])
    matched = peft[(peft["imagenet"] - table.loc["full", "imagenet"]).abs() <= 1.0]
    curve = robust.matched(_curves(), peft["imagenet"].tolist()).loc["full"]
    told = f"PEFT reaches {peft['shift'].min():.1f} to {peft['shift'].max():.1f} % under shift; full interpolated to "
    told += f"the same ImageNet accuracy {curve.min():.1f} to {curve.max():.1f} %"
    told += f", zero-shot {table.loc['zero_shot', 'shift']:.1f} %"
    return Evidence(
        (matched["shift"] - table.loc["full", "shift"]).to_dict(),
        "points under shift",
        margin=1.0,
        controls=(_rates_of_full(),),
        sample="methods of one seed",
        told=told,
    )


def interpolation() -> Evidence:
    """C12: at alpha 0.5, shift minus the better end, for each PEFT method with a curve; methods are no sample."""
    curves, ends = _curves(), published.read("clip").set_index("method")
    shift, target = (
        curves.pivot(index="method", columns="alpha", values=name).drop(index="full") for name in ("shift", "imagenet")
    )
    models = {0.0: ends.loc["zero_shot", "shift"], 1.0: ends.loc[shift.index, "shift"]}
    apart = max(float((shift[alpha] - model).abs().max()) for alpha, model in models.items())
    gain = float((target[1.0] - target[0.0]).min())
    kept = target[0.5] - target[1.0]
    return Evidence(
        (shift[0.5] - shift[[0.0, 1.0]].max(axis=1)).to_dict(),
        "points under shift",
        margin=0.5,
        controls=(
            Control("points from an end of a curve to its model", apart, 0.01, apart <= 0.01),
            Control("least gain of tuning on ImageNet in points", gain, 5.0, gain >= 5),
        ),
        sample="methods of one seed",
        told=f"on ImageNet half-way lies {kept.min():+.1f} to {kept.max():+.1f} from the tuned model",
    )


def balance() -> Balance:
    """C13: shift of full's curve minus the best PEFT curve's at equal ImageNet accuracy, and the tops of the curves.

    One pair of curves, so errors are those of independent test images, taken at zero-shot's accuracies, near to which
    the levels lie.
    """
    curves = _curves()
    tops = curves.groupby("method")["imagenet"].max()
    highest, start = float(tops.drop("full").max()), float(curves.loc[curves["alpha"] == 0, "imagenet"].iloc[0])
    levels = np.linspace(start, min(highest, float(tops["full"])), 11)[1:-1]
    table = robust.matched(curves, levels.tolist())
    along = float((table.loc["full"] - table.drop("full").max()).mean())
    zero = published.read("clip").set_index("method").loc["zero_shot"]
    of_shift = math.sqrt(sum(binomial(zero[name], images) ** 2 for name, images in SHIFTED.items())) / len(SHIFTED)
    of_tops = math.hypot(binomial(tops["full"], IMAGENET), binomial(highest, IMAGENET))
    unit, controls, margin = "points under shift", (_rates_of_full(),), 0.5
    curve = _near(along, math.sqrt(2) * of_shift, len(levels))
    top = _near(float(tops["full"]) - highest, of_tops, 1)
    return Balance(
        Evidence(unit=unit, margin=margin, controls=controls, sample="levels", estimate=curve),
        Evidence(unit="points on ImageNet", margin=margin, sample="pair of curves", estimate=top),
    )
