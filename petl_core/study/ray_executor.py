"""Runs a plan on the machines of a Ray cluster, as ``study.runner`` runs it on this one: same plan, same records.

Each place for a run (one CPU, or a share of a GPU) is held by one Ray actor, a process that keeps its torch, its GPU
and the tasks it has read, and does one run after the other with the threads and the environment of a local worker, so
that equal processors give equal bits. A finished run comes back as its record, and this process writes it: no folder
needs to be shared, and a half-written record cannot be. Data and weights are read by each machine itself, at the same
paths or under the same PETL_DATA. If a machine or a process is lost, its run is begun again elsewhere, at most
``TRIES`` times in all; if this process is lost, the actors end with it, and the same command resumes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from petl_core.study.records import Records, RunSpec
from petl_core.study.runner import (
    WORKER_ENVIRONMENT,
    Executor,
    Reply,
    attempt,
    defined_elsewhere,
    device_called,
    python_path,
)
from petl_core.utils import UserError

TRIES = 3  # times that a run is begun before it counts as failed
LOOK = 2.0  # seconds between two looks at the machines that have come or gone
PASSED_ON = ("PETL_DATA", "PETL_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME")
Answer = tuple[dict[str, Any], dict[str, Any] | None, Any]  # reply, record, predictions


class RayExecutor(Executor):
    """Executes plans on a Ray cluster; ``close`` ends its actors and, if it started or joined Ray, leaves it.

    Args:
        address: "auto" (the cluster that this machine is part of, or RAY_ADDRESS), "local" (a new one of this machine
            alone), "HOST:PORT" or "ray://HOST:PORT". Where Ray is connected already, that cluster is used.
        device: of the runs, "cpu" or "cuda".
        gpus_per_run: share of a GPU for each run, such as 0.25 for four runs on one (default: 1; 0 on a CPU).
        workers: runs at a time at most (default: as many as the cluster has places for).

    Raises ``UserError`` without Ray, without a cluster at the address, or if the cluster has no place for a run.
    """

    def __init__(
        self,
        records: Records,
        address: str = "auto",
        device: str = "cpu",
        gpus_per_run: float | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> None:
        if device not in ("cpu", "cuda"):
            raise UserError(f"device is '{device}'; runs on a Ray cluster are on cpu or cuda")
        self.gpus = (1.0 if device == "cuda" else 0.0) if gpus_per_run is None else gpus_per_run
        if not (0 < self.gpus <= 1 if device == "cuda" else self.gpus == 0):
            allowed = "more than 0 and at most 1 on cuda, such as 0.25" if device == "cuda" else "0 on cpu"
            raise UserError(f"gpus_per_run is {gpus_per_run}; it must be {allowed}")
        if workers is not None and workers < 1:
            raise UserError(f"workers is {workers}; with Ray it must be 1 or more, or left out")
        super().__init__(records, progress)
        self.device, self.most = device, workers
        self.idle: list[Any] = []
        self.all: list[Any] = []
        self.busy: dict[Any, tuple[Any, RunSpec | None]] = {}  # what an actor does; None: it starts
        self.ray, self.connected = _connect(address, workers)
        if not self.places():
            self.close()
            needed = f"1 CPU and {self.gpus:g} of a GPU" if self.gpus else "1 CPU"
            raise UserError(f"the Ray cluster has no machine with {needed} for a run; add one, or change --device")

    def close(self) -> None:
        """End the actors, in the middle of a run if need be, and leave the cluster."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            for worker in self.all:
                self.ray.kill(worker)
        self.all, self.idle, self.busy = [], [], {}
        if self.connected:
            self.ray.shutdown()
            self.connected = False

    def places(self) -> int:
        """How many runs the machines that are up now could do at a time, if they did nothing else."""
        total = 0
        for node in self.ray.nodes():
            if node["Alive"]:
                there = node["Resources"]
                by_gpu = int(1 / self.gpus) * int(there.get("GPU", 0)) if self.gpus else sys.maxsize
                total += min(int(there.get("CPU", 0)), by_gpu)
        return total if self.most is None else min(total, self.most)

    def _replies(self, jobs: list[RunSpec], variants: dict[str, str], until: float) -> Iterator[Reply]:
        for spec in jobs:
            if defined_elsewhere(spec):
                raise UserError(
                    f"method '{spec.method}' is defined outside petl_core, so the other machines do not know it; "
                    "put its file into petl_core/methods/ on each of them, or run it without --executor ray"
                )
        try:
            yield from self._spread(jobs, variants, until)
        except BaseException:  # Ctrl-C among them
            self.close()
            raise

    def _spread(self, jobs: list[RunSpec], variants: dict[str, str], until: float) -> Iterator[Reply]:
        waiting, begun, starts_failed = deque(jobs), dict.fromkeys(jobs, 0), 0
        busy = self.busy
        places, looked = self.places(), time.monotonic()
        while waiting or any(spec is not None for _, spec in busy.values()):
            while waiting and self.idle:
                spec = waiting.popleft()
                if time.monotonic() >= until:
                    yield spec, None
                    continue
                begun[spec] += 1
                worker = self.idle.pop()
                job = {"spec": spec.to_dict(), "digest": spec.digest, "variant": variants[spec.digest]}
                busy[worker.run.remote(job)] = (worker, spec)
            starting = sum(spec is None for _, spec in busy.values())
            for _ in range(min(places - len(self.all), len(waiting) - starting)):
                worker = self._start()
                busy[worker.ready.remote()] = (worker, None)
            if not busy:  # no machine is up now
                time.sleep(LOOK)
            done, _ = self.ray.wait(list(busy), timeout=LOOK) if busy else ([], [])
            if time.monotonic() - looked > LOOK:
                places, looked = self.places(), time.monotonic()
            for reference in done:
                worker, finished = busy.pop(reference)
                try:
                    answer: Answer = self.ray.get(reference)
                except self.ray.exceptions.RayError as error:
                    self._drop(worker)
                    if finished is None:
                        starts_failed += 1
                        if starts_failed >= TRIES * max(1, places):
                            raise UserError(f"no worker could be started on the Ray cluster: {_last(error)}") from error
                    elif begun[finished] < TRIES:
                        waiting.appendleft(finished)
                    else:
                        text = f"its machine or its process was lost {TRIES} times; the last time: {_last(error)}"
                        yield finished, {"ok": False, "storage": False, "error": text, "again": TRIES - 1}
                    continue
                self.idle.append(worker)
                if finished is None:
                    starts_failed = 0
                    continue
                reply, record, predictions = answer
                if record is not None:
                    self.records.add(record, predictions)
                yield finished, {**reply, "again": begun[finished] - 1}

    def _start(self) -> Any:
        passed = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
        environment = {**WORKER_ENVIRONMENT, **passed, "PYTHONPATH": python_path()}
        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": 0, "max_task_retries": 0}
        actor = self.ray.remote(_Worker).options(**options, runtime_env={"env_vars": environment})
        worker = actor.remote(self.device, os.getcwd())
        self.all.append(worker)
        return worker

    def _drop(self, worker: Any) -> None:
        self.all.remove(worker)
        self.ray.kill(worker)


