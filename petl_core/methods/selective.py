"""Selective tuning: chosen layers of chosen blocks are trained, all else is frozen.

Paper: Touvron et al., "Three things everyone should know about Vision Transformers", ECCV 2022, arXiv 2203.09795,
section 4 (attention only, MLP only); the study trains the last blocks of a ViT this way.
Formula: the backbone's own.
Sites: none; ``part`` of the blocks in ``index``. "attention" is qkv and proj, "mlp" is fc1 and fc2, each without its
LayerNorm; "block" is everything in the block.
Parameters: per block, qkv 3 D^2 + 3 D, proj D^2 + D, fc1 hidden (D + 1), fc2 D (hidden + 1), block 12 D^2 + 13 D with a
hidden layer of 4 D (2 D more with LayerScale).
Merges: trivially, it edits existing weights.
Released code: chooses by substring of the name, so that index 1 also trains blocks 10 and 11; not so here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from petl_core.methods.base import Method, attention_parameters, block_parameters, mlp_parameters, register
from petl_core.vit import ViT, ViTConfig

LAYERS = {
    "attention": ("attn.qkv", "attn.proj"),
    "qkv": ("attn.qkv",),
    "proj": ("attn.proj",),
    "mlp": ("mlp.fc1", "mlp.fc2"),
    "fc1": ("mlp.fc1",),
    "fc2": ("mlp.fc2",),
    "block": ("",),  # all of them
}


@register(
    name="selective",
    title="Selective",
    family="selective",
    paper="Touvron et al., 2022, arXiv 2203.09795",
    lrs=(1e-3, 3e-4, 3e-3),
    space={"index": ((-1,), (-2, -1))},
    published_space={"index": ((-1,), (-2, -1), (-3, -2, -1))},
)
@dataclass(frozen=True)
class Selective(Method):
    """``part`` of the blocks in ``index`` (from 0; negative numbers count from the end)."""

    part: Literal["attention", "qkv", "proj", "mlp", "fc1", "fc2", "block"] = "attention"
    index: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        index = self.index if isinstance(self.index, (tuple, list)) else (self.index,)
        if not index or any(isinstance(i, bool) or not isinstance(i, int) for i in index):
            raise ValueError(f"selective: index is {self.index!r}; it must hold one or more whole numbers, as in (-1,)")
        object.__setattr__(self, "index", tuple(index))

    def chosen(self, config: ViTConfig) -> set[int]:
        """The blocks, counted from 0. ``ValueError`` if one is not there."""
        L = config.depth
        for i in self.index:
            if not -L <= i < L:
                raise ValueError(
                    f"selective: index {i} is not in a ViT of {L} blocks; allowed: 0 to {L - 1}, or {-L} to -1"
                )
        return {i % L for i in self.index}

    def attach(self, vit: ViT) -> nn.Module | None:
        self.chosen(vit.config)
        return None

    def unfreezes(self, parameter: str, config: ViTConfig) -> bool:
        words = parameter.split(".", 2)  # blocks, 3, attn.qkv.weight
        if words[0] != "blocks" or int(words[1]) not in self.chosen(config):
            return False
        return self.part == "block" or words[2].rpartition(".")[0] in LAYERS[self.part]

    def count(self, config: ViTConfig) -> int:
        sizes = {**attention_parameters(config), **mlp_parameters(config), "": block_parameters(config)}
        return len(self.chosen(config)) * sum(sizes[layer] for layer in LAYERS[self.part])
