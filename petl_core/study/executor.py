"""Executes a plan: what is begun when, how often, and by which of several studies on one folder; writes the records.

Where runs are done is for the kinds of ``Executor`` to say: ``study.runner`` on this machine, ``study.ray_executor`` on
a cluster. A run whose worker is lost, or that takes far longer than any should, is begun again, ``TRIES`` times in all.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from tqdm import tqdm

from petl_core.study.execute import Reply
from petl_core.study.leases import Leases
from petl_core.study.records import Records
from petl_core.study.spec import RunSpec
from petl_core.study.time import cost
from petl_core.utils import UserError

TRIES = 3  # times that a run is begun before it counts as failed
LOOK = 1.0  # seconds between two looks at what may have changed elsewhere
HOUR = 3600.0  # a run may take an hour longer than ...
SLOWEST = 20.0  # ... so many times what it would at the slowest pace of a finished run
FIRST_PACE = 10.0  # seconds for each unit of ``cost``, before any run has finished


@dataclass(frozen=True)
class Planned:
    """A run that a study wants, and the variant of the protocol that it serves."""

    spec: RunSpec
    variant: str


@dataclass
class Job:
    """A planned run on its way."""

    spec: RunSpec
    variant: str
    begun: int = 0  # times
    since: float = 0.0  # when it was last begun


@dataclass
class Outcome:
    """What became of a plan."""

    done: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[tuple[RunSpec, str]] = field(default_factory=list)
    left: int = 0  # not begun, because the time was up
    again: int = 0  # times that a run was begun again, because a machine or its worker was lost
    elsewhere: int = 0  # done meanwhile by another study on the same folder

    def __add__(self, other: Outcome) -> Outcome:
        names = [f.name for f in dataclasses.fields(self)]
        return Outcome(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def report(self) -> str:
        """Readable lines: the counts, and each failure with its spec and reason."""
        lines = [f"{self.done} runs done, {self.skipped} were there already, {len(self.failures)} failed"]
        if self.elsewhere:
            lines.append(f"{self.elsewhere} runs were done meanwhile by another study on the same folder")
        if self.again:
            lines.append(f"{self.again} runs were begun again, because a machine or its worker was lost")
        for spec, reason in self.failures:
            lines.append(f"FAILED {spec} ({spec.digest}): {reason.strip()}")
        return "\n".join(lines)


class Executor(ABC):
    """Executes plans; a subclass says where. Use it in a ``with`` statement."""

    def __init__(self, records: Records, *, progress: bool = True) -> None:
        self.records, self.progress = records, progress
        self._shared_with: set[str] = set()
        self._pace: dict[str, float] = {}  # the slowest, in seconds for each unit of cost, by backbone
        records.check_writable()
        for message in records.clean():
            print(message, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Give back what runs were done with, whatever it is doing."""

    def prepare(self, jobs: int) -> None:  # noqa: B027  (most need nothing)
        """Told how many runs there will be at most, before any is begun."""

    @abstractmethod
    def has_room(self, waiting: int) -> bool:
        """Is there room to begin a run? ``waiting``: how many want one."""

    @abstractmethod
    def begin(self, job: Job) -> None:
        """Begin a run, for which there is room. ``UserError`` if it cannot be sent to where it would be done."""

    @abstractmethod
    def ended(self, seconds: float) -> list[tuple[Job, Reply]]:
        """The runs that have ended; where none has, waits for one, up to ``seconds``."""

    @abstractmethod
    def end(self, job: Job) -> None:
        """Stop a run that hangs; ``ended`` then gives it as lost."""

    def run(self, plan: Iterable[Planned], until: float = math.inf) -> Outcome:
        """Run what has no record yet, longest first. Failures are collected; only a full or read-only disk stops it.

        What another study on the same folder is doing is left to it, and waited for. ``until`` is a time of
        ``time.monotonic``: a run that has not begun by then is left (``Outcome.left``).
        """
        start, outcome = time.monotonic(), Outcome()
        variants: dict[str, list[str]] = {}
        todo: dict[str, Job] = {}
        for planned in plan:
            digest = planned.spec.digest
            if digest not in variants:
                if self.records.has(digest):
                    outcome.skipped += 1
                else:
                    todo[digest] = Job(planned.spec, planned.variant)
            variants.setdefault(digest, []).append(planned.variant)
        jobs = sorted(todo.values(), key=_longest_first)
        self.prepare(len(jobs))
        try:
            with Leases(self.records.root) as leases, Progress(jobs, shown=self.progress) as progress:
                leases.clean()
                for job, reply in self._replies(deque(jobs), leases, until, outcome):
                    if reply.record is not None:
                        self.records.add(reply.record, reply.predictions)
                        outcome.done += 1
                    else:
                        outcome.failures.append((job.spec, reply.error))
                    leases.give_back(job.spec.digest)
                    progress.show(job.spec, reply)
        except BaseException:  # Ctrl-C among them
            self.close()
            raise
        for digest, names in variants.items():
            if self.records.has(digest):
                for name in names:
                    self.records.add_variant(digest, name)  # reads the record, so a damaged one is found here
        outcome.seconds = time.monotonic() - start
        return outcome

    def _replies(
        self, waiting: deque[Job], leases: Leases, until: float, outcome: Outcome
    ) -> Iterator[tuple[Job, Reply]]:
        """Each run with what became of it, as they end; what needs no reply is counted in ``outcome``."""
        running: list[Job] = []
        while waiting or running:
            while waiting and time.monotonic() < until and self.has_room(len(waiting)):
                job = self._next(waiting, leases, outcome)
                if job is None:
                    break
                job.begun, job.since = job.begun + 1, time.monotonic()
                try:
                    self.begin(job)
                except UserError as error:  # it cannot be sent to where runs are done
                    yield job, Reply(error=str(error))
                else:
                    running.append(job)
            if time.monotonic() >= until:
                outcome.left += len(waiting)
                waiting.clear()
            if not (waiting or running):
                break
            for job, reply in self.ended(LOOK):
                running.remove(job)
                if reply.lost and job.begun < TRIES:
                    outcome.again += 1
                    waiting.appendleft(job)
                    continue
                if reply.lost:
                    reply = Reply(error=f"it was begun {TRIES} times; the last time: {reply.error}")
                self._note_pace(job)
                yield job, reply
            for job in running:
                if time.monotonic() - job.since > self.limit(job.spec):
                    self.end(job)

    def _next(self, waiting: deque[Job], leases: Leases, outcome: Outcome) -> Job | None:
        """The next run that no other study is doing, leased; None where others are doing all that are waiting."""
        for _ in range(len(waiting)):
            job = waiting.popleft()
            digest = job.spec.digest
            try:
                mine = digest in leases.held or leases.take(digest)
            except OSError as error:
                raise self.records.cannot_write(error) from error
            if self.records.has(digest):  # looked for last: another study may have finished it until then
                leases.give_back(digest)
                outcome.elsewhere += 1
            elif mine:
                return job
            else:
                self._say_shared(leases.holder(digest))
                waiting.append(job)
        return None

    def _say_shared(self, holder: str) -> None:
        if holder not in self._shared_with:
            self._shared_with.add(holder)
            text = f"{holder} runs a study into {self.records.root} too: each leaves to the other what that has begun"
            tqdm.write(text, sys.stderr)

    def _note_pace(self, job: Job) -> None:
        pace = (time.monotonic() - job.since) / cost(job.spec)
        self._pace[job.spec.backbone] = max(pace, self._pace.get(job.spec.backbone, 0.0))

    def limit(self, spec: RunSpec) -> float:
        """Seconds after which a run hangs, beyond doubt."""
        return HOUR + SLOWEST * self._pace.get(spec.backbone, FIRST_PACE) * cost(spec)


