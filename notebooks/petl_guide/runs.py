"""Which rows of ``Records.table()`` an analysis is about: chosen by variant, checked to be whole and of one kind.

Every estimator of this package starts from ``runs``: one final run for each task, method and seed of a grid without
holes. What is missing or mixed is an error that names it, because a mean over unequal sets compares nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from petl_core import methods as registry
from petl_core.data.embedded import parts_of_name
from petl_core.data.task import GROUPS
from petl_core.utils import UserError

if TYPE_CHECKING:
    from petl_core.study.records import Records

NEEDED = {"digest", "backbone", "method", "task", "group", "seed"}
NEEDED |= {"stage", "accuracy", "diverged", "variant", "classes"}
CELL = ["task", "method", "seed"]
SETTING = ["task", "method", "hyper", "lr", "drop_path", "weight_decay", "l2_sp", "layer_decay"]  # what a trial tries


def runs(
    table: pd.DataFrame,
    variant: str = "tuned",
    *,
    methods: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> pd.DataFrame:
    """The final runs of one variant: exactly one row for each task, method and seed, sorted by them.

    ``methods``, ``tasks``, ``seeds`` None: all that the variant has. A diverged run counts at chance, 100 / classes
    percent, because leaving it out would reward a method for failing; how many did is in ``.attrs["diverged"]``.
    Raises ``UserError`` naming missing columns, an unknown variant, several backbones, doubled or missing runs.
    """
    _check_columns(table)
    chosen = table[(table["variant"] == variant) & (table["stage"] == "final")]
    if chosen.empty:
        known = sorted(set(table.loc[table["stage"] == "final", "variant"]) - {""})
        raise UserError(
            f"there are no final runs of variant {variant!r}; there are: {', '.join(known) or 'none'}. Run the "
            "part of the study that makes them: python -m petl_core study --profile ... --part ..."
        )
    for column, wanted in (("method", methods), ("task", tasks), ("seed", seeds)):
        if wanted is not None:
            absent = sorted(set(wanted) - set(chosen[column]), key=str)
            if absent:
                raise UserError(f"variant {variant!r} has no runs with {column} {', '.join(map(str, absent))}")
            chosen = chosen[chosen[column].isin(list(wanted))]
    return grid(chosen, f"variant {variant!r}")


def grid(frame: pd.DataFrame, what: str = "the table") -> pd.DataFrame:
    """Check that ``frame`` is of one backbone and has exactly one run for each task, method and seed; sort it."""
    _check_columns(frame)
    backbones = sorted(set(frame["backbone"]))
    if len(backbones) != 1:
        raise UserError(f"{what} mixes the backbones {', '.join(backbones) or 'none'}; choose the rows of one")
    kinds = sorted(set(frame["stage"]))
    if len(kinds) != 1:
        raise UserError(f"{what} mixes {' and '.join(kinds)} runs; choose those of one stage")
    doubled = frame[frame.duplicated(CELL, keep=False)]
    if len(doubled):
        raise UserError(f"{what} has several runs of the same cell, for example {_name(doubled.iloc[0])}")
    full = pd.MultiIndex.from_product([sorted(set(frame[column])) for column in CELL], names=CELL)
    missing = full.difference(pd.MultiIndex.from_frame(frame[CELL]))
    if len(missing):
        names = "; ".join(f"{task}, {method}, seed {seed}" for task, method, seed in missing[:4])
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        raise UserError(
            f"{what} lacks {len(missing)} of {len(full)} runs: {names}{more}; start the study again to run them"
        )
    result = at_chance(frame.sort_values(CELL, ignore_index=True))
    if result["accuracy"].isna().any():
        bad = result[result["accuracy"].isna()].iloc[0]
        raise UserError(f"{what} has a run without accuracy that is not marked as diverged: {_name(bad)}")
    result.attrs["diverged"] = int(result["diverged"].astype(bool).sum())
    return result


def validated(finals: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """These final runs with ``val``, the validation accuracy of the trial that had their setting; NaN without one."""
    tried = trials[~trials["diverged"].astype(bool)].groupby(SETTING, as_index=False)["accuracy"].max()
    return finals.merge(tried.rename(columns={"accuracy": "val"}), on=SETTING, how="left")


def at_chance(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy in which every diverged run has the accuracy of chance, 100 / classes percent."""
    result = frame.copy()
    diverged = result["diverged"].astype(bool)
    result.loc[diverged, "accuracy"] = 100.0 / result.loc[diverged, "classes"]
    return result


