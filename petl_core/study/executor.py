"""Executes a plan: what is begun when, how often, and by which of several studies on one folder; writes the records.

Where runs are done is for the kinds of ``Executor`` to say, by their ``Place``s: ``study.runner`` on this machine,
``study.ray_executor`` on a cluster. A run whose place is lost, or that takes far longer than any should, is begun
again, ``TRIES`` times in all.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import re
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
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
SHOWN = 20.0  # seconds between two lines where there is no terminal
HOUR = 3600.0  # a run may take an hour longer than ...
SLOWEST = 20.0  # ... so many times what it would at the slowest pace of a finished run
FIRST_PACE = 10.0  # seconds for each unit of ``cost``, before any run has finished


@dataclass(frozen=True)
class Planned:
    """A run that a study wants, and the variant of the protocol that it serves."""

    spec: RunSpec
    variant: str


@dataclass
class Outcome:
    """What became of a plan."""

    done: int = 0
    skipped: int = 0
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
        lines += [f"FAILED {spec} ({spec.digest}): {reason.strip()}" for spec, reason in self.failures]
        return "\n".join(lines)


class Place(ABC):
    """Where one run at a time is done."""

    @abstractmethod
    def begin(self, run: Planned) -> Future[Reply]:
        """Begin a run. The future has an exception where the place was lost. ``UserError`` if it cannot be sent."""

    @abstractmethod
    def end(self) -> None:
        """Give the place back, in the middle of a run if need be; that run's future then has an exception."""


@dataclass(frozen=True)
class Begun:
    """A run that a place is doing, since when (``time.monotonic``)."""

    run: Planned
    place: Place
    since: float = field(default_factory=time.monotonic)