def _longest_first(job: Job) -> tuple[Any, ...]:
    """Runs of about equal length with those of the same task and method, whose data a worker then has."""
    return -round(2 * math.log2(cost(job.spec))), job.spec.task, job.spec.method, job.spec.digest


class Progress:
    """A bar with the phase and the time left on a terminal; elsewhere a line every 20 seconds, and for each failure."""

    def __init__(self, jobs: list[Job], *, shown: bool) -> None:
        phases = {"trial": "trials", "final": "final runs"}
        stages = {job.spec.stage for job in jobs}
        self.phase = phases[stages.pop()] if len(stages) == 1 else "runs"
        self.shown, self.count, self.done, self.work = shown, len(jobs), 0, 0.0
        self.total = sum(cost(job.spec) for job in jobs)
        self.start = self.printed = time.monotonic()
        form = "{desc} {percentage:3.0f} %|{bar:20}| {elapsed} gone, {remaining} left{postfix}"
        self.bar = tqdm(
            total=self.total, desc=self._place(), bar_format=form, leave=False, disable=None if shown else True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, spec: RunSpec, reply: Reply) -> None:
        """A run has ended."""
        self.done, self.work = self.done + 1, self.work + cost(spec)
        line = f"{spec}: {_score(reply)}"
        if not self.bar.disable:
            self.bar.set_description_str(self._place(), refresh=False)
            self.bar.set_postfix_str(line[:100], refresh=False)
            self.bar.update(cost(spec))
            return
        now = time.monotonic()
        failed, last = reply.record is None, self.done == self.count
        if self.shown and (failed or last or now - self.printed > 20):
            self.printed = now
            gone = now - self.start
            left = gone * (self.total - self.work) / self.work
            times = f"{tqdm.format_interval(gone)} gone, {tqdm.format_interval(left)} left"
            print(f"[{self._place()}] {line}; {times}"[:158], file=sys.stderr, flush=True)

    def _place(self) -> str:
        return f"{self.phase} {self.done}/{self.count}"


def _score(reply: Reply) -> str:
    """How a run ended. Of a final run no accuracy is shown: nobody is to look at the test images on the way."""
    if reply.record is None:
        return "failed"
    accuracy = reply.record["metrics"]["accuracy"]
    if accuracy is None:
        return "diverged"
    return f"{accuracy:.1f} %" if reply.record["stage"] == "trial" else "done"
