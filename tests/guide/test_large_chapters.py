"""The chapters at the profile gpu, for which nobody here has a GPU: they are run on records that were made up, so that
what they say means nothing, but every cell of theirs runs on that profile's plan, tasks, sizes and backbone."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petl_core.data.load import counts
from petl_core.data.vtab import group_of
from petl_core.study import plan as study
from petl_core.study.measures import ALPHAS
from petl_core.study.profiles import profile
from petl_core.study.records import Records, RunSpec
from petl_core.training.train import Run
from petl_guide import notebooks

IMAGES, CLASSES = 60, 20
BEHIND = {"linear": 0.8, "vpt_deep": 0.3, "full": 0.1}  # of the logit of the right class
SPLITS = {"test": (67, 8), "v2": (61, 4), "r": (77, -3), "a": (49, -8), "sketch": (47, -2)}  # zero-shot, and the change
PARAMS = {"linear": 0, "full": 86_000_000}
MACHINE = {"device": "cuda", "device_name": "made up", "threads": 1, "system": "none", "versions": {"torch": "0"}}


def measured(name: str, method: str) -> dict[str, Any]:
    moved = 0.0 if method == "linear" else 0.1
    if name == "displacement":
        return {"features": [moved * i for i in range(13)], "weights": [moved * i for i in range(12)]}
    curves = {
        split: [start + a * change + 8 * a * (1 - a) for a in ALPHAS] for split, (start, change) in SPLITS.items()
    }
    head = {s: start + change / 2 for s, (start, change) in SPLITS.items()}
    return {"alphas": list(ALPHAS), "both": curves, "head": head}


def made_up(spec: RunSpec) -> Run:
    """A run that nobody made: labels and noise that go with the task, a little more noise for the spec."""
    classes = min(counts(spec.task).classes, CLASSES)
    labels = np.arange(IMAGES) % classes
    noise = [
        np.random.default_rng(zlib.crc32(name.encode())).normal(size=(IMAGES, classes))
        for name in (spec.task, spec.digest)
    ]
    logits = 0.7 * noise[0] + 0.8 * noise[1]
    logits[np.arange(IMAGES), labels] += 2.2 - BEHIND.get(spec.method, 0)
    logits = logits.astype(np.float16)
    accuracy = 100 * float((logits.argmax(1) == labels).mean())
    size = spec.hyper.get("rank") or spec.hyper.get("bottleneck") or 5
    return Run(
        accuracy=accuracy,
        evaluated_on=spec.evaluate_on,
        logits=logits,
        labels=labels,
        ids=tuple(f"image {i}" for i in range(IMAGES)),
        train_accuracy=90.0,
        seconds=3.0,
        diverged=False,
        history=[],
        steps=100,
        params=PARAMS.get(spec.method, 1000 + 30_000 * int(size)),
        group=group_of(spec.task.split("/")[-1].split("@")[0]),
        peak_memory_mb=5.0,
        best_accuracy=accuracy + 1 if spec.track else None,
        best_epoch=2 if spec.track else None,
        measures={name: measured(name, spec.method) for name in spec.measure} or None,
    )


@pytest.fixture(scope="module")
def gpu_records(tmp_path_factory) -> Path:
    chosen, records = profile("gpu"), Records(tmp_path_factory.mktemp("gpu"))
    for make in (study.plan_trials, study.plan_finals):
        for planned in make(chosen, records=records, absent="count"):
            if records.has(planned.spec):
                records.add_variant(planned.spec, planned.variant)
            else:
                records.save(planned.spec, made_up(planned.spec), planned.variant, MACHINE)
    return records.root


@pytest.mark.slow
@pytest.mark.parametrize("chapters", [["04", "12"], pytest.param(["06", "07", "08"], marks=pytest.mark.exhaustive)])
def test_the_chapters_run_at_the_profile_gpu(chapters, gpu_records, tmp_path, capfd):
    """Those that read parts of the study beside "tuned"."""
    where = ["--profile", "gpu", "--results", "shipped", "--runs", str(gpu_records), "--out", str(tmp_path)]
    assert notebooks.main(["execute", "--only", *chapters, *where]) == 0, capfd.readouterr().err
    for path in sorted(tmp_path.glob("*.ipynb")):
        assert f"the runs in {gpu_records}" in path.read_text(), path.name
    assert len(list(tmp_path.glob("*.ipynb"))) == len(chapters)
