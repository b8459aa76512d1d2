"""The command ``study``: what is asked is checked first, then planned, run, packed and compared."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Any

from petl_core.study import estimate, profiles
from petl_core.study import plan as plans
from petl_core.study.execute import default_workers, device_called
from petl_core.study.packs import pack
from petl_core.study.profile import Profile
from petl_core.study.records import Records
from petl_core.utils import UserError

LOGITS_OF = ("tuned", "more_seeds")  # variants whose predictions are packed; analyses of predictions read these


def study(options: argparse.Namespace) -> int:
    """What ``python -m petl_core study`` does; returns the exit code."""
    profile = profiles.profile(options.profile)
    for name in options.part or ():
        profile.part(name)  # an error before anything is begun
    if unknown := set(options.no_logits or ()) - profile.all_tasks():
        known = ", ".join(sorted(profile.all_tasks()))
        raise UserError(f"--no-logits {min(unknown)}: profile '{profile.name}' has the tasks {known}")
    if options.task:
        profile = profile.of_tasks(options.task)
    if options.backbone:
        profile = dataclasses.replace(profile, backbone=options.backbone)
    if options.executor != "ray":
        for name in ("address", "gpus_per_run"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name.replace('_', '-')} is for --executor ray; add that or leave it out")
    if options.workers is not None and options.workers < 0:
        raise UserError(f"workers is {options.workers}; it must be 0 (in this process) or more")
    records = Records(options.results)
    if not options.plan:
        for message in records.clean():
            print(message, file=sys.stderr)
    shipped = _records_there(options.compare) if options.compare else None
    if not _may_start(options, profile, records):
        return 0
    executor, device = None, options.device or profile.device
    if options.executor == "ray":
        from petl_core.study.ray_executor import RayExecutor

        executor = RayExecutor(records, options.address or "auto", device, options.gpus_per_run, options.workers)
    else:
        device_called(device)
    outcome = plans.run_study(profile, records, options.workers, options.part, device, executor=executor)
    print(outcome.report())
    faults: list[str] = []
    if options.pack or shipped:
        plan = plans.plan_trials(profile, options.part, records) + plans.plan_finals(profile, records, options.part)
        wanted = {planned.spec.digest for planned in plan}
    if options.pack:
        digests = {digest for digest in wanted if records.has(digest)}
        place = pack(records, options.pack, digests, functools.partial(_keep_logits, options.no_logits))
        print(f"packed {len(digests)} records into {place}")
    if shipped:
        from petl_core.study.agreement import agreement_of  # scipy, which a plan need not wait for

        found = agreement_of(records, shipped, wanted)
        print(found.report())
        faults = found.faults
    return 1 if outcome.failures or faults else 0


def _keep_logits(left_out: Sequence[str] | None, record: dict[str, Any]) -> bool:
    """Are the logits of a record packed? ``left_out``: the tasks whose are not, [] for all tasks, None for none."""
    wanted = left_out is None or (bool(left_out) and record["spec"]["task"] not in left_out)
    return wanted and bool(set(LOGITS_OF) & set(record["variants"]))


def _records_there(folder: str) -> Records:
    """The records of a folder. ``UserError`` if there are none."""
    records = Records(folder)
    if not records.digests():
        raise UserError(f"--compare got '{folder}', in which there are no records; give another folder")
    return records


def _may_start(options: argparse.Namespace, profile: Profile, records: Records) -> bool:
    """Print the plan if asked; say no after --plan, and unless agreed to what takes more than a day or nobody knows."""
    device, large = options.device or profile.device, profile.device != "cpu"
    workers = options.workers or (default_workers() if device == "cpu" else 1)
    if not (options.plan or options.measure or large):
        return True  # nothing is known about the time, and the profiles for a CPU are short
    plan, rates = estimate.forecast(profile, records, options.part), {}
    if options.plan:
        print(plan.text())
    if options.measure:
        rates = estimate.time_kinds({estimate.kind_of(spec) for spec in plan.todo}, device_called(device), workers)
    found = estimate.estimate(plan.todo, rates, workers)
    if options.plan or options.measure:
        print(found.text(workers, device))
    if options.plan:
        return False
    if options.yes or not ((large and found.unknown) or found.wall > estimate.DAY):
        return True
    question = f"{len(plan.todo):,} runs are to be done; {found.text(workers, device)}"
    if not sys.stdin.isatty():
        raise UserError(f"{question}. Add --yes to start them")
    return input(f"{question}. Start? [y/N] ").strip().lower() in ("y", "yes")