class _Worker:
    """The actor: does runs on its machine, one at a time, and gives their records back."""

    def __init__(self, device: str, folder: str) -> None:
        self.device = device
        if os.path.isdir(folder):
            os.chdir(folder)  # relative names mean the same as there
        if device == "cpu":
            torch.set_num_threads(1)

    def ready(self) -> None:
        """Answers when the process is up."""

    def run(self, job: dict[str, Any]) -> Answer:
        kept = _Kept()
        spec = RunSpec.from_dict(job["spec"])
        if spec.digest != job["digest"]:
            error = "petl_core there is another version than the one that made the plan; update it"
            reply: dict[str, Any] = {"ok": False, "storage": False, "error": error}
        else:
            try:
                device_called(self.device)
                reply = attempt(spec, job["variant"], kept, self.device)
            except UserError as error:
                reply = {"ok": False, "storage": False, "error": str(error)}
        if not reply["ok"]:
            reply["error"] = f"on {socket.gethostname()}: {reply['error']}"
        return reply, kept.record, kept.predictions


class _Kept(Records):
    """Takes a record as a folder would and keeps it in memory."""

    def __init__(self) -> None:
        self.root, self.pack = Path(os.devnull), None
        self.record: dict[str, Any] | None = None
        self.predictions: Any = None

    def add(self, record: dict[str, Any], predictions: Any) -> None:
        self.record, self.predictions = record, predictions


def _connect(address: str, workers: int | None) -> tuple[Any, bool]:
    """Ray, and whether it was connected here. ``UserError`` that says what to do where that is impossible."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it Ray prints a warning
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"the executor ray needs the package ray ({error}); install it: pip install 'ray>=2.40,<3'"
        ) from error
    if ray.is_initialized():
        return ray, False
    named = re.fullmatch(r"(?:ray://)?([^\s/:]+):(\d+)", address)
    if not named and address not in ("auto", "local"):
        raise UserError(f"address is '{address}'; it must be auto, local, HOST:PORT or ray://HOST:PORT")
    options: dict[str, Any] = {}
    if address == "local":
        options = {"num_cpus": workers, "include_dashboard": False}
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or Ray leaves one in the home folder
    try:
        if named:  # Ray itself would try for minutes
            socket.create_connection((named[1], int(named[2])), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # OSError, RuntimeError, ValueError and grpc's own, by the way it fails
        raise UserError(
            f"no Ray cluster could be joined at address '{address}' ({_last(error)}). Start one with 'ray start "
            "--head' and, on the other machines, 'ray start --address HOST:PORT'; or use --address local"
        ) from error
    return ray, True


def _last(error: BaseException) -> str:
    """What an error says, in one line without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    return " ".join(text.split())[:300]
