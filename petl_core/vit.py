"""A Vision Transformer to be read: images in, logits out, with named *sites* where a fine-tuning method may act.

The parameter names are timm's, so timm's weights load unchanged and ``tests/core/vit`` compares the two to 1e-5.
The architecture is that of Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021, arXiv 2010.11929), with the
variations that CLIP (a LayerNorm before the blocks, QuickGELU) and DINOv2 (LayerScale) bring.

Shapes: B images, N tokens (one class token and the patches), D width, H heads, C classes.

**Sites.** After each operation the model calls the list of *edits* kept for that place: ``y = edit(y, x)``, where ``x``
went into the operation and ``y`` came out of it. All lists are empty in a plain ViT. A method (``petl_core.methods``)
appends edits to the lists; this file never names a method. What each site is called, and what x and y are there:

=============  ==========================================  =============================================
of the model   x                                           y
``patches``    images (B, 3, height, width)                patch embeddings (B, N-1, D)
``embed``      patch embeddings (B, N-1, D)                tokens with position, before block 0 (B, N, D)
``norm``       tokens after the last block                 their LayerNorm (B, N, D)
``features``   normalised tokens (B, N, D)                 what the head reads: the class token (B, D)
of a block     x                                           y
``tokens``     tokens entering the block                   the same (B, N, D)
``norm1``      tokens                                      LN1 of them
``qkv``        LN1 output                                  queries, keys, values side by side (B, N, 3D)
``heads``      qkv                                         attention output, heads side by side (B, N, D)
``proj``       attention output                            its projection (B, N, D)
``attn``       LN1 output                                  what attention made of it (B, N, D)
``branch1``    tokens (before LN1)                         the attention branch (B, N, D)
``residual1``  tokens (before LN1)                         the branch after LayerScale and drop path
``norm2``      tokens                                      LN2 of them
``fc1``        LN2 output                                  hidden units before the activation (B, N, 4D)
``act``        fc1 output                                  hidden units (B, N, 4D)
``fc2``        hidden units                                back at width (B, N, D)
``mlp``        LN2 output                                  what the MLP made of it (B, N, D)
``branch2``    tokens (before LN2)                         the MLP branch (B, N, D)
``residual2``  tokens (before LN2)                         the branch after LayerScale and drop path
=============  ==========================================  =============================================

``norm1`` is also "before qkv", ``heads`` "before proj", ``norm2`` "before fc1" and ``act`` "before fc2". The lists are
``vit.sites[name]`` and ``block.sites[name]``; the attention and the MLP hold theirs too, the same lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MODEL_SITES = ("patches", "embed", "norm", "features")
ATTENTION_SITES = ("qkv", "heads", "proj")
MLP_SITES = ("fc1", "act", "fc2")
BLOCK_SITES = ("tokens", "norm1", "attn", "branch1", "residual1", "norm2", "mlp", "branch2", "residual2")

Edit = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a ViT. ``image_size`` and ``patch_size`` are in pixels; images are square with three channels."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    pre_norm: bool = False  # CLIP: LayerNorm before block 0, and no bias in the patch embedding
    layer_scale: bool = False  # DINOv2: a learned vector scales each branch
    quick_gelu: bool = False  # CLIP: x * sigmoid(1.702 x)
    norm_eps: float = 1e-6
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of the images the weights were trained on
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for field in ("image_size", "patch_size", "width", "depth", "heads"):
            if getattr(self, field) < 1:
                raise ValueError(f"ViTConfig.{field} is {getattr(self, field)}; it must be 1 or more")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}; "
                f"use {self.image_size // self.patch_size * self.patch_size or self.patch_size}"
            )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def hidden(self) -> int:
        """Width of the MLP's hidden layer."""
        return int(self.width * self.mlp_ratio)


def apply(edits: list[Edit], y: Tensor, x: Tensor) -> Tensor:
    """Let every edit of a site act on ``y``, the output of the operation whose input was ``x``."""
    for edit in edits:
        y = edit(y, x)
    return y


