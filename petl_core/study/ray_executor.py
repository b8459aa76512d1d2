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
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from petl_core.study.execute import WORKER_ENVIRONMENT, Reply, order_of, perform
from petl_core.study.executor import LOOK, TRIES, Executor, Place, Planned, in_a_line
from petl_core.study.records import Records
from petl_core.utils import UserError

PASSED_ON = ("PETL_DATA", "PETL_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME")


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
        self.starts_failed = 0  # in a row
        self.ray, self.connected = _connect(address, workers)
        self.looked, self.most_now = time.monotonic(), self.capacity()
        if not self.most_now:
            self.close()
            needed = f"1 CPU and {self.gpus:g} of a GPU" if self.gpus else "1 CPU"
            raise UserError(f"the Ray cluster has no machine with {needed} for a run; add one, or change --device")

    def close(self) -> None:
        """End the actors, in the middle of a run if need be, and leave the cluster."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            super().close()
        if self.connected:
            self.ray.shutdown()
            self.connected = False

    def capacity(self) -> int:
        """How many runs the machines that are up now could do at a time, if they did nothing else."""
        total = 0
        for node in self.ray.nodes():
            if node["Alive"]:
                there = node["Resources"]
                by_gpu = int(1 / self.gpus) * int(there.get("GPU", 0)) if self.gpus else sys.maxsize
                total += min(int(there.get("CPU", 0)), by_gpu)
        return total if self.most is None else min(total, self.most)

    def ready(self, waiting: int) -> Sequence[Place]:
        """The actors that are up. Where the cluster has room for more and runs are waiting for them, more are started.

        ``UserError`` where one after the other cannot be started."""
        if time.monotonic() - self.looked > LOOK:
            self.looked, self.most_now = time.monotonic(), self.capacity()
        for actor in [actor for actor in self.places if actor.up.done()]:
            if (error := actor.up.exception()) is None:
                self.starts_failed = 0
            else:
                self.places.remove(actor)
                self.starts_failed += 1
                if self.starts_failed >= TRIES * max(1, self.most_now):
                    raise UserError(f"no worker could be started on the Ray cluster: {in_a_line(error)}") from error
        for _ in range(min(self.most_now - len(self.places), waiting - (len(self.places) - len(self.busy)))):
            self.places.append(self._start())
        return [actor for actor in self.places if actor.up.done()]

    def _start(self) -> Actor:
        passed = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
        environment = {**WORKER_ENVIRONMENT, **passed, "PYTHONPATH": python_path()}
        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": 0, "max_task_retries": 0}
        kind = self.ray.remote(RemoteWorker).options(**options, runtime_env={"env_vars": environment})
        return Actor(self.ray, kind.remote(self.device, os.getcwd()))


class Actor(Place):
    """A Ray actor, of which ``up`` tells when it has started, or has failed to."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self.ray, self.handle = ray, handle
        self.up: Future[None] = handle.ready.remote().future()

    def begin(self, run: Planned) -> Future[Reply]:
        return self.handle.run.remote(order_of(run.spec, run.variant)).future()

    def end(self) -> None:
        self.ray.kill(self.handle)


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


def python_path() -> str:
    """What PYTHONPATH must be for another machine to import this petl_core."""
    package = str(Path(__file__).resolve().parent.parent.parent)
    return os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH", "")) if p)


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
            f"no Ray cluster could be joined at address '{address}' ({in_a_line(error)}). Start one with 'ray start "
            "--head' and, on the other machines, 'ray start --address HOST:PORT'; or use --address local"
        ) from error
    return ray, True
