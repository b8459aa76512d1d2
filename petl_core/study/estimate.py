"""What a study will cost before it is started: runs by part, hours, disk. The hours come from measured rates only.

Runs of one ``Kind`` are timed once, as many kinds at a time as there will be workers, with random weights on random
images: so neither data nor weights are needed. Which trial will win is not known before the trials have run; until then
it is drawn by lot, which is fair to all of them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from petl_core.data.embedded import SIZE, WORLD, embedded_names
from petl_core.data.load import DEFAULT_SIZE, counts
from petl_core.data.task import Task, make_task
from petl_core.study import plan as study
from petl_core.study.budget import clock, measure
from petl_core.study.digests import ABSENT, why_no_task, why_no_weights
from petl_core.study.profile import Profile
from petl_core.study.records import Records
from petl_core.study.runner import worker_pool
from petl_core.study.spec import RunSpec
from petl_core.study.time import Speed, head_only, images, seconds
from petl_core.training.train import Recipe
from petl_core.utils import UserError

DAY = 86_400.0  # seconds; what is estimated above it is not started without being asked
CLASSES = 100
PER_RECORD, PER_EPOCH = 8_000, 110  # bytes of a record and of each epoch in its history
PACKED = 0.92  # compressed logits, as a share of two bytes for each


# What there is to do


@dataclass
class Forecast:
    """The runs of a study: how many of each part, those that are to be done, and what is absent here."""

    parts: list[tuple[str, int, int]]  # name, trials, final runs; a run of several parts counts in the first
    todo: list[RunSpec]
    there: int
    absent: dict[str, str]

    def text(self) -> str:
        """The counts as a table, what is absent here, and the disk needed."""
        trials, finals = sum(some for _, some, _ in self.parts), sum(more for _, _, more in self.parts)
        rows = [*self.parts, ("all", trials, finals)]
        lines = [f"{'part':<18}{'trials':>8}{'finals':>8}", *(f"{name:<18}{a:>8,}{b:>8,}" for name, a, b in rows)]
        lines.append(f"{trials + finals:,} runs in all; {self.there:,} are there already")
        if self.absent:
            lines.append(f"absent here: {', '.join(self.absent)}")
            firsts = {what.partition(" ")[0]: f"  {what}: {why}" for what, why in reversed(self.absent.items())}
            lines += firsts.values()  # one reason for weights and one for tasks
        disk = sum(map(record_bytes, self.todo)) / 1e6
        size = f"{disk:.2g} MB" if disk < 100 else f"{disk / 1e3:.2g} GB"
        return "\n".join([*lines, f"disk for {len(self.todo):,} records: about {size}"])


class Drawn(Records):
    """The records that are there and, for trials that have none, an accuracy drawn by lot."""

    def has(self, spec: RunSpec | str) -> bool:
        return True

    def get(self, spec: RunSpec | str) -> dict[str, Any]:
        digest = spec if isinstance(spec, str) else spec.digest
        if super().has(digest):
            return super().get(digest)
        return {"metrics": {"diverged": False, "accuracy": int(digest[:6], 16), "params": 0}}


def forecast(profile: Profile, records: Records, parts: Iterable[str] | None = None) -> Forecast:
    """What a study would run, whether or not its data and weights are on this machine."""
    drawn, names = Drawn(records.root), list(parts or dict.fromkeys(part.name for part in profile.parts))
    seen: dict[str, RunSpec] = {}
    rows = []
    for name in names:
        tunings, before = study.tunings(profile, profile.part(name), drawn, absent="count"), len(seen)
        seen |= {run.spec.digest: run.spec for run in study.trials_in(tunings)}
        trials = len(seen) - before
        seen |= {run.spec.digest: run.spec for run in study.finals_in(tunings, drawn)}
        rows.append((name, trials, len(seen) - before - trials))
    todo = [spec for digest, spec in seen.items() if not records.has(digest)]
    return Forecast(rows, todo, len(seen) - len(todo), _absent(seen.values()))


def _absent(specs: Iterable[RunSpec]) -> dict[str, str]:
    """The data and weights that these runs need and that are not here, with the reason."""
    tasks, weights = {}, {}
    for spec in specs:
        if spec.task_digest == ABSENT:
            tasks[f"task {spec.task}"] = spec.task, spec.image_size
        if spec.weights == ABSENT:
            weights[f"weights of {spec.backbone}"] = spec.backbone
    found = {what: why_no_task(name, size) for what, (name, size) in tasks.items()}
    return found | {what: why_no_weights(name) for what, name in weights.items()}


def record_bytes(spec: RunSpec) -> int:
    """About how much a run's record takes on the disk."""
    _, held = images(spec)
    kept = PACKED * 2 * held * counts(spec.task).classes + 10 * held if spec.stage == "final" else 0
    return int(PER_RECORD + PER_EPOCH * spec.recipe.epochs + kept)