def of_part(table: pd.DataFrame, part: str, variants: Iterable[str] = ()) -> pd.DataFrame:
    """The final runs of a part of the study: of these variants, or of the one that has the part's name.

    ``task`` is without the number of training images, which is in ``images``; ``spec_task`` is as the records say.
    ``UserError`` with the command that makes them if there are none.
    """
    mine = table[table["variant"].isin(list(variants) or [part]) & (table["stage"] == "final")]
    if mine.empty:
        raise UserError(f"there are no runs of the part {part!r}; run it: python -m petl_core study --part {part}")
    parts = [parts_of_name(task) for task in mine["task"]]
    return mine.assign(spec_task=mine["task"], task=[task for task, _ in parts], images=[images for _, images in parts])


def check_seeds(frame: pd.DataFrame, cell: list[str]) -> None:
    """``UserError`` naming the first ``cell`` (columns) without exactly one row for each seed of the frame."""
    seeds = sorted(set(frame["seed"]))
    for key, rows in frame.groupby(cell):
        if sorted(rows["seed"]) != seeds:
            names = ", ".join(f"{column} {value}" for column, value in zip(cell, key, strict=True))
            raise UserError(f"{names}: seeds {sorted(rows['seed'])} instead of {seeds}; run the study again")


def measured(records: Records, run: Any, name: str) -> dict[str, Any]:
    """What ``petl_core.study.measures`` kept under ``name`` of a run (a row of the table). ``UserError`` if nothing."""
    found = records.get(run.digest).get("measures", {}).get(name)
    if found is None:
        raise UserError(f"record {run.digest} ({run.method}, rate {run.lr:g}) has no {name}; run the study again")
    return found


def common(*frames: pd.DataFrame) -> list[pd.DataFrame]:
    """All restricted to the tasks, methods and seeds that they share, so that their means are of the same cells."""
    kept = list(frames)
    for column in CELL:
        shared = set.intersection(*(set(frame[column]) for frame in kept))
        if not shared:
            raise UserError(f"these runs have no {column} in common, so they cannot be compared")
        kept = [frame[frame[column].isin(shared)] for frame in kept]
    return [grid(frame) for frame in kept]


def families(names: Iterable[str]) -> dict[str, str]:
    """The family of each method, as its class says; "other" for names that are not registered."""
    known = registry.registry
    return {name: known[name].family if name in known else "other" for name in names}


def peft(names: Iterable[str]) -> list[str]:
    """The methods among ``names`` that are neither linear probing nor full fine-tuning, each once, in their order."""
    return [name for name, family in families(names).items() if family != "baseline"]


def peft_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame whose method is neither linear probing nor full fine-tuning."""
    return frame[frame["method"].isin(peft(frame["method"]))]


def group_order(groups: Iterable[str]) -> list[str]:
    """Group names in the order of VTAB, unknown ones last."""
    found = set(groups)
    return [name for name in GROUPS if name in found] + sorted(found - set(GROUPS))


def _check_columns(frame: pd.DataFrame) -> None:
    absent = NEEDED - set(frame.columns)
    if absent:
        raise UserError(
            f"the table lacks the columns {', '.join(sorted(absent))}; pass Records(...).table() or rows of it"
        )


def _name(row: pd.Series) -> str:
    return f"{row['method']} on {row['task']}, seed {row['seed']}, variant {row['variant']!r} ({row['digest']})"
