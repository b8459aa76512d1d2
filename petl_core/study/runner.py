"""Runs on this machine: in this process, or in worker processes with one thread each (loky's).

A worker ends when the process that started it ends, however that ends, so killing a study loses only the runs in
progress. What to run, and why, is the plan's business; when, ``study.executor``'s.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import Future

import torch
from joblib.externals.loky import ProcessPoolExecutor
from tqdm import tqdm

from petl_core.study.budget import threads
from petl_core.study.execute import (
    WORKER_ENVIRONMENT,
    Reply,
    attempt,
    default_workers,
    device_called,
    order_of,
    perform,
)
from petl_core.study.executor import Executor, Place, Planned
from petl_core.study.records import Records
from petl_core.utils import UserError

# loky ends a worker whose memory has grown by 300 MB, as the images of a second task make it, and starts another.
warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")


class Runner(Executor):
    """Runs in this process, or in worker processes, which live from the first plan to ``close``."""

    def __init__(
        self, records: Records, workers: int | None = None, device: str = "cpu", *, progress: bool = True
    ) -> None:
        self.device = device_called(device)
        self.workers = (default_workers() if self.device == "cpu" else 1) if workers is None else workers
        if self.workers < 0:
            raise UserError(f"workers is {workers}; it must be 0 (in this process) or more")
        super().__init__(records, progress=progress)

    def ready(self, waiting: int) -> Sequence[Place]:
        """This process, or as many workers as there are runs for."""
        if self.workers < 2:
            return [] if self.busy else [Here(self.device)]
        there = {place.number for place in self.places}
        most = min(self.workers, len(self.busy) + waiting)
        new = [number for number in range(most) if number not in there]
        self.places += [Worker(number, shared_out(self.device, number)) for number in new]
        return self.places


class Here(Place):
    """This process, with one thread as the workers have, for the same bits."""

    def __init__(self, device: str) -> None:
        self.device = device

    def begin(self, run: Planned) -> Future[Reply]:
        future: Future[Reply] = Future()
        with threads(1 if self.device == "cpu" else None):
            future.set_result(attempt(run.spec, run.variant, self.device))
        return future

    def end(self) -> None:
        """It cannot be ended, nor is it lost: a run has ended when ``begin`` has."""


class Worker(Place):
    """A pool of one process, so that one that dies takes no other run with it."""

    def __init__(self, number: int, device: str) -> None:
        self.number, self.device, self.pool = number, device, worker_pool(device, 1)

    def begin(self, run: Planned) -> Future[Reply]:
        return self.pool.submit(perform, order_of(run.spec, run.variant), self.device)

    def end(self) -> None:
        self.pool.shutdown(kill_workers=True)


def worker_pool(device: str, workers: int) -> ProcessPoolExecutor:
    """Worker processes, each with one thread; they are started when first needed."""
    setup = {"initializer": _begin_worker, "initargs": (os.getpid(), device)}
    return ProcessPoolExecutor(workers, env=WORKER_ENVIRONMENT, **setup)


def _begin_worker(parent: int, device: str) -> None:
    """First thing in a worker: one thread, nothing on the standard output, and an end with its parent."""
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a worker that is ended leaves behind
    if device == "cpu":
        torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:  # the parent of an orphan is another process
        time.sleep(0.2)
    os._exit(1)  # in the middle of a run: it leaves no record


def shared_out(device: str, number: int, gpus: int | None = None) -> str:
    """The device of worker ``number``: with several GPUs, "cuda" is each of them in turn; workers may share one."""
    gpus = torch.cuda.device_count() if gpus is None else gpus
    return f"cuda:{number % gpus}" if device == "cuda" and gpus > 1 else device
