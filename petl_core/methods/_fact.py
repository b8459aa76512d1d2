"""What FacT-TT and FacT-TK share: low-rank updates of all weights of the network from one pair of factors U and V.

Each of the 4 D x D weights of attention (q, k, v, o) and each D x D piece of fc1 and fc2 (4 pieces each, if the hidden
layer is 4 D wide) is a *slot* whose update is s V M U with U: D -> r and V: r -> D shared by the whole network and M an
r x r matrix. The two methods differ only in where M comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.vit import Block, ViT, ViTConfig

LAYERS = ("qkv", "proj", "fc1", "fc2")


def pieces(config: ViTConfig) -> int:
    """How many D x D pieces fc1 (and fc2) has. ``ValueError`` if the hidden layer is not a multiple of the width."""
    if config.hidden % config.width:
        raise ValueError(
            f"FacT cuts fc1 and fc2 into squares, but the hidden layer of {config.hidden} is not a multiple "
            f"of the width, {config.width}; use another method for this backbone"
        )
    return config.hidden // config.width


def shapes(config: ViTConfig) -> dict[str, tuple[int, int]]:
    """For each layer, its number of D x D pieces down (outputs) and across (inputs)."""
    k = pieces(config)
    return {"qkv": (3, 1), "proj": (1, 1), "fc1": (k, 1), "fc2": (1, k)}


def layer_of(block: Block, layer: str) -> nn.Linear:
    return getattr(block.attn if layer in ("qkv", "proj") else block.mlp, layer)


class Factors(nn.Module):
    """The shared factors. A subclass adds its own parameters and ``core(block, layer)``."""

    def __init__(self, width: int, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)  # U
        self.up = nn.Linear(rank, width, bias=False)  # V
        self.scale, self.alpha, self.dropout = scale, 1.0, dropout
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
        """alpha * scale * dW of a layer: (down D, across D)."""
        r = self.up.weight.shape[1]
        core = self.core(block, layer).unflatten(1, (-1, r)).unflatten(0, (-1, r))  # (down, r, across, r)
        whole = torch.einsum("dp,apbq,qe->adbe", self.up.weight, core, self.down.weight)
        return self.alpha * self.scale * whole.flatten(2).flatten(0, 1)


@dataclass(eq=False)
class FactorEdit:
    """``edit(y, x) = y + dW x`` of one layer. Not a module: the factors belong to the method, not to the edit."""

    factors: Factors
    block: int
    layer: str

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        return y + self.factors.update(x, self.block, self.layer)


def attach_factors(vit: ViT, factors: Factors) -> None:
    """Append an edit to ``qkv``, ``proj``, ``fc1`` and ``fc2`` of every block."""
    for index, block in enumerate(vit.blocks):
        for layer in LAYERS:
            owner = block.attn if layer in ("qkv", "proj") else block.mlp
            owner.sites[layer].append(FactorEdit(factors, index, layer))


def merge_factors(vit: ViT, factors: Factors) -> None:
    """Add every dW to its weight."""
    for index, block in enumerate(vit.blocks):
        for layer in LAYERS:
            layer_of(block, layer).weight += factors.weight(index, layer)
