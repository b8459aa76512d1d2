"""Runs on the machines of a Ray cluster, as ``study.runner`` does them on this one: same plan, same records.

Each place for a run (one CPU, or a share of a GPU) is held by one Ray actor, a process that keeps its torch, its GPU
and the tasks it has read, and does one run after the other with the threads and the environment of a local worker, so
that equal processors give equal bits. A finished run comes back as its record, and this process writes it: no folder
needs to be shared, and a half-written record cannot be. Data and weights are read by each machine itself, at the same
paths or under the same PETL_DATA. If a machine or a process is lost, its run is begun again elsewhere; if this process
is lost, the actors end with it, and the same command resumes.
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
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch

from petl_core.study.execute import WORKER_ENVIRONMENT, Reply, order_of, perform, python_path
from petl_core.study.executor import LOOK, TRIES, Executor, Job
from petl_core.study.records import Records
from petl_core.utils import UserError

PASSED_ON = ("PETL_DATA", "PETL_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME")


class State(Enum):
    """What an actor is at."""

    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"


@dataclass
class Actor:
    """An actor, what it is at, and Ray's reference to the answer that it owes, if it owes one."""

    handle: Any
    state: State
    owes: Any
    job: Job | None = None


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
        *,
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
        super().__init__(records, progress=progress)
        self.device, self.most = device, workers
        self.actors: list[Actor] = []
        self.starts_failed = 0  # in a row
        self.ray, self.connected = _connect(address, workers)
        self.looked, self.place_count = time.monotonic(), self.places()
        if not self.place_count:
            self.close()
            needed = f"1 CPU and {self.gpus:g} of a GPU" if self.gpus else "1 CPU"
            raise UserError(f"the Ray cluster has no machine with {needed} for a run; add one, or change --device")

    def close(self) -> None:
        """End the actors, in the middle of a run if need be, and leave the cluster."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            for actor in self.actors:
                self.ray.kill(actor.handle)
        self.actors = []
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

    def has_room(self, waiting: int) -> bool:
        """Is an actor idle? Where the cluster has places for more and runs are waiting for them, more are started."""
        if time.monotonic() - self.looked > LOOK:
            self.looked, self.place_count = time.monotonic(), self.places()
        for _ in range(min(self.place_count - len(self.actors), waiting - len(self._at(State.STARTING, State.IDLE)))):
            self._start()
        return bool(self._at(State.IDLE))

    def begin(self, job: Job) -> None:
        """Give a run to an idle actor."""
        order = order_of(job.spec, job.variant)
        actor = self._at(State.IDLE)[0]
        actor.owes, actor.state, actor.job = actor.handle.run.remote(order), State.RUNNING, job

    def ended(self, seconds: float) -> list[tuple[Job, Reply]]:
        """The runs that have ended, or whose actor was lost; actors that are up become idle."""
        replies: list[tuple[Job, Reply]] = []
        owing = {actor.owes: actor for actor in self._at(State.STARTING, State.RUNNING)}
        if not owing:  # no machine is up now
            time.sleep(seconds)
        done, _ = self.ray.wait(list(owing), timeout=seconds) if owing else ([], [])
        for reference in done:
            actor = owing[reference]
            try:
                reply = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                self._drop(actor)
                if actor.job is None:
                    self._note_failed_start(error)
                    continue
                reply = Reply(error=f"its machine or its process was lost: {_last(error)}", lost=True)
            if actor.job is None:
                self.starts_failed = 0
            else:
                replies.append((actor.job, reply))
            actor.owes, actor.state, actor.job = None, State.IDLE, None
        return replies

    def end(self, job: Job) -> None:
        """End the actor of a run that hangs; its reference then tells so."""
        for actor in self.actors:
            if actor.job is job:
                self.ray.kill(actor.handle)

    def _at(self, *states: State) -> list[Actor]:
        return [actor for actor in self.actors if actor.state in states]

    def _start(self) -> None:
        passed = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
        environment = {**WORKER_ENVIRONMENT, **passed, "PYTHONPATH": python_path()}
        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": 0, "max_task_retries": 0}
        kind = self.ray.remote(RemoteWorker).options(**options, runtime_env={"env_vars": environment})
        handle = kind.remote(self.device, os.getcwd())
        self.actors.append(Actor(handle, State.STARTING, handle.ready.remote()))

    def _drop(self, actor: Actor) -> None:
        self.actors.remove(actor)
        self.ray.kill(actor.handle)

    def _note_failed_start(self, error: Exception) -> None:
        self.starts_failed += 1
        if self.starts_failed >= TRIES * max(1, self.place_count):
            raise UserError(f"no worker could be started on the Ray cluster: {_last(error)}") from error


class RemoteWorker:
    """The actor's class: does runs on its machine, one at a time, and gives their records back."""

    def __init__(self, device: str, folder: str) -> None:
        self.device = device
        if os.path.isdir(folder):
            os.chdir(folder)  # relative names mean the same as there
        if device == "cpu":
            torch.set_num_threads(1)

    def ready(self) -> None:
        """Answers when the process is up."""

    def run(self, order: dict[str, Any]) -> Reply:
        """Do a run; an error tells the machine too."""
        reply = perform(order, self.device)
        return replace(reply, error=f"on {socket.gethostname()}: {reply.error}") if reply.error else reply


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
