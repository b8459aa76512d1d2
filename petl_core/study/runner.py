"""Runs a list of specs: in this process, or in worker processes with one thread each. What exists is not run again.

A worker is ``python -m petl_core.study.runner``: it reads jobs as lines of JSON, writes each record itself, and ends at
once when the process that started it ends, however that ends. So killing a study loses only the runs in progress. What
to run, and why, is the plan's business.
"""

from __future__ import annotations

import functools
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from petl_core import methods
from petl_core.data import load_task
from petl_core.models.build import create_model
from petl_core.study import measures
from petl_core.study.environment import describe_environment
from petl_core.study.records import Records, RunSpec, StorageError
from petl_core.study.time import head_only, images
from petl_core.training.probe import set_probe_head
from petl_core.training.train import Run, train
from petl_core.utils import UserError

# One thread each; and glibc is to keep freed memory instead of giving it back to the system after every step: a step
# frees and takes the same few megabytes, and without this a worker spent a tenth of its time on page faults.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


Reply = tuple[RunSpec, dict[str, Any] | None]  # a run and a worker's answer; None: it was not begun


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
    seconds: float = 0.0
    failures: list[tuple[RunSpec, str]] = field(default_factory=list)
    left: int = 0  # not begun, because the time was up
    again: int = 0  # times that a run was begun again, because a machine or its worker was lost

    def __add__(self, other: Outcome) -> Outcome:
        counts = (self.done + other.done, self.skipped + other.skipped, self.seconds + other.seconds)
        return Outcome(*counts, self.failures + other.failures, self.left + other.left, self.again + other.again)

    def report(self) -> str:
        """Readable lines: the counts, and each failure with its spec and reason."""
        lines = [f"{self.done} runs done, {self.skipped} were there already, {len(self.failures)} failed"]
        if self.again:
            lines.append(f"{self.again} runs were begun again, because a machine or its worker was lost")
        for spec, reason in self.failures:
            lines.append(f"FAILED {spec} ({spec.digest}): {reason.strip()}")
        return "\n".join(lines)


def default_workers() -> int:
    """One worker for each core this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def python_path() -> str:
    """What PYTHONPATH must be for another process to import this petl_core."""
    package = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH", "")) if p)


def worker_environment() -> dict[str, str]:
    """The environment of a worker process on this machine."""
    return {**os.environ, **WORKER_ENVIRONMENT, "PYTHONPATH": python_path()}


@functools.lru_cache(maxsize=2)
def _task(name: str, size: int | None) -> Any:
    return load_task(name, size=size)


def fresh_task(name: str, size: int | None) -> Any:
    """The task read anew, for runs of this process too: the images of a folder may have changed since the last time."""
    _task.cache_clear()
    return _task(name, size)


def task_of(spec: RunSpec) -> Any:
    """The task of a spec."""
    return _task(spec.task, spec.image_size)


def device_called(name: str) -> str:
    """The device of that name; "auto" is the fastest there is. ``UserError`` listing those that are available."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there.get(name.partition(":")[0], False):
        raise UserError(f"device '{name}' is not available here; available: {', '.join(d for d in there if there[d])}")
    return name


def shared_out(device: str, number: int, gpus: int | None = None) -> str:
    """The device of worker ``number``: with several GPUs, "cuda" is each of them in turn; workers may share one."""
    gpus = torch.cuda.device_count() if gpus is None else gpus
    return f"cuda:{number % gpus}" if device == "cuda" and gpus > 1 else device


def build(spec: RunSpec, device: str = "cpu") -> Any:
    """The untrained model of a spec, on the device. ``UserError`` if the weights here are not those of the spec."""
    task = _task(spec.task, spec.image_size)
    model = create_model(
        spec.backbone,
        spec.method,
        num_classes=task.num_classes,
        pretrained=spec.weights != "random",
        image_size=task.image_size,
        seed=spec.seed,
        head="new" if spec.head == "probe" else spec.head,
        **spec.hyper,
    )
    if model.spec.weights != spec.weights:
        raise UserError(
            f"backbone '{spec.backbone}' has weights {model.spec.weights} here, the spec asks for {spec.weights}; "
            "make the plan again with these weights"
        )
    model = model.to(device)
    if spec.head == "probe":
        set_probe_head(model, task, spec.recipe, spec.train_on, spec.max_train)
    return model


