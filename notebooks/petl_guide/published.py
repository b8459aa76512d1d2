"""The study's published results (ViT-B/16), as numbers beside ours. ``data/published/README.md`` is their card.

VTAB-1K (``final``, ``tuning``), many-shot (``manyshot``, ``manyshot_tuning``) and CLIP (``clip``, ``interpolation``).

``accuracy`` is that after the last epoch, ``best_accuracy`` the highest of all epochs *on the test images*. The figures
of the paper fit the second; what a practitioner would have got is the first. One seed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from petl_core.utils import PUBLISHED, UserError
from petl_guide.accuracy import MEAN
from petl_guide.runs import group_order

WHICH = ("accuracy", "best_accuracy")
SHIFTS = ["v2", "r", "a", "sketch"]  # of ImageNet; "out of distribution" is their unweighted mean


def final(tasks19: bool = True, reported: bool = True, folder: Path = PUBLISHED) -> pd.DataFrame:
    """Final runs, one row each. ``tasks19`` leaves out the augmented CIFAR-100; ``reported`` the earlier re-runs."""
    frame = _read(folder / "vtab1k_final.csv")
    if tasks19:
        frame = frame[frame["in_vtab19"]]
    if reported:
        frame = frame[frame["reported"]]
    return frame.reset_index(drop=True)


def tuning(folder: Path = PUBLISHED) -> pd.DataFrame:
    """All tuning trials on the 19 tasks, one row each: validation accuracy on 200 images after the last epoch."""
    return _read(folder / "vtab1k_tuning.csv.gz").copy()


def manyshot(reported: bool = True, folder: Path = PUBLISHED) -> pd.DataFrame:
    """Final runs of the sweep over sizes: 31 settings on five pairs of task and number of training images."""
    frame = _read(folder / "manyshot_final.csv")
    return (frame[frame["reported"]] if reported else frame).reset_index(drop=True)


def manyshot_tuning(folder: Path = PUBLISHED) -> pd.DataFrame:
    """The tuning trials of the sweep. Those of CLEVR were judged on images that they were trained on."""
    return _read(folder / "manyshot_tuning.csv.gz").copy()


def clip(folder: Path = PUBLISHED) -> pd.DataFrame:
    """CLIP tuned on 100-shot ImageNet: accuracy on ImageNet and four shifts, and ``shift``, the mean of these."""
    frame = _read(folder / "clip_imagenet.csv")
    return frame.assign(shift=frame[SHIFTS].mean(axis=1))


def clip_tuning(folder: Path = PUBLISHED) -> pd.DataFrame:
    """The trials behind ``clip``: drop path 0 and 0.1 for each method."""
    return _read(folder / "clip_tuning.csv").copy()


def interpolation(folder: Path = PUBLISHED) -> pd.DataFrame:
    """Weight-space ensembles of CLIP: accuracies for alpha from 0 (zero-shot) to 1 (tuned), and ``shift``."""
    frame = _read(folder / "clip_interpolation.csv")
    return frame.assign(shift=frame[SHIFTS].mean(axis=1))


def by_group(which: str = "accuracy") -> pd.DataFrame:
    """Means over tasks by group and method, with ``MEAN`` (of groups) and "mean of tasks": group, method, mean."""
    _check(which)
    frame = final()
    rows = []
    for group in group_order(frame["group"]):
        means = frame[frame["group"] == group].groupby("method")[which].mean()
        rows += [(group, method, value) for method, value in means.items()]
    table = pd.DataFrame(rows, columns=["group", "method", "mean"])
    overall = table.groupby("method")["mean"].mean()
    tasks = frame.groupby("method")[which].mean()
    extra = [(MEAN, m, v) for m, v in overall.items()] + [("mean of tasks", m, v) for m, v in tasks.items()]
    return pd.concat([table, pd.DataFrame(extra, columns=table.columns)], ignore_index=True)


def scores(which: str = "accuracy") -> pd.DataFrame:
    """Tasks x methods, for the rank tests of ``petl_guide.low_shot.ranks``."""
    _check(which)
    return final().pivot(index="task", columns="method", values=which)


def counted(methods: Iterable[str]) -> list[str]:
    """Those of ``methods`` that the published statements about similarity count: the PEFT methods of the study, less
    VPT-Shallow, which its figures leave out."""
    there = set(final()["method"]) - {"full", "linear", "vpt_shallow"}
    return [method for method in methods if method in there]


def relative_spread(which: str = "accuracy", methods: Sequence[str] | None = None) -> float:
    """Relative standard deviation (percent) between PEFT methods, of the mean of groups; ``methods`` None: all."""
    table = by_group(which)
    means = table[table["group"] == MEAN].set_index("method")["mean"].drop(["full", "linear"])
    means = means if methods is None else means.loc[list(methods)]
    return 100 * float(means.std(ddof=1) / means.mean())


def beside(ours: pd.DataFrame, which: str = "accuracy") -> pd.DataFrame:
    """``accuracy.by_group`` of ours with a column ``published``, for the methods and groups that both have."""
    theirs = by_group(which).rename(columns={"mean": "published"})
    both = ours.merge(theirs, on=["group", "method"])
    if both.empty:
        raise UserError("none of these methods and groups is in the published table")
    return both


def reruns() -> pd.DataFrame:
    """Cells with several final runs: |last - first| accuracy in points. The earlier runs' settings are not recorded, so
    this is a rough idea of how well single numbers repeat, not a deviation between seeds."""
    frame = final(reported=False).sort_values("run")
    cells = frame.groupby(["task", "method"])["accuracy"].agg(["first", "last", "size"]).reset_index()
    cells = cells[cells["size"] > 1]
    return cells.assign(change=(cells["last"] - cells["first"]).abs())


def optimism() -> pd.DataFrame:
    """For each method: trials per task, mean validation accuracy of the chosen trial, test accuracy, and the gap."""
    frame = final()
    table = frame.groupby("method").agg(
        trials=("trials", "first"), val=("val_accuracy", "mean"), test=("accuracy", "mean")
    )
    return table.assign(gap=table["val"] - table["test"]).sort_values("trials").reset_index()


def optimism_correlation() -> float:
    """Pearson correlation, over methods, of log(trials) with the gap between validation and test."""
    table = optimism()
    return float(np.corrcoef(np.log(table["trials"]), table["gap"])[0, 1])


def collapsed(method: str, lr: float) -> float:
    """Share (percent) of a method's trials at this rate whose validation accuracy is below half of the cell's best."""
    frame = tuning()
    best = frame.groupby(["task", "method"])["val_accuracy"].transform("max")
    mine = (frame["method"] == method) & np.isclose(frame["lr"], lr)
    if not mine.any():
        raise UserError(f"no published trial of {method!r} at learning rate {lr:g}; the rates are 1e-3 and 1e-2")
    return 100 * float((frame.loc[mine, "val_accuracy"] < best[mine] / 2).mean())


def _check(which: str) -> None:
    if which not in WHICH:
        raise UserError(f"which is {which!r}; it is {' (last epoch) or '.join(WHICH)} (best epoch on test)")


@functools.cache
def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise UserError(f"cannot read the published results {path} ({error}); get a fresh copy of that file") from error
