"""The records of a notebook in one line: shipped with the repository, or computed now; and those on photographs.

The records on photographs (ViT-Ti on folders below PETL_DATA) are shipped too. They are read whatever profile a
notebook runs at, because the photographs cannot be shipped with them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from petl_core.models.weights import EMBEDDED_NAMES
from petl_core.study.parts import PARTS
from petl_core.study.plan import run_study
from petl_core.study.profile import Profile
from petl_core.study.profiles import profile
from petl_core.study.records import Records
from petl_core.study.statistics import Interval
from petl_core.utils import UserError
from petl_guide import runs as select
from petl_guide.accuracy import MEAN, by_group, interval_over, scores
from petl_guide.low_shot import ranks, variance
from petl_guide.notebooks import records_folder

if TYPE_CHECKING:
    from IPython.display import Markdown

SHIPPED = "laptop"  # the profile whose records the pages of the book are computed from
PHOTOGRAPHS = "real"  # and the one whose records on photographs stand beside them
SMOKE = "**This is the smoke profile, a few steps on few images: the code runs, the numbers mean nothing.**"
CLOSE = 2.0  # points from the best mean


@dataclass(frozen=True)
class Results:
    """A profile, its records, and their table restricted to the profile's tasks and methods.

    ``chosen``: the table to use instead, for instance of some of the runs (see ``of``).
    """

    profile: Profile
    records: Records
    fresh: bool
    chosen: pd.DataFrame | None = field(default=None, repr=False, compare=False)

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """``Records.table()`` of this profile's tasks and methods, those of its special parts included."""
        if self.chosen is not None:
            return self.chosen
        table = self.records.table()
        methods = set(self.profile.methods)
        methods = methods.union(*(part.methods or PARTS[part.key].only or () for part in self.profile.parts))
        mine = table["task"].isin(self.profile.all_tasks()) & table["method"].isin(methods)
        return table[mine].reset_index(drop=True)

    def has(self, variant: str) -> bool:
        """Are there final runs of this variant?"""
        return bool(((self.table["variant"] == variant) & (self.table["stage"] == "final")).any())

    @property
    def shipped(self) -> bool:
        """Are these the records that come with the repository?"""
        from petl_guide.notebooks import records_folder

        return self.records.root.resolve() == records_folder(self.profile.name, "shipped").resolve()

    @property
    def smoke(self) -> bool:
        return self.profile.name == "smoke"

    @property
    def embedded(self) -> bool:
        """Is this a profile of the embedded backbone and tasks?"""
        return self.profile.backbone in EMBEDDED_NAMES

    def of(self, table: pd.DataFrame) -> Results:
        """The same records with another table, for instance of some of the runs."""
        return dataclasses.replace(self, chosen=table.reset_index(drop=True))

    def on_suite(self) -> Results:
        """These results or, if their tasks are not embedded, the shipped ones of laptop: for what is run live."""
        return self if self.embedded else open_results(SHIPPED)

    def note(self) -> Markdown:
        """Where the numbers of this notebook come from; at smoke, in bold, that they mean nothing."""
        from IPython.display import Markdown

        p = self.profile
        read = "the runs shipped with the repository" if self.shipped else f"the runs in {self.records.root}"
        origin = "computed by this notebook's own study" if self.fresh else read
        runs = self.table["digest"].nunique()
        text = (
            f"Profile **{p.name}**: backbone `{p.backbone}`, {len(p.tasks)} tasks, {len(p.methods)} methods, "
            f"{p.trials} trials for each method on each task, {len(p.seeds)} seeds. The numbers come "
            f"from {runs:,} runs: {origin}."
        )
        return Markdown(f"{SMOKE}\n\n{text}" if self.smoke else text)