def execute(spec: RunSpec, device: str = "cpu", progress: bool = False) -> Run:
    """Do one run: task, model, training. Equal specs give equal bits on one CPU with one thread."""
    task = _task(spec.task, spec.image_size)
    if task.digest != spec.task_digest:
        raise UserError(f"task '{spec.task}' has data {task.digest} here, the spec asks for {spec.task_digest}")
    model = build(spec, device)
    run = train(
        model,
        task,
        spec.recipe,
        seed=spec.seed,
        train_on=spec.train_on,
        evaluate_on=spec.evaluate_on,
        max_train=spec.max_train,
        max_evaluate=spec.max_evaluate,
        track=spec.track,
        progress=progress,
    )
    if spec.measure and not run.diverged:
        run.measures = {name: measures.get(name)(model, task, spec.recipe, spec.max_evaluate) for name in spec.measure}
    return run


def cost(spec: RunSpec) -> float:
    """Work of a run in forward passes of one image, roughly: for the order of runs and the time left."""
    count, held = images(spec)
    if head_only(spec):
        return count + held + 0.02 * count * spec.recipe.epochs
    return 3.0 * count * spec.recipe.epochs + held * (spec.recipe.epochs if spec.track else 1)


class Executor(ABC):
    """Executes plans; a subclass says where (``_replies``). Use it in a ``with`` statement."""

    def __init__(self, records: Records, progress: bool = True) -> None:
        self.records, self.progress = records, progress
        records.check_writable()
        records.clean()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Give back what runs were done with, whatever it is doing."""

    def run(self, plan: Iterable[Planned], until: float = math.inf) -> Outcome:
        """Run what has no record yet, longest first. Failures are collected; only a full or read-only disk stops it.

        ``until`` is a time of ``time.monotonic``: a run that has not begun by then is left (``Outcome.left``).
        """
        start, outcome = time.monotonic(), Outcome()
        variants: dict[str, list[str]] = {}
        todo: dict[str, RunSpec] = {}
        for planned in plan:
            digest = planned.spec.digest
            if digest not in variants:
                if self.records.has(digest):
                    outcome.skipped += 1
                else:
                    todo[digest] = planned.spec
            variants.setdefault(digest, []).append(planned.variant)
        jobs = sorted(todo.values(), key=lambda s: (-round(2 * math.log2(cost(s))), s.task, s.method, s.digest))
        bar = _Progress(jobs, self.progress)
        for spec, reply in self._replies(jobs, {digest: names[0] for digest, names in variants.items()}, until):
            if reply is None:
                outcome.left += 1
                continue
            outcome.again += reply.get("again", 0)
            if not reply["ok"] and self.records.has(spec):  # its worker died after the record and before the answer
                reply = {"ok": True, **self.records.get(spec)["metrics"]}
            if reply["ok"]:
                outcome.done += 1
            elif reply["storage"]:
                raise StorageError(reply["error"])
            else:
                outcome.failures.append((spec, reply["error"]))
            bar.show(spec, reply)
        for digest, names in variants.items():
            if self.records.has(digest):
                for name in names:
                    self.records.add_variant(digest, name)  # reads the record, so a damaged one is found here
        outcome.seconds = time.monotonic() - start
        return outcome

    @abstractmethod
    def _replies(self, jobs: list[RunSpec], variants: dict[str, str], until: float) -> Iterator[Reply]:
        """Do these jobs, begin them in this order, and give each with its reply when it is over. ``variants``: the
        variant to note in each record, by digest."""


class Runner(Executor):
    """Runs in this process, or in worker processes, which live from the first plan to ``close``."""

    def __init__(
        self, records: Records, workers: int | None = None, device: str = "cpu", progress: bool = True
    ) -> None:
        self.device = device_called(device)
        self.workers = (default_workers() if self.device == "cpu" else 1) if workers is None else workers
        if self.workers < 0:
            raise UserError(f"workers is {workers}; it must be 0 (in this process) or more")
        self.children: list[_Child] = []
        super().__init__(records, progress)

    def close(self) -> None:
        """End the worker processes, whatever they are doing."""
        for child in self.children:
            child.end()
        self.children = []

    def _replies(self, jobs: list[RunSpec], variants: dict[str, str], until: float) -> Iterator[Reply]:
        inline = min(self.workers, len(jobs)) <= 1 or any(defined_elsewhere(s) for s in jobs)
        return self._inline(jobs, variants, until) if inline else self._spread(jobs, variants, until)

    def _inline(self, jobs: list[RunSpec], variants: dict[str, str], until: float) -> Iterator[Reply]:
        threads = torch.get_num_threads()
        try:
            if self.device == "cpu":
                torch.set_num_threads(1)  # as the workers have, for the same bits
            for spec in jobs:
                late = time.monotonic() >= until
                yield spec, None if late else attempt(spec, variants[spec.digest], self.records, self.device)
        finally:
            torch.set_num_threads(threads)

    def _spread(self, jobs: list[RunSpec], variants: dict[str, str], until: float) -> Iterator[Reply]:
        waiting: queue.SimpleQueue[RunSpec] = queue.SimpleQueue()
        results: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        for spec in jobs:
            waiting.put(spec)
        while len(self.children) < min(self.workers, len(jobs)):
            self.children.append(_Child(self.records.root, shared_out(self.device, len(self.children))))
        stop = threading.Event()

        def feed(child: _Child) -> None:  # one thread per child: hand it a job, wait for the answer
            while not stop.is_set():
                try:
                    spec = waiting.get_nowait()
                except queue.Empty:
                    return
                late = time.monotonic() >= until
                job = {"spec": spec.to_dict(), "variant": variants[spec.digest]}
                results.put((spec, None if late else child.ask(job)))

        for child in self.children:
            threading.Thread(target=feed, args=(child,), daemon=True).start()
        try:
            for _ in jobs:
                yield results.get()
        except BaseException:  # Ctrl-C among them
            stop.set()
            self.close()
            raise
        finally:
            stop.set()


class _Child:
    """A worker process, started when first asked and again if it died."""

    def __init__(self, root: Path, device: str) -> None:
        self.root, self.device = root, device
        self.process: subprocess.Popen[str] | None = None

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        try:
            process = self.process = self.process or self._start()
        except OSError as error:
            return {"ok": False, "storage": False, "error": f"cannot start a worker process: {error}"}
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:  # it is gone
            answer = ""
        if answer:
            return json.loads(answer)
        code, self.process = process.wait(), None
        reason = "killed, perhaps for want of memory: try fewer --workers" if code < 0 else "see the messages above"
        return {"ok": False, "storage": False, "error": f"its worker process ended with code {code} ({reason})"}

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "petl_core.study.runner", str(self.root), self.device]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=worker_environment(),
            start_new_session=os.name == "posix",  # Ctrl-C reaches the parent alone, which ends its workers
        )

    def end(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()


class _Progress:
    """Lines with the time left: each run on a terminal, one every 20 seconds in a log."""

    def __init__(self, jobs: list[RunSpec], shown: bool) -> None:
        self.shown, self.total, self.count = shown, sum(cost(s) for s in jobs), len(jobs)
        self.start = self.printed = time.monotonic()
        self.done, self.work = 0, 0.0

    def show(self, spec: RunSpec, reply: dict[str, Any]) -> None:
        self.done, self.work = self.done + 1, self.work + cost(spec)
        now, last = time.monotonic(), self.done == self.count
        terminal = sys.stderr.isatty()
        if not self.shown or not (terminal or last or now - self.printed > 20 or not reply["ok"]):
            return
        self.printed = now
        left = (now - self.start) * (self.total - self.work) / self.work
        score = "failed" if not reply["ok"] else "diverged" if reply["diverged"] else f"{reply['accuracy']:.1f} %"
        line = f"[{self.done}/{self.count}] {spec}: {score}; {_clock(now - self.start)} gone, {_clock(left)} left"
        end = "\n" if last or not terminal or not reply["ok"] else "\r"
        print(line[:158].ljust(110) if terminal else line, end=end, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"


def defined_elsewhere(spec: RunSpec) -> bool:
    """A method written in a notebook or script is unknown to a worker process, so it is run in this one."""
    known = methods.registry.get(spec.method)
    return known is not None and not known.__module__.startswith("petl_core.")


def attempt(spec: RunSpec, variant: str, records: Records, device: str) -> dict[str, Any]:
    try:
        run = execute(spec, device)
        records.save(spec, run, variant, describe_environment(device))
    except UserError as error:
        return {"ok": False, "storage": isinstance(error, StorageError), "error": str(error)}
    except Exception:
        return {"ok": False, "storage": False, "error": traceback.format_exc()}
    accuracy = None if run.diverged else run.accuracy
    return {"ok": True, "accuracy": accuracy, "diverged": run.diverged, "seconds": run.seconds}


def main(arguments: list[str]) -> None:
    """The worker's loop: a line of JSON in, a run, a line of JSON out, until the input ends."""
    root, device = arguments
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed goes to stderr and cannot spoil the answers
    if device == "cpu":
        torch.set_num_threads(1)
    records, jobs = Records(root), queue.SimpleQueue[str]()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(line)
        os._exit(0)  # the parent has closed the pipe or is gone: stop in the middle of a run, leave no record of it

    threading.Thread(target=listen, daemon=True).start()
    while True:
        job = json.loads(jobs.get())
        reply = attempt(RunSpec.from_dict(job["spec"]), job["variant"], records, device)
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
