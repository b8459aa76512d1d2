"""VPT-Deep: each block gets learned tokens of its own, which replace those of the block before.

Paper: Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv 2203.12119, equations 7 and 8.
Formula: before block i, x <- [class token, patches, prompts_i]; what the block made of its prompts is thrown away.
P prompts in R^D per block, drawn from U(-v, v), v = sqrt(6 / (3 p^2 + D)) for patches of p pixels; dropout on the
prompts. They stand after the patches (the paper: before), which is the same function, because prompts have no position.
Site: ``tokens`` of every block. They are the last tokens of all, after those of VPT-Shallow where both are attached.
Parameters: P D L.
Merges: no, the tokens are additional.
alpha: multiplies the prompts' attention weights, by log alpha added to their scores; at 0 there are no prompts.
Released code: draws one dropout mask for the whole batch: ``init="released"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from petl_core.methods._prompt import Prompts, add_score_bias
from petl_core.methods.base import Method, check_choice, check_fraction, check_positive, register
from petl_core.vit import ViT, ViTConfig


class BlockPrompts(Prompts):
    """``edit(y, x) = [y without the last block's prompts, prompts]``; the first block has none to take away."""

    replaces: int = 0  # number of tokens to take away at the end

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        if self.alpha == 0.0:
            return y
        return torch.cat([y[:, : y.shape[1] - self.replaces], self.tokens(y)], dim=1)


@register
@dataclass(frozen=True)
class VPTDeep(Method):
    """Size is ``prompts``, their number in each block."""

    name: ClassVar[str] = "vpt_deep"
    title: ClassVar[str] = "VPT-Deep"
    family: ClassVar[str] = "prompt"
    paper: ClassVar[str] = "Jia et al., 2022, arXiv 2203.12119"
    size_field: ClassVar[str | None] = "prompts"
    mergeable: ClassVar[bool] = False
    obstacle: ClassVar[str] = "its prompts are additional tokens, not weights"
    space: ClassVar[dict[str, tuple[Any, ...]]] = {"prompts": (5, 10)}
    published_space: ClassVar[dict[str, tuple[Any, ...]]] = {"prompts": (5, 10, 50, 100)}

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
        module = nn.ModuleList()
        for index, block in enumerate(vit.blocks):
            shared_mask = self.init == "released"
            edit = BlockPrompts(vit.config, self.prompts, self.dropout, shared_mask, start=-self.prompts)
            edit.replaces = self.prompts if index else 0
            block.sites["tokens"].append(edit)
            add_score_bias(block.attn, edit)
            module.append(edit)
        return module

    def count(self, config: ViTConfig) -> int:
        return self.prompts * config.width * config.depth
