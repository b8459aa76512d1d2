"""Learned tokens, and how their weight in the attention is turned down: what VPT-Shallow, VPT-Deep and VQT share.

Prompts stand after the patches, so that the class token stays at place 0 and the patches at 1 to grid^2. VPT's authors
put them before. The function is the same, because prompts have no position and attention does not know an order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.vit import Attention, ViTConfig


def uniform_tokens(*shape: int, config: ViTConfig) -> nn.Parameter:
    """Tokens from U(-v, v) with v = sqrt(6 / (3 p^2 + D)), as if they came out of a Xavier-drawn patch embedding."""
    v = math.sqrt(6.0 / (3 * config.patch_size**2 + config.width))
    return nn.Parameter(torch.empty(*shape).uniform_(-v, v))


class Prompts(nn.Module):
    """P learned tokens. ``start`` is their place among the tokens, negative if counted from the end.

    ``shared_mask``: in training one dropout mask for the whole batch (the released code's) instead of one per image.
    """

    def __init__(self, config: ViTConfig, count: int, dropout: float, shared_mask: bool, start: int) -> None:
        super().__init__()
        self.prompts = uniform_tokens(count, config.width, config=config)
        self.dropout, self.shared_mask, self.start, self.alpha = dropout, shared_mask, start, 1.0

    def tokens(self, x: Tensor) -> Tensor:
        """The prompts for a batch like x (B, N, D): (B, P, D)."""
        prompts = self.prompts.to(x.dtype)
        if self.shared_mask:
            prompts = F.dropout(prompts, self.dropout, self.training)
        prompts = prompts.expand(len(x), -1, -1)
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


@dataclass(eq=False)
class SumOfBiases:
    """The score biases of several methods on the same attention."""

    parts: list[Prompts]

    def __call__(self, x: Tensor) -> Tensor | None:
        total = None
        for part in self.parts:
            bias = part.score_bias(x)
            if bias is not None:
                total = bias if total is None else total + bias
        return total


def add_score_bias(attention: Attention, prompts: Prompts) -> None:
    """Let the attention ask ``prompts`` for a bias, beside those it asks already."""
    if attention.score_bias is None:
        attention.score_bias = SumOfBiases([])
    if not isinstance(attention.score_bias, SumOfBiases):
        raise ValueError("the attention has a score bias of another kind; prompts can join only those of prompts")
    attention.score_bias.parts.append(prompts)
