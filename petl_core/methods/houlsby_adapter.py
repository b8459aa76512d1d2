"""Houlsby adapter: two bottlenecks per block, after the attention and after the MLP.

    u (B, N, D) --+-----------------------------------------+--> branch1 or branch2 (B, N, D), which is added to x
                  +-- Down -- ReLU (B, N, h) -- Up -- * s --+

Paper: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751, section 2.1.
Formula: for f in {attention, MLP} and its LayerNorm LN: u = f(LN x); x <- x + u + s * Up(dropout(ReLU(Down u))), with
Down: D -> h, Up: h -> D. The paper's BERT has LN after the sum; this is the study's form.
``init``: "intended" (Up = 0: training starts at the pre-trained function), "random" (both Xavier, the study's choice),
"zero" (Down = Up = 0: only the bias of Up ever trains, see ``_adapter.STARTS``) or "released".
Sites: ``branch1`` and ``branch2`` of every block, so that LayerScale and drop path act once, on the sum.
Parameters: 2 (2 D h + h + D) L.
Merges: no, ReLU is between the two maps.
Released code: every initialisation ends as N(0, 0.02^2) with zero bias; LayerScale and drop path act twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from petl_core.methods._adapter import Bottleneck
from petl_core.methods.base import Fraction, Method, Positive, PositiveNumber, attach_edits, register
from petl_core.vit import ViT, ViTConfig


@register(
    name="houlsby_adapter",
    title="Houlsby adapter",
    family="adapter",
    paper="Houlsby et al., 2019, arXiv 1902.00751",
    size_field="bottleneck",
    obstacle="a ReLU between its two maps makes it nonlinear",
    space={"bottleneck": (8, 32), "scale": (1.0, 4.0)},
    published_space={"bottleneck": (4, 8, 16, 32), "scale": (0.01, 0.1, 1.0, 10.0), "init": ("random",)},
)
@dataclass(frozen=True)
class HoulsbyAdapter(Method):
    """Size is ``bottleneck``, of each of the two; ``scale`` multiplies what they add."""

    bottleneck: Positive = 8
    scale: PositiveNumber = 1.0
    dropout: Fraction = 0.1
    init: Literal["intended", "random", "zero", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        return attach_edits(vit, ["branch1", "branch2"], lambda: Bottleneck(vit.config.width, self, self.init))

    def count(self, config: ViTConfig) -> int:
        D, h = config.width, self.bottleneck
        return 2 * config.depth * (2 * D * h + h + D)
