"""Size and amount of data: accuracy of methods at fixed sizes with 100 to 10,000 training images, ours and published.

A *cell* is one method at one size on one task with one number of images; it has one run for each seed. What is compared
with full fine-tuning is chosen on validation images, because the best of many cells on the test images is too good.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from petl_core.study.statistics import Interval
from petl_core.utils import UserError
from petl_guide import published
from petl_guide import runs as select
from petl_guide.accuracy import interval_over, intervals, stratified_bootstrap

CELL = ["task", "images", "method", "size"]
SPEC = ["spec_task", "method", "hyper"]  # what a cell's trials and final runs share
SMALL = 5.0  # per cent of the parameters of full fine-tuning: what the study calls enough
MANY = 1000  # images that are no longer "few": the claim is about tasks with at least that many


def runs(table: pd.DataFrame) -> pd.DataFrame:
    """The final runs of the sweep, one row a cell and seed: task, group, images, method, size, percent (of full's
    parameters), val (of the chosen trial), accuracy, train_accuracy, seed, lr. A diverged run counts at chance.

    Raises ``UserError`` if there are none, full fine-tuning is missing, or a cell lacks a seed.
    """
    mine = select.at_chance(select.of_part(table, "many_shot"))
    mine["size"] = mine["size"].fillna(0).astype(int)
    select.check_seeds(mine, CELL)
    whole = mine[mine["method"] == "full"].groupby("task")["params"].max()
    absent = sorted(set(mine["task"]) - set(whole.index))
    if absent:
        raise UserError(f"full fine-tuning, with which all is compared, has no run on {', '.join(absent)}")
    mine["percent"] = 100.0 * mine["params"] / mine["task"].map(whole)
    trials = table[(table["variant"] == "many_shot_trial") & (table["stage"] == "trial")]
    best = trials.rename(columns={"task": "spec_task"}).groupby(SPEC)["accuracy"].max().rename("val")
    if len(best) < mine.groupby(SPEC).ngroups:
        raise UserError("some trials of the sweep are missing, by which the compared methods are chosen; run the study")
    return mine.merge(best.reset_index(), on=SPEC, how="left").reset_index(drop=True)


def cells(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell: group, percent, val, lr, mean, low and high (t interval over seeds), train (mean), n."""
    by = found.groupby(CELL)
    same = by[["group", "percent", "val", "lr"]].first().assign(train=by["train_accuracy"].mean())
    return intervals(found, CELL, "accuracy").merge(same.reset_index(), on=CELL)


def small_cells(table: pd.DataFrame, most: float = SMALL, methods: list[str] | None = None) -> pd.DataFrame:
    """Those of ``cells`` that train at most ``most`` per cent of the parameters, of PEFT methods or of ``methods``."""
    wanted = select.peft(table["method"]) if methods is None else methods
    return table[table["method"].isin(wanted) & (table["percent"] <= most)]


def best_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Of ``small_cells``, that of the highest mean on the test images for each task and number of images."""
    return table.loc[table.groupby(["task", "images"])["mean"].idxmax()]


def chosen(found: pd.DataFrame, most: float = SMALL, methods: list[str] | None = None) -> pd.DataFrame:
    """For each task and number of images, the cell of highest validation accuracy among PEFT methods (or ``methods``)
    with at most ``most`` per cent of the parameters; ties to fewer parameters. One row each of ``cells``."""
    few = small_cells(cells(found), most, methods)
    if few.empty:
        raise UserError(f"no method has at most {most:g} % of the parameters of full fine-tuning in these runs")
    few = few.sort_values(["val", "percent"], ascending=[False, True])
    return few.groupby(["task", "images"], sort=True).head(1).sort_values(["task", "images"]).reset_index(drop=True)


def against_full(found: pd.DataFrame, picks: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of the picked cells minus full fine-tuning's with the same seed: task, images, seed, difference."""
    of_seed = ["task", "images", "seed"]
    full = found.loc[found["method"] == "full", [*of_seed, "accuracy"]]
    both = picks[CELL].merge(found, on=CELL).merge(full, on=of_seed, suffixes=("", "_full"))
    return both[of_seed].assign(difference=both["accuracy"] - both["accuracy_full"])


def by_setting(found: pd.DataFrame, picks: pd.DataFrame) -> pd.DataFrame:
    """``against_full`` summarised: task, images, mean, low, high (t interval over seeds), n."""
    return intervals(against_full(found, picks), ["task", "images"], "difference")


