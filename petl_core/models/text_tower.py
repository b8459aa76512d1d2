"""The two towers of ``mini_clip`` and the zero-shot head.

A picture and a caption become vectors of E numbers each; training made those that belong together point the same way
(Radford et al., 2021, arXiv 2103.00020). The image tower is a ViT whose ``head`` is the projection to E numbers
(``create_model("mini_clip", keep_head=True)``); the text tower is here. How both were trained: ``petl_make.mini_clip``.

Shapes: T captions, W words in the longest, E the width of the common space, C classes, D the ViT's width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.models import weights as backbones
from petl_core.models.formats import read_checkpoint
from petl_core.utils import UserError
from petl_core.vit import Block, ViTConfig

# of the task "world"; the renderer draws these, and a test compares
WORLD_CLASSES = (
    "house", "tree", "boat", "car", "plane", "fish", "bird", "butterfly", "flower", "leaf", "mushroom", "umbrella",
    "lamp", "chair", "table", "cup", "bottle", "key", "hammer", "spoon",
)  # fmt: skip
WORLD_STYLES = ("photo", "sketch", "chalk", "cartoon", "painting", "mosaic", "engraving", "window", "dots", "relief")
WORLD_PROMPTS = (
    *("a {thing}", "the {thing}"),
    *(f"a {style} of a {{thing}}" for style in (*WORLD_STYLES, "neon", "silhouette")),
    *(f"my {{thing}} {style}" for style in ("photo", "sketch", "painting", "cartoon")),
)


@dataclass(frozen=True)
class TextConfig:
    """The text tower's shape. ``words`` is the whole vocabulary; ``longest`` the most words in a caption."""

    words: tuple[str, ...]
    longest: int = 12
    width: int = 64
    depth: int = 1
    heads: int = 2
    out: int = 64


class TextTower(nn.Module):
    """Captions to vectors: a table of words, positions, Transformer blocks, the mean over words, a projection.

    ``logit_scale`` is the logarithm of the factor on cosines (CLIP's inverse temperature). ``feature_norm`` is the
    mean length of the image tower's E numbers, measured at the end of pre-training (see ``zero_shot_head``).
    """

    feature_norm: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.number = {word: i + 1 for i, word in enumerate(config.words)}  # 0 fills captions up
        self.words = nn.Embedding(len(config.words) + 1, config.width)
        self.position = nn.Parameter(torch.empty(1, config.longest, config.width))
        shape = ViTConfig(32, 32, config.width, config.depth, config.heads)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.proj = nn.Linear(config.width, config.out, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # log(1 / 0.07), where CLIP starts
        self.register_buffer("feature_norm", torch.tensor(1.0))
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.position, std=0.01)

    def numbers(self, captions: Sequence[str]) -> Tensor:
        """Word numbers (T, longest), 0 after the last word. ``UserError`` for a word that the tower does not know."""
        rows = torch.zeros(len(captions), self.config.longest, dtype=torch.long)
        for row, text in zip(rows, captions, strict=True):
            words = text.lower().split()
            unknown = [word for word in words if word not in self.number]
            if unknown or not 1 <= len(words) <= self.config.longest:
                why = f"does not know {', '.join(unknown)}" if unknown else f"takes 1 to {self.config.longest} words"
                raise UserError(f"caption {text!r}: the text tower {why}; it knows: {', '.join(self.config.words)}")
            row[: len(words)] = torch.tensor([self.number[word] for word in words])
        return rows

    def forward(self, numbers: Tensor) -> Tensor:
        """Word numbers (T, W) to vectors (T, E) of length 1."""
        there = (numbers > 0).float()[..., None]  # (T, W, 1)
        x = self.words(numbers) + self.position[:, : numbers.shape[1]]
        for block in self.blocks:
            x = block(x)
        mean = (self.norm(x) * there).sum(1) / there.sum(1)
        return F.normalize(self.proj(mean), dim=1)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions to vectors (T, E) of length 1."""
        return self(self.numbers(captions))


def load_text_tower(path: Path) -> TextTower:
    """A text tower from its file. ``UserError`` where that is absent, damaged or something else."""
    tensors, metadata = read_checkpoint(path)
    try:
        fields = json.loads(metadata["text"])
        tower = TextTower(TextConfig(**{**fields, "words": tuple(fields["words"])}))
        tower.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is no text tower of this version of petl_core ({error}); fetch it again") from error
    return tower.eval().requires_grad_(requires_grad=False)


def text_file(backbone: str) -> Path:
    """The text tower's file that belongs to a backbone: it lies beside the image tower's."""
    image = backbones.EMBEDDED / "mini_clip.safetensors" if backbone == "mini_clip" else Path(backbone)
    path = image.with_name(image.stem + "_text.safetensors")
    if image.suffix != ".safetensors" or not path.is_file():
        raise UserError(f"backbone {backbone!r} has no text tower ({path.name}), so no zero-shot head; use 'mini_clip'")
    return path


@torch.no_grad()
def class_embeddings(tower: TextTower, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Vectors (C, E) of length 1: for each class the mean over templates of its captions' vectors."""
    if not classes or not templates or any("{thing}" not in text for text in templates):
        raise UserError("a zero-shot head needs one class or more, and templates that each contain {thing}")
    rows = [tower.encode([text.format(thing=name) for text in templates]).mean(0) for name in classes]
    return F.normalize(torch.stack(rows), dim=1)


def zero_shot_head(
    backbone: str = "mini_clip", classes: Sequence[str] | None = None, templates: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,), which is zero, of a head that names classes without having seen one labelled image.

    CLIP's logit of class c is ``scale * cos(P f, t_c)``, with f the image's feature (D,), P (E, D) the projection and
    t_c the class's text vector: the mean over ``templates`` of unit vectors, made a unit vector again, as the study
    builds it. Here P and the scale go into one matrix, ``W_c = scale / n * t_c P`` with n the mean length of P f over
    pre-training images. So the logits are CLIP's times ``|P f| / n``, one positive number per image: the ranking of
    the classes, and with it each prediction, is the same; only how sharp an image's probabilities are differs a
    little. The study keeps the normalisation and trains P and the class matrix both; one matrix of the same rank or
    more can represent every product of the two, and is what every other head of this guide is: a linear layer.

    ``classes`` (default: the world's) and ``templates`` (default: ``WORLD_PROMPTS``) may be any of the tower's
    words. ``UserError`` for a backbone without a text tower or for words that it does not know.
    """
    tower = load_text_tower(text_file(backbone))
    projection = backbones.weights_of(backbone).tensors["head.weight"]  # (E, D)
    vectors = class_embeddings(
        tower, WORLD_CLASSES if classes is None else classes, WORLD_PROMPTS if templates is None else templates
    )
    factor = tower.logit_scale.exp() / tower.feature_norm
    weight = factor * vectors @ projection
    return weight, torch.zeros(len(weight))