# How long it takes


@dataclass(frozen=True)
class Kind:
    """What decides the time of a step. Hyper-parameters and augmentations change it little: defaults are timed."""

    backbone: str
    method: str
    image_size: int
    batch_size: int
    precision: str
    head_only: bool

    def task(self) -> Task:
        """A batch of random images to train on, and one image each to validate and to test with."""
        count, random = self.batch_size + 2, np.random.default_rng(0)
        pixels = random.integers(0, 256, (count, 3, self.image_size, self.image_size), dtype=np.uint8)
        index = np.arange(count)
        splits = {"train800": index[:-2], "val200": index[-2:-1], "test": index[-1:]}
        ids, classes = tuple(map(str, index)), tuple(map(str, range(CLASSES)))
        return make_task("random", "other", classes, images=pixels, labels=index % CLASSES, ids=ids, splits=splits)

    def time(self, device: str) -> Speed:
        """How fast such runs are in this process."""
        moving = 0.1 if self.method == "linear" and not self.head_only else 0.0
        recipe = Recipe(1e-4, batch_size=self.batch_size, precision=self.precision, drop_path=moving)
        return measure(self.backbone, self.method, self.task(), device, recipe, pretrained=False)


def kind_of(spec: RunSpec) -> Kind:
    """The kind of a run."""
    drawn = spec.task.partition("@")[0] in (*embedded_names(), WORLD)
    return Kind(
        backbone=spec.backbone,
        method=spec.method,
        image_size=spec.image_size or (SIZE if drawn else DEFAULT_SIZE),
        batch_size=spec.recipe.batch_size,
        precision=spec.recipe.precision,
        head_only=head_only(spec.method, spec.recipe),
    )


@dataclass
class Estimate:
    """Seconds of work of one worker and with all ``workers``, of the runs that have a rate; how many have none."""

    work: float
    wall: float
    unknown: int

    def text(self, workers: int, device: str) -> str:
        """The estimate as a line."""
        if not self.work:
            why = f"no rates are measured on this machine's {device}; add --measure" if self.unknown else "none"
            return f"time: {why}"
        text = f"time: {clock(self.work)} of work, about {clock(self.wall)} with {workers} at a time"
        more = f"; {self.unknown:,} runs have no measured rate and are not in it" if self.unknown else ""
        return f"{text}, besides reading the images{more}"


def estimate(todo: Iterable[RunSpec], rates: Mapping[Kind, Speed], workers: int) -> Estimate:
    """How long these runs take at these rates; with many workers, as long as the longest run at least."""
    kinds = [(spec, kind_of(spec)) for spec in todo]
    known = [seconds(spec, rates[kind]) for spec, kind in kinds if kind in rates]
    wall = max([sum(known) / max(1, workers), *known])
    return Estimate(sum(known), wall, len(kinds) - len(known))


def time_kinds(kinds: Iterable[Kind], device: str, workers: int) -> dict[Kind, Speed]:
    """Time each kind once, ``workers`` at a time in processes of their own, as they will run; ``UserError`` if one
    cannot be timed."""
    wanted = sorted(set(kinds), key=repr)
    print(f"timing {len(wanted)} kinds of runs on {device}, {workers} at a time ...", file=sys.stderr)
    pool = worker_pool(device, max(1, workers))
    try:
        timed = list(pool.map(functools.partial(Kind.time, device=device), wanted))
    except Exception as error:
        raise UserError(f"the timing on {device} failed ({error}); leave --measure out, or mend that first") from error
    finally:
        pool.shutdown(kill_workers=True)
    return dict(zip(wanted, timed, strict=True))
