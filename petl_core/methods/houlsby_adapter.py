"""Houlsby adapter: two bottlenecks per block, after the attention and after the MLP.

Paper: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751, section 2.1.
Formula: for f in {attention, MLP} and its LayerNorm LN: u = f(LN x); x <- x + u + s * Up(dropout(ReLU(Down u))), with
Down: D -> h, Up: h -> D. The paper's BERT has LN after the sum; this is the study's form.
``init``: "intended" (Up = 0: training starts at the pre-trained function), "random" (both Xavier, the study's choice),
"zero" (Down = Up = 0: only the bias of Up ever trains, see ``_adapter.initialise``) or "released".
Sites: ``branch1`` and ``branch2`` of every block, so that LayerScale and drop path act once, on the sum.
Parameters: 2 (2 D h + h + D) L.
Merges: no, ReLU is between the two maps.
Released code: every initialisation ends as N(0, 0.02^2) with zero bias; LayerScale and drop path act twice.
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
class HoulsbyAdapter(Method):
    """Size is ``bottleneck``, of each of the two; ``scale`` multiplies what they add."""

    name: ClassVar[str] = "houlsby_adapter"
    title: ClassVar[str] = "Houlsby adapter"
    family: ClassVar[str] = "adapter"
    paper: ClassVar[str] = "Houlsby et al., 2019, arXiv 1902.00751"
    size_field: ClassVar[str | None] = "bottleneck"
    mergeable: ClassVar[bool] = False
    obstacle: ClassVar[str] = "a ReLU between its two maps makes it nonlinear"
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"bottleneck": (8, 32), "scale": (1.0, 4.0)}
    published_space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "bottleneck": (4, 8, 16, 32),
        "scale": (0.01, 0.1, 1.0, 10.0),
        "init": ("random",),
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
            for site in ("branch1", "branch2"):
                adapter = Bottleneck(vit.config.width, self.bottleneck, self.scale, self.dropout)
                initialise(adapter, self.init)
                block.sites[site].append(adapter)
                module.append(adapter)
        return module

    def count(self, config: ViTConfig) -> int:
        return 2 * config.depth * bottleneck_count(config.width, self.bottleneck)
