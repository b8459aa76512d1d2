"""Robustness of a tuned model: accuracy on the target and under shifts, by rate, seed and weight-space ensemble.

*Target* is the test split of the style that was tuned on; *shift* the unweighted mean of the shifted splits, as in
the study. Methods are compared at matched accuracy on the target: a method that learned less lost less. A weight-space
ensemble gives each method a whole curve to compare on (Wortsman et al., 2022, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from petl_core.study.measures import HALFWAY
from petl_core.study.records import Records
from petl_core.study.statistics import Interval
from petl_core.utils import UserError
from petl_guide import runs as select
from petl_guide.accuracy import interval_over, pareto
from petl_guide.runs import peft, peft_rows

NEAR = 1.0  # points on the target within which two models count as equally good on it
OTHER = {"method", "lr", "seed", "params", "alpha", "kind", "target", "shift"}  # columns that are no shifted test set
SHARES = tuple(step / 10 for step in range(1, 10))  # of the way from zero-shot to the lower top: where curves compare


def curves(table: pd.DataFrame, records: Records, variant: str = "robustness") -> pd.DataFrame:
    """A row for each run and alpha: target, each shifted test set, alpha, kind, method, lr, seed, params, shift.

    ``variant="robustness_chosen"`` keeps the rate that validation prefers. The end alpha = 0 is checked to be the same
    for all runs, because it is the zero-shot model. Raises ``UserError`` for missing runs, seeds or measurements.
    """
    mine = select.of_part(table, "robustness", [variant])
    if diverged := sorted(set(mine.loc[mine["diverged"].astype(bool), "method"])):
        raise UserError(
            f"runs of {', '.join(diverged)} diverged, so they have no accuracies under shift; lower their rates"
        )
    select.check_seeds(mine, ["method", "lr"])
    parts = []
    for run in mine.itertuples():
        found = select.measured(records, run, "interpolation")
        both = pd.DataFrame(found["both"]).assign(alpha=found["alphas"], kind="both")
        head = pd.DataFrame([found["head"]]).assign(alpha=HALFWAY, kind="head")
        of_run = pd.concat([both, head]).rename(columns={"test": "target"})
        parts.append(of_run.assign(method=run.method, lr=run.lr, seed=run.seed, params=run.params))
    frame = pd.concat(parts, ignore_index=True)
    frame["shift"] = frame[shifts(frame)].mean(axis=1)
    zero = frame[(frame["alpha"] == 0) & (frame["kind"] == "both")]
    if zero[["target", *shifts(frame)]].round(6).drop_duplicates().shape[0] != 1:
        raise UserError("the ends alpha = 0 differ between runs, but each is the zero-shot model; run the study again")
    return frame


def shifts(frame: pd.DataFrame) -> list[str]:
    """The columns of ``curves`` that are shifted test sets, as the task names them."""
    return [name for name in frame.columns if name not in OTHER]


def zero_shot(frame: pd.DataFrame) -> pd.Series:
    """Accuracies of the model that all start from: target, the shifts, their mean."""
    columns = ["target", *shifts(frame), "shift"]
    return frame.loc[(frame["alpha"] == 0) & (frame["kind"] == "both"), columns].iloc[0]


def tuned(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the tuned models (alpha = 1)."""
    return frame[(frame["alpha"] == 1) & (frame["kind"] == "both")]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """For each method, rate and alpha the means over seeds of target and shifts; ``kind`` "both"."""
    part = frame[frame["kind"] == "both"]
    columns = ["target", *shifts(frame), "shift"]
    return part.groupby(["method", "lr", "alpha"], sort=False)[columns].mean().reset_index()


