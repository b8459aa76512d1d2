"""Speed and size, printed as a table: ``make bench``, or ``python tests/benchmarks/bench_steps.py --help``.

One training step (forward, cross-entropy, backward, AdamW) on the CPU in float32: ours against Hugging Face peft on
timm's model for LoRA, and against a plain loop over timm's model for BitFit and full fine-tuning. Both sides have the
same weights, images, trainable parameters, dropout and optimiser, and take turns in one process, so that whatever else
the machine does slows both. "ratio" is the median of theirs / ours over the pairs: above 1, ours is faster. Half of the
pairs lie between the two numbers after it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import petl_core as pc
from petl_core.models.timm_names import canonical
from petl_core.models.weights import Weights, load_weights

CLASSES, RANK, DROPOUT, IMAGE = 100, 8, 0.1, 224
MODELS = {"tiny": "vit_tiny_patch16_224", "base": "vit_base_patch16_224"}
KINDS = {  # today's other ViTs, small enough for a CPU
    "registers": "vit_small_patch14_reg4_dinov2",
    "dinov3": "vit_small_patch16_dinov3",
    "dinov3_gated": "vit_small_plus_patch16_dinov3",
    "siglip": "vit_base_patch16_siglip_224",
    "eva02": "eva02_tiny_patch14_224",
    "perception": "vit_pe_core_tiny_patch16_384",
    "rope": "vit_small_patch16_rope_mixed_224",
    "beit": "beit_base_patch16_224",
}
MODELS |= KINDS
RIVALS = {"lora": "peft on timm", "bitfit": "timm, bare loop", "full": "timm, bare loop"}


def pair(name: str, method: str) -> tuple[nn.Module, nn.Module]:
    """Our model and its rival, with equal weights and equally many trainable parameters."""
    import timm

    hyper: dict[str, Any] = {"rank": RANK, "dropout": DROPOUT} if method == "lora" else {}
    theirs: Any = timm.create_model(name, num_classes=CLASSES, img_size=IMAGE)
    ours = pc.create_model(name, method, num_classes=CLASSES, pretrained=False, image_size=IMAGE, **hyper)
    load_weights(ours, Weights(canonical(theirs.state_dict()), "timm's model"), keep_head=True)
    if method == "lora":
        import peft

        config = {"r": RANK, "lora_alpha": RANK, "lora_dropout": DROPOUT, "target_modules": ["qkv"]}
        theirs = peft.get_peft_model(theirs, peft.LoraConfig(**config, modules_to_save=["head"]))
    else:
        for key, parameter in theirs.named_parameters():
            bias = key.endswith(("bias", "q_bias", "v_bias"))
            parameter.requires_grad_(method == "full" or bias or key.startswith("head."))
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (ours, theirs)]
    if counts[0] != counts[1] and name not in KINDS.values():  # where keys have no bias we count its zeros
        raise SystemExit(f"{method}: {counts[0]} parameters train here, {counts[1]} there; nothing to compare")
    return ours.train(), theirs.train()


def stepper(model: nn.Module, batch: int) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds."""
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, IMAGE, IMAGE, generator=generator)
    labels = torch.randint(0, CLASSES, (batch,), generator=generator)

    def step() -> float:
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
        return time.perf_counter() - start

    return step


def compare(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of ours and of theirs in alternation; who begins changes from pair to pair. Two steps each to warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(pairs + 2):
        both = (ours, theirs)
        for side in (0, 1) if i % 2 else (1, 0):
            seconds = both[side]()
            if i >= 2:
                times[side].append(seconds)
    return times


def bench_step(size: str, method: str, batch: int, pairs: int) -> str:
    """One row of the table."""
    a, b = (stepper(model, batch) for model in pair(MODELS[size], method))
    ours, theirs = compare(a, b, pairs)
    ratios = [t / o for o, t in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return (
        f"{MODELS[size]:<34}{method:<8}{RIVALS[method]:<17}{1e3 * statistics.median(ours):9.1f}"
        f"{1e3 * statistics.median(theirs):9.1f}{statistics.median(ratios):8.3f}   {low:.3f} .. {high:.3f}{pairs:7d}"
    )


def bench_import() -> str:
    """Seconds that ``import petl_core`` takes in a fresh interpreter, without the interpreter's own start."""
    code = "import time; t = time.perf_counter(); import petl_core; print(time.perf_counter() - t)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    return f"import petl_core: {statistics.median(seconds):.3f} s (at most 3)"


def bench_adapter_size() -> str:
    """Bytes of a saved LoRA of rank 8 on ViT-B/16."""
    model = pc.create_model(MODELS["base"], "lora", num_classes=CLASSES, pretrained=False, rank=8)
    with tempfile.TemporaryDirectory() as folder:
        size = pc.save_adapter(model, Path(folder) / "lora.safetensors").stat().st_size
    head = 4 * sum(p.numel() for p in model.head.parameters())
    return (
        f"saved LoRA, rank 8, ViT-B/16: {(size - head) / 1e6:.3f} MB (at most 1.25) and a head of {head / 1e6:.3f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["tiny", "base"], help="default: tiny base")
    parser.add_argument("--methods", nargs="+", choices=RIVALS, default=list(RIVALS), help="default: all three")
    parser.add_argument("--batch", type=int, default=8, help="images in a step (default: 8)")
    parser.add_argument("--pairs", type=int, help="steps of each side (default: 40 for tiny, 10 for base)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of timm and peft
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, batch {options.batch}")
    print(f"{'model':<34}{'method':<8}{'against':<17}{'ours ms':>9}{'theirs':>9}{'ratio':>8}   half between   pairs")
    for size in options.models:
        for method in options.methods:
            pairs = options.pairs or {"tiny": 40}.get(size, 10)
            print(bench_step(size, method, options.batch, pairs), flush=True)
    print(bench_import())
    print(bench_adapter_size())


if __name__ == "__main__":
    main()
