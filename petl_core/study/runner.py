"""Runs on this machine: in this process, or in worker processes with one thread each (loky's).

A worker ends when the process that started it ends, however that ends, so killing a study loses only the runs in
progress. What to run, and why, is the plan's business; when, ``study.executor``'s.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
import time
import warnings
from typing import Any

import torch
from joblib.externals.loky import ProcessPoolExecutor
from tqdm import tqdm

from petl_core.study.execute import (
    WORKER_ENVIRONMENT,
    Reply,
    attempt,
    default_workers,
    device_called,
    order_of,
    perform,
)
from petl_core.study.executor import Executor, Job
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
        self.places: list[Worker] = []
        self.busy: dict[concurrent.futures.Future[Reply], tuple[Job, Worker | None]] = {}
        self.used = 0  # places in use; 0: this process
        super().__init__(records, progress=progress)

    def close(self) -> None:
        """End the worker processes, whatever they are doing."""
        for place in self.places:
            place.end()
        self.places, self.busy = [], {}

    def prepare(self, jobs: int) -> None:
        """Choose this process for a single run, else as many workers as are wanted."""
        wanted = min(self.workers, jobs)
        self.used = wanted if wanted > 1 else 0
        while len(self.places) < self.used:
            self.places.append(Worker(shared_out(self.device, len(self.places))))

    def has_room(self, waiting: int) -> bool:
        return len(self.busy) < max(1, self.used)

    def begin(self, job: Job) -> None:
        if not self.used:
            self.busy[_done_here(job, self.device)] = job, None
            return
        taken = [place for _, place in self.busy.values()]
        place = next(place for place in self.places if place not in taken)
        self.busy[place.begin(job)] = job, place

    def ended(self, seconds: float) -> list[tuple[Job, Reply]]:
        if not self.busy:
            time.sleep(seconds)
        done, _ = concurrent.futures.wait(self.busy, seconds, concurrent.futures.FIRST_COMPLETED)
        replies = []
        for future in done:
            job, place = self.busy.pop(future)
            error = future.exception()
            if error is not None and place is not None:
                place.end()
                said = f"its worker process was lost, perhaps killed for want of memory (try fewer --workers): {error}"
                replies.append((job, Reply(error=said, lost=True)))
            else:
                replies.append((job, future.result()))
        return replies

    def end(self, job: Job) -> None:
        for its, place in self.busy.values():
            if its is job and place is not None:
                place.end()


class Worker:
    """A place for one run at a time: a pool of one process, so that one that dies takes no other run with it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.pool: ProcessPoolExecutor | None = None

    def begin(self, job: Job) -> concurrent.futures.Future[Reply]:
        """Begin a run; the process is started when first needed and again if it died."""
        order = order_of(job.spec, job.variant)
        try:
            if self.pool is None:
                setup: dict[str, Any] = {"initializer": _begin_worker, "initargs": (os.getpid(), self.device)}
                self.pool = ProcessPoolExecutor(1, env=WORKER_ENVIRONMENT, **setup)
            return self.pool.submit(perform, order, self.device)
        except Exception as error:  # it cannot be started, or has just died
            failed: concurrent.futures.Future[Reply] = concurrent.futures.Future()
            failed.set_exception(error)
            return failed

    def end(self) -> None:
        """End the process, whatever it is doing."""
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.shutdown(kill_workers=True)


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


def _done_here(job: Job, device: str) -> concurrent.futures.Future[Reply]:
    """A run done in this process, with one thread as the workers have, for the same bits."""
    future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
    threads = torch.get_num_threads()
    try:
        if device == "cpu":
            torch.set_num_threads(1)
        future.set_result(attempt(job.spec, job.variant, device))
    finally:
        torch.set_num_threads(threads)
    return future


def shared_out(device: str, number: int, gpus: int | None = None) -> str:
    """The device of worker ``number``: with several GPUs, "cuda" is each of them in turn; workers may share one."""
    gpus = torch.cuda.device_count() if gpus is None else gpus
    return f"cuda:{number % gpus}" if device == "cuda" and gpus > 1 else device