def matched_to_full(frame: pd.DataFrame) -> pd.DataFrame:
    """Each PEFT method and rate beside the rate of full fine-tuning whose mean on the target is nearest, if within
    ``NEAR``: a row for each seed with method, lr, full_lr, target (difference) and shift (difference)."""
    ends = tuned(frame)
    full = ends[ends["method"] == "full"].set_index(["lr", "seed"])[["target", "shift"]]
    if full.empty:
        raise UserError("full fine-tuning, with which PEFT is compared, has no runs in these records")
    of_rates = full["target"].groupby("lr").mean()
    parts = []
    for (method, lr), cell in peft_rows(ends).groupby(["method", "lr"]):
        apart = (of_rates - cell["target"].mean()).abs()
        if apart.min() > NEAR:
            continue
        mine = cell.set_index("seed")[["target", "shift"]].sort_index()
        gap = (mine - full.loc[apart.idxmin()]).reset_index()
        parts.append(gap.assign(method=method, lr=lr, full_lr=apart.idxmin()))
    columns = ["method", "lr", "full_lr", "seed", "target", "shift"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def by_seed(frame: pd.DataFrame, column: str = "shift") -> Interval:
    """The mean over rows, with an interval over the means of seeds."""
    return interval_over(frame, "seed", column)


def by_method(pairs: pd.DataFrame) -> Interval:
    """The mean difference under shift with an interval over methods (each its mean over rates and seeds), because
    methods and rates differ far more than seeds do."""
    return interval_over(pairs, "method", "shift")


def halfway(chosen: pd.DataFrame, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """For each method, rate and seed: shift at ``HALFWAY`` minus the better end, and target minus the tuned end."""
    part = chosen[chosen["kind"] == "both"]
    if methods is not None:
        part = part[part["method"].isin(methods)]
    at = part.pivot(index=["method", "lr", "seed"], columns="alpha", values=["shift", "target"])
    shift, target = at["shift"], at["target"]
    over = pd.DataFrame({"shift": shift[HALFWAY] - shift[[0, 1]].max(axis=1), "target": target[HALFWAY] - target[1]})
    return over.reset_index()


def balance(chosen: pd.DataFrame) -> pd.DataFrame:
    """For each seed and level of target accuracy: shift on full's curve minus the best PEFT curve's at that level.

    The levels lie at ``SHARES`` of the way from the zero-shot target to the lower of the two tops, full's and that of
    the PEFT method whose top is highest. Columns seed, share, level, full, best (method), difference.
    """
    part = chosen[chosen["kind"] == "both"]
    rows = []
    for seed, mine in part.groupby("seed"):
        tops = mine.groupby("method")["target"].max()
        small = peft(tops.index)
        if "full" not in tops or not small:
            raise UserError("the balance of target and shift needs full fine-tuning and a PEFT method")
        start = float(mine.loc[mine["alpha"] == 0, "target"].iloc[0])
        top = min(tops["full"], tops[small].max())
        if top <= start:  # tuning has not raised the target, so no level lies between
            continue
        levels = [start + share * (top - start) for share in SHARES]
        table = matched(mine, levels, target="target")
        for share, level in zip(SHARES, levels, strict=True):
            others = table.loc[small, level].dropna()
            if len(others) and np.isfinite(table.loc["full", level]):
                best = others.idxmax()
                rows.append(
                    (seed, share, level, table.loc["full", level], best, table.loc["full", level] - others[best])
                )
    return pd.DataFrame(rows, columns=["seed", "share", "level", "full", "best", "difference"])


def at_target(alphas: Sequence[float], target: Sequence[float], shifted: Sequence[float], level: float) -> float:
    """Accuracy under shift where an ensemble's accuracy on the target is ``level``, in percent.

    Linear between neighbouring alphas, along the part of the curve from alpha = 0 to the highest target accuracy.
    NaN if that part does not reach the level, or starts above it.
    """
    order = np.argsort(np.asarray(alphas, dtype=float), kind="stable")
    x, y = np.asarray(target, dtype=float)[order], np.asarray(shifted, dtype=float)[order]
    rising = slice(0, int(np.argmax(x)) + 1)
    x, y = x[rising], y[rising]
    if not x[0] <= level <= x[-1]:
        return float("nan")
    above = int(np.argmax(x >= level))
    if above == 0 or x[above] == level:
        return float(y[above])
    share = (level - x[above - 1]) / (x[above] - x[above - 1])
    return float(y[above - 1] + share * (y[above] - y[above - 1]))


def matched(curves: pd.DataFrame, levels: Sequence[float], target: str = "imagenet") -> pd.DataFrame:
    """``at_target`` for each method (rows) and level (columns); ``curves`` has method, alpha, shift and the target."""
    absent = [column for column in ("method", "alpha", "shift", target) if column not in curves]
    if absent:
        raise UserError(f"curves of weight-space ensembles lack the columns {', '.join(absent)}")
    doubled = curves[curves.duplicated(["method", "alpha"])]
    if len(doubled):
        row = doubled.iloc[0]
        raise UserError(f"{row['method']} has several points at alpha {row['alpha']}; choose one kind of interpolation")
    rows = {
        method: [at_target(part["alpha"], part[target], part["shift"], level) for level in levels]
        for method, part in curves.groupby("method", sort=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(levels)).rename_axis("method")


def front(chosen: pd.DataFrame) -> pd.DataFrame:
    """The mean curves' points that no other point beats on target and shift at once."""
    points = summary(chosen)
    unbeaten = sorted(pareto(points["shift"], -points["target"]))
    return points.iloc[unbeaten].sort_values("target", ignore_index=True)
