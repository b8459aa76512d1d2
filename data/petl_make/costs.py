"""What a method costs: parameters, bytes of its file, memory and time of a training step, time of inference.

    python -m petl_make costs --backbone vit_base_patch16_224 --out data/costs/vit_base_patch16_224-cpu.json

Each method is measured in a process of its own, so that its peak memory is its own. Weights are random: no cost depends
on their values. Two kinds of numbers come out, and they are kept apart:

* **exact**, equal on every machine: parameters, file bytes, floating-point operations, and the bytes of weights,
  gradients, optimiser state and activations. Activations are what the forward pass saves for the backward pass, counted
  by hooks on autograd, each storage once. Their sum is the memory that training needs whatever the allocator does;
* **measured here**: the peak that the process took (on a GPU: that the allocator held), and seconds. A machine is never
  quiet, so each round times the method and a reference, one after the other, and what counts is the median of ratios.

The reference of a training step is a step of full fine-tuning; that of inference is the plain backbone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from petl_core import methods
from petl_core.models.adapters import save_adapter
from petl_core.models.build import Model, ModelSpec, attach, count_trainable, merge
from petl_core.models.weights import config_of
from petl_core.study.environment import describe_environment
from petl_core.utils import UserError, write_atomic
from petl_core.vit import ViT, ViTConfig

FORMAT = 1
REFERENCE = "full"
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Settings:
    """How costs are measured. ``steps`` are timed together; each of ``rounds`` times the method and the reference."""

    backbone: str
    device: str = "cpu"
    batch: int = 2
    classes: int = 100
    rounds: int = 3
    steps: int = 1
    precision: str = "fp32"  # or "bf16": weights in float32, most operations in bfloat16

    def __post_init__(self) -> None:
        for name in ("batch", "classes", "rounds", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.precision not in ("fp32", "bf16"):
            raise UserError(f"precision is '{self.precision}'; allowed: fp32, bf16")
        kind = self.device.partition(":")[0]
        if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
            raise UserError(f"device '{self.device}' cannot be measured here; use cpu, or cuda where there is a GPU")


@dataclass
class Saved:
    """Bytes that a forward pass saved for the backward pass; filled in when the ``with`` of ``saving`` ends."""

    bytes: int = 0
    storages: dict[int, int] = field(default_factory=dict)


@contextmanager
def saving(apart: Sequence[Tensor]) -> Iterator[Saved]:
    """Count what autograd saves inside the ``with``: each storage once, whole, those of the tensors ``apart`` left out.

    A saved view keeps its whole storage alive, and two saved views of one storage keep it alive once.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in apart}
    saved = Saved()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
    saved.bytes = sum(saved.storages.values())


