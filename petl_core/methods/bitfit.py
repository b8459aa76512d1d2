"""BitFit: only the biases of the backbone are trained.

Paper: Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
ACL 2022, arXiv 2106.10199, section 3.
Formula: y = W x + b and LN(x) = w * norm(x) + b, with b trained and W, w frozen.
Sites: none; every bias: patch embedding, LN1, qkv, proj, LN2, fc1, fc2, final LN (in CLIP the LayerNorm before the
blocks, whose patch embedding has no bias). Where keys have no bias, as in EVA, that part of qkv's stays zero, though it
is counted.
Parameters: (7 D + hidden) L + 2 D, that is 11 D L + 2 D with a hidden layer of 4 D.
Merges: trivially, it edits existing weights.
Released code: the same, chosen by a substring of the name.
"""

from __future__ import annotations

from dataclasses import dataclass

from petl_core.methods.base import Method, fc1_width, norm_channels, outer_norms, register
from petl_core.vit import ViTConfig


@register(name="bitfit", title="BitFit", family="selective", paper="Ben Zaken et al., 2022, arXiv 2106.10199")
@dataclass(frozen=True)
class BitFit(Method):
    """No hyper-parameters."""

    def unfreezes(self, parameter: str, config: ViTConfig) -> bool:
        return parameter.endswith(".bias")

    def count(self, config: ViTConfig) -> int:
        D, hidden = config.width, fc1_width(config)
        block = norm_channels(config) + hidden + (2 if config.qkv_bias == "none" else 5) * D
        pool = 5 * D + hidden if config.pool == "attention" else 0
        return config.depth * block + D * (outer_norms(config) + (not config.pre_norm)) + pool
