"""SSF: scale and shift the features after every operation.

    x -- patch embedding, LN, qkv, proj, fc1 or fc2 --> (B, N, d) -- * scale (d) -- + shift (d) --> y (B, N, d)

Paper: Lian et al., "Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning", NeurIPS 2022,
arXiv 2210.08823, equations 3 and 4.
Formula: y <- scale * y + shift, one number of each per channel; scale ~ N(1, noise^2), shift ~ N(0, noise^2).
Sites: ``patches``; ``norm1``, ``qkv``, ``proj``, ``norm2``, ``fc1`` (before the activation) and ``fc2`` of every block;
``norm``, or ``features`` where the last LayerNorm follows pooling. It acts first at LayerNorms, as a part of them,
whatever else is attached there.
Parameters: 2 L (7 D + hidden) + 4 D, that is 22 D L + 4 D with a hidden layer of 4 D.
Merges: yes, scale multiplies the rows of the preceding affine map and its bias, to which shift is added. CLIP's patch
embedding has no bias: merging adds one.
Released code: the same. With noise 0.02, its default and ours, training does not start exactly at the pre-trained
function; with ``noise=0`` it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from petl_core.methods.base import Method, NumberFromZero, bias_of, fc1_width, register
from petl_core.vit import Edit, ViT, ViTConfig


class ScaleShift(nn.Module):
    """``edit(y, x) = scale * y + shift``; alpha moves scale from 1 and shift from 0 linearly to their values."""

    def __init__(self, width: int, noise: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(1.0 + noise * torch.randn(width))
        self.shift = nn.Parameter(noise * torch.randn(width))
        self.alpha = 1.0

    def values(self) -> tuple[Tensor, Tensor]:
        if self.alpha == 1.0:
            return self.scale, self.shift
        return 1.0 + self.alpha * (self.scale - 1.0), self.alpha * self.shift

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        scale, shift = self.values()
        return torch.addcmul(shift, y, scale).to(y.dtype)  # under autocast the sum is made in float32


def places(vit: ViT) -> list[tuple[list[Edit], Any]]:
    """The sites where SSF acts, each with the affine map that precedes it."""
    pairs: list[tuple[list[Edit], Any]] = [(vit.sites["patches"], vit.patch_embed.proj)]
    for block in vit.blocks:
        layers = {
            "norm1": block.norm1,
            "qkv": block.attn.qkv,
            "proj": block.attn.proj,
            "norm2": block.norm2,
            "fc1": block.mlp.fc1,
            "fc2": block.mlp.fc2,
        }
        pairs += [(block.sites[site], layer) for site, layer in layers.items()]
    last = {"tokens": ("norm", vit.norm), "pooled": ("features", vit.fc_norm)}.get(vit.config.final_norm)
    return [*pairs, (vit.sites[last[0]], last[1])] if last else pairs


@register(name="ssf", title="SSF", family="selective", paper="Lian et al., 2022, arXiv 2210.08823")
@dataclass(frozen=True)
class SSF(Method):
    """``noise`` is the standard deviation of scale and shift at the start."""

    noise: NumberFromZero = 0.02

    @property
    def identity_at_start(self) -> bool:
        return self.noise == 0.0

    def attach(self, vit: ViT) -> nn.Module:
        module = nn.ModuleList()
        for edits, layer in places(vit):
            edit = ScaleShift(len(layer.weight), self.noise)
            edits.insert(0 if isinstance(layer, nn.LayerNorm) else len(edits), edit)
            module.append(edit)
        return module

    def count(self, config: ViTConfig) -> int:
        D, outside = config.width, 1 if config.final_norm == "none" else 2
        return 2 * config.depth * (7 * D + fc1_width(config)) + 2 * outside * D

    def merge(self, vit: ViT, module: Any) -> None:
        for (_, layer), edit in zip(places(vit), module, strict=True):
            scale, shift = edit.values()
            layer.weight *= scale.view(-1, *[1] * (layer.weight.ndim - 1))
            bias_of(layer).copy_(bias_of(layer) * scale + shift)
