"""VPT-Shallow: learned tokens join the sequence before the first block and stay through all of them.

Paper: Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv 2203.12119, equations 4 to 6.
Formula: x_0 <- [class token, patches, prompts], with P prompts in R^D drawn from U(-v, v), v = sqrt(6 / (3 p^2 + D))
for patches of p pixels; dropout on the prompts. They stand after the patches (the paper: before), which is the same
function, because prompts have no position.
Site: ``embed``, after the position embedding (and CLIP's LayerNorm).
Parameters: P D.
Merges: no, the tokens are additional.
alpha: multiplies the prompts' attention weights, by log alpha added to their scores; at 0 there are no prompts.
Released code: drops the prompts after block 0, and draws one dropout mask for the whole batch: ``init="released"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from petl_core.methods._prompt import Prompts, add_score_bias
from petl_core.methods.base import Method, check_choice, check_fraction, check_positive, register
from petl_core.vit import ViT, ViTConfig


class AppendedPrompts(Prompts):
    """``edit(y, x) = [y, prompts]``: (B, N, D) -> (B, N + P, D)."""

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return y if self.alpha == 0.0 else torch.cat([y, self.tokens(y)], dim=1)

    def remove(self, y: Tensor, x: Tensor) -> Tensor:
        """An edit that takes the prompts out again: (B, N + P, D) -> (B, N, D)."""
        if self.alpha == 0.0:
            return y
        end = self.start + len(self.prompts)
        return torch.cat([y[:, : self.start], y[:, end:]], dim=1)


@register
@dataclass(frozen=True)
class VPTShallow(Method):
    """Size is ``prompts``, their number."""

    name: ClassVar[str] = "vpt_shallow"
    title: ClassVar[str] = "VPT-Shallow"
    family: ClassVar[str] = "prompt"
    paper: ClassVar[str] = "Jia et al., 2022, arXiv 2203.12119"
    size_field: ClassVar[str | None] = "prompts"
    mergeable: ClassVar[bool] = False
    obstacle: ClassVar[str] = "its prompts are additional tokens, not weights"
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"prompts": (5, 10)}
    published_space: ClassVar[dict[str, tuple[Any, ...]]] = {"prompts": (5, 10, 50, 100, 200)}

    prompts: int = 5
    dropout: float = 0.1
    init: str = "intended"

    def __post_init__(self) -> None:
        check_positive(self, "prompts")
        check_fraction(self, "dropout")
        check_choice(self, "init", ("intended", "released"))

    @property
    def identity_at_start(self) -> bool:
        return False

    def attach(self, vit: ViT) -> nn.Module:
        released = self.init == "released"
        module = AppendedPrompts(vit.config, self.prompts, self.dropout, released, start=1 + vit.config.grid**2)
        vit.sites["embed"].append(module)
        for block in vit.blocks[:1] if released else vit.blocks:
            add_score_bias(block.attn, module)
        if released:
            for block in vit.blocks[1:2]:
                block.sites["tokens"].append(module.remove)
        return module

    def count(self, config: ViTConfig) -> int:
        return self.prompts * config.width