def saved_activations(model: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass of ``images`` saves for the backward pass, besides parameters and the images."""
    with saving([*model.parameters(), *model.buffers(), images]) as saved:
        output = model(images)
    del output
    return saved.bytes


def bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Trainee:
    """A model with an optimiser and a batch, as the trainer has them: AdamW, cross-entropy, dropout at work."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings = model.to(settings.device).train(), settings
        self.model.initial = {}  # what interpolation needs is no part of the cost of training
        random = torch.Generator().manual_seed(0)
        size = model.config.image_size
        self.images = torch.randn(settings.batch, 3, size, size, generator=random).to(settings.device)
        self.labels = torch.randint(settings.classes, (settings.batch,), generator=random).to(settings.device)
        self.optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def cast(self) -> Any:
        if self.settings.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.settings.device.partition(":")[0], dtype=torch.bfloat16)

    def step(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        with self.cast():
            loss = F.cross_entropy(self.model(self.images).float(), self.labels)
        loss.backward()
        self.optimiser.step()

    def exact(self) -> dict[str, int]:
        """Bytes and operations of a step, exactly. The optimiser must have made a step already."""
        parameters = list(self.model.parameters())
        state = [v for s in self.optimiser.state.values() for v in s.values() if isinstance(v, Tensor)]
        self.optimiser.zero_grad(set_to_none=True)
        with FlopCounterMode(display=False) as training, self.cast():
            with saving([*parameters, *self.model.buffers(), self.images, self.labels]) as saved:
                logits = self.model(self.images)
            F.cross_entropy(logits.float(), self.labels).backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        return {
            "weights": bytes_of(parameters),
            "gradients": bytes_of(gradients),
            "optimiser": bytes_of(state),
            "activations": saved.bytes,
            "training_flops": training.get_total_flops(),
        }


def file_bytes(model: Model) -> tuple[int, int]:
    """Bytes of the file of ``save_adapter``, and how many of them are the head's."""
    with tempfile.TemporaryDirectory() as folder:
        size = save_adapter(model, Path(folder) / "adapter.safetensors").stat().st_size
    return size, bytes_of(list(model.head.parameters()))


def measure(name: str, settings: Settings, *, alone: bool = True, **hyper: Any) -> dict[str, Any]:
    """All costs of one method as plain values; seconds are lists with one entry for each round.

    ``alone``: this process has done nothing else, so that its peak memory is the method's; otherwise none is given.
    """
    config_of(settings.backbone)  # which imports timm, before counting
    watch = Peak(settings.device) if alone else None
    trainee = Trainee(_model(name, settings, hyper), settings)
    for _ in range(2):  # the first makes the optimiser's state, so only the second needs all the memory
        trainee.step()
    peak = (watch.bytes() or None) if watch else None
    model = trainee.model
    method = model.spec.methods[0]
    exact = trainee.exact()
    size, head = file_bytes(model)
    result: dict[str, Any] = {
        "method": name,
        "hyper": method.hyper(),
        "parameters": count_trainable(model),
        "formula": method.count(model.config),
        "file_bytes": size,
        "head_bytes": head,
        **exact,
        "memory": sum(exact[part] for part in ("weights", "gradients", "optimiser", "activations")),
        "peak": peak,
    }
    reference = Trainee(_model(REFERENCE, settings, {}), settings)
    reference.step()
    result["step"], result["step_reference"] = _rounds(settings, trainee.step, reference.step)
    del trainee
    plain = reference.model
    reference.optimiser.zero_grad(set_to_none=True)
    run = {"unmerged": model, "plain": plain}
    if method.mergeable:
        run["merged"] = merge(model).to(settings.device)
        result["merged_weights"] = bytes_of(list(run["merged"].parameters()))
    result["plain_weights"] = bytes_of(list(plain.parameters()))
    result |= _inference(run, reference, settings)
    return result


def _inference(run: dict[str, Model], reference: Trainee, settings: Settings) -> dict[str, Any]:
    """Seconds and operations of a batch through each of the models, in inference mode."""
    images, found = reference.images, {}

    def forward(model: Model) -> Callable[[], object]:
        def once() -> object:
            with torch.inference_mode(), reference.cast():
                return model(images)

        return once

    for name, model in run.items():
        model.eval()
        with FlopCounterMode(display=False) as counter:  # with gradients on: its hooks fail on VQT without
            model(images)
        found[f"{name}_flops"] = counter.get_total_flops()
    calls = [forward(model) for model in run.values()]
    seconds = _rounds(settings, *calls)
    return {**found, **{f"inference_{name}": times for name, times in zip(run, seconds, strict=True)}}


def _model(name: str, settings: Settings, hyper: dict[str, Any]) -> Model:
    """A model with weights from a plain normal: drawing them as ``create_model`` does takes longer than a step."""
    config = config_of(settings.backbone)
    method = methods.get(name, **hyper)
    spec = ModelSpec(settings.backbone, "random", "random", (method,), settings.classes, config.image_size)
    with torch.device("meta"):
        model = Model(config, settings.classes)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    return attach(model, spec)


def _rounds(settings: Settings, *calls: Callable[[], object]) -> list[list[float]]:
    """Seconds of one call of each, for each round; the order turns from round to round. All have run once before."""
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(settings.rounds):
        for place in range(len(calls)):
            index = (place + number) % len(calls)
            _wait(settings.device)
            start = time.perf_counter()
            for _ in range(settings.steps):
                calls[index]()
            _wait(settings.device)
            seconds[index].append((time.perf_counter() - start) / settings.steps)
    return seconds


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class Peak:
    """The largest memory of this process (on a GPU: of the allocator) since this was made, over what it was then."""

    def __init__(self, device: str) -> None:
        self.device = device
        _warm_up(device)
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
            self.start = torch.cuda.memory_allocated(device)
        else:
            self.start = resident()
            with suppress(OSError):  # elsewhere the peak of starting up counts; a model worth measuring is above it
                Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far

    def bytes(self) -> int:
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device) - self.start
        return resident(peak=True) - self.start


