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

import functools
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
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
from petl_make import command_line
from petl_make.memory import Peak, bytes_of, saved_activations, saving

__all__ = ["REFERENCE", "Settings", "measure", "measure_all", "read", "saved_activations", "saving"]

FORMAT = 1
REFERENCE = "full"


def _setting(default: str | int, about: str) -> Any:
    return field(default=default, metadata={"help": about})


@dataclass(frozen=True)
class Settings:
    """How costs are measured; each setting is an option of the command."""

    backbone: str = _setting("vit_base_patch16_224", "whose shape")
    device: str = _setting("cpu", "cpu or cuda")
    batch: int = _setting(2, "images in a step")
    classes: int = _setting(100, "of the head")
    rounds: int = _setting(3, "how often each time is taken, of the method and of the reference")
    steps: int = _setting(1, "timed together")
    precision: str = _setting("fp32", "fp32, or bf16: weights in float32, most operations in bfloat16")

    def __post_init__(self) -> None:
        for name in ("batch", "classes", "rounds", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.precision not in ("fp32", "bf16"):
            raise UserError(f"precision is '{self.precision}'; allowed: fp32, bf16")
        kind = self.device.partition(":")[0]
        if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
            raise UserError(f"device '{self.device}' cannot be measured here; use cpu, or cuda where there is a GPU")


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
    model, exact = trainee.model, trainee.exact()
    method = model.spec.methods[0]
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
    reference.optimiser.zero_grad(set_to_none=True)
    run = {"unmerged": model, "plain": reference.model}
    if method.mergeable:
        run["merged"] = merge(model).to(settings.device)
        result["merged_weights"] = bytes_of(list(run["merged"].parameters()))
    result["plain_weights"] = bytes_of(list(reference.model.parameters()))
    return result | _inference(run, reference)


def _inference(run: dict[str, Model], reference: Trainee) -> dict[str, Any]:
    """Seconds and operations of the reference's batch through each of the models, in inference mode."""
    found: dict[str, Any] = {}

    def forward(model: Model) -> None:
        with torch.inference_mode(), reference.cast():
            model(reference.images)

    for name, model in run.items():
        model.eval()
        with FlopCounterMode(display=False) as counter:  # with gradients on: its hooks fail on VQT without
            model(reference.images)
        found[f"{name}_flops"] = counter.get_total_flops()
    seconds = _rounds(reference.settings, *(functools.partial(forward, model) for model in run.values()))
    return found | {f"inference_{name}": times for name, times in zip(run, seconds, strict=True)}


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


def measure_all(
    names: Sequence[str], settings: Settings, *, separate: bool = True, out: Path | None = None
) -> dict[str, Any]:
    """Costs of the named methods and of the reference, each in its own process (``separate=False``: in this one, which
    is quicker and gives no measured peak). The result is what a file of costs holds.

    ``out`` is written after each method; what it holds already, measured in the same way, is not measured again.
    """
    try:
        for name in names:
            methods.get(name)
    except ValueError as error:
        raise UserError(str(error)) from error
    config_of(settings.backbone)
    found: dict[str, Any] = {
        "format": FORMAT,
        "settings": asdict(settings),
        "environment": describe_environment(settings.device),
        "methods": [],
    }
    there = read(out) if out is not None and out.exists() else found
    same = all(there[key] == found[key] for key in ("settings", "environment"))
    rows = {row["method"]: row for row in there["methods"]} if same else {}
    for name in dict.fromkeys([*names, REFERENCE]):
        if name not in rows:
            rows[name] = _in_process(name, settings) if separate else measure(name, settings, alone=False)
        found["methods"].append(rows[name])
        if out is not None:
            write_atomic(out, (json.dumps(found, indent=1) + "\n").encode())
    return found


def _in_process(name: str, settings: Settings) -> dict[str, Any]:
    """``measure`` in a process that does nothing else."""
    print(f"measuring {name}", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(measure, name, settings).result()
        except BrokenProcessPool as error:
            raise UserError(f"the process that measured {name} was ended, perhaps for memory; try --batch 1") from error


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


def main(arguments: Sequence[str]) -> int:
    """The command ``costs``."""
    parser = command_line("costs", __doc__, "--out costs.json", "--backbone mini --methods lora full --out costs.json")
    for setting in fields(Settings):
        about = f"{setting.metadata['help']} (default: %(default)s)"
        parser.add_argument(f"--{setting.name}", type=type(setting.default), default=setting.default, help=about)
    parser.add_argument("--methods", nargs="+", help="only these (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the JSON file to write; started again, it goes on")
    chosen = parser.parse_args(arguments)
    settings = Settings(**{setting.name: getattr(chosen, setting.name) for setting in fields(Settings)})
    if chosen.out is None:
        raise UserError("say where the result goes: --out FILE")
    if not chosen.out.parent.is_dir():
        raise UserError(f"--out got '{chosen.out}', but there is no folder {chosen.out.parent}; make it first")
    found = measure_all(chosen.methods or methods.names(), settings, out=chosen.out)
    print(f"wrote {chosen.out}: {len(found['methods'])} methods")
    return 0
