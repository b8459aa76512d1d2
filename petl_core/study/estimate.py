"""What a study will cost before it is started: runs by part, hours, disk. The hours come from measured rates only.

Runs with equal steps (a ``Cell``: architecture, method and size, batch, precision, image size) are timed once, in as
many processes at a time as there will be workers, on random images: so neither data nor weights are needed. Which trial
will win is not known before the trials have run; until then it is drawn by lot, which is fair to all of them.

A worker of the timing is ``python -m petl_core.study.estimate DEVICE``: cells as JSON in, their rates as JSON out.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from petl_core.data.embedded import SIZE, WORLD, embedded_names
from petl_core.data.load import DEFAULT_SIZE, counts
from petl_core.data.task import Task, make_task
from petl_core.models import weights as backbones
from petl_core.models.build import Model, create_model
from petl_core.study import plan as study
from petl_core.study.budget import clock
from petl_core.study.digests import ABSENT, why_no_task, why_no_weights
from petl_core.study.environment import describe_environment
from petl_core.study.execute import worker_environment
from petl_core.study.profile import Profile
from petl_core.study.records import Records, RunSpec
from petl_core.study.time import Speed, head_only, images, seconds
from petl_core.training.steps import EVALUATION_BATCH
from petl_core.training.train import Recipe, predict, train
from petl_core.utils import RESULTS, UserError, write_atomic

DAY = 86_400.0  # seconds; what is estimated above it is not started without being asked
MEASURE = 0.5  # seconds of training that one cell's timing takes
SLOW = 10.0  # seconds of a first step from which on it is not repeated
FREE = ("scale", "dropout", "init", "conv_init", "noise")  # hyper-parameters that change no step's cost
CLASSES = 100
PER_RECORD, PER_EPOCH = 8_000, 110  # bytes of a record and of each epoch in its history
PACKED = 0.92  # compressed logits, as a share of two bytes for each


@dataclass(frozen=True)
class Cell:
    """All that decides what a step of a run costs. ``backbone`` is one with this architecture, to build it."""

    architecture: str
    image_size: int
    method: str
    hyper: str
    batch_size: int
    precision: str
    augment: str
    head_only: bool
    held_back: str
    backbone: str = field(compare=False)


@functools.cache
def _architecture(backbone: str) -> str:
    """The shape of a backbone as text, without what costs nothing: the statistics of its images."""
    config = dataclasses.asdict(backbones.config_of(backbone))
    return json.dumps({k: v for k, v in config.items() if k not in ("image_size", "mean", "std")}, sort_keys=True)


def cell_of(spec: RunSpec) -> Cell:
    """The cell that a run belongs to."""
    recipe, drawn = spec.recipe, spec.task.partition("@")[0] in (*embedded_names(), WORLD)
    held_back = {"l2_sp": recipe.l2_sp > 0, "layer_decay": recipe.layer_decay < 1}
    return Cell(
        architecture=_architecture(spec.backbone),
        image_size=spec.image_size or (SIZE if drawn else DEFAULT_SIZE),
        method=spec.method,
        hyper=json.dumps({k: v for k, v in spec.hyper.items() if k not in FREE}, sort_keys=True),
        batch_size=recipe.batch_size,
        precision=recipe.precision,
        augment=recipe.augment,
        head_only=head_only(spec),
        held_back="".join(name for name, used in held_back.items() if used),
        backbone=spec.backbone,
    )


def record_bytes(spec: RunSpec) -> int:
    """About how much a run's record takes on the disk."""
    _, held = images(spec)
    kept = PACKED * 2 * held * counts(spec.task).classes + 10 * held if spec.stage == "final" else 0
    return int(PER_RECORD + PER_EPOCH * spec.recipe.epochs + kept)


# What there is to do


@dataclass
class Forecast:
    """The runs of a study: how many of each part, those that are to be done, and what is absent here."""

    parts: list[tuple[str, int, int]]  # name, trials, final runs; a run of several parts counts in the first
    todo: list[RunSpec]
    there: int
    absent: dict[str, str]

    def text(self) -> str:
        """The counts as a table, what is absent here, and the disk needed."""
        trials, finals = sum(some for _, some, _ in self.parts), sum(more for _, _, more in self.parts)
        lines = [f"{'part':<18}{'trials':>8}{'finals':>8}"]
        lines += [f"{name:<18}{some:>8,}{more:>8,}" for name, some, more in self.parts]
        lines += [f"{'all':<18}{trials:>8,}{finals:>8,}"]
        lines += [f"{trials + finals:,} runs in all; {self.there:,} are there already"]
        if self.absent:
            lines.append(f"absent here: {', '.join(self.absent)}")
            firsts = {what.partition(" ")[0]: f"  {what}: {why}" for what, why in reversed(self.absent.items())}
            lines += firsts.values()  # one reason for weights and one for tasks
        disk = sum(map(record_bytes, self.todo))
        return "\n".join([*lines, f"disk for {len(self.todo):,} records: about {_size(disk)}"])


