"""The study's published results (ViT-B/16), as numbers beside ours. ``data/published/README.md`` is their card.

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

FILES = {
    "final": "vtab1k_final.csv",  # VTAB-1K, one row a final run
    "tuning": "vtab1k_tuning.csv.gz",  # its trials: validation accuracy on 200 images after the last epoch
    "manyshot": "manyshot_final.csv",  # the sweep: 31 settings on five pairs of task and number of training images
    "manyshot_tuning": "manyshot_tuning.csv.gz",  # its trials; CLEVR's were judged on images they were trained on
    "clip": "clip_imagenet.csv",  # CLIP tuned on 100-shot ImageNet: accuracy there and on four shifts
    "clip_tuning": "clip_tuning.csv",  # the trials behind it: drop path 0 and 0.1 for each method
    "interpolation": "clip_interpolation.csv",  # weight-space ensembles, alpha from 0 (zero-shot) to 1 (tuned)
}
WHICH = ("accuracy", "best_accuracy")
SHIFTS = ["v2", "r", "a", "sketch"]  # of ImageNet


def read(name: str, *, everything: bool = False, folder: Path = PUBLISHED) -> pd.DataFrame:
    """One of the tables ``FILES``, as a frame of one's own; with ``shift``, the unweighted mean of the four shifts.

    Only what the study reports: not the earlier re-runs (``reported``) nor the augmented CIFAR-100, which is no task of
    VTAB-1K (``in_vtab19``), unless ``everything``. ``UserError`` for an unknown name or a file that cannot be read.
    """
    if name not in FILES:
        raise UserError(f"there is no published table {name!r}; there are: {', '.join(FILES)}")
    frame = _read(folder / FILES[name])
    if set(SHIFTS) <= set(frame):
        frame = frame.assign(shift=frame[SHIFTS].mean(axis=1))
    for column in () if everything else ("in_vtab19", "reported"):
        if column in frame:
            frame = frame[frame[column]]
    return frame.reset_index(drop=True)


def by_group(which: str = "accuracy") -> pd.DataFrame:
    """Means over tasks by group and method, with ``MEAN`` (of groups) and "mean of tasks": group, method, mean."""
    _check(which)
    frame = read("final")
    groups = group_order(frame["group"])
    means = {group: frame[frame["group"] == group].groupby("method")[which].mean() for group in groups}
    of_groups = pd.concat(means, names=["group"])
    overall = {MEAN: of_groups.groupby("method").mean(), "mean of tasks": frame.groupby("method")[which].mean()}
    return pd.concat([of_groups, pd.concat(overall, names=["group"])]).rename("mean").reset_index()


def scores(which: str = "accuracy") -> pd.DataFrame:
    """Tasks x methods, for the rank tests of ``petl_guide.low_shot.ranks``."""
    _check(which)
    return read("final").pivot(index="task", columns="method", values=which)


def counted(methods: Iterable[str]) -> list[str]:
    """Those of ``methods`` that the published statements about similarity count: the PEFT methods of the study, less
    VPT-Shallow, which its figures leave out."""
    return [method for method in studied(methods) if method not in ("full", "linear", "vpt_shallow")]


def studied(methods: Iterable[str]) -> list[str]:
    """Those of ``methods`` whose results were published, each once."""
    there = set(read("final")["method"])
    return [method for method in dict.fromkeys(methods) if method in there]


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
    frame = read("final", everything=True)
    frame = frame[frame["in_vtab19"]].sort_values("run")
    cells = frame.groupby(["task", "method"])["accuracy"].agg(["first", "last", "size"]).reset_index()
    cells = cells[cells["size"] > 1]
    return cells.assign(change=(cells["last"] - cells["first"]).abs())


def optimism() -> pd.DataFrame:
    """For each method: trials per task, mean validation accuracy of the chosen trial, test accuracy, and the gap."""
    by = read("final").groupby("method")
    table = by.agg(trials=("trials", "first"), val=("val_accuracy", "mean"), test=("accuracy", "mean"))
    return table.assign(gap=table["val"] - table["test"]).sort_values("trials").reset_index()


def optimism_correlation() -> float:
    """Pearson correlation, over methods, of log(trials) with the gap between validation and test."""
    table = optimism()
    return float(np.corrcoef(np.log(table["trials"]), table["gap"])[0, 1])


def collapsed(method: str, lr: float) -> float:
    """Share (percent) of a method's trials at this rate whose validation accuracy is below half of the cell's best."""
    frame = read("tuning")
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
