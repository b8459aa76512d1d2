"""Runs on the machines of a Ray cluster, as ``study.runner`` does them on this one: same plan, same records.

Each run is a task of Ray's on one CPU, perhaps with a share of a GPU. Ray's worker processes do one after the other,
keeping their torch, their GPU and the tasks they have read, with the threads and the environment of a local worker, so
that equal processors give equal bits. A finished run comes back as its record, and this process writes it: no folder
needs to be shared, and a half-written record cannot be. Data and weights are read by each machine itself, at the same
paths or under the same PETL_DATA. If a machine or a process is lost, its run is begun again elsewhere; if this process
is lost, Ray ends its tasks, and the same command resumes.
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
from petl_core.study.executor import LOOK, Executor, Place, Planned, in_a_line
from petl_core.study.records import Records
from petl_core.utils import UserError

PASSED_ON = ("PETL_DATA", "PETL_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME")


class RayExecutor(Executor):
    """Executes plans on a Ray cluster; ``close`` ends its tasks and, if it started or joined Ray, leaves it.

    Args:
        address: "auto" (the cluster that this machine is part of, or RAY_ADDRESS), "local" (a new one of this machine
            alone), "HOST:PORT" or "ray://HOST:PORT". Where Ray is connected already, that cluster is used.
        device: of the runs, "cpu" or "cuda".
        gpus_per_run: share of a GPU for each run, such as 0.25 for four runs on one (default: 1; 0 on a CPU).
        workers: runs at a time at most (default: as many as the cluster has places for).

    On a cluster that others fill, Ray lets a run wait; one that waits longer than any run takes is begun again. Raises
    ``UserError`` without Ray, without a cluster at the address, or if the cluster has no place for a run.
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
        self.ray, self.connected = _connect(address, workers)
        self.looked, self.room = time.monotonic(), self.capacity()
        if not self.room:
            self.close()
            needed = f"1 CPU and {self.gpus:g} of a GPU" if self.gpus else "1 CPU"
            raise UserError(f"the Ray cluster has no machine with {needed} for a run; add one, or change --device")
        passed = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
        environment = {"env_vars": {**WORKER_ENVIRONMENT, **passed, "PYTHONPATH": python_path()}}
        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_calls": 0, "max_retries": 0, "runtime_env": environment}
        self.remote = self.ray.remote(**options)(do_run)

    def close(self) -> None:
        """End the tasks, in the middle of a run if need be, and leave the cluster."""
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
        """As many places as the machines that are up have, looked at anew every second."""
        if time.monotonic() - self.looked > LOOK:
            self.looked, self.room = time.monotonic(), self.capacity()
        self.places += [Task(self.ray, self.remote, self.device) for _ in range(self.room - len(self.places))]
        return self.places[: self.room]


class Task(Place):
    """A place in the cluster, and Ray's reference to what it has begun."""

    def __init__(self, ray: Any, remote: Any, device: str) -> None:
        self.ray, self.remote, self.device = ray, remote, device
        self.reference: Any = None

    def begin(self, run: Planned) -> Future[Reply]:
        self.reference = self.remote.remote(order_of(run.spec, run.variant), self.device, os.getcwd())
        return self.reference.future()

    def end(self) -> None:
        if self.reference is not None:
            self.ray.cancel(self.reference, force=True)


def do_run(order: dict[str, Any], device: str, folder: str) -> Reply:
    """Do a run on a machine of the cluster; an error tells the machine too. Relative names mean the same as in
    ``folder``, where there is one."""
    if os.path.isdir(folder):
        os.chdir(folder)
    if device == "cpu":
        torch.set_num_threads(1)
    reply = perform(order, device)
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
