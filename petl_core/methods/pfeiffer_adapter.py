"""Pfeiffer adapter: one bottleneck per block, after the MLP.

Paper: Pfeiffer et al., "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", EACL 2021,
arXiv 2005.00247, section 3 and its figure 5.
Formula: u = MLP(LN2 x); x <- x + u + s * Up(dropout(ReLU(Down u))), with Down: D -> h, Up: h -> D.
``init``: "intended" (Up = 0: training starts at the pre-trained function), "random" (both Xavier, as in the study),
"zero" (Down = Up = 0: only the bias of Up ever trains, see ``_adapter.initialise``) or "released".
Site: ``branch2`` of every block, so that LayerScale and drop path act once, on the sum.
Parameters: (2 D h + h + D) L.
Merges: no, ReLU is between the two maps.
Released code: all three initialisations end as N(0, 0.02^2) with zero bias, so they are the same; LayerScale and drop
path act twice on the branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from petl_core.methods._adapter import Bottleneck, bottleneck_count, initialise
from petl_core.methods.base import Method, check_choice, check_fraction, check_number, check_positive, register
from petl_core.vit import ViT, ViTConfig


@register
@dataclass(frozen=True)
class PfeifferAdapter(Method):
    """Size is ``bottleneck``; ``scale`` multiplies what the adapter adds."""

    name: ClassVar[str] = "pfeiffer_adapter"
    title: ClassVar[str] = "Pfeiffer adapter"
    family: ClassVar[str] = "adapter"
    paper: ClassVar[str] = "Pfeiffer et al., 2021, arXiv 2005.00247"
    size_field: ClassVar[str | None] = "bottleneck"
    mergeable: ClassVar[bool] = False
    obstacle: ClassVar[str] = "a ReLU between its two maps makes it nonlinear"
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"bottleneck": (8, 32), "scale": (1.0, 4.0)}
    published_space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "bottleneck": (4, 8, 16, 32, 64),
        "scale": (0.01, 0.1, 1.0, 10.0),
    }

    bottleneck: int = 8
    scale: float = 1.0
    dropout: float = 0.1
    init: str = "intended"

    def __post_init__(self) -> None:
        check_positive(self, "bottleneck")
        check_number(self, "scale")
        check_fraction(self, "dropout")
        check_choice(self, "init", ("intended", "random", "zero", "released"))

    @property
    def identity_at_start(self) -> bool:
        return self.init in ("intended", "zero")

    def attach(self, vit: ViT) -> nn.Module:
        module = nn.ModuleList()
        for block in vit.blocks:
            adapter = Bottleneck(vit.config.width, self.bottleneck, self.scale, self.dropout)
            initialise(adapter, self.init)
            block.sites["branch2"].append(adapter)
            module.append(adapter)
        return module

    def count(self, config: ViTConfig) -> int:
        return config.depth * bottleneck_count(config.width, self.bottleneck)