class Drawn(Records):
    """The records that are there and, for trials that have none, an accuracy drawn by lot."""

    def has(self, spec: RunSpec | str) -> bool:
        return True

    def get(self, spec: RunSpec | str) -> dict[str, Any]:
        digest = spec if isinstance(spec, str) else spec.digest
        if super().has(digest):
            return super().get(digest)
        return {"metrics": {"diverged": False, "accuracy": int(digest[:6], 16), "params": 0}}


def forecast(profile: Profile, records: Records, parts: Iterable[str] | None = None) -> Forecast:
    """What a study would run, whether or not its data and weights are on this machine."""
    drawn, names = Drawn(records.root), list(parts or dict.fromkeys(part.name for part in profile.parts))
    seen: dict[str, RunSpec] = {}
    rows = []
    for name in names:
        tunings, before = study.tunings(profile, profile.part(name), drawn, absent="count"), len(seen)
        seen |= {run.spec.digest: run.spec for run in study.trials_in(tunings)}
        trials = len(seen) - before
        seen |= {run.spec.digest: run.spec for run in study.finals_in(tunings, drawn)}
        rows.append((name, trials, len(seen) - before - trials))
    todo = [spec for digest, spec in seen.items() if not records.has(digest)]
    return Forecast(rows, todo, len(seen) - len(todo), _absent(seen.values()))


def _absent(specs: Iterable[RunSpec]) -> dict[str, str]:
    """The data and weights that these runs need and that are not here, with the reason."""
    specs = list(specs)
    tasks = dict.fromkeys((spec.task, spec.image_size) for spec in specs if spec.task_digest == ABSENT)
    weights = dict.fromkeys(spec.backbone for spec in specs if spec.weights == ABSENT)
    found = {f"task {name}": why_no_task(name, size) for name, size in tasks}
    return found | {f"weights of {name}": why_no_weights(name) for name in weights}


# How long it takes


@dataclass
class Estimate:
    """Seconds of work of one worker, for the runs whose cell has a rate, and how many runs have none."""

    work: float
    longest: float
    unknown: int

    def wall(self, workers: int) -> float:
        """Seconds with so many workers."""
        return max(self.work / max(1, workers), self.longest)


def estimate(todo: Iterable[RunSpec], rates: Mapping[Cell, Speed]) -> Estimate:
    """How long these runs take at these rates."""
    cells = [(spec, cell_of(spec)) for spec in todo]
    known = [seconds(spec, rates[cell]) for spec, cell in cells if cell in rates]
    return Estimate(sum(known), max(known, default=0.0), len(cells) - len(known))


def time_cell(cell: Cell, device: str) -> Speed:
    """Train and evaluate a little with random weights on random images, as the runs of a cell do.

    On a CPU the seconds are those that this process computed: a busy machine then changes little."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    task, recipe, count = _random_task(cell), _recipe_of(cell), cell.batch_size
    _random_model(cell)  # what is imported and looked up once
    start = clock()
    model = _random_model(cell).to(device)
    build = clock() - start

    def to_train(epochs: int) -> float:
        once, start = dataclasses.replace(recipe, epochs=epochs), clock()
        train(model, task, once, train_on="train800", evaluate_on="val200")
        return clock() - start

    def to_evaluate(pictures: torch.Tensor) -> float:
        start = clock()
        predict(model, pictures, recipe)
        return clock() - start

    each, evaluate = to_train(1), to_evaluate(task.images[:count]) / count
    if each < SLOW:  # else the first step was long enough to be the measurement
        epochs = max(2, min(1000, int(MEASURE / min(to_train(1), each))))
        each = min(to_train(epochs) for _ in range(2)) / epochs  # the smaller: less disturbed by others
        whole = task.images[:count].repeat(-(-EVALUATION_BATCH // count), 1, 1, 1)[:EVALUATION_BATCH]
        evaluate = min(to_evaluate(whole) for _ in range(2)) / EVALUATION_BATCH
    return Speed(build, each / count, evaluate, cell.head_only)


def _random_model(cell: Cell) -> Model:
    made: dict[str, Any] = {"num_classes": CLASSES, "pretrained": False, "image_size": cell.image_size}
    made |= {key: tuple(v) if isinstance(v, list) else v for key, v in json.loads(cell.hyper).items()}
    return create_model(cell.backbone, cell.method, **made)


def _random_task(cell: Cell) -> Task:
    """One batch to train on, and one image each to validate and to test with."""
    count, random = cell.batch_size + 2, np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 3, cell.image_size, cell.image_size), dtype=np.uint8)
    index = np.arange(count)
    splits = {"train800": index[:-2], "val200": index[-2:-1], "test": index[-1:]}
    ids, classes = tuple(map(str, index)), tuple(map(str, range(CLASSES)))
    return make_task("random", "other", classes, images=pixels, labels=index % CLASSES, ids=ids, splits=splits)


def _recipe_of(cell: Cell) -> Recipe:
    """A recipe whose steps cost as those of the cell's runs do."""
    return Recipe(
        1e-4,
        epochs=1,
        batch_size=cell.batch_size,
        precision=cell.precision,
        augment=cell.augment,
        drop_path=0.0 if cell.head_only or cell.method != "linear" else 0.1,
        l2_sp=1.0 if "l2_sp" in cell.held_back else 0.0,
        layer_decay=0.9 if "layer_decay" in cell.held_back else 1.0,
    )


