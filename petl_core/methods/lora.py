"""LoRA: a low-rank update of the fused query-key-value weights.

    z (B, N, D) --+-- W_qkv (3D, D), bias -------------------------+--> qkv (B, N, 3D)
                  +-- A (r, D) -- (B, N, r) -- B (3D, r) -- * s ---+

Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685, equation 3.
Formula: qkv <- qkv + s * B A drop(z), with z the LN1 output, A: D -> r shared by q, k and v, B: r -> 3D, no bias.
A is drawn from a uniform (Kaiming, a = sqrt 5), B starts at zero.
Site: ``qkv`` of every block.
Parameters: 4 D r L.
Merges: yes, W_qkv + s B A.
Released code: A and B are both drawn from N(0, 0.02^2), so that training does not start at the pre-trained function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.methods.base import Fraction, Method, Positive, PositiveNumber, attach_edits, register, released_init
from petl_core.vit import ViT, ViTConfig


class LowRankUpdate(nn.Module):
    """``edit(y, x) = y + alpha * scale * B A dropout(x)``."""

    def __init__(self, width: int, hyper: LoRA) -> None:
        super().__init__()
        self.down = nn.Linear(width, hyper.rank, bias=False)  # A
        self.up = nn.Linear(hyper.rank, 3 * width, bias=False)  # B
        self.scale, self.alpha, self.dropout = hyper.scale, 1.0, hyper.dropout
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        nn.init.zeros_(self.up.weight)

    @property
    def factor(self) -> float:
        return self.alpha * self.scale

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        z = self.down(F.dropout(x, self.dropout, self.training))  # (B, N, D) -> (B, N, r)
        if self.factor != 1.0:
            z = z * self.factor  # on the small tensor, not on the wide one
        return y + self.up(z)  # (B, N, 3D)


@register(
    name="lora",
    title="LoRA",
    family="low-rank",
    paper="Hu et al., 2022, arXiv 2106.09685",
    size_field="rank",
    space={"rank": (8, 32)},
    published_space={"rank": (1, 8, 16, 32)},
)
@dataclass(frozen=True)
class LoRA(Method):
    """Size is ``rank``; ``scale`` multiplies the update (the study uses 1, HF peft calls it lora_alpha / r)."""

    rank: Positive = 8
    scale: PositiveNumber = 1.0
    dropout: Fraction = 0.1
    init: Literal["intended", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        module = attach_edits(vit, ["qkv"], lambda: LowRankUpdate(vit.config.width, self))
        if self.init == "released":
            released_init(module)
        return module

    def count(self, config: ViTConfig) -> int:
        return 4 * config.width * self.rank * config.depth

    def merge(self, vit: ViT, module: Any) -> None:
        for block, update in zip(vit.blocks, module, strict=True):
            block.attn.qkv.weight += update.factor * update.up.weight @ update.down.weight
