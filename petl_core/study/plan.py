"""The study: from a profile to runs. ``study.protocol`` makes the specs, ``study.parts`` says which are wanted,
``study.runner`` executes them.

A plan is a list of specs, computed anew each time from the profile and the records that exist: so a study resumes, and
so an adaptive search decides on its next trials. It reads no images (``study.digests``).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from petl_core.data.embedded import demand_drawn
from petl_core.study import profiles
from petl_core.study.executor import Executor, Outcome, Planned
from petl_core.study.parts import PARTS
from petl_core.study.profile import Part, Profile
from petl_core.study.protocol import OURS, Tuning, choose, final_specs, published_trials, trial_specs, trials, trials_of
from petl_core.study.records import Records
from petl_core.study.runner import Runner
from petl_core.study.spec import RunSpec
from petl_core.utils import UserError

__all__ = ["PARTS", "Planned", "Profile", "choose", "final_specs", "plan_finals", "plan_trials", "published_trials"]
__all__ += ["run_plan", "run_study", "trial_specs", "trials", "trials_of"]


def _cells(profile: Profile, part: Part) -> list[tuple[str, str]]:
    """The tasks and methods of a part."""
    only = PARTS[part.key].only
    chosen = part.methods or only or profile.methods
    return [
        (task, method) for task in part.tasks or profile.tasks for method in chosen if only is None or method in only
    ]


def tunings(profile: Profile, part: Part, records: Records | None, absent: str) -> list[Tuning]:
    """What is tuned in one part, for each task and method in turn; ``records`` and ``absent`` as in ``plan_trials``."""
    values = {name: getattr(part, name) for name in ("backbone", "tune", "final", "image_size")}
    changes: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    its = dataclasses.replace(profile, **changes, seeds=profile.first_seeds(part.seeds), absent=absent)
    found = PARTS[part.key].tunings
    return [tuning for task, method in _cells(profile, part) for tuning in found(its, task, method, records)]


def _runs(
    profile: Profile,
    parts: Iterable[str] | None,
    records: Records | None,
    absent: str,
    wanted: Callable[[list[Tuning]], list[Planned]],
) -> list[Planned]:
    """The ``wanted`` runs of each of the parts; an error says in which part it is."""
    plan: list[Planned] = []
    for part in [profile.part(name) for name in parts] if parts else profile.parts:
        try:
            plan += wanted(tunings(profile, part, records, absent))
        except UserError as error:
            raise UserError(
                f"part '{part.name}' of profile '{profile.name}' cannot be planned: {error} (--part names the parts to "
                "run)"
            ) from error
    return plan


def plan_trials(
    profile: Profile, parts: Iterable[str] | None = None, records: Records | None = None, absent: str = "refuse"
) -> list[Planned]:
    """The tuning runs of the named parts (default: every part of the profile) that are known so far.

    By a fixed grid these are all; an adaptive search decides on its next trial by the ``records`` of the earlier ones.
    ``absent="count"``: plan runs whose data or weights are not on this machine too, to be counted; else ``UserError``.
    """
    return _runs(profile, parts, records, absent, trials_in)


def trials_in(its: list[Tuning]) -> list[Planned]:
    """The tuning runs of a part's tunings, each once; last, what the part shares with the part "tuned"."""
    found = dict.fromkeys(run for tuning in its for run in tuning.plan_trials())
    return sorted(found, key=lambda run: run.variant == OURS)


def plan_finals(
    profile: Profile, records: Records, parts: Iterable[str] | None = None, absent: str = "refuse"
) -> list[Planned]:
    """All final runs of the named parts that the trials in ``records`` decide; ``absent`` as in ``plan_trials``."""
    return _runs(profile, parts, records, absent, lambda its: finals_in(its, records))


def finals_in(its: list[Tuning], records: Records) -> list[Planned]:
    """The final runs of a part's tunings that the records decide."""
    return [run for tuning in its for run in tuning.plan_finals(records)]


def run_plan(
    plan: Iterable[Planned], records: Records, workers: int | None = None, device: str = "cpu", *, progress: bool = True
) -> Outcome:
    """Run what has no record yet. ``workers``: processes of one thread; 0 or 1 in this process; None one per core."""
    with Runner(records, workers, device, progress=progress) as runner:
        return runner.run(plan)


def run_study(
    profile: Profile | str,
    records: Records,
    workers: int | None = None,
    parts: Iterable[str] | None = None,
    device: str | None = None,
    *,
    progress: bool = True,
    executor: Executor | None = None,
) -> Outcome:
    """The trials, then the choice, then the final runs; may be killed and started again at any moment.

    With an adaptive search the tasks of a part come one after another, each with its trials and final runs, so that a
    study that stops has whole tasks, in the order of the profile. ``executor`` does the runs, and is closed at the end
    (default: a ``Runner`` of ``workers`` on ``device``).
    """
    profile = profiles.profile(profile) if isinstance(profile, str) else profile
    with contextlib.ExitStack() as stack:
        if executor is not None:
            stack.enter_context(executor)
        portions = list(_portions(profile, list(parts) if parts else None))
        _demand_images(portions, records)
        if executor is None:
            executor = stack.enter_context(Runner(records, workers, device or profile.device, progress=progress))
        outcome = Outcome()
        for its, names in portions:
            asked: set[RunSpec] = set()
            while new := [run for run in plan_trials(its, names, records) if run.spec not in asked]:
                asked |= {run.spec for run in new}
                outcome += executor.run(new)
            outcome += executor.run(plan_finals(its, records, names))
        return outcome


def _demand_images(portions: list[tuple[Profile, list[str] | None]], records: Records) -> None:
    """``UserError`` before anything is run, if images of what is to be run have not been drawn yet."""
    for profile, parts in portions:
        todo = [run.spec for run in plan_trials(profile, parts, records) if not records.has(run.spec)]
        for task in sorted({spec.task for spec in todo}):
            demand_drawn(task)


def _portions(profile: Profile, parts: list[str] | None) -> Iterator[tuple[Profile, list[str] | None]]:
    """What is run to its end before the next is begun: with an adaptive search each task of each part."""
    if profile.search is None:
        yield profile, parts
        return
    for name in parts or [part.name for part in profile.parts]:
        for task in profile.part(name).tasks or profile.tasks:
            yield profile.of_tasks([task]), [name]
