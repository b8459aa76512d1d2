"""The records of a notebook in one line: shipped with the repository, or computed now."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from petl_core.models.weights import EMBEDDED_NAMES
from petl_core.study.profiles import Profile, profile
from petl_core.study.records import Records
from petl_core.utils import UserError

if TYPE_CHECKING:
    from IPython.display import Markdown

SHIPPED = "laptop"  # the profile whose records the pages of the book are computed from
SMOKE = "**This is the smoke profile, a few steps on few images: the code runs, the numbers mean nothing.**"


@dataclass(frozen=True)
class Results:
    """A profile, its records, and their table restricted to the profile's tasks and methods."""

    profile: Profile
    records: Records
    fresh: bool

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """``Records.table()`` of this profile's tasks and methods, those of its special parts included."""
        from petl_core.study.plan import PARTS

        table = self.records.table()
        methods = set(self.profile.methods)
        methods = methods.union(*(part.methods or PARTS[part.name].only or () for part in self.profile.parts))
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
        other = dataclasses.replace(self)
        other.__dict__["table"] = table.reset_index(drop=True)  # where functools.cached_property keeps it
        return other

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
    Raises ``UserError`` for an unknown profile, source or part, or if nothing is shipped for this profile.
    """
    from petl_core.study.plan import PARTS, run_study
    from petl_guide.notebooks import records_folder

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
