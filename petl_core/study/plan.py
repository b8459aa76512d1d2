"""The study: from a profile to runs. ``study.protocol`` makes the specs, ``study.parts`` says which are wanted,
``study.runner`` executes them.

A plan is a list of specs, computed anew each time from the profile and the records that exist: so a study resumes, and
so an adaptive search decides on its next trials. It reads no images (``study.digests``).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from petl_core.data.embedded import demand_drawn
from petl_core.study import profiles
from petl_core.study.executor import Executor, Outcome, Planned
from petl_core.study.packs import unpack
from petl_core.study.parts import PARTS
from petl_core.study.profile import Part, Profile
from petl_core.study.protocol import OURS, Tuning, choose, final_specs, published_trials, trial_specs, trials, trials_of
from petl_core.study.records import Records
from petl_core.study.runner import Runner
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


@contextlib.contextmanager
def _named(profile: Profile, part: Part) -> Iterator[None]:
    """Say of an error inside in which part it is."""
    try:
        yield
    except UserError as error:
        raise UserError(
            f"part '{part.name}' of profile '{profile.name}' cannot be planned: {error} (--part names the parts to run)"
        ) from error


def _wanted(profile: Profile, parts: Iterable[str] | None) -> list[Part]:
    return [profile.part(name) for name in parts] if parts else list(profile.parts)


def plan_trials(
    profile: Profile, parts: Iterable[str] | None = None, records: Records | None = None, absent: str = "refuse"
) -> list[Planned]:
    """The tuning runs of the named parts (default: every part of the profile) that are known so far.

    By a fixed grid these are all; an adaptive search decides on its next trial by the ``records`` of the earlier ones.
    ``absent="count"``: plan runs whose data or weights are not on this machine too, to be counted; else ``UserError``.
    """
    plan: list[Planned] = []
    for part in _wanted(profile, parts):
        with _named(profile, part):
            plan += trials_in(tunings(profile, part, records, absent))
    return plan


def trials_in(its: list[Tuning]) -> list[Planned]:
    """The tuning runs of a part's tunings, each once; last, what the part shares with the part "tuned"."""
    found = dict.fromkeys(run for tuning in its for run in tuning.plan_trials())
    return sorted(found, key=lambda run: run.variant == OURS)


def plan_finals(
    profile: Profile, records: Records, parts: Iterable[str] | None = None, absent: str = "refuse"
) -> list[Planned]:
    """All final runs of the named parts that the trials in ``records`` decide; ``absent`` as in ``plan_trials``."""
    plan: list[Planned] = []
    for part in _wanted(profile, parts):
        with _named(profile, part):
            plan += finals_in(tunings(profile, part, records, absent), records)
    return plan


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
    reuse: Records | None = None,
    executor: Executor | None = None,
) -> Outcome:
    """The trials, then the choice, then the final runs; may be killed and started again at any moment.

    With an adaptive search the tasks of a part come one after another, each with its trials and final runs, so that a
    study that stops has whole tasks, in the order of the profile.

    ``executor`` does the runs, and is closed at the end (default: a ``Runner`` of ``workers`` on ``device``).
    ``reuse``: packed records from which what is wanted is copied first, trials and (once these are chosen) final runs.
    """
    profile = profiles.profile(profile) if isinstance(profile, str) else profile
    parts = list(parts) if parts else None

    def taken(plan: list[Planned]) -> list[Planned]:
        if reuse is not None:
            records.check_writable()
            print(f"took over {unpack(reuse, records, dict.fromkeys(p.spec.digest for p in plan))} records")
        return plan

    with contextlib.ExitStack() as stack:
        if executor is not None:
            stack.enter_context(executor)
        portions = list(_portions(profile, parts))
        _demand_images(portions, records, reuse)
        first = taken(plan_trials(*portions[0], records)) if portions else []
        device = device or profile.device
        runner = executor or stack.enter_context(Runner(records, workers, device, progress=progress))
        outcome = runner.run(first)
        for its, names in portions:
            asked = {p.spec.digest for p in first}
            while new := [p for p in plan_trials(its, names, records) if p.spec.digest not in asked]:
                asked |= {p.spec.digest for p in new}
                outcome += runner.run(taken(new))
            outcome += runner.run(taken(plan_finals(its, records, names)))
        return outcome


def _demand_images(portions: list[tuple[Profile, list[str] | None]], records: Records, reuse: Records | None) -> None:
    """``UserError`` before anything is run, if images of what is to be run have not been drawn yet."""
    there = [place for place in (records, reuse) if place is not None]
    for profile, parts in portions:
        specs = [run.spec for run in plan_trials(profile, parts, records)]
        for task in sorted({spec.task for spec in specs if not any(place.has(spec) for place in there)}):
            demand_drawn(task)


def _portions(profile: Profile, parts: list[str] | None) -> Iterator[tuple[Profile, list[str] | None]]:
    """What is run to its end before the next is begun: with an adaptive search each task of each part."""
    if profile.search is None:
        yield profile, parts
        return
    for name in parts or [part.name for part in profile.parts]:
        for task in profile.part(name).tasks or profile.tasks:
            yield profile.of_tasks([task]), [name]
