"""Speed of the trainer on a GPU, printed as tables and kept as JSON: ``make bench-gpu``, or this file with ``--help``.

Weights and images are random: no speed depends on their values. What is measured, one after the other:

* the device's own best, a large product of bf16 matrices, and what share of it the training reaches, counting a forward
  pass for the forward and one for the backward half (2 x 35.1e9 operations an image for a frozen ViT-B/16);
* images in a second and the peak of memory for each backbone and method, with the study's recipe (batches of 64, drop
  path 0.1). A rate is the difference of two trainings of different length, so that loading, compiling and evaluating
  are not in it; ``--compiled`` methods are measured with ``torch.compile`` too, with the seconds that it took;
* in pairs that take turns: a float32 loop such as the study's released code has (images from files, transformed one
  by one by the workers of a ``DataLoader``, the loss read after every step) against this project's loop;
* a whole run of VTAB-1K, and from it the hours that the study's published grid would take (10,108 trainings).

``--accuracy TASK TASK`` instead trains on two tasks with three seeds, plainly in float32 and in bf16 (compiled, on
CUDA), and prints what each reaches. On a CPU (``--device cpu``) bf16 is compared with float32 in pairs, and a second is
one of processor time, that of the loaders' processes included: other programs are then not in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import petl_core as pc
from petl_core.data.task import Task, make_task
from petl_core.study.environment import describe_environment
from petl_core.study.execute import device_called
from petl_core.training.steps import EVALUATION_BATCH, forward_flops
from petl_core.training.train import Recipe, predict, train
from petl_core.utils import write_atomic
from petl_make.vtab.check import STANDARD

BACKBONES = ("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224")
PASSES = {"full": 3.0, "linear": 1.0, "selective": None, "vqt": None}  # forward passes' worth of a step; others 2
STUDY = Recipe(batch_size=64, drop_path=0.1, normalise="none", decay="all", compile="off")
TUNING, FINAL = 9804, 304  # trainings of the published grid: 516 trials and 16 final runs for each of 19 datasets
TEST = round(statistics.mean(task.test for task in STANDARD.values()))  # images
LOADERS, CLASSES = 4, 100


def noise_task(count: int, size: int = 224) -> Task:
    """A task of random images: ``count`` to train on and as many to test on."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2 * count, 3, size, size), dtype=np.uint8)
    ids, index = tuple(map(str, range(2 * count))), np.arange(2 * count)
    names = tuple(map(str, range(CLASSES)))
    parts = (index[: count * 4 // 5], index[count * 4 // 5 : count], index[count:])
    return make_task("noise", "other", names, images, index % CLASSES, ids, *parts)


def model_of(backbone: str, method: str, device: str) -> Any:
    return pc.create_model(backbone, method, num_classes=CLASSES, pretrained=False).to(device)


def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """Operations in a second of a product of square matrices, the best of some."""
    size = 8192 if device.startswith("cuda") else 2048
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        start = clock(device)
        for _ in range(10 if device.startswith("cuda") else 1):
            one @ other
        best = min(best, (clock(device) - start) / (10 if device.startswith("cuda") else 1))
    return 2 * size**3 / best


def clock(device: str) -> float:
    """Seconds: on CUDA of the clock, when the device has done what it was asked; on a CPU of its time."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return sum(os.times()[:4])


@dataclasses.dataclass
class Rate:
    """Images in a second while training, seconds of everything else in a run, and the GPU's peak of memory."""

    images_per_s: float
    other_seconds: float
    peak_memory_mb: float | None


def rate(backbone: str, method: str, device: str, task: Task, recipe: Recipe, epochs: int) -> Rate:
    """From a training of one epoch and a longer one by ``epochs``."""
    took, memory = [], None
    for length in (1, 1 + epochs):
        model = model_of(backbone, method, device)
        start = clock(device)
        run = train(model, task, dataclasses.replace(recipe, epochs=length), max_evaluate=16)
        took.append(clock(device) - start)
        memory = run.peak_memory_mb if device.startswith("cuda") else None  # on a CPU: petl_make.costs
    count = len(task.splits["train1000"])
    seconds = (took[1] - took[0]) / (epochs * count)
    return Rate(1 / seconds, took[0] - count * seconds, memory)


def in_pairs(sides: Sequence[Callable[[], float]], pairs: int) -> list[list[float]]:
    """What each of two sides gives, in alternation; who begins changes from pair to pair."""
    values: list[list[float]] = [[], []]
    for i in range(pairs):
        for side in (0, 1) if i % 2 else (1, 0):
            values[side].append(sides[side]())
    return values


def ratios(values: list[list[float]]) -> dict[str, float]:
    """Median, least and largest of the second side over the first, pair by pair."""
    quotients = [b / a for a, b in zip(*values, strict=True)]
    return {"median": statistics.median(quotients), "least": min(quotients), "most": max(quotients)}


# ---- the loop that this one is compared with


class Files(Dataset[tuple[torch.Tensor, int]]):
    """Image files, each opened, resized and made a tensor when it is asked for."""

    def __init__(self, folder: Path, count: int) -> None:
        from torchvision import transforms

        random = np.random.default_rng(0)
        self.paths = [folder / f"{i}.jpg" for i in range(count)]
        for path in self.paths:
            small = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            small.resize((256, 256), Image.Resampling.BICUBIC).save(path)
        bicubic = transforms.InterpolationMode.BICUBIC
        self.transform = transforms.Compose([transforms.Resize((224, 224), bicubic), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), index % CLASSES


def plain_rate(backbone: str, method: str, device: str, files: Files, epochs: int, batch: int) -> float:
    """Images in a second of a plain loop: float32, eager, a DataLoader, the loss read after every step."""
    model = model_of(backbone, method, device).train()
    model.set_drop_path(STUDY.drop_path)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=STUDY.lr, weight_decay=STUDY.weight_decay)
    pinned = device.startswith("cuda")
    loader = DataLoader(files, batch, shuffle=True, num_workers=LOADERS, pin_memory=pinned, drop_last=True)
    count, start = 0, 0.0
    for epoch in range(epochs + 1):  # the first warms up
        if epoch == 1:
            start = clock(device)
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            loss = F.cross_entropy(model(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if not np.isfinite(loss.item()):
                raise SystemExit("the plain loop diverged")
            count += len(images) if epoch else 0
    return count / (clock(device) - start)


# ---- what is reported


def speeds(options: argparse.Namespace, task: Task, peak: float) -> list[dict[str, Any]]:
    """One row for each backbone and method, and one more where it is compiled too."""
    rows = []
    print(f"\n{'backbone':<24}{'method':<18}{'compile':<9}{'images/s':>9}{'of peak':>9}{'MB':>9}{'other s':>9}")
    for backbone in options.backbones:
        for method in options.methods:
            for compiled in ("off", "on") if method in options.compiled else ("off",):
                recipe = dataclasses.replace(options.recipe, compile=compiled)
                found = rate(backbone, method, options.device, task, recipe, options.epochs)
                passes = PASSES.get(method, 2.0)
                work = forward_flops(pc.config_of(backbone)) * found.images_per_s
                share = None if passes is None else passes * work / peak
                rows.append({"backbone": backbone, "method": method, "compile": compiled, "share_of_peak": share})
                rows[-1] |= dataclasses.asdict(found)
                shown = "-" if share is None else f"{100 * share:.1f} %"
                memory = "-" if found.peak_memory_mb is None else f"{found.peak_memory_mb:,.0f}"
                print(
                    f"{backbone:<24}{method:<18}{compiled:<9}{found.images_per_s:9.1f}{shown:>9}{memory:>9}"
                    f"{found.other_seconds:9.1f}",
                    flush=True,
                )
    return rows


def against_plain(options: argparse.Namespace, task: Task) -> list[dict[str, Any]]:
    """This loop against the plain one, in pairs, for each backbone."""
    rows = []
    print(f"\n{'backbone':<24}{'method':<10}{'plain images/s':>15}{'ours':>9}{'ratio':>7}   least .. most   pairs")
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder), len(task.splits["train1000"]))
        for backbone in options.backbones:
            recipe = options.recipe
            sides = (
                lambda b=backbone: plain_rate(b, "lora", options.device, files, options.epochs, options.batch),
                lambda b=backbone, r=recipe: rate(b, "lora", options.device, task, r, options.epochs).images_per_s,
            )
            values = in_pairs(sides, options.pairs)
            found = ratios(values)
            plain, ours = map(statistics.median, values)
            rows.append({"backbone": backbone, "method": "lora", "plain": values[0], "ours": values[1], "ratio": found})
            print(
                f"{backbone:<24}{'lora':<10}{plain:15.1f}{ours:9.1f}{found['median']:7.2f}   "
                f"{found['least']:.2f} .. {found['most']:.2f}{options.pairs:10d}",
                flush=True,
            )
    return rows


def bf16_on_cpu(options: argparse.Namespace, task: Task) -> list[dict[str, Any]]:
    """bf16 against float32, in pairs, training and evaluating."""
    rows = []
    images = task.split("test")[0]
    print(f"\n{'backbone':<24}{'':<12}{'fp32 images/s':>14}{'bf16':>9}{'ratio':>7}   least .. most   pairs")
    for backbone in options.backbones:
        model = model_of(backbone, "lora", options.device)

        def training(precision: str, backbone: str = backbone) -> float:
            recipe = dataclasses.replace(options.recipe, precision=precision)
            return rate(backbone, "lora", options.device, task, recipe, options.epochs).images_per_s

        def evaluating(precision: str, model: Any = model) -> float:
            start = clock(options.device)
            predict(model, images, Recipe(precision=precision))
            return len(images) / (clock(options.device) - start)

        for what, measure in (("training", training), ("evaluation", evaluating)):
            values = in_pairs([lambda m=measure: m("fp32"), lambda m=measure: m("bf16")], options.pairs)
            found = ratios(values)
            rows.append({"backbone": backbone, "what": what, "fp32": values[0], "bf16": values[1], "ratio": found})
            print(
                f"{backbone:<24}{what:<12}{statistics.median(values[0]):14.1f}{statistics.median(values[1]):9.1f}"
                f"{found['median']:7.2f}   {found['least']:.2f} .. {found['most']:.2f}{options.pairs:10d}",
                flush=True,
            )
    return rows


def whole_run(options: argparse.Namespace, task: Task, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A VTAB-1K run of the largest backbone (measured, unless ``--quick``), and the hours of the published grid."""
    backbone = options.backbones[-1]
    mine = [row for row in rows if row["backbone"] == backbone and row["compile"] == "off"]
    lora = next((row for row in mine if row["method"] == "lora"), mine[0])
    model = model_of(backbone, lora["method"], options.device)
    images = task.split("test")[0]
    predict(model, images[:16], Recipe(precision=options.precision))
    start = clock(options.device)
    predict(model, images, Recipe(precision=options.precision))
    testing = len(images) / (clock(options.device) - start)
    estimate = 100_000 / lora["images_per_s"] + TEST / testing + lora["other_seconds"]
    measured = None
    if not options.quick:
        recipe = dataclasses.replace(options.recipe, epochs=100)
        run = train(model_of(backbone, lora["method"], options.device), noise_task(1000), recipe)
        measured = run.seconds + (TEST - len(run.labels)) / testing
    average = statistics.harmonic_mean([row["images_per_s"] for row in mine])
    other = statistics.mean(max(0.0, row["other_seconds"]) for row in mine)
    seconds = (TUNING * 80_000 + FINAL * 100_000) / average + FINAL * TEST / testing + (TUNING + FINAL) * other
    kind = "estimated from the rates" if measured is None else f"measured {measured:,.1f} s, from the rates"
    print(f"\na VTAB-1K run of {lora['method']} on {backbone}, 1,000 images x 100 epochs and {TEST:,} test images:")
    print(f"  {kind} {estimate:,.1f} s ({testing:,.0f} test images/s, {EVALUATION_BATCH} at once)")
    print(f"the study's grid of {TUNING + FINAL:,} trainings, one at a time, at the mean rate of {len(mine)} methods:")
    print(f"  {seconds / 3600:,.0f} hours of this device")
    return {
        "backbone": backbone,
        "method": lora["method"],
        "test_images": TEST,
        "test_images_per_s": testing,
        "run_seconds_estimated": estimate,
        "run_seconds_measured": measured,
        "grid_trainings": TUNING + FINAL,
        "grid_methods": [row["method"] for row in mine],
        "grid_hours_estimated": seconds / 3600,
    }


def accuracies(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Plain float32 against bf16 (compiled, on CUDA) over three seeds on two tasks, with pre-trained weights."""
    rows = []
    backbone = options.backbones[-1]
    fast = {"precision": "bf16", "compile": "on" if options.device.startswith("cuda") else "off"}
    print(f"{'task':<16}{'seed':>5}{'fp32 %':>9}{'bf16 %':>9}{'difference':>12}{'same answers %':>16}")
    for name in options.accuracy:
        task = pc.load_task(name, size=pc.config_of(backbone).image_size)
        for seed in range(3):
            runs = []
            for how in ({"precision": "fp32", "compile": "off"}, fast):
                model = pc.create_model(backbone, "lora", num_classes=task.num_classes, seed=seed, dropout=0.0)
                recipe = Recipe(lr=1e-2, epochs=2 if options.quick else 20, batch_size=64, **how)
                runs.append(train(model.to(options.device), task, recipe, seed=seed))
            plain, other = runs
            same = 100 * float(np.mean(plain.logits.argmax(1) == other.logits.argmax(1)))
            rows.append({"task": name, "seed": seed, "fp32": plain.accuracy, "bf16": other.accuracy, "same": same})
            gap = other.accuracy - plain.accuracy
            print(f"{name:<16}{seed:5d}{plain.accuracy:9.2f}{other.accuracy:9.2f}{gap:12.2f}{same:16.1f}", flush=True)
    gaps = [row["bf16"] - row["fp32"] for row in rows]
    print(f"mean difference {statistics.mean(gaps):+.2f}, standard deviation {statistics.stdev(gaps):.2f} points")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument(
        "--backbones", "--backbone", nargs="+", default=list(BACKBONES), help="default: ViT-Ti, S and B"
    )
    parser.add_argument("--methods", nargs="+", help="default: all; with --quick linear, lora and full")
    parser.add_argument("--compiled", nargs="*", default=["lora", "full"], help="measured compiled too; only on CUDA")
    parser.add_argument("--precision", help="default: bf16 on CUDA, fp32 on a CPU")
    parser.add_argument("--batch", type=int, help="images in a step (default: 64 on CUDA, 16 on a CPU)")
    parser.add_argument("--pairs", type=int, default=3, help="default: 3")
    parser.add_argument("--quick", action="store_true", help="few images; the whole run is estimated and not done")
    parser.add_argument("--accuracy", nargs=2, metavar="TASK", help="instead: what bf16 costs in accuracy")
    parser.add_argument(
        "--out", help="the JSON file; default data/results/benchmarks/DEVICE-WHAT.json; 'none' for none"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="timm")
    options.device = device_called(options.device)
    cuda = options.device.startswith("cuda")
    options.precision = options.precision or ("bf16" if cuda else "fp32")
    options.methods = options.methods or (["linear", "lora", "full"] if options.quick else pc.methods.names())
    options.compiled = options.compiled if cuda else []
    options.epochs = 1 if options.quick else 3
    options.batch = options.batch or (64 if cuda else 16)
    options.recipe = dataclasses.replace(STUDY, batch_size=options.batch, precision=options.precision)
    environment = describe_environment(options.device)
    name, threads = environment["device_name"], torch.get_num_threads()
    print(f"{name}, torch {torch.__version__}, {threads} threads, {options.precision}, batches of {options.batch}")
    found: dict[str, Any] = {"environment": environment, "precision": options.precision, "quick": options.quick}
    found["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    if options.accuracy:
        found |= {"backbone": options.backbones[-1], "accuracy": accuracies(options)}
    else:
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        peak = matmul_peak(options.device, dtype)
        print(f"product of {options.precision} matrices: {peak / 1e12:,.2f} TFLOP/s")
        task = noise_task(32 if options.quick else 1000 if cuda else 128)
        found |= {"matmul_tflops": peak / 1e12, "images": len(task.splits["train1000"]), "batch_size": options.batch}
        found["speeds"] = speeds(options, task, peak)
        found["against_plain"] = against_plain(options, task)
        if not cuda:
            found["bf16_on_cpu"] = bf16_on_cpu(options, task)
        found["whole_run"] = whole_run(options, task, found["speeds"])
    if options.out != "none":
        what = "accuracy" if options.accuracy else "speed"
        out = Path(options.out or f"data/results/benchmarks/{options.device.partition(':')[0]}-{what}.json")
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, (json.dumps(found, indent=1) + "\n").encode())
        print(f"\nwritten to {out}")


if __name__ == "__main__":
    main()
