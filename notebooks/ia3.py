"""(IA)3: rescale keys, values and hidden units, one learned factor for each channel.

Paper: Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
NeurIPS 2022, arXiv 2205.05638, section 3.3.
Formula: k <- l_k * k, v <- l_v * v, and in the MLP h <- l_h * act(fc1(x)), with l_k, l_v: D and l_h: hidden; all ones
at the start, which changes nothing.
Sites: ``qkv`` (keys and values) and ``act`` of every block.
Parameters: L (2 D + hidden), that is 6 D L with a hidden layer of 4 D.
Merges: yes, l_k and l_v into the rows of the qkv weight and its bias, l_h into the columns of the fc2 weight.
Released code: none; the study does not have this method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from petl_core.methods.base import Method, register
from petl_core.vit import ViT, ViTConfig


class Rescale(nn.Module):
    """``edit(y, x) = y * factor`` on the last ``width`` channels of y; alpha moves the factor from 1 to its value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.alpha = 1.0

    def factor(self) -> Tensor:
        return self.scale if self.alpha == 1.0 else 1.0 + self.alpha * (self.scale - 1.0)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        kept = y.shape[-1] - len(self.scale)  # at qkv (B, N, 3D): the D channels of the queries; at act: none
        rest, scaled = y.split([kept, len(self.scale)], dim=-1)
        return torch.cat([rest, scaled * self.factor().to(y.dtype)], dim=-1)


@register(name="ia3", title="(IA)³", family="selective", paper="Liu et al., 2022, arXiv 2205.05638")
@dataclass(frozen=True)
class IA3(Method):
    """No hyper-parameters."""

    def attach(self, vit: ViT) -> nn.Module:
        D, hidden = vit.config.width, vit.config.hidden
        module = nn.ModuleList()
        for block in vit.blocks:
            pair = nn.ModuleList([Rescale(2 * D), Rescale(hidden)])
            block.attn.sites["qkv"].append(pair[0])
            block.mlp.sites["act"].append(pair[1])
            module.append(pair)
        return module

    def count(self, config: ViTConfig) -> int:
        return config.depth * (2 * config.width + config.hidden)

    def merge(self, vit: ViT, module: Any) -> None:
        for block, (keys_values, hidden) in zip(vit.blocks, module, strict=True):
            qkv, D = block.attn.qkv, vit.config.width
            qkv.weight[D:] *= keys_values.factor()[:, None]
            qkv.bias[D:] *= keys_values.factor()
            block.mlp.fc2.weight *= hidden.factor()
