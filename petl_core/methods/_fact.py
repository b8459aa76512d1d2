"""What FacT-TT and FacT-TK share: low-rank updates of all weights of the network from one pair of factors U and V.

Each of the 4 D x D weights of attention (q, k, v, o) and each D x D piece of fc1 and fc2 (4 pieces each, if the hidden
layer is 4 D wide) is a *slot* whose update is s V M U with U: D -> r and V: r -> D shared by the whole network and M an
r x r matrix. The two methods differ only in where M comes from. A gated MLP's fc1 has twice as many pieces as fc2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.methods.base import fc1_width, released_init
from petl_core.vit import ViT, ViTConfig

LAYERS = {"qkv": "attn", "proj": "attn", "fc1": "mlp", "fc2": "mlp"}  # and the part of a block that owns them


def pieces(config: ViTConfig) -> tuple[int, int]:
    """How many D x D pieces fc1 has, and fc2. ``ValueError`` if the hidden layer is not a multiple of the width."""
    if config.hidden % config.width:
        raise ValueError(
            f"FacT cuts fc1 and fc2 into squares, but the hidden layer of {config.hidden} is not a multiple "
            f"of the width, {config.width}; use another method for this backbone"
        )
    return fc1_width(config) // config.width, config.hidden // config.width


class Factors(nn.Module):
    """The shared factors. A subclass adds its own parameters and ``core(block, layer)``.

    ``hyper``: the method, with the fields rank, scale and dropout.
    """

    def __init__(self, width: int, hyper: Any) -> None:
        super().__init__()
        self.down = nn.Linear(width, hyper.rank, bias=False)  # U
        self.up = nn.Linear(hyper.rank, width, bias=False)  # V
        self.scale, self.alpha, self.dropout = hyper.scale, 1.0, hyper.dropout
        nn.init.zeros_(self.up.weight)

    def core(self, block: int, layer: str) -> Tensor:
        """The matrices M of a layer's pieces, put together as the pieces are: (down r, across r)."""
        raise NotImplementedError

    def update(self, x: Tensor, block: int, layer: str) -> Tensor:
        """alpha * scale * dW x for x (B, N, across D): (B, N, down D)."""
        D, r = self.up.weight.shape
        core = self.core(block, layer)
        u = self.down(x.unflatten(-1, (-1, D))).flatten(-2)  # (B, N, across r)
        h = F.dropout(F.linear(u, core), self.dropout, self.training)  # (B, N, down r)
        if (factor := self.alpha * self.scale) != 1.0:
            h = h * factor
        return self.up(h.unflatten(-1, (-1, r))).flatten(-2)  # (B, N, down D)

    def weight(self, block: int, layer: str) -> Tensor:
        """alpha * scale * dW of a layer: (down D, across D), in each piece V M U."""
        r = len(self.down.weight)
        whole = [
            torch.cat([self.up.weight @ M @ self.down.weight for M in row.split(r, dim=1)], dim=1)
            for row in self.core(block, layer).split(r)
        ]
        return self.alpha * self.scale * torch.cat(whole)


@dataclass(eq=False)
class FactorEdit:
    """``edit(y, x) = y + dW x`` of one layer. Not a module: the factors belong to the method, not to the edit."""

    factors: Factors
    block: int
    layer: str

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        return y + self.factors.update(x, self.block, self.layer)


def attach_factors(vit: ViT, factors: Factors, init: str) -> Factors:
    """Append an edit to ``qkv``, ``proj``, ``fc1`` and ``fc2`` of every block; returns the factors."""
    if init == "released":
        released_init(factors)
    for index, block in enumerate(vit.blocks):
        for layer in LAYERS:
            block.sites[layer].append(FactorEdit(factors, index, layer))
    return factors


def merge_factors(vit: ViT, factors: Factors) -> None:
    """Add every dW to its weight."""
    for index, block in enumerate(vit.blocks):
        for layer, owner in LAYERS.items():
            getattr(getattr(block, owner), layer).weight += factors.weight(index, layer)
