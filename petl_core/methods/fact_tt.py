"""FacT-TT: the updates of all weights of the network as one tensor train.

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
from typing import Any, ClassVar

from torch import Tensor, nn

from petl_core.methods._fact import Factors, attach_factors, merge_factors, pieces, shapes
from petl_core.methods.base import (
    Method,
    check_choice,
    check_fraction,
    check_number,
    check_positive,
    register,
    released_init,
)
from petl_core.vit import ViT, ViTConfig


class TensorTrain(Factors):
    """U, V and, for each block and layer, a core that is a parameter."""

    def __init__(self, config: ViTConfig, rank: int, scale: float, dropout: float) -> None:
        super().__init__(config.width, rank, scale, dropout)
        sizes = {name: (down * rank, across * rank) for name, (down, across) in shapes(config).items()}
        self.cores: Any = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(across, down, bias=False) for name, (down, across) in sizes.items()})
            for _ in range(config.depth)
        )

    def core(self, block: int, layer: str) -> Tensor:
        return self.cores[block][layer].weight


@register
@dataclass(frozen=True)
class FacTTT(Method):
    """Size is ``rank``; ``scale`` multiplies the updates."""

    name: ClassVar[str] = "fact_tt"
    title: ClassVar[str] = "FacT-TT"
    family: ClassVar[str] = "low-rank"
    paper: ClassVar[str] = "Jie and Deng, 2023, arXiv 2212.03145"
    size_field: ClassVar[str | None] = "rank"
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"scale": (1.0, 10.0), "rank": (16, 32)}
    published_space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "rank": (8, 16, 32),
        "scale": (0.01, 0.1, 1.0, 10.0, 100.0),
    }

    rank: int = 16
    scale: float = 1.0
    dropout: float = 0.1
    init: str = "intended"

    def __post_init__(self) -> None:
        check_positive(self, "rank")
        check_number(self, "scale")
        check_fraction(self, "dropout")
        check_choice(self, "init", ("intended", "released"))

    @property
    def identity_at_start(self) -> bool:
        return self.init == "intended"

    def attach(self, vit: ViT) -> nn.Module:
        module = TensorTrain(vit.config, self.rank, self.scale, self.dropout)
        if self.init == "released":
            released_init(module)
        attach_factors(vit, module)
        return module

    def count(self, config: ViTConfig) -> int:
        return 2 * config.width * self.rank + (4 + 2 * pieces(config)) * config.depth * self.rank**2

    def merge(self, vit: ViT, module: Any) -> None:
        merge_factors(vit, module)