def resident(peak: bool = False) -> int:
    """Bytes of this process that are in memory now, or at most were."""
    if STATUS.exists():
        key = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(key))
        return 1024 * int(line.split()[1])
    try:
        import resource  # not on Windows, where nothing is measured
    except ImportError:
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # no /proc: the peak so far serves for both
    return largest if sys.platform == "darwin" else 1024 * largest


def _warm_up(device: str) -> None:
    """A step of a tiny ViT, so that what libraries load at first use is there before counting."""
    vit = ViT(ViTConfig(32, 8, 16, 1, 2), 2).to(device)
    optimiser = torch.optim.AdamW(vit.parameters(), fused=True)
    F.cross_entropy(
        vit(torch.zeros(1, 3, 32, 32, device=device)), torch.zeros(1, dtype=torch.long, device=device)
    ).backward()
    optimiser.step()


def measure_all(
    names: Sequence[str], settings: Settings, *, separate: bool = True, out: Path | None = None
) -> dict[str, Any]:
    """Costs of the named methods and of the reference, each in its own process (``separate=False``: in this one, which
    is quicker and gives no measured peak). The result is what a file of costs holds.

    ``out`` is written after each method; what it holds already, measured in the same way, is not measured again.
    """
    for name in names:
        methods.get(name)
    config_of(settings.backbone)
    found: dict[str, Any] = {
        "format": FORMAT,
        "settings": vars(settings),
        "environment": describe_environment(settings.device),
        "methods": [],
    }
    there = read(out) if out is not None and out.exists() else found
    same = all(there[key] == found[key] for key in ("settings", "environment"))
    for name in dict.fromkeys([*names, REFERENCE]):
        row = next((row for row in there["methods"] if same and row["method"] == name), None)
        if row is None:
            row = _in_process(name, settings) if separate else measure(name, settings, alone=False)
        found["methods"].append(row)
        if out is not None:
            write_atomic(out, (json.dumps(found, indent=1) + "\n").encode())
    return found


def _in_process(name: str, settings: Settings) -> dict[str, Any]:
    print(f"measuring {name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "petl_make.costs", "--one", name, *_flags(settings)]
    path = os.pathsep.join([str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"measuring {name} ended with code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _flags(settings: Settings) -> list[str]:
    return [part for key, value in vars(settings).items() for part in (f"--{key}", str(value))]


def read(path: str | Path) -> dict[str, Any]:
    """A file of costs. ``UserError`` if it is damaged or of another format."""
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT or not found["methods"]:
            raise ValueError(f"format {found['format']}")
        return found
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no file of costs ({error}); make it: python -m petl_make costs --out {path}"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m petl_make.costs", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backbone", default="vit_base_patch16_224", help="whose shape (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16 (default: %(default)s)")
    for name, text in (
        ("batch", "images in a step"),
        ("classes", "of the head"),
        ("rounds", "how often each time is taken"),
        ("steps", "timed together"),
    ):
        default = getattr(Settings, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", help="only these (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the JSON file to write; started again, it goes on")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        settings = Settings(**{key: getattr(options, key) for key in Settings.__dataclass_fields__})
        if options.one:
            print(json.dumps(measure(options.one, settings)))
            return 0
        if options.out is None:
            raise UserError("say where the result goes: --out FILE")
        if not options.out.parent.is_dir():
            raise UserError(f"--out got '{options.out}', but there is no folder {options.out.parent}; make it first")
        found = measure_all(options.methods or methods.names(), settings, out=options.out)
    except ValueError as error:
        print(f"petl_make.costs: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}: {len(found['methods'])} methods")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
