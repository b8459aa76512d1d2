"""DiffFit: biases, LayerNorms and one new factor per channel on each residual branch.

    x (B, N, D) --+-- LN -- attention or MLP -- * gamma (D) --+--> x (B, N, D)
                  +-------------------------------------------+

Paper: Xie et al., "DiffFit: Unlocking Transferability of Large Diffusion Models via Simple Parameter-Efficient
Fine-Tuning", ICCV 2023, arXiv 2304.06648, section 3.
Formula: x <- x + gamma1 * branch1, then x <- x + gamma2 * branch2, with gamma in R^D, 1 at the start, after LayerScale
and drop path; all biases and all LayerNorm weights are trained too.
Sites: ``residual1`` and ``residual2`` of every block.
Parameters: those of BitFit, the LayerNorm weights D (2 L + 1) (D more in CLIP), and 2 D L factors.
Merges: yes, gamma scales the rows of proj and fc2 and their biases (LayerScale is a factor per channel too: the order
does not matter).
Released code: the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from petl_core.methods.base import Method, attach_edits, register
from petl_core.methods.bitfit import BitFit
from petl_core.methods.layernorm import LayerNorm
from petl_core.vit import ViT, ViTConfig


class BranchFactor(nn.Module):
    """``edit(y, x) = y * gamma``; alpha moves gamma linearly between 1 and its value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.alpha = 1.0

    def factor(self) -> Tensor:
        return self.gamma if self.alpha == 1.0 else 1.0 + self.alpha * (self.gamma - 1.0)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return y * self.factor().to(y.dtype)


@register(
    name="difffit",
    title="DiffFit",
    family="selective",
    paper="Xie et al., 2023, arXiv 2304.06648",
    merge_order=1,  # acts on the whole output of proj and fc2
)
@dataclass(frozen=True)
class DiffFit(Method):
    """No hyper-parameters."""

    def attach(self, vit: ViT) -> nn.Module:
        return attach_edits(vit, ["residual1", "residual2"], lambda: BranchFactor(vit.config.width))

    def unfreezes(self, parameter: str, config: ViTConfig) -> bool:
        return BitFit().unfreezes(parameter, config) or LayerNorm().unfreezes(parameter, config)

    def count(self, config: ViTConfig) -> int:
        weights = LayerNorm().count(config) // 2  # the biases are BitFit's
        return BitFit().count(config) + weights + 2 * config.width * config.depth

    def merge(self, vit: ViT, module: Any) -> None:
        layers = [layer for block in vit.blocks for layer in (block.attn.proj, block.mlp.fc2)]
        for layer, edit in zip(layers, module, strict=True):
            layer.weight *= edit.factor()[:, None]
            layer.bias *= edit.factor()
