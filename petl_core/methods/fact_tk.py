"""FacT-TK: the updates of all weights of the network as one Tucker decomposition.

    x (B, N, a D) --+-- W of b D x a D, bias ----------------------------------------------+--> y (B, N, b D)
                    +-- U of each D (B, N, a r) -- core (b r, a r) -- V of each r -- * s --+

Paper: Jie and Deng, "FacT: Factor-Tuning for Lightweight Adaptation on Vision Transformer", AAAI 2023,
arXiv 2212.03145, section 3 (Tucker format).
Formula: U: D -> r, V: r -> D, a core C in R^(r x r x r) and mixing weights P in R^(r x S L) are shared by the whole
network; a block has S = 4 + 2k slots: q, k, v, o, k for fc1 and k for fc2 (k = hidden / D, which is 4: S = 12).
Slot m of block l has M = sum_j C[:, :, j] P[j, S l + m] in R^(r x r), and dW_q = s V M' U, in the same way k, v and o.
The k matrices of fc1 are read as one r x (k r) matrix G, row by row with the slot running fastest, and G is cut into k
squares G_a: piece a of dW_fc1 is s V G_a' U; in the same way piece a of dW_fc2 is s V G_a U (not transposed). So do the
method's authors; every square of G thus mixes the slots. dropout after the core.
V starts at zero, C and P as Xavier uniform.
Sites: ``qkv``, ``proj``, ``fc1`` and ``fc2`` of every block.
Parameters: 2 D r + S L r + r^3.
Merges: yes, W + dW.
Released code: U and V start as N(0, 0.02^2), so training does not start exactly at the pre-trained function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from petl_core.methods._fact import Factors, attach_factors, merge_factors, pieces
from petl_core.methods.base import Fraction, Method, Positive, PositiveNumber, register
from petl_core.vit import ViT, ViTConfig


class Tucker(Factors):
    """U, V, the core C ``cube`` (r, r, r) and the mixing weights P ``mix`` (r, S L)."""

    def __init__(self, config: ViTConfig, hyper: FacTTK) -> None:
        super().__init__(config.width, hyper)
        (fc1, fc2), r = pieces(config), hyper.rank
        self.per_block = 4 + fc1 + fc2
        self.slots = {"qkv": (0, 3), "proj": (3, 4), "fc1": (4, 4 + fc1), "fc2": (4 + fc1, self.per_block)}
        self.cube = nn.Parameter(torch.empty(r, r, r))
        self.mix = nn.Parameter(torch.empty(r, self.per_block * config.depth))
        nn.init.xavier_uniform_(self.cube)
        nn.init.xavier_uniform_(self.mix)

    def core(self, block: int, layer: str) -> Tensor:
        first, last = self.slots[layer]
        offset = self.per_block * block
        mixed = self.cube @ self.mix[:, offset + first : offset + last]  # (r, r, slots)
        if layer == "qkv":
            return torch.cat([M.T for M in mixed.unbind(2)])  # (3r, r)
        G = mixed.flatten(1)  # (r, slots r): row by row, the slot running fastest; for proj, one slot, it is M
        return G if layer == "fc2" else G.T


@register(
    name="fact_tk",
    title="FacT-TK",
    family="low-rank",
    paper="Jie and Deng, 2023, arXiv 2212.03145",
    size_field="rank",
    space={"scale": (1.0, 10.0), "rank": (16, 32)},
    published_space={"rank": (16, 32, 64), "scale": (0.01, 0.1, 1.0, 10.0, 100.0)},
)
@dataclass(frozen=True)
class FacTTK(Method):
    """Size is ``rank``; ``scale`` multiplies the updates."""

    rank: Positive = 16
    scale: PositiveNumber = 1.0
    dropout: Fraction = 0.1
    init: Literal["intended", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        return attach_factors(vit, Tucker(vit.config, self), self.init)

    def count(self, config: ViTConfig) -> int:
        r, slots = self.rank, 4 + sum(pieces(config))
        return 2 * config.width * r + slots * config.depth * r + r**3

    def merge(self, vit: ViT, module: Any) -> None:
        merge_factors(vit, module)
