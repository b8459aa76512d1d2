"""The models that a comparison leaves: the one that was tested, and one trained on all images in the same way."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from petl_core.models.adapters import save_adapter
from petl_core.study import execute
from petl_core.study.budget import threads
from petl_core.study.records import Records, RunSpec, logits_digest
from petl_core.training.train import train

ALL = "-all"  # in the name of the file of a model that was trained on all images


def keep(spec: RunSpec, records: Records, device: str, facts: dict[str, Any]) -> tuple[Path, Path]:
    """The files of both models below ``records``, trained now where they are not there yet.

    ``spec``: the final run to repeat; its predictions are compared with the record's. ``facts`` go into the notes of
    both files (``load_adapter(path).notes``). The model trained on all images cannot be tested any more: what is known
    of it is that it was trained as the tested one was, on more.
    """
    folder = records.root / "models"
    tested, whole = (folder / f"{spec.digest}{end}.safetensors" for end in ("", ALL))
    folder.mkdir(parents=True, exist_ok=True)
    task = execute.task_of(spec)
    if not tested.is_file():
        with threads(1 if device == "cpu" else None):  # as in the run that was measured, for the same bits
            model = execute.build(spec, device)
            run = train(model, task, spec.recipe, seed=spec.seed, train_on=spec.train_on, evaluate_on=spec.evaluate_on)
        same = logits_digest(run.logits) == records.get(spec)["logits_sha256"]
        told = {"trained_on": spec.train_on, "test_accuracy": run.accuracy, "same_predictions_as_record": same}
        save_adapter(model.cpu(), tested, facts | told)
    if not whole.is_file():
        everything = torch.cat([task.splits["train1000"], task.splits["test"]])
        of_all = dataclasses.replace(task, splits={**task.splits, "all": everything})
        with threads(execute.default_workers() if device == "cpu" else None):
            model = execute.build(spec, device)
            train(model, of_all, spec.recipe, seed=spec.seed, train_on="all", evaluate_on="test", max_evaluate=1)
        save_adapter(model.cpu(), whole, facts | {"trained_on": "all images", "test_accuracy": None})
    return tested, whole