def over_seeds(differences: pd.DataFrame) -> Interval:
    """The mean difference over tasks, with an interval over seeds (each seed's mean over the same tasks)."""
    return interval_over(differences, "seed", "difference")


def over_tasks_and_seeds(differences: pd.DataFrame) -> Interval:
    """The same mean with an interval from resampling seeds within each task: ``accuracy.stratified_bootstrap``."""
    return stratified_bootstrap([part.to_numpy() for _, part in differences.groupby("task")["difference"]])


def by_amount(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs by amount of data, from the fewest images to the most: the last part has each task's largest number of
    images, the one before its next smaller, and so on. The key says how many: "1,000", or "9,000 or 10,000"."""
    rank = found.groupby("task")["images"].rank("dense", ascending=False)
    parts = [found[rank == place] for place in sorted(set(rank), reverse=True)]
    return {" or ".join(f"{n:,}" for n in sorted(set(part["images"]))): part for part in parts}


def gap(found: pd.DataFrame, methods: list[str] | None = None, most: float = SMALL) -> Interval:
    """Chosen small method minus full fine-tuning in these runs (a part of ``by_amount``), mean of the tasks."""
    return over_seeds(against_full(found, chosen(found, most, methods)))


def best_on_test(found: pd.DataFrame, most: float = SMALL) -> Interval:
    """``gap`` of the cells that are best on the test images: too good, so an upper end of what a choice could give."""
    return over_seeds(against_full(found, best_cells(small_cells(cells(found), most))))


def collapsed(table: pd.DataFrame, drop: float = 5.0) -> pd.DataFrame:
    """Those of ``cells`` whose accuracy is more than ``drop`` points below that with the next smaller number of images
    (column ``fewer``): more images cannot do that, but a learning rate that is too high for the longer run can."""
    cell = ["task", "method", "size"]
    ordered = table.sort_values("images")
    ordered = ordered.assign(fewer=ordered.groupby(cell)["mean"].shift())
    return ordered[ordered["mean"] < ordered["fewer"] - drop].sort_values(["images", *cell], ignore_index=True)


def without(found: pd.DataFrame, left_out: pd.DataFrame) -> pd.DataFrame:
    """The runs of all cells but those of ``left_out``."""
    keys = set(left_out[CELL].itertuples(index=False, name=None))
    return found[[key not in keys for key in found[CELL].itertuples(index=False, name=None)]].reset_index(drop=True)


def check_many(found: pd.DataFrame) -> None:
    """``UserError`` if no run of the sweep has more than ``MANY`` images."""
    most = int(found["images"].max())
    if most <= MANY:
        raise UserError(f"the claim is about more than {MANY:,} images; these runs have at most {most:,}")


def published_gaps() -> pd.DataFrame:
    """The published sweep, each task at each number of images: full, the best small PEFT run on the test images (as
    the study reads it), and the one that validation chooses; the gaps are theirs minus full's."""
    frame = published.read("manyshot")
    whole = float(frame.loc[frame["method"] == "full", "params"].iloc[0])
    rows = []
    for (task, images), part in frame.groupby(["task", "train_images"]):
        full = float(part.loc[part["method"] == "full", "accuracy"].iloc[0])
        peft = small_cells(part.assign(percent=100 * part["params"] / whole))
        best, picked = peft.loc[peft["accuracy"].idxmax()], peft.loc[peft["val_accuracy"].idxmax()]
        rows.append((task, images, full, best["method"], best["accuracy"], picked["method"], picked["accuracy"]))
    names = ["task", "images", "full", "best_on_test", "best", "chosen_on_val", "chosen"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(gap_best=table["best"] - table["full"], gap_chosen=table["chosen"] - table["full"])


def slope(found: pd.DataFrame) -> pd.DataFrame:
    """For each task and sized method of a part of ``by_amount``: points of accuracy gained by a tenfold larger size
    (least squares, by seed)."""
    rows = []
    for (task, method, seed), cell in found[found["size"] > 0].groupby(["task", "method", "seed"]):
        if cell["size"].nunique() > 1:
            line = np.polyfit(np.log10(cell["size"].astype(float)), cell["accuracy"], 1)
            rows.append((task, method, seed, float(line[0])))
    slopes = pd.DataFrame(rows, columns=["task", "method", "seed", "slope"])
    return intervals(slopes, ["task", "method"], "slope").rename(columns={"mean": "slope"}).drop(columns="n")
