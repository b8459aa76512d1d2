"""Pfeiffer adapter: one bottleneck per block, after the MLP.

    u (B, N, D) --+-----------------------------------------+--> branch2 (B, N, D), which is added to x
                  +-- Down -- ReLU (B, N, h) -- Up -- * s --+

Paper: Pfeiffer et al., "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", EACL 2021,
arXiv 2005.00247, section 3 and its figure 5.
Formula: u = MLP(LN2 x); x <- x + u + s * Up(dropout(ReLU(Down u))), with Down: D -> h, Up: h -> D.
``init``: "intended" (Up = 0: training starts at the pre-trained function), "random" (both Xavier, as in the study),
"zero" (Down = Up = 0: only the bias of Up ever trains, see ``_adapter.STARTS``) or "released".
Site: ``branch2`` of every block, so that LayerScale and drop path act once, on the sum.
Parameters: (2 D h + h + D) L.
Merges: no, ReLU is between the two maps.
Released code: all three initialisations end as N(0, 0.02^2) with zero bias, so they are the same; LayerScale and drop
path act twice on the branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from petl_core.methods._adapter import Bottleneck
from petl_core.methods.base import Fraction, Method, Positive, PositiveNumber, attach_edits, register
from petl_core.vit import ViT, ViTConfig


@register(
    name="pfeiffer_adapter",
    title="Pfeiffer adapter",
    family="adapter",
    paper="Pfeiffer et al., 2021, arXiv 2005.00247",
    size_field="bottleneck",
    obstacle="a ReLU between its two maps makes it nonlinear",
    space={"bottleneck": (8, 32), "scale": (1.0, 4.0)},
    published_space={"bottleneck": (4, 8, 16, 32, 64), "scale": (0.01, 0.1, 1.0, 10.0)},
)
@dataclass(frozen=True)
class PfeifferAdapter(Method):
    """Size is ``bottleneck``; ``scale`` multiplies what the adapter adds."""

    bottleneck: Positive = 8
    scale: PositiveNumber = 1.0
    dropout: Fraction = 0.1
    init: Literal["intended", "random", "zero", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        return attach_edits(vit, ["branch2"], lambda: Bottleneck(vit.config.width, self, self.init))

    def count(self, config: ViTConfig) -> int:
        D, h = config.width, self.bottleneck
        return config.depth * (2 * D * h + h + D)