def measure(cells: Iterable[Cell], device: str, workers: int, *, progress: bool = True) -> dict[Cell, Speed]:
    """Time each cell once, ``workers`` at a time in processes of their own, as they will run.

    Raises ``UserError`` if a process fails (its messages are shown).
    """
    wanted = sorted(set(cells), key=repr)
    shares = [share for i in range(max(1, workers)) if (share := wanted[i :: max(1, workers)])]
    if progress:
        print(f"timing {len(wanted)} kinds of runs on {device}, {len(shares)} at a time ...", file=sys.stderr)

    def work(share: list[Cell]) -> list[Speed]:
        text = json.dumps([dataclasses.asdict(cell) for cell in share])
        command = [sys.executable, "-m", "petl_core.study.estimate", device]
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, env=worker_environment())
        if done.returncode:
            raise UserError(f"the timing on {device} failed; see the messages above")
        return [Speed(**rate) for rate in json.loads(done.stdout)]

    with ThreadPoolExecutor(max(1, len(shares))) as pool:
        timed = list(pool.map(work, shares))
    return {cell: rate for share, its in zip(shares, timed, strict=True) for cell, rate in zip(share, its, strict=True)}


# Rates on the disk


def save_rates(folder: Path, device: str, workers: int, rates: Mapping[Cell, Speed]) -> Path:
    """Write rates beside the records of a study; those of other cells of the same machine are kept."""
    path = folder / f"rates-{device}.json"
    machine = {"device_name": describe_environment(device)["device_name"], "workers": workers}
    older = {cell: rate for cell, rate in _read_rates(path, machine).items() if cell not in rates}
    cells = [{**dataclasses.asdict(r), **dataclasses.asdict(c)} for c, r in (older | dict(rates)).items()]
    folder.mkdir(parents=True, exist_ok=True)
    return write_atomic(path, json.dumps({**machine, "torch": torch.__version__, "rates": cells}, indent=1).encode())


def find_rates(folder: Path, device: str) -> dict[Cell, Speed]:
    """The rates measured on this kind of device: shipped ones (data/results/benchmarks), and those of ``folder``."""
    try:
        machine = {"device_name": describe_environment(device)["device_name"]}
    except (RuntimeError, AssertionError):  # no such device here
        return {}
    rates: dict[Cell, Speed] = {}
    for path in (*sorted((RESULTS / "benchmarks").glob("*.json")), folder / f"rates-{device}.json"):
        rates |= _read_rates(path, machine)
    return rates


def _read_rates(path: Path, machine: Mapping[str, Any]) -> dict[Cell, Speed]:
    """The rates in a file, if it is one and of this machine."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(held, dict) or any(held.get(key) != value for key, value in machine.items()):
            return {}
        cells, speeds = ([f.name for f in dataclasses.fields(kind)] for kind in (Cell, Speed))  # both have head_only
        return {
            Cell(**{name: row[name] for name in cells}): Speed(**{name: row[name] for name in speeds})
            for row in held.get("rates", [])
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # a file of another kind; measuring makes a new one


def describe(found: Estimate, workers: int, device: str) -> str:
    """The estimate as a line or two."""
    if not found.work:
        return (
            f"time: no rates are measured on this machine's {device}; add --measure" if found.unknown else "time: none"
        )
    alone, wall = clock(found.work), clock(found.wall(workers))
    text = f"time: {alone} of work, about {wall} with {workers} at a time, besides reading the images"
    return text + (f"; {found.unknown:,} runs have no measured rate and are not in it" if found.unknown else "")


def _size(count: float) -> str:
    unit = next((n for n in (1, 2) if count < 1000 ** (n + 1)), 3)
    return f"{count / 1000**unit:.3g} {('kB', 'MB', 'GB')[unit - 1]}"


def main(arguments: list[str]) -> None:
    """Read cells from the standard input, time them, write their rates to the standard output."""
    (device,) = arguments
    if device == "cpu":
        torch.set_num_threads(1)
    cells = [Cell(**cell) for cell in json.load(sys.stdin)]
    time_cell(dataclasses.replace(cells[0], backbone="mini", image_size=SIZE, batch_size=8), device)  # to warm up
    print(json.dumps([dataclasses.asdict(time_cell(cell, device)) for cell in cells]))


if __name__ == "__main__":
    main(sys.argv[1:])