def open_results(
    profile_name: str,
    results: str = "shipped",
    runs: str | Path = "",
    parts: Sequence[str] | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Results:
    """The records behind a notebook.

    ``results="shipped"`` reads ``data/results`` or, if given, ``runs``, for instance a study made on another machine;
    "fresh" first runs what the profile's study still lacks in ``runs`` (default ``runs/results-<profile>``), with
    ``workers`` processes (default: one per core), and may be interrupted;
    ``parts`` are those that the notebook needs (default: all that the profile has; what it has not is left out).
    Raises ``UserError`` for an unknown profile, source or part, or if there are no records of this profile.
    """
    chosen = profile(profile_name)
    for name in parts or ():
        if name not in PARTS:
            raise UserError(f"unknown part '{name}' of a study; the parts are: {', '.join(PARTS)}")
    needed = [part.name for part in chosen.parts if parts is None or part.name in parts]
    folder = records_folder(profile_name, results, runs)
    if results == "fresh":
        records = Records(folder)
        run_study(chosen, records, workers, needed, progress=progress)
        return Results(chosen, records, fresh=True)
    if chosen.name == "smoke":
        raise UserError("no records of the smoke profile are shipped, they mean nothing; set RESULTS = 'fresh'")
    found = Results(chosen, Records(folder), fresh=False)
    if found.table.empty:
        raise UserError(
            f"{folder} holds no records of the profile '{profile_name}'; set RESULTS = 'fresh', or run "
            f"python -m petl_core study --profile {profile_name} and say with RUNS where its records are"
        )
    return found


def of_folder(profile_name: str, folder: str | Path) -> Results:
    """The records that a study of this profile wrote to a folder.

    ``UserError`` if there are none, or if they are those of another profile: of other tasks, backbone or epochs.
    """
    chosen, records = profile(profile_name), Records(folder)
    if not records.digests():
        raise UserError(f"there are no records in {folder}; name the folder that a study wrote")
    found = Results(chosen, records, fresh=True)
    tuned = found.table[(found.table["variant"] == "tuned") & (found.table["stage"] == "final")]
    reason = ""
    if found.table.empty:
        reason = "they are of other tasks or methods"
    elif len(tuned) and set(tuned["backbone"]) != {chosen.backbone}:
        reason = f"they tune {', '.join(sorted(set(tuned['backbone'])))}, not {chosen.backbone}"
    elif len(tuned) and set(tuned["epochs"]) != {chosen.final.epochs}:
        found_epochs = ", ".join(f"{epochs:g}" for epochs in sorted(set(tuned["epochs"])))
        reason = f"their final runs have {found_epochs} epochs, not {chosen.final.epochs}"
    elif len(tuned) and (lacking := sorted(set(chosen.tasks) - set(tuned["task"]))):
        reason = f"they have no tuned runs on {', '.join(lacking)}"
    if reason:
        raise UserError(
            f"the records in {folder} are not those of the profile '{profile_name}': {reason}. Say with --profile "
            "whose they are, or run that study to its end"
        )
    return found


# ---- the study on photographs beside the embedded one: what carries over to a larger backbone and other images


def open_real() -> Results:
    """The shipped records on photographs, their tasks named without their folder."""
    return named_shortly(open_results(PHOTOGRAPHS))


def named_shortly(results: Results) -> Results:
    """These results, their tasks named without their folder."""
    return results.of(results.table.assign(task=results.table["task"].map(short)))


def short(task: str) -> str:
    """ "vtab:vtab_processed/eurosat" -> "eurosat"."""
    return task.rpartition("/")[2]


def same_methods(studies: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tuned runs of each study, of the methods that all of them have."""
    shared = set.intersection(*(set(runs["method"]) for runs in studies.values()))
    return {name: select.grid(runs[runs["method"].isin(shared)]) for name, runs in studies.items()}


def studies_beside(studies: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """For each study (its tuned runs) what the claim of similar accuracy rests on: a row for each quantity.

    Standard deviations and differences in points, the latter with intervals over tasks. Give the studies the same
    methods (``same_methods``).
    """
    columns = {name: _quantities(runs) for name, runs in studies.items()}
    return pd.DataFrame(columns).rename_axis("").reset_index()


def _quantities(runs: pd.DataFrame) -> dict[str, str]:
    means, peft = _peft_means(runs), select.peft_rows(runs)
    part, matrix = variance.components(peft), scores(peft)
    test, (apart, pairs) = ranks.friedman(matrix), ranks.separated(matrix)
    close = (means.max() - means <= CLOSE).sum()
    return {
        "tasks": str(runs["task"].nunique()),
        f"PEFT methods within {CLOSE:g} points of their best": f"{close} of {len(means)}",
        "sd between PEFT methods": f"{part.method:.2f} [{part.method_low:.2f}, {part.method_high:.2f}]",
        "sd of method × task": f"{part.interaction:.2f}",
        "sd between seeds": f"{part.seed:.2f}",
        "tasks agree on the order (Kendall's W)": f"{test.w:.2f}",
        "pairs told apart by ranks": f"{apart} of {pairs}",
        "PEFT minus linear probing": str(ahead(runs, "linear")),
        "PEFT minus full fine-tuning": str(ahead(runs, "full")),
    }


def _peft_means(runs: pd.DataFrame) -> pd.Series:
    """The mean of groups of each PEFT method."""
    table = by_group(select.peft_rows(runs))
    return table[table["group"] == MEAN].set_index("method")["mean"]


def ahead(runs: pd.DataFrame, baseline: str) -> Interval:
    """The mean of the PEFT methods minus a baseline, points, with an interval over tasks."""
    matrix = scores(runs)
    difference = (matrix[select.peft(matrix.columns)].mean(axis=1) - matrix[baseline]).rename("difference")
    return interval_over(difference.rename_axis("task").reset_index(), "task", "difference")


def order_agreement(studies: Sequence[pd.DataFrame]) -> float:
    """Spearman's correlation of the mean accuracies (of groups) of the PEFT methods in two studies."""
    both = pd.concat([_peft_means(runs) for runs in studies], axis=1).dropna()
    return float(both.corr(method="spearman").iloc[0, 1])
