"""AdaptFormer: a bottleneck beside the MLP, fed with the tokens before LN2.

Paper: Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition", NeurIPS 2022,
arXiv 2205.13535, equations 2 and 3.
Formula: x <- x + MLP(LN2 x) + s * Up(dropout(ReLU(Down x))), with Down: D -> h (Kaiming uniform at the start) and
Up: h -> D (zero at the start).
Site: ``branch2`` of every block, so that LayerScale and drop path act once, on the sum.
Parameters: (2 D h + h + D) L.
Merges: no, ReLU is between the two maps.
Released code: both weights start as N(0, 0.02^2), so training does not start at the pre-trained function; the adapter's
branch has a drop path draw of its own.
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
class AdaptFormer(Method):
    """Size is ``bottleneck``; ``scale`` multiplies what the adapter adds."""

    name: ClassVar[str] = "adaptformer"
    title: ClassVar[str] = "AdaptFormer"
    family: ClassVar[str] = "adapter"
    paper: ClassVar[str] = "Chen et al., 2022, arXiv 2205.13535"
    size_field: ClassVar[str | None] = "bottleneck"
    mergeable: ClassVar[bool] = False
    obstacle: ClassVar[str] = "a ReLU between its two maps makes it nonlinear"
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"scale": (0.1, 1.0), "bottleneck": (8, 32)}
    published_space: ClassVar[dict[str, tuple[Any, ...]]] = {"bottleneck": (4, 16, 32), "scale": (0.05, 0.1, 0.2)}

    bottleneck: int = 8
    scale: float = 0.1
    dropout: float = 0.1
    init: str = "intended"

    def __post_init__(self) -> None:
        check_positive(self, "bottleneck")
        check_number(self, "scale")
        check_fraction(self, "dropout")
        check_choice(self, "init", ("intended", "released"))

    @property
    def identity_at_start(self) -> bool:
        return self.init == "intended"

    def attach(self, vit: ViT) -> nn.Module:
        module = nn.ModuleList()
        for block in vit.blocks:
            adapter = Bottleneck(vit.config.width, self.bottleneck, self.scale, self.dropout, parallel=True)
            initialise(adapter, "kaiming" if self.init == "intended" else self.init)
            block.sites["branch2"].append(adapter)
            module.append(adapter)
        return module

    def count(self, config: ViTConfig) -> int:
        return config.depth * bottleneck_count(config.width, self.bottleneck)
