"""The bottleneck that the Houlsby adapter, the Pfeiffer adapter and AdaptFormer share, and its initialisations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

Start = Callable[[Tensor], Any]
zero: Start = nn.init.zeros_
xavier: Start = nn.init.xavier_uniform_
kaiming: Start = functools.partial(nn.init.kaiming_uniform_, a=5**0.5)
tiny: Start = functools.partial(nn.init.normal_, std=1e-6)
released: Start = functools.partial(nn.init.trunc_normal_, std=0.02)

STARTS = {  # how the weight of Down, the weight of Up, and both biases are drawn
    "intended": (xavier, zero, zero),  # the pre-trained function
    "kaiming": (kaiming, zero, zero),  # the same (AdaptFormer's)
    "random": (xavier, xavier, tiny),  # a changed function
    "zero": (zero, zero, zero),  # the pre-trained function. Hidden units are ReLU(0) = 0, so Up's weight gets no
    # gradient, and as Up is zero, neither does Down: only the bias of Up can ever train
    "released": (released, released, zero),  # a changed function
}


class Bottleneck(nn.Module):
    """alpha * scale * Up(dropout(ReLU(Down z))) for z (B, N, D), with Down: D -> h and Up: h -> D, both with bias.

    ``edit(y, x) = y + bottleneck(y)``, after the branch, or if ``parallel`` ``y + bottleneck(x)``, beside it.
    ``hyper``: the method, with the fields bottleneck, scale and dropout. ``start``: one of ``STARTS``.
    """

    def __init__(self, width: int, hyper: Any, start: str, *, parallel: bool = False) -> None:
        super().__init__()
        self.down = nn.Linear(width, hyper.bottleneck)
        self.up = nn.Linear(hyper.bottleneck, width)
        self.scale, self.alpha, self.dropout, self.parallel = hyper.scale, 1.0, hyper.dropout, parallel
        start_down, start_up, start_bias = STARTS[start]
        start_down(self.down.weight)
        start_up(self.up.weight)
        start_bias(self.down.bias)
        start_bias(self.up.bias)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        h = F.relu(self.down(x if self.parallel else y))  # (B, N, D) -> (B, N, h)
        h = F.dropout(h, self.dropout, self.training)
        return y + scaled_up(self.up, h, self.alpha * self.scale)


def scaled_up(up: nn.Linear, h: Tensor, factor: float) -> Tensor:
    """factor * Up(h), (B, N, h) -> (B, N, D), scaled on the small side."""
    return up(h) if factor == 1.0 else F.linear(h * factor, up.weight, up.bias * factor)
