"""The bottleneck that the Houlsby adapter, the Pfeiffer adapter and AdaptFormer share, and its initialisations."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.methods.base import released_init


class Bottleneck(nn.Module):
    """alpha * scale * Up(dropout(ReLU(Down z))) for z (B, N, D), with Down: D -> h and Up: h -> D, both with bias.

    ``parallel=False``: ``edit(y, x) = y + bottleneck(y)``, after the branch; True: ``y + bottleneck(x)``, beside it.
    """

    def __init__(self, width: int, bottleneck: int, scale: float, dropout: float, parallel: bool = False) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        self.scale, self.alpha, self.dropout, self.parallel = scale, 1.0, dropout, parallel

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        h = F.relu(self.down(x if self.parallel else y))  # (B, N, D) -> (B, N, h)
        h = F.dropout(h, self.dropout, self.training)
        factor = self.alpha * self.scale
        if factor == 1.0:
            return y + self.up(h)
        return y + F.linear(h * factor, self.up.weight, self.up.bias * factor)  # scaled where it is small


def initialise(adapter: Bottleneck, init: str) -> None:
    """Set the start of an adapter.

    ===========  ==================================  =========  ============================================
    ``init``     Down                                Up         at the start
    ===========  ==================================  =========  ============================================
    "intended"   Xavier uniform, bias 0              0, bias 0  the pre-trained function
    "kaiming"    Kaiming uniform (sqrt 5), bias 0    0, bias 0  the same (AdaptFormer's)
    "random"     Xavier uniform, bias N(0, 1e-6^2)   as Down    a changed function
    "zero"       0, bias 0                           0, bias 0  the same; only the bias of Up can ever train
    "released"   N(0, 0.02^2), bias 0                as Down    a changed function
    ===========  ==================================  =========  ============================================

    With "zero" the hidden units are ReLU(0) = 0, so Up's weight gets no gradient, and as Up is zero, neither does Down.
    """
    for layer in (adapter.down, adapter.up):
        nn.init.zeros_(layer.bias)
        nn.init.zeros_(layer.weight)
    if init in ("intended", "random"):
        nn.init.xavier_uniform_(adapter.down.weight)
    if init == "kaiming":
        nn.init.kaiming_uniform_(adapter.down.weight, a=5**0.5)
    if init == "random":
        nn.init.xavier_uniform_(adapter.up.weight)
        nn.init.normal_(adapter.down.bias, std=1e-6)
        nn.init.normal_(adapter.up.bias, std=1e-6)
    if init == "released":
        released_init(adapter)


def bottleneck_count(width: int, bottleneck: int) -> int:
    """Parameters of one adapter: 2 D h + h + D."""
    return 2 * width * bottleneck + bottleneck + width
