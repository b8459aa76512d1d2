"""VPT-Deep: each block gets learned tokens of its own, which replace those of the block before.

    block i - 1 --> (B, N + P, D) -- the first N (B, N, D) --+--> block i (B, N + P, D)
                               prompts_i (P, D) -- dropout --+

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
from typing import Literal

from torch import nn

from petl_core.methods._prompt import Prompts
from petl_core.methods.base import Fraction, Method, Positive, register
from petl_core.vit import ViT, ViTConfig


@register(
    name="vpt_deep",
    title="VPT-Deep",
    family="prompt",
    paper="Jia et al., 2022, arXiv 2203.12119",
    size_field="prompts",
    obstacle="its prompts are additional tokens, not weights",
    space={"prompts": (5, 10)},
    published_space={"prompts": (5, 10, 50, 100)},
    exact_starts=(),
)
@dataclass(frozen=True)
class VPTDeep(Method):
    """Size is ``prompts``, their number in each block."""

    prompts: Positive = 5
    dropout: Fraction = 0.1
    init: Literal["intended", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        module = nn.ModuleList()
        for index, block in enumerate(vit.blocks):
            replaced = self.prompts if index else 0  # those of the block before; the first has none to take away
            edit = Prompts(vit.config, self, -self.prompts, replaced)
            block.sites["tokens"].append(edit)
            block.attn.score_biases.append(edit.score_bias)
            module.append(edit)
        return module

    def count(self, config: ViTConfig) -> int:
        return self.prompts * config.width * config.depth
