"""The study: from a profile to runs. ``study.protocol`` makes the specs, ``study.parts`` says which are wanted,
``study.runner`` executes them.

A plan is a list of specs, computed anew each time from the profile and the records that exist: so a study resumes, and
so an adaptive search decides on its next trials.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from petl_core.study.executor import Executor, Outcome, Planned
from petl_core.study.packs import unpack
from petl_core.study.parts import PARTS
from petl_core.study.parts.plan import Cells, PartPlan
from petl_core.study.profile import Part, Profile
from petl_core.study.profiles import profile
from petl_core.study.protocol import Trial, choose, final_specs, published_trials, trial_specs, trials, trials_of
from petl_core.study.records import Records
from petl_core.study.runner import Runner
from petl_core.utils import UserError

__all__ = ["PARTS", "Profile", "Trial", "choose", "final_specs", "plan_finals", "plan_trials", "profile"]
__all__ += ["published_trials", "run_plan", "run_study", "trial_specs", "trials", "trials_of"]


def _cells(study: Profile, part: Part) -> Cells:
    plan = PARTS[part.key]
    chosen = part.methods or plan.only or study.methods
    if plan.only:
        chosen = tuple(m for m in chosen if m in plan.only)
    return [(task, method) for task in part.tasks or study.tasks for method in chosen]


def _planned(study: Profile, part: Part, make: Callable[[PartPlan, Profile, Cells], list[Planned]]) -> list[Planned]:
    """The runs of one part: ``make`` called with its plan, its version of the profile and its cells."""
    names = ("backbone", "tune", "final", "image_size")
    values = {name: getattr(part, name) for name in names}
    changes: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    changes["seeds"] = study.first_seeds(part.seeds)
    try:
        return make(PARTS[part.key], dataclasses.replace(study, **changes), _cells(study, part))
    except UserError as error:
        raise UserError(
            f"part '{part.name}' of profile '{study.name}' cannot be planned: {error} (--part names the parts to run)"
        ) from error


def plan_trials(study: Profile, parts: Iterable[str] | None = None, records: Records | None = None) -> list[Planned]:
    """The tuning runs of the named parts (default: every part of the profile) that are known so far.

    By a fixed grid these are all; an adaptive search decides on its next trial by the ``records`` of the earlier ones.
    """
    wanted = [study.part(name) for name in parts] if parts else study.parts
    return [
        p for part in wanted for p in _planned(study, part, lambda plan, its, cells: plan.trials(its, cells, records))
    ]


def plan_finals(study: Profile, records: Records, parts: Iterable[str] | None = None) -> list[Planned]:
    """All final runs of the named parts that the trials in ``records`` decide."""
    wanted = [study.part(name) for name in parts] if parts else study.parts
    return [
        p for part in wanted for p in _planned(study, part, lambda plan, its, cells: plan.finals(its, cells, records))
    ]


def run_plan(
    plan: Iterable[Planned], records: Records, workers: int | None = None, device: str = "cpu", progress: bool = True
) -> Outcome:
    """Run what has no record yet. ``workers``: processes of one thread; 0 or 1 in this process; None one per core."""
    with Runner(records, workers, device, progress=progress) as runner:
        return runner.run(plan)


def run_study(
    study: Profile | str,
    records: Records,
    workers: int | None = None,
    parts: Iterable[str] | None = None,
    device: str | None = None,
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
    study = profile(study) if isinstance(study, str) else study
    parts = list(parts) if parts else None

    def taken(plan: list[Planned]) -> list[Planned]:
        if reuse is not None:
            records.check_writable()
            print(f"took over {unpack(reuse, records, dict.fromkeys(p.spec.digest for p in plan))} records")
        return plan

    with contextlib.ExitStack() as stack:
        if executor is not None:
            stack.enter_context(executor)
        portions = list(_portions(study, parts))
        first = taken(plan_trials(*portions[0], records)) if portions else []
        runner = executor or stack.enter_context(Runner(records, workers, device or study.device, progress=progress))
        outcome = runner.run(first)
        for its, names in portions:
            asked = {p.spec.digest for p in first}
            while new := [p for p in plan_trials(its, names, records) if p.spec.digest not in asked]:
                asked |= {p.spec.digest for p in new}
                outcome += runner.run(taken(new))
            outcome += runner.run(taken(plan_finals(its, records, names)))
        return outcome


def _portions(study: Profile, parts: list[str] | None) -> Iterator[tuple[Profile, list[str] | None]]:
    """What is run to its end before the next is begun: with an adaptive search each task of each part."""
    if study.search is None:
        yield study, parts
        return
    for name in parts or [part.name for part in study.parts]:
        for task in study.part(name).tasks or study.tasks:
            yield study.of_tasks([task]), [name]