class Executor(ABC):
    """Executes plans; a subclass says where. Use it in a ``with`` statement."""

    def __init__(self, records: Records, *, progress: bool = True) -> None:
        self.records, self.progress = records, progress
        self.places: list[Any] = []  # of the subclass's kind of ``Place``
        self.busy: dict[Future[Reply], Begun] = {}
        self._shared_with: set[str] = set()
        self._pace: dict[str, float] = {}  # the slowest, in seconds for each unit of cost, by backbone
        records.check_writable()
        for message in records.clean():
            print(message, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all places back, whatever is done there."""
        for place in self.places:
            place.end()
        self.places, self.busy = [], {}

    @abstractmethod
    def ready(self, waiting: int) -> Sequence[Place]:
        """The places that do runs, or could. ``waiting``: how many runs want one."""

    def run(self, plan: Iterable[Planned], until: float = math.inf) -> Outcome:
        """Run what has no record yet, longest first. Failures are collected; only a full or read-only disk stops it.

        What another study on the same folder is doing is left to it, and waited for. ``until`` is a time of
        ``time.monotonic``: a run that has not begun by then is left (``Outcome.left``).
        """
        variants: dict[RunSpec, list[str]] = {}
        for planned in plan:
            variants.setdefault(planned.spec, []).append(planned.variant)
        todo = [Planned(spec, names[0]) for spec, names in variants.items() if not self.records.has(spec)]
        todo.sort(key=_longest_first)
        outcome = Outcome(skipped=len(variants) - len(todo))
        try:
            with Leases(self.records.root) as leases, Progress(todo, shown=self.progress) as progress:
                for run, reply in self._replies(deque(todo), leases, until, outcome):
                    if reply.record is not None:
                        self.records.add(reply.record, reply.predictions)
                        outcome.done += 1
                    else:
                        outcome.failures.append((run.spec, reply.error))
                    leases.give_back(run.spec.digest)
                    progress.show(run.spec, reply)
        except BaseException:  # Ctrl-C among them
            self.close()
            raise
        for spec, names in variants.items():
            if self.records.has(spec):
                self.records.add_variant(spec, *names)  # reads the record, so a damaged one is found here
        return outcome

    def _replies(
        self, waiting: deque[Planned], leases: Leases, until: float, outcome: Outcome
    ) -> Iterator[tuple[Planned, Reply]]:
        """Each run with what became of it, as they end; what needs no reply is counted in ``outcome``."""
        tries: Counter[Planned] = Counter()
        while waiting or self.busy:
            while waiting and time.monotonic() < until and (place := self._free(len(waiting))):
                run = self._next(waiting, leases, outcome)
                if run is None:
                    break
                tries[run] += 1
                begun = Begun(run, place)
                self.busy[_future(begun)] = begun
            if time.monotonic() >= until:
                outcome.left += len(waiting)
                waiting.clear()
            if waiting and not self.busy:
                time.sleep(LOOK)
            for run, reply in self._ended():
                if reply.lost and tries[run] < TRIES:
                    outcome.again += 1
                    waiting.appendleft(run)
                elif reply.lost:
                    yield run, Reply(error=f"it was begun {TRIES} times; the last time: {reply.error}")
                else:
                    yield run, reply
            for begun in self.busy.values():
                if time.monotonic() - begun.since > self.limit(begun.run.spec):
                    begun.place.end()

    def _free(self, waiting: int) -> Place | None:
        """A place where a run can begin, if there is one."""
        taken = [begun.place for begun in self.busy.values()]
        return next((place for place in self.ready(waiting) if place not in taken), None)

    def _next(self, waiting: deque[Planned], leases: Leases, outcome: Outcome) -> Planned | None:
        """The next run that no other study is doing, leased; None where others are doing all that are waiting."""
        for _ in range(len(waiting)):
            run = waiting.popleft()
            digest = run.spec.digest
            try:
                mine = digest in leases.held or leases.take(digest)
            except OSError as error:
                raise self.records.cannot_write(error) from error
            if self.records.has(digest):  # looked for last: another study may have finished it until then
                leases.give_back(digest)
                outcome.elsewhere += 1
            elif mine:
                return run
            else:
                self._say_shared(leases.holder(digest))
                waiting.append(run)
        return None

    def _say_shared(self, holder: str) -> None:
        if holder not in self._shared_with:
            self._shared_with.add(holder)
            text = f"{holder} runs a study into {self.records.root} too: each leaves to the other what that has begun"
            tqdm.write(text, sys.stderr)

    def _ended(self) -> Iterator[tuple[Planned, Reply]]:
        """The runs that have ended; where none has, waits for one for a moment."""
        done, _ = concurrent.futures.wait(self.busy, LOOK, concurrent.futures.FIRST_COMPLETED)
        for future in done:
            begun = self.busy.pop(future)
            spec, error = begun.run.spec, future.exception()
            if error is None:
                pace = (time.monotonic() - begun.since) / cost(spec)
                self._pace[spec.backbone] = max(pace, self._pace.get(spec.backbone, 0.0))
                yield begun.run, future.result()
                continue
            begun.place.end()
            self.places = [place for place in self.places if place is not begun.place]
            why = "its machine or its process was lost, perhaps for want of memory (try fewer --workers)"
            yield begun.run, Reply(error=f"{why}: {in_a_line(error)}", lost=True)

    def limit(self, spec: RunSpec) -> float:
        """Seconds after which a run hangs, beyond doubt."""
        return HOUR + SLOWEST * self._pace.get(spec.backbone, FIRST_PACE) * cost(spec)


def _future(begun: Begun) -> Future[Reply]:
    future: Future[Reply] = Future()
    try:
        return begun.place.begin(begun.run)
    except UserError as error:  # it cannot be sent to where runs are done
        future.set_result(Reply(error=str(error)))
    except Exception as error:  # the place cannot be started, or has just been lost
        future.set_exception(error)
    return future


def in_a_line(error: BaseException) -> str:
    """What an error says, in one line without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    return " ".join(text.split())[:300]


def _longest_first(run: Planned) -> tuple[Any, ...]:
    """Runs of about equal length with those of the same task and method, whose data a worker then has."""
    return -round(2 * math.log2(cost(run.spec))), run.spec.task, run.spec.method, run.spec.digest


class Progress:
    """A line with the phase and the time left: on a terminal one that changes, elsewhere one now and then, and one for
    each failure."""

    def __init__(self, todo: list[Planned], *, shown: bool) -> None:
        stages = sorted({run.spec.stage for run in todo})
        self.phase = {"trial": "trials", "final": "final runs"}.get(" ".join(stages), "runs")
        self.total = sum(cost(run.spec) for run in todo)
        self.shown, self.count, self.done, self.work = shown, len(todo), 0, 0.0
        self.start = self.printed = time.monotonic()
        start = f"{self.phase} 0/{self.count}"
        self.line = tqdm(desc=start, bar_format="{desc}", leave=False, disable=None if shown else True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def show(self, spec: RunSpec, reply: Reply) -> None:
        """A run has ended."""
        self.done, self.work, now = self.done + 1, self.work + cost(spec), time.monotonic()
        gone = now - self.start
        times = [tqdm.format_interval(t) for t in (gone, gone * (self.total - self.work) / self.work)]
        text = f"{self.phase} {self.done}/{self.count}, {times[0]} gone, {times[1]} left; {spec}: {_score(reply)}"
        if not self.line.disable:
            self.line.set_description_str(text[: shutil.get_terminal_size().columns - 1])
        elif self.shown and (reply.record is None or self.done == self.count or now - self.printed > SHOWN):
            self.printed = now
            print(text, file=sys.stderr, flush=True)


def _score(reply: Reply) -> str:
    """How a run ended. Of a final run no accuracy is shown: nobody is to look at the test images on the way."""
    if reply.record is None:
        return "failed"
    accuracy = reply.record["metrics"]["accuracy"]
    if accuracy is None:
        return "diverged"
    return f"{accuracy:.1f} %" if reply.record["stage"] == "trial" else "done"
