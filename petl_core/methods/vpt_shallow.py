"""VPT-Shallow: learned tokens join the sequence before the first block and stay through all of them.

    class token, patches (B, N, D) --+--> block 0 (B, N + P, D) --> block 1 --> ... --> class token (B, D)
    prompts (P, D) -- dropout -------+

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
from typing import Literal

from torch import nn

from petl_core.methods._prompt import Prompts
from petl_core.methods.base import Fraction, Method, Positive, register
from petl_core.vit import ViT, ViTConfig


@register(
    name="vpt_shallow",
    title="VPT-Shallow",
    family="prompt",
    paper="Jia et al., 2022, arXiv 2203.12119",
    size_field="prompts",
    obstacle="its prompts are additional tokens, not weights",
    space={"prompts": (5, 10)},
    published_space={"prompts": (5, 10, 50, 100, 200)},
    exact_starts=(),
)
@dataclass(frozen=True)
class VPTShallow(Method):
    """Size is ``prompts``, their number."""

    prompts: Positive = 5
    dropout: Fraction = 0.1
    init: Literal["intended", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        module = Prompts(vit.config, self, vit.config.tokens)
        vit.sites["embed"].append(module)
        released = self.init == "released"
        for block in vit.blocks[:1] if released else vit.blocks:
            block.attn.score_biases.append(module.score_bias)
        for block in vit.blocks[1:2] if released else []:
            block.sites["tokens"].append(module.remove)
        return module

    def count(self, config: ViTConfig) -> int:
        return self.prompts * config.width
