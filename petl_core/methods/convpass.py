"""ConvPass: a convolutional bypass beside the attention and beside the MLP.

    z (B, N, D) --+-- attention or MLP ----------------------------------------------------+--> (B, N, D)
                  +-- Down, q (B, N, h) -- Conv3x3 on (B, h, grid, grid), q -- Up -- * s --+

Paper: Jie and Deng, "Convolutional Bypasses Are Better Vision Transformer Adapters", ECAI 2024, arXiv 2207.07039,
section 3.
Formula: for f in {attention, MLP}, z = LN x: x <- x + f(z) + s * Up(dropout(q(Conv3x3(q(Down z))))), with Down: D -> h,
Conv3x3: h -> h on the grid of patches with a border of zeros, Up: h -> D, q(a) = a sigmoid(1.702 a). The class token,
registers and any prompt of another method are convolved alone, as images of one pixel: the kernel's centre sees them.
Down starts as Xavier uniform, the convolution as the identity (or Xavier uniform), Up as zero, biases as zero.
Sites: ``attn`` and ``mlp`` of every block, so that LayerScale and drop path act once, on the sum.
Parameters: 2 L (2 D h + 9 h^2 + 2 h + D).
Merges: no, it is nonlinear.
Released code: Down and Up start as N(0, 0.02^2), so training does not start at the pre-trained function; the bypass
has a drop path draw of its own; it works only with exactly one token beside the patches, so not with prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.methods._adapter import scaled_up
from petl_core.methods.base import Fraction, Method, Positive, PositiveNumber, attach_edits, register, released_init
from petl_core.vit import QuickGELU, ViT, ViTConfig


class ConvolutionalBypass(nn.Module):
    """``edit(y, x) = y + alpha * scale * bypass(x)``; patches stand behind the prefix."""

    def __init__(self, config: ViTConfig, hyper: ConvPass) -> None:
        super().__init__()
        D, h = config.width, hyper.bottleneck
        self.down = nn.Linear(D, h)
        self.conv = nn.Conv2d(h, h, kernel_size=3, padding=1)
        self.up = nn.Linear(h, D)
        self.activation = QuickGELU()
        self.config, self.scale, self.alpha, self.dropout = config, hyper.scale, 1.0, hyper.dropout
        nn.init.xavier_uniform_(self.down.weight)
        start_conv: Any = nn.init.dirac_ if hyper.conv_init == "identity" else nn.init.xavier_uniform_
        start_conv(self.conv.weight)
        nn.init.zeros_(self.up.weight)
        for bias in (self.down.bias, self.conv.bias, self.up.bias):
            nn.init.zeros_(bias)  # type: ignore[arg-type]

    def convolve(self, h: Tensor) -> Tensor:
        """(B, N, h) -> (B, N, h)."""
        c, centre = self.config, self.conv.weight[:, :, 1, 1]
        before, patches, behind = h.split([c.prefix, c.grid**2, h.shape[1] - c.tokens], dim=1)
        image = patches.transpose(1, 2).unflatten(2, (c.grid, c.grid))  # (B, h, grid, grid)
        patches = self.conv(image).flatten(2).transpose(1, 2)
        alone = [F.linear(part, centre, self.conv.bias) if part.shape[1] else part for part in (before, behind)]
        return torch.cat([alone[0], patches, alone[1]], dim=1)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        h = self.activation(self.convolve(self.activation(self.down(x))))
        h = F.dropout(h, self.dropout, self.training)
        return y + scaled_up(self.up, h, self.alpha * self.scale)


@register(
    name="convpass",
    title="ConvPass",
    family="adapter",
    paper="Jie and Deng, 2024, arXiv 2207.07039",
    size_field="bottleneck",
    obstacle="the activations around its convolution make it nonlinear",
    space={"scale": (1.0, 0.1, 10.0), "bottleneck": (8, 16)},
    published_space={
        "bottleneck": (8, 16),
        "scale": (0.01, 0.1, 1.0, 10.0, 100.0),
        "conv_init": ("xavier", "identity"),
    },
)
@dataclass(frozen=True)
class ConvPass(Method):
    """Size is ``bottleneck``; ``conv_init`` is "identity" or "xavier"."""

    bottleneck: Positive = 8
    scale: PositiveNumber = 1.0
    dropout: Fraction = 0.1
    conv_init: Literal["identity", "xavier"] = "identity"
    init: Literal["intended", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        module = attach_edits(vit, ["attn", "mlp"], lambda: ConvolutionalBypass(vit.config, self))
        if self.init == "released":
            released_init(module)
        return module

    def count(self, config: ViTConfig) -> int:
        D, h = config.width, self.bottleneck
        return 2 * config.depth * (2 * D * h + 9 * h**2 + 2 * h + D)
