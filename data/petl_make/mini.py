"""How the embedded backbone ``mini`` was made: supervised pre-training of a small ViT on Tiny-ImageNet at 32 px.

    python -m petl_make mini --images tiny-imagenet-200 --out data/embedded/mini.safetensors

``--images`` is the unpacked original archive (``train/<wnid>/images/*.JPEG``, ``val/images`` and
``val/val_annotations.txt``), or a folder with ``train.parquet`` and ``val.parquet`` (columns ``image`` and ``label``).
The recipe is in ``PretrainRecipe``, the loop in ``petl_make.pretraining``; next to the weights the command writes the
log, one JSON line per epoch (``mini_log.jsonl``), from which the notebook draws the curve.

The shipped weights were made in one run that was stopped and continued twice: its first six epochs followed the cosine
of a run of 25 epochs, the others that of 20 (the log says where); until there the two differ by at most 7 % of the
base rate.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from petl_core.utils import UserError
from petl_core.vit import ViT
from petl_make import command_line
from petl_make.pretraining import Pretraining, Shape, add_options, augment, normalise


@dataclass(frozen=True)
class PretrainRecipe(Shape):
    """Everything that decides the result, given the images."""

    label_smoothing: float = 0.1


def read_images(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Tiny-ImageNet as ``{"train": (images, labels), "val": ...}``: uint8 (M, 3, 32, 32) and int64 (M,)."""
    if (folder / "train.parquet").exists():
        return {part: _read_parquet(folder / f"{part}.parquet") for part in ("train", "val")}
    if (folder / "wnids.txt").exists():
        wnids = sorted((folder / "wnids.txt").read_text().split())
        train = [(p, i) for i, w in enumerate(wnids) for p in sorted((folder / "train" / w / "images").glob("*.JPEG"))]
        rows = [line.split("\t") for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
        val = [(folder / "val" / "images" / row[0], wnids.index(row[1])) for row in rows]
        return {"train": _read_files(train), "val": _read_files(val)}
    raise UserError(
        f"{folder} holds neither train.parquet nor wnids.txt; give the folder of the unpacked tiny-imagenet-200.zip"
    )


def _decode(image: Image.Image) -> np.ndarray:
    image = image.convert("RGB")
    return np.asarray(image if image.size == (32, 32) else image.resize((32, 32), Image.Resampling.BOX))


def _read_parquet(path: Path) -> tuple[Tensor, Tensor]:
    import pandas as pd

    frame = pd.read_parquet(path)
    blobs = (b if isinstance(b, bytes) else b["bytes"] for b in frame["image"])
    images = np.stack([_decode(Image.open(io.BytesIO(b))) for b in blobs])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(frame["label"].to_numpy().copy())


def _read_files(files: list[tuple[Path, int]]) -> tuple[Tensor, Tensor]:
    images = np.stack([_decode(Image.open(path)) for path, _ in files])
    labels = torch.tensor([label for _, label in files])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def evaluate(vit: ViT, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent; images uint8."""
    vit.eval()
    with torch.inference_mode():
        guesses = torch.cat([vit(normalise(part)).argmax(1) for part in images.split(500)])
    vit.train()
    return 100 * (guesses == labels).float().mean().item()


def pretrain(folder: Path, out: Path, recipe: PretrainRecipe, threads: int) -> None:
    """Train, writing ``out`` at the end; continue from the last epoch if there is one."""
    torch.set_num_threads(threads)
    data = read_images(folder)
    images, labels = data["train"]
    torch.manual_seed(recipe.seed)
    vit = ViT(recipe.config(), int(labels.max()) + 1)

    def loss_of(batch: Tensor, generator: torch.Generator) -> Tensor:
        logits = vit(normalise(augment(images[batch], recipe.shift, generator)))
        return F.cross_entropy(logits, labels[batch], label_smoothing=recipe.label_smoothing)

    pretraining = Pretraining(vit, vit.blocks, recipe, out)
    pretraining.run(len(images), loss_of, lambda: {"val_accuracy": evaluate(vit, *data["val"])})
    vit.half().float()  # the file holds float16: what is measured here is what is shipped
    pretraining.finish(vit, evaluate(vit, *data["val"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``mini``."""
    parser = command_line("mini", __doc__, "--images tiny-imagenet-200 --out data/embedded/mini.safetensors")
    add_options(parser, "runs/mini.safetensors", PretrainRecipe(), os.cpu_count() or 1)
    parser.add_argument("--images", type=Path, required=True, help="folder of the unpacked tiny-imagenet-200 archive")
    chosen = parser.parse_args(arguments)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    pretrain(chosen.images, chosen.out, PretrainRecipe(epochs=chosen.epochs), chosen.threads)
    return 0
