"""FacT-TT: the updates of all weights of the network as one tensor train.

    x (B, N, a D) --+-- W of b D x a D, bias ----------------------------------------------+--> y (B, N, b D)
                    +-- U of each D (B, N, a r) -- core (b r, a r) -- V of each r -- * s --+

Paper: Jie and Deng, "FacT: Factor-Tuning for Lightweight Adaptation on Vision Transformer", AAAI 2023,
arXiv 2212.03145, section 3 (tensor-train format).
Formula: dW = s V M U, with U: D -> r and V: r -> D shared by the whole network and, in each block, one r x r core M for
each of q, k, v and o, a core (4r) x r for fc1 and a core r x (4r) for fc2, one square for each D x D piece of the
weight; o acts on the attention output, as the projection does. dropout after the core. V starts at zero.
Sites: ``qkv``, ``proj``, ``fc1`` and ``fc2`` of every block.
Parameters: 2 D r + (4 + 2k) L r^2, with k = hidden / D: 2 D r + 12 L r^2 with a hidden layer of 4 D.
Merges: yes, W + dW.
Released code: all factors start as N(0, 0.02^2), so training does not start exactly at the pre-trained function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from petl_core.methods._fact import Factors, attach_factors, merge_factors, pieces
from petl_core.methods.base import Fraction, Method, Positive, PositiveNumber, register
from petl_core.vit import ViT, ViTConfig


class TensorTrain(Factors):
    """U, V and, for each block and layer, a core that is a parameter."""

    def __init__(self, config: ViTConfig, hyper: FacTTT) -> None:
        super().__init__(config.width, hyper)
        (fc1, fc2), r = pieces(config), hyper.rank
        sizes = {"qkv": (1, 3), "proj": (1, 1), "fc1": (1, fc1), "fc2": (fc2, 1)}  # squares across and down
        self.cores: Any = nn.ModuleList()
        for _ in range(config.depth):
            cores = {name: nn.Linear(a * r, d * r, bias=False) for name, (a, d) in sizes.items()}
            self.cores.append(nn.ModuleDict(cores))

    def core(self, block: int, layer: str) -> Tensor:
        return self.cores[block][layer].weight


@register(
    name="fact_tt",
    title="FacT-TT",
    family="low-rank",
    paper="Jie and Deng, 2023, arXiv 2212.03145",
    size_field="rank",
    space={"scale": (1.0, 10.0), "rank": (16, 32)},
    published_space={"rank": (8, 16, 32), "scale": (0.01, 0.1, 1.0, 10.0, 100.0)},
)
@dataclass(frozen=True)
class FacTTT(Method):
    """Size is ``rank``; ``scale`` multiplies the updates."""

    rank: Positive = 16
    scale: PositiveNumber = 1.0
    dropout: Fraction = 0.1
    init: Literal["intended", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        return attach_factors(vit, TensorTrain(vit.config, self), self.init)

    def count(self, config: ViTConfig) -> int:
        return 2 * config.width * self.rank + (4 + sum(pieces(config))) * config.depth * self.rank**2

    def merge(self, vit: ViT, module: Any) -> None:
        merge_factors(vit, module)