def split_heads(x: Tensor, parts: int, heads: int) -> list[Tensor]:
    """Cut (B, N, parts * D) into its ``parts``, each (B, H, N, D/H): one small matrix of tokens for each head."""
    B, N, width = x.shape
    cut = x.reshape(B, N, parts, heads, width // (parts * heads))
    return [part.transpose(1, 2) for part in cut.unbind(2)]


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the activation of CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class LayerScale(nn.Module):
    """One learned factor per channel on a branch (Touvron et al., 2021, arXiv 2103.17239)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DropPath(nn.Module):
    """Stochastic depth: in training, drop a whole branch for some images of the batch (Huang et al., 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty(x.shape[0], 1, 1).bernoulli_(keep)  # (B, 1, 1): one draw per image
        return x * mask / keep


class PatchEmbed(nn.Module):
    """Cut the image into patches and map each linearly to the width: a convolution whose stride is its kernel."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(3, config.width, kernel_size=size, stride=size, bias=not config.pre_norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)  # (B, D, grid, grid) -> (B, N-1, D)


class Attention(nn.Module):
    """Multi-head self-attention with queries, keys and values from one fused linear layer."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        self.sites: dict[str, list[Edit]] = {name: [] for name in ATTENTION_SITES}
        self.score_biases: list[Callable[[Tensor], Tensor | None]] = []  # (B, N, D) -> added before the softmax

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape
        qkv = apply(self.sites["qkv"], self.qkv(x), x)  # (B, N, 3D)
        q, k, v = split_heads(qkv, 3, self.heads)  # each (B, H, N, D/H)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.score_bias(x))  # softmax(q k' / sqrt(D/H) + bias) v
        y = y.transpose(1, 2).reshape(B, N, D)
        y = apply(self.sites["heads"], y, qkv)
        return apply(self.sites["proj"], self.proj(y), y)

    def score_bias(self, x: Tensor) -> Tensor | None:
        """The sum of ``score_biases``, broadcast over (B, H, N, N); None, which costs nothing, where all are None."""
        total = None
        for part in self.score_biases:
            bias = part(x)
            if bias is not None:
                total = bias if total is None else total + bias
        return total


class MLP(nn.Module):
    """Two linear layers with an activation between, applied to each token alone."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.act = QuickGELU() if config.quick_gelu else nn.GELU()
        self.fc2 = nn.Linear(config.hidden, config.width)
        self.sites: dict[str, list[Edit]] = {name: [] for name in MLP_SITES}

    def forward(self, x: Tensor) -> Tensor:
        hidden = apply(self.sites["fc1"], self.fc1(x), x)  # (B, N, 4D)
        active = apply(self.sites["act"], self.act(hidden), hidden)
        return apply(self.sites["fc2"], self.fc2(active), active)  # (B, N, D)


class Block(nn.Module):
    """x <- x + attention(LN1 x), then x <- x + MLP(LN2 x); each branch passes LayerScale and drop path once."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config)
        self.ls1 = LayerScale(config.width) if config.layer_scale else nn.Identity()
        self.drop_path1 = DropPath()
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.ls2 = LayerScale(config.width) if config.layer_scale else nn.Identity()
        self.drop_path2 = DropPath()
        own: dict[str, list[Edit]] = {name: [] for name in BLOCK_SITES}
        self.sites = {**own, **self.attn.sites, **self.mlp.sites}  # all of the block's; lists are shared, not copied

    def forward(self, x: Tensor) -> Tensor:
        at = self.sites
        x = apply(at["tokens"], x, x)  # (B, N, D); a prompt method may add tokens here

        z = apply(at["norm1"], self.norm1(x), x)
        y = apply(at["attn"], self.attn(z), z)
        y = self.drop_path1(self.ls1(apply(at["branch1"], y, x)))
        x = x + apply(at["residual1"], y, x)

        z = apply(at["norm2"], self.norm2(x), x)
        y = apply(at["mlp"], self.mlp(z), z)
        y = self.drop_path2(self.ls2(apply(at["branch2"], y, x)))
        return x + apply(at["residual2"], y, x)


class ViT(nn.Module):
    """The whole model: patches, position, blocks, and a linear head on the class token.

    Input: float images (B, 3, image_size, image_size), normalised with ``config.mean`` and ``config.std``.
    Output: logits (B, C). ``methods`` holds the modules that methods have attached, by method name.
    """

    def __init__(self, config: ViTConfig, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; it must be 1 or more")
        self.config = config
        D, N = config.width, 1 + config.grid**2
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.pos_embed = nn.Parameter(torch.empty(1, N, D))
        self.norm_pre = nn.LayerNorm(D, eps=config.norm_eps) if config.pre_norm else nn.Identity()
        self.blocks: Any = nn.ModuleList(Block(config) for _ in range(config.depth))  # of Block; mypy forgets that
        self.norm = nn.LayerNorm(D, eps=config.norm_eps)
        self.head = nn.Linear(D, num_classes)
        self.methods = nn.ModuleDict()
        self.sites: dict[str, list[Edit]] = {name: [] for name in MODEL_SITES}
        self.init_weights()

    def init_weights(self) -> None:
        """Linear weights and positions from a normal of deviation 0.02 cut at two units, biases zero (as timm does)."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def set_drop_path(self, rate: float) -> None:
        """Stochastic depth that grows linearly from 0 in the first block to ``rate`` in the last."""
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate is {rate}; it must lie in [0, 1)")
        for index, block in enumerate(self.blocks):
            block.drop_path1.rate = block.drop_path2.rate = rate * index / max(1, len(self.blocks) - 1)

    def tokens(self, images: Tensor, blocks: int = 0) -> Tensor:
        """Images (B, 3, height, width) to the tokens (B, N, D) behind the first ``blocks`` blocks."""
        at = self.sites
        patches = apply(at["patches"], self.patch_embed(images), images)  # (B, N-1, D)
        x = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.pos_embed  # (B, N, D)
        x = apply(at["embed"], self.norm_pre(x), patches)
        for block in list(self.blocks)[:blocks]:
            x = block(x)
        return x

    def features(self, x: Tensor, blocks: int = 0) -> Tensor:
        """Tokens (B, N, D) behind the first ``blocks`` blocks, through the others, to what the head reads (B, D)."""
        for block in list(self.blocks)[blocks:]:
            x = block(x)
        y = apply(self.sites["norm"], self.norm(x), x)
        return apply(self.sites["features"], y[:, 0], y)  # the class token: (B, D)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, height, width) to what the head reads (B, D)."""
        return self.features(self.tokens(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.forward_features(images))  # (B, C)
