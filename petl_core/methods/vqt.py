"""VQT: learned queries read every block of a backbone that they do not change.

    tokens (B, N, D) -- block l --> tokens (B, N, D), the same as without VQT
                           | keys, values
    q_l (T, D) -- LN1, Wq -- attention -- + q_l --> u -- MLP -- + u --> o_l (B, T, D)
    o_1, ..., o_L, class token (B, L T + 1, D) -- / length -- summed with weights w (L T + 1) --> features (B, D)

Paper: Tu et al., "Visual Query Tuning: Towards Effective Usage of Intermediate Representations for Parameter and Memory
Efficient Transfer Learning", CVPR 2023, arXiv 2212.03220, section 3.
Formula: in block l, T query tokens q_l in R^(T x D) attend to the keys and values of the ordinary tokens and pass
through the block with its own weights: u = q_l + LS1(proj(attention(Wq LN1 q_l, K, V))), o_l = u + LS2(MLP(LN2 u)).
The L T outputs and the class token, each divided by its length, are combined by a learned vector w of length L T + 1
(ones at the start) to the D features that the head reads. Nothing flows back: the class token and the patches are those
of the pre-trained model, to the bit. Queries are drawn as VPT's prompts; dropout on them; no drop path on their way.
Sites: ``heads`` of every block (there the keys and values are at hand), ``features``, and ``embed`` to start anew.
Edits of other methods act on the ordinary tokens, so on keys and values, and not on the queries.
Parameters: L T D + L T + 1.
Merges: no, though the backbone stays as it is.
alpha: (1 - alpha) * class token + alpha * combination.
Released code: does not work. It throws the outputs of the queries away, so that they get no gradient, and normalises
along the wrong axis.
``init="released"`` takes only its initialisation, w from N(0, 0.02^2), and its single dropout mask per batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.methods._prompt import uniform_tokens
from petl_core.methods.base import Fraction, Method, Positive, register
from petl_core.vit import Block, ViT, ViTConfig, split_heads


class Queries(nn.Module):
    """The queries of all blocks and the vector that combines what they read. ``outputs`` is empty between forwards."""

    def __init__(self, config: ViTConfig, hyper: VQT) -> None:
        super().__init__()
        self.queries = uniform_tokens(config.depth, hyper.queries, config.width, config=config)
        self.combiner = nn.Parameter(torch.ones(config.depth * hyper.queries + 1))
        self.dropout, self.shared_mask, self.alpha = hyper.dropout, hyper.init == "released", 1.0
        if hyper.init == "released":
            nn.init.trunc_normal_(self.combiner, std=0.02)
        self.outputs: list[Tensor] = []

    def tokens(self, index: int, batch: int) -> Tensor:
        """The queries of a block: (1, T, D), or (B, T, D) where each image has a dropout mask of its own."""
        queries = self.queries[index : index + 1]
        if self.training and self.dropout and not self.shared_mask:
            queries = queries.expand(batch, -1, -1)
        return F.dropout(queries, self.dropout, self.training)

    def restart(self, y: Tensor, x: Tensor) -> Tensor:
        """The edit at ``embed``: forget what an interrupted forward may have left."""
        self.outputs.clear()
        return y

    def combine(self, y: Tensor, x: Tensor) -> Tensor:
        """The edit at ``features``, where y is the class token (B, D)."""
        if self.alpha == 0.0:
            return y
        tokens = torch.cat([*self.outputs, y[:, None]], dim=1)  # (B, L T + 1, D)
        self.outputs.clear()
        combined = torch.einsum("bnd,n->bd", F.normalize(tokens, dim=-1), self.combiner.to(tokens.dtype))
        return combined if self.alpha == 1.0 else (1.0 - self.alpha) * y + self.alpha * combined


@dataclass(eq=False)
class Reader:
    """The edit at ``heads`` of one block: y passes unchanged, and the queries look at x, its queries, keys, values.

    Not a module: the block must not be registered a second time.
    """

    owner: Queries
    block: Block
    index: int

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        if self.owner.alpha == 0.0:
            return y
        block, heads, D = self.block, self.block.attn.heads, y.shape[-1]
        tokens = self.owner.tokens(self.index, x.shape[0])  # (1 or B, T, D)
        qkv = block.attn.qkv
        bias = None if qkv.bias is None else qkv.bias[:D]
        query = F.linear(block.norm1(tokens), qkv.weight[:D], bias).to(x.dtype).expand(x.shape[0], -1, -1)
        [query] = split_heads(query, 1, heads)  # (B, H, T, D/H)
        key, value = split_heads(x[..., D:], 2, heads)  # each (B, H, N, D/H)
        key = block.attn.rotary(key)  # queries have no place in the image, keys have theirs
        read = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)  # (B, T, D)
        u = tokens + block.ls1(block.attn.proj(block.attn.norm(read)))
        z = block.norm2(u)
        z = block.mlp.fc2(block.mlp.norm(block.mlp.act(block.mlp.fc1(z))))
        self.owner.outputs.append(u + block.ls2(z))
        return y


@register(
    name="vqt",
    title="VQT",
    family="prompt",
    paper="Tu et al., 2023, arXiv 2212.03220",
    size_field="queries",
    obstacle="its queries are additional tokens, not weights",
    space={"queries": (5, 1)},
    exact_starts=(),
)
@dataclass(frozen=True)
class VQT(Method):
    """Size is ``queries``, their number in each block."""

    queries: Positive = 5
    dropout: Fraction = 0.1
    init: Literal["intended", "released"] = "intended"

    def attach(self, vit: ViT) -> nn.Module:
        module = Queries(vit.config, self)
        vit.sites["embed"].append(module.restart)
        for index, block in enumerate(vit.blocks):
            block.sites["heads"].append(Reader(module, block, index))
        vit.sites["features"].append(module.combine)
        return module

    def count(self, config: ViTConfig) -> int:
        return config.depth * self.queries * (config.width + 1) + 1
