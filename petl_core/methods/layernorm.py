"""LayerNorm tuning: only the weights and biases of the LayerNorms are trained.

Paper: Basu et al., "Strong Baselines for Parameter Efficient Few-Shot Fine-tuning", AAAI 2024, arXiv 2304.01917,
section 3 (for ViTs); Frankle et al., ICLR 2021, arXiv 2003.00152 trained normalisation layers of CNNs alone.
Formula: LN(x) = w * norm(x) + b, with w and b trained.
Sites: none; LN1 and LN2 of every block, the final LN and, in CLIP, the LayerNorm before the blocks. In kinds that have
others (inside the attention and the MLP, in attention pooling): these too.
Parameters: 2 D (2 L + 1), and 2 D more in CLIP.
Merges: trivially, it edits existing weights.
Released code: the same, chosen by a substring of the name.
"""

from __future__ import annotations

from dataclasses import dataclass

from petl_core.methods.base import Method, norm_channels, outer_norms, register
from petl_core.vit import ViTConfig


@register(name="layernorm", title="LayerNorm", family="selective", paper="Basu et al., 2024, arXiv 2304.01917")
@dataclass(frozen=True)
class LayerNorm(Method):
    """No hyper-parameters."""

    def unfreezes(self, parameter: str, config: ViTConfig) -> bool:
        return parameter.split(".")[-2:-1] in (["norm1"], ["norm2"], ["norm"], ["norm_pre"], ["fc_norm"])

    def count(self, config: ViTConfig) -> int:
        return 2 * (config.depth * norm_channels(config) + config.width * outer_norms(config))
