"""Learned tokens, and how their weight in the attention is turned down: what VPT-Shallow, VPT-Deep and VQT share.

Prompts stand after the patches, so that all other tokens stay where they are. VPT's authors put them before. The
function is the same, because prompts have no position (they do not turn, either, where positions are rotary) and
attention does not know an order. Pooling leaves them out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.vit import ViTConfig


def uniform_tokens(*shape: int, config: ViTConfig) -> nn.Parameter:
    """Tokens from U(-v, v) with v = sqrt(6 / (3 p^2 + D)), as if they came out of a Xavier-drawn patch embedding."""
    v = math.sqrt(6.0 / (3 * config.patch_size**2 + config.width))
    return nn.Parameter(torch.empty(*shape).uniform_(-v, v))


class Prompts(nn.Module):
    """P learned tokens: ``edit(y, x) = [y without its last ``replaced`` tokens, prompts]``.

    ``start`` is their place among the tokens, negative if counted from the end. ``hyper``: the method, with the fields
    prompts, dropout and init; "released" draws one dropout mask for the whole batch in training, not one per image.
    """

    def __init__(self, config: ViTConfig, hyper: Any, start: int, replaced: int = 0) -> None:
        super().__init__()
        self.prompts = uniform_tokens(hyper.prompts, config.width, config=config)
        self.dropout, self.shared_mask, self.alpha = hyper.dropout, hyper.init == "released", 1.0
        self.start, self.replaced = start, replaced

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        if self.alpha == 0.0:
            return y
        return torch.cat([y[:, : y.shape[1] - self.replaced], self.tokens(y)], dim=1)

    def remove(self, y: Tensor, x: Tensor) -> Tensor:
        """An edit that takes the prompts out again: (B, N + P, D) -> (B, N, D)."""
        if self.alpha == 0.0:
            return y
        return torch.cat([y[:, : self.start], y[:, self.start + len(self.prompts) :]], dim=1)

    def tokens(self, x: Tensor) -> Tensor:
        """The prompts for a batch like x (B, N, D): (B, P, D)."""
        prompts = self.prompts.to(x.dtype)
        if self.shared_mask:
            prompts = F.dropout(prompts, self.dropout, self.training)
        prompts = prompts.expand(x.shape[0], -1, -1)
        return prompts if self.shared_mask else F.dropout(prompts, self.dropout, self.training)

    def score_bias(self, x: Tensor) -> Tensor | None:
        """For tokens x (B, N, D): log alpha (1, 1, 1, N) at the prompts and 0 elsewhere.

        Added to the scores it multiplies the prompts' attention weights by alpha, before these are divided by their
        sum. None where there is nothing to add: at alpha 1, and at 0, where the prompts are not appended at all.
        """
        if self.alpha in (0.0, 1.0):
            return None
        start = self.start % x.shape[1]
        place = torch.arange(x.shape[1], device=x.device)
        here = (place >= start) & (place < start + len(self.prompts))
        return (here * math.log(self.alpha)).to(x.dtype).view(1, 1, 1, -1)
