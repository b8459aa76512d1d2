"""RepAdapter: a linear bottleneck before the attention and before the MLP, folded away after training.

    z (B, N, D) --+----------------------------------------------+--> qkv or fc1
                  +-- A (h, D) -- (B, N, h) -- B (D, h) -- * s --+

Paper: Luo et al., "Towards Efficient Visual Adaption via Structural Re-parameterization", 2023, arXiv 2302.08106,
equations 5 to 9.
Formula: z <- z + s * (B dropout(A z + a) + b), with z the LN1 (LN2) output, A: D -> h dense with bias a, B: h -> D with
bias b made of G blocks on the diagonal (each group of h / G hidden units feeds D / G channels), no activation.
A starts as Xavier uniform, B and both biases as zero.
Sites: ``norm1`` and ``norm2`` of every block.
Parameters: 2 L (D h + h + D h / G + D), with G = 2.
Merges: yes, into qkv and fc1: W' = W (I + s B A), bias' = bias + s W (B a + b).
Released code: the same (its layers are Conv1d, which the constructor's new draw of linear weights spares).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.methods.base import Fraction, Method, Positive, PositiveNumber, attach_edits, bias_of, register
from petl_core.vit import ViT, ViTConfig


class LinearBottleneck(nn.Module):
    """``edit(y, x) = y + alpha * scale * (B dropout(A y + a) + b)``, where y (B, N, D) is the LayerNorm's output."""

    def __init__(self, width: int, hyper: RepAdapter) -> None:
        super().__init__()
        self.down = nn.Linear(width, hyper.bottleneck)  # A, a
        self.up = nn.Parameter(torch.zeros(width, hyper.bottleneck // hyper.groups))  # blocks of B, one below another
        self.up_bias = nn.Parameter(torch.zeros(width))  # b
        self.groups, self.scale, self.alpha, self.dropout = hyper.groups, hyper.scale, 1.0, hyper.dropout
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def scaled_up(self) -> tuple[Tensor, Tensor]:
        """alpha * scale times B as a matrix (D, h) with zeros off the blocks, and times b (D,).

        Multiplying by the zeros costs less than cutting the tokens into groups, because h is small.
        """
        factor = self.alpha * self.scale
        up, bias = torch.block_diag(*self.up.chunk(self.groups)), self.up_bias
        return (up, bias) if factor == 1.0 else (up * factor, bias * factor)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        h = F.dropout(self.down(y), self.dropout, self.training)  # (B, N, h)
        return y + F.linear(h, *self.scaled_up())


@register(
    name="repadapter",
    title="RepAdapter",
    family="adapter",
    paper="Luo et al., 2023, arXiv 2302.08106",
    size_field="bottleneck",
    merge_order=1,  # acts on the whole input of qkv and fc1
    space={"scale": (1.0, 5.0), "bottleneck": (8, 32)},
    published_space={"bottleneck": (8, 16, 32), "scale": (0.1, 0.5, 1.0, 5.0, 10.0)},
    exact_starts=("intended", "released"),
)
@dataclass(frozen=True)
class RepAdapter(Method):
    """Size is ``bottleneck``, a multiple of ``groups``, of which the width is a multiple too."""

    bottleneck: Positive = 8
    scale: PositiveNumber = 1.0
    groups: Positive = 2
    dropout: Fraction = 0.1
    init: Literal["intended", "released"] = "intended"  # "released" is the same

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck % self.groups:
            h, G = self.bottleneck, self.groups
            raise ValueError(f"repadapter: bottleneck is {h}; with {G} groups it must be a multiple of {G}")

    def attach(self, vit: ViT) -> nn.Module:
        D = vit.config.width
        if D % self.groups:
            raise ValueError(f"repadapter: groups is {self.groups}; it must divide the width of the ViT, {D}")
        return attach_edits(vit, ["norm1", "norm2"], lambda: LinearBottleneck(D, self))

    def count(self, config: ViTConfig) -> int:
        D, h = config.width, self.bottleneck
        return 2 * config.depth * (D * h + h + D * h // self.groups + D)

    def merge(self, vit: ViT, module: Any) -> None:
        layers = [layer for block in vit.blocks for layer in (block.attn.qkv, block.mlp.fc1)]
        for layer, edit in zip(layers, module, strict=True):
            up, bias = edit.scaled_up()
            bias_of(layer).add_(layer.weight @ (up @ edit.down.bias + bias))
            layer.weight += layer.weight @ up @ edit.down.weight
