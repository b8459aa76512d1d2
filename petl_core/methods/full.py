"""Full fine-tuning: every parameter of the backbone is trained.

Paper: none; the baseline that parameter-efficient methods are compared with (for ViTs: Dosovitskiy et al., ICLR 2021,
arXiv 2010.11929, section 4).
Formula: the backbone's own.
Sites: none; class token, position and patch embedding are trained too.
Parameters: all; 85,798,656 for ViT-B/16.
Merges: trivially, the result is a plain backbone.
Released code: tunes over learning rates of 1e-3 and 1e-2 only, which are too high for full fine-tuning with AdamW; the
rates here go down to 1e-5.
"""

from __future__ import annotations

from dataclasses import dataclass

from petl_core.methods.base import Method, block_parameters, mlp_parameters, register
from petl_core.vit import ViTConfig


@register(
    name="full",
    title="Full",
    family="baseline",
    paper="Dosovitskiy et al., 2021, arXiv 2010.11929",
    lrs=(1e-3, 3e-4, 1e-4, 1e-5),
)
@dataclass(frozen=True)
class Full(Method):
    """No hyper-parameters."""

    def unfreezes(self, parameter: str, config: ViTConfig) -> bool:
        return True

    def count(self, config: ViTConfig) -> int:
        D, places = config.width, {"tokens": config.tokens, "patches": config.grid**2, "none": 0}[config.position]
        patches = 3 * config.patch_size**2 * D + (0 if config.pre_norm else D)
        embed = (config.prefix + places) * D + (2 * D if config.pre_norm else 0)  # and CLIP's LayerNorm
        pool = 4 * D * (D + 1) + 3 * D + sum(mlp_parameters(config).values()) if config.pool == "attention" else 0
        norm = 2 * D if config.final_norm != "none" else 0
        return patches + embed + config.depth * block_parameters(config) + norm + pool
