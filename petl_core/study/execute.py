"""One run, in whatever process does it: task, model, training, record. ``study.runner`` decides where and when."""

from __future__ import annotations

import functools
import os
import pickle
import sys
import traceback
from dataclasses import dataclass
from typing import Any

import cloudpickle
import torch

from petl_core import methods
from petl_core.data.load import load_task
from petl_core.data.task import with_split
from petl_core.models.build import create_model
from petl_core.study import measures
from petl_core.study.environment import describe_environment
from petl_core.study.packs import Predictions
from petl_core.study.records import as_record
from petl_core.study.spec import RunSpec
from petl_core.training.probe import set_probe_head
from petl_core.training.train import Run, train
from petl_core.utils import UserError, cache_folder

# One thread each; and glibc is to keep freed memory instead of giving it back to the system after every step: a step
# frees and takes the same few megabytes, and without this a worker spent a tenth of its time on page faults.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


OF_TRAIN = ("seed", "train_on", "evaluate_on", "max_train", "max_evaluate", "track")  # arguments that a spec has


@dataclass(frozen=True)
class Reply:
    """What became of a run that was begun: its record and the predictions to keep with it or, without one, why not."""

    record: dict[str, Any] | None = None
    predictions: Predictions | None = None
    error: str = ""
    lost: bool = False  # its process or machine is gone, so that it may be begun again


def default_workers() -> int:
    """One worker for each core this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=2)
def _task(name: str, size: int | None) -> Any:
    return load_task(name, size=size)


def fresh_task(name: str, size: int | None) -> Any:
    """The task read anew, for runs of this process too: the images of a folder may have changed since the last time."""
    _task.cache_clear()
    return _task(name, size)


def task_of(spec: RunSpec) -> Any:
    """The task of a spec."""
    return with_split(_task(spec.task, spec.image_size), spec.train_on)


def device_called(name: str) -> str:
    """The device of that name; "auto" is the fastest there is. ``UserError`` listing those that are available."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there.get(name.partition(":")[0], False):
        raise UserError(f"device '{name}' is not available here; available: {', '.join(d for d in there if there[d])}")
    return name


def build(spec: RunSpec, device: str = "cpu") -> Any:
    """The untrained model of a spec, on the device. ``UserError`` if the weights here are not those of the spec."""
    task = task_of(spec)
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


def execute(spec: RunSpec, device: str = "cpu") -> Run:
    """Do one run: task, model, training. Equal specs give equal bits on one CPU with one thread."""
    task = task_of(spec)
    if task.digest != spec.task_digest:
        raise UserError(
            f"task '{spec.task}' has data {task.digest} here, the spec asks for {spec.task_digest}; if the images have "
            f"changed, delete {cache_folder() / 'digests'} and start the study again"
        )
    model = build(spec, device)
    run = train(model, task, spec.recipe, **{name: getattr(spec, name) for name in OF_TRAIN})
    if spec.measure and not run.diverged:
        run.measures = {name: measures.get(name)(model, task, spec.recipe, spec.max_evaluate) for name in spec.measure}
    return run


def attempt(spec: RunSpec, variant: str, device: str) -> Reply:
    """Do a run in this process and say what became of it, whatever happens."""
    try:
        return Reply(*as_record(spec, execute(spec, device), variant, describe_environment(device)))
    except UserError as error:
        return Reply(error=str(error))
    except Exception:
        return Reply(error=traceback.format_exc())


def order_of(spec: RunSpec, variant: str) -> dict[str, Any]:
    """A run as plain values, for ``perform`` in another process; methods that only this process knows go with it.

    Raises ``UserError`` for such a method that cannot be sent, as one that holds an open file.
    """
    kinds = [methods.registry[name] for name in spec.method.split("+") if name in methods.registry]
    own = [kind for kind in kinds if not kind.__module__.startswith("petl_core.")]
    try:
        for kind in own:
            if kind.__module__ != "__main__":  # what is defined there is sent as it is without being asked
                cloudpickle.register_pickle_by_value(sys.modules[kind.__module__])
        sent = cloudpickle.dumps(own)
    except Exception as error:
        raise UserError(
            f"method '{spec.method}' is defined outside petl_core and cannot be sent to a worker process ({error}); "
            "run it with workers=0, or put its file into petl_core/methods/"
        ) from error
    return {"spec": spec.to_dict(), "digest": spec.digest, "variant": variant, "methods": sent}


def perform(order: dict[str, Any], device: str) -> Reply:
    """Do a run that ``order_of`` described, in a worker process."""
    try:
        methods.registry.update({kind.name: kind for kind in pickle.loads(order["methods"])})
        spec, there = RunSpec.from_dict(order["spec"]), device_called(device)
        if spec.digest != order["digest"]:
            raise UserError("petl_core there is another version than the one that made the plan; update it")
    except Exception as error:
        return Reply(error=str(error) if isinstance(error, UserError) else traceback.format_exc())
    return attempt(spec, order["variant"], there)
