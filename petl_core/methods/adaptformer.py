"""AdaptFormer: a bottleneck beside the MLP, fed with the tokens before LN2.

    x (B, N, D) --+-- LN2 -- MLP ---------------------------+--> branch2 (B, N, D), which is added to x
                  +-- Down -- ReLU (B, N, h) -- Up -- * s --+

Paper: Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition", NeurIPS 2022,
arXiv 2205.13535, equations 2 and 3; but Down reads x, where equation 2 has LN(x). The authors' code reads x, and they
say that it is the code that is right (github.com/ShoufaChen/AdaptFormer, issue 9); the study's code follows it.
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
from typing import Literal

from torch import nn

from petl_core.methods._adapter import Bottleneck
from petl_core.methods.base import Fraction, Method, Positive, PositiveNumber, attach_edits, register
from petl_core.vit import ViT, ViTConfig


@register(
    name="adaptformer",
    title="AdaptFormer",
    family="adapter",
    paper="Chen et al., 2022, arXiv 2205.13535",
    size_field="bottleneck",
    obstacle="a ReLU between its two maps makes it nonlinear",
    space={"scale": (0.1, 1.0), "bottleneck": (8, 32)},
    published_space={"bottleneck": (4, 16, 32), "scale": (0.05, 0.1, 0.2)},
)
@dataclass(frozen=True)
class AdaptFormer(Method):
    """Size is ``bottleneck``; ``scale`` multiplies what the adapter adds."""

    bottleneck: Positive = 8
    scale: PositiveNumber = 0.1
    dropout: Fraction = 0.1
    init: Literal["intended", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        start = "kaiming" if self.init == "intended" else self.init
        return attach_edits(vit, ["branch2"], lambda: Bottleneck(vit.config.width, self, start, parallel=True))

    def count(self, config: ViTConfig) -> int:
        D, h = config.width, self.bottleneck
        return config.depth * (2 * D * h + h + D)
