"""A Vision Transformer to be read: images in, logits out, with named *sites* where a fine-tuning method may act.

The architecture is that of Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021, arXiv 2010.11929), and what
others changed in it, from CLIP to DINOv3: the options of ``ViTConfig``. Parameters have timm's names (where these
differ, ``models/timm_names.py`` translates), and ``tests/core/vit`` compares the two to 1e-5.

Shapes: B images, N tokens (class token, registers, patches, in this order), D width, H heads, C classes.

**Sites.** After each operation the model calls the list of *edits* kept for that place: ``y = edit(y, x)``, where ``x``
went into the operation and ``y`` came out. All lists are empty until a method (``petl_core.methods``) appends edits;
this file names no method. What each site is called, and what x and y are there:

============================  =================================  =======================================================
of the model                  x                                  y
``patches``                   images (B, 3, height, width)       patch embeddings (B, grid^2, D)
``embed``                     patch embeddings (B, grid^2, D)    tokens with position, before block 0 (B, N, D)
``norm``                      tokens after the last block        their LayerNorm (B, N, D), where it precedes pooling
``features``                  tokens that are pooled (B, N, D)   what the head reads, such as the class token (B, D)
of a block                    x                                  y
``tokens``                    tokens entering the block          the same (B, N, D)
``norm1``, ``norm2``          tokens                             their LayerNorm LN1, LN2: before qkv, before fc1
``qkv``                       LN1 output                         queries, keys, values side by side (B, N, 3D)
``heads``                     qkv                                heads side by side (B, N, D): before proj
``fc1``                       LN2 output                         before the activation (B, N, 4D), if gated twice that
``act``                       fc1 output                         hidden units (B, N, 4D): before fc2
``proj``, ``fc2``             heads, hidden units                output of a linear layer (B, N, D)
``attn``, ``mlp``             LN1, LN2 output                    what the attention, the MLP made of it (B, N, D)
``branch1``, ``branch2``      tokens (before LN1, LN2)           the attention's, the MLP's branch (B, N, D)
``residual1``, ``residual2``  tokens (before LN1, LN2)           the branch after LayerScale and drop path
============================  =================================  =======================================================

The lists are ``vit.sites[name]`` and ``block.sites[name]``; attention and MLP hold theirs too, the same lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.utils import check_fields

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
    class_token: bool = True  # SigLIP has none
    registers: int = 0  # DINOv2, DINOv3: learned tokens behind the class token that nothing reads
    position: Literal["tokens", "patches", "none"] = "tokens"  # what learned positions are added to
    rotary: Literal["none", "dinov3", "axial", "learned"] = "none"  # queries and keys turn by their place (``Rotary``)
    rotary_base: float = 100.0  # how many times slower than the fastest the slowest pair of channels turns, about
    rotary_grid: int = 0  # EVA-02: places are scaled to a grid of this side, that of pre-training; 0: they are not
    rotary_offset: int = 0  # Perception Encoder: the place of the first row and column
    columns_first: bool = False  # the first half of the channels turns with the column, not with the row
    relative_position: bool = False  # BEiT: scores have a learned bias by the distance of two patches
    qkv_bias: Literal["all", "qv", "none"] = "all"  # EVA and BEiT: keys have none, "qv"; DINOv3: "none"
    attention_norm: bool = False  # BEiT-3: a LayerNorm before proj
    mlp_norm: bool = False  # EVA-02: a LayerNorm before fc2
    gated: bool = False  # EVA-02, DINOv2 giant: SiLU of one half of fc1's output times the other half
    tanh_gelu: bool = False  # large SigLIPs: GELU by its approximation with tanh
    pool: Literal["class", "average", "attention"] = "class"  # the head reads the class token, the mean of the patches,
    pool_heads: int = 0  # or (SigLIP) what a query reads in all tokens, with so many heads; 0: as many as in a block
    final_norm: Literal["tokens", "pooled", "none"] = "tokens"  # the last LayerNorm is before or after pooling

    def __post_init__(self) -> None:
        for field in ("image_size", "patch_size", "width", "depth", "heads"):
            if getattr(self, field) < 1:
                raise ValueError(f"ViTConfig.{field} is {getattr(self, field)}; it must be 1 or more")
        check_fields(self, "ViTConfig")
        if self.image_size % self.patch_size:
            size, patch, near = self.image_size, self.patch_size, max(1, self.grid) * self.patch_size
            raise ValueError(f"image_size {size} is not a multiple of patch_size {patch}; use {near}")
        if self.width % self.heads or self.width % (self.pool_heads or 1):
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if (self.pool == "class" and not self.class_token) or (self.relative_position and self.prefix != 1):
            raise ValueError("pool='class' needs a class token, and relative_position nothing else before the patches")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        return self.class_token + self.registers

    @property
    def tokens(self) -> int:
        """N, of all tokens."""
        return self.prefix + self.grid**2

    @property
    def hidden(self) -> int:
        """Width of the MLP's hidden layer, which fc2 reads."""
        return int(self.width * self.mlp_ratio)


def apply(edits: list[Edit], y: Tensor, x: Tensor) -> Tensor:
    """Let every edit of a site act on ``y``, the output of the operation whose input was ``x``."""
    for edit in edits:
        y = edit(y, x)
    return y


def split_heads(x: Tensor, parts: int, heads: int) -> list[Tensor]:
    """Cut (B, N, parts * D) into its ``parts``, each (B, H, N, D/H): one small matrix of tokens for each head."""
    return [part.transpose(1, 2) for part in x.unflatten(2, (parts, heads, -1)).unbind(2)]


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the activation of CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class SwiGLU(nn.Module):
    """A gated activation: SiLU of the first half of the channels times the second (Shazeer, 2020, arXiv 2002.05202)."""

    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return F.silu(gate) * value


class LayerScale(nn.Module):
    """One learned factor per channel on a branch (Touvron et al., 2021, arXiv 2103.17239)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DropPath(nn.Module):
    """Stochastic depth: in training, drop a whole branch for some images of the batch (Huang et al., 2016)."""

    rate = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        mask = x.new_empty(x.shape[0], 1, 1).bernoulli_(1.0 - self.rate)  # (B, 1, 1): one draw per image
        return x * mask / (1.0 - self.rate)


class PatchEmbed(nn.Module):
    """Cut the image into patches and map each linearly to the width: a convolution whose stride is its kernel."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, config.patch_size, bias=not config.pre_norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)  # (B, D, grid, grid) -> (B, grid^2, D)


class Rotary(nn.Module):
    """Pairs of channels of a patch's queries and keys turn, half of them with its row, half with its column, so that a
    score depends on how far two patches are apart (Su et al., 2021, arXiv 2104.09864); "learned" ones turn with both
    (Heo et al., 2024, arXiv 2403.13298). In "dinov3" (2025, arXiv 2508.10104) places lie between -2 pi and 2 pi."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config, learned = config, config.rotary == "learned"
        self.table: Any
        self.freqs = nn.Parameter(torch.rand(2, config.heads, config.width // config.heads // 2)) if learned else None
        self.register_buffer("table", None if learned else self.turns(torch.empty(0)), persistent=False)

    def turns(self, like: Tensor) -> Tensor:
        """Cosines and sines for each token and pair, (2, 1, N, D/2H); learned ones also for each head, (2, H, ...)."""
        c, quarter = self.config, self.config.width // self.config.heads // 4
        offset, unit = float(c.rotary_offset), (c.rotary_grid or c.grid) / c.grid
        if c.rotary == "dinov3":
            offset, unit = (1 - c.grid) / 2, 4 * math.pi / c.grid
        place = (torch.arange(c.grid, device=like.device) + offset) * unit
        places = torch.cartesian_prod(place, place)  # row and column of each patch: (grid^2, 2)
        places = places.flip(1) if c.columns_first else places
        falling = c.rotary_base ** (-torch.arange(quarter, device=like.device) / quarter)
        freqs = torch.block_diag(falling, falling)[:, None] if self.freqs is None else self.freqs  # (2, H or 1, D/2H)
        angles = F.pad((places[:, :, None, None] * freqs).sum(1).transpose(0, 1), (0, 0, c.prefix, 0))
        return torch.stack([angles.cos(), angles.sin()]).to(like.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Rotary:  # noqa: FBT001, FBT002 (torch's)
        super()._apply(fn, recurse)  # moves the model or changes its precision, which would lose or round the table
        self.table = None if self.table is None else self.turns(self.table)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Queries or keys (B, H, N, D/H), turned; a method's tokens, behind the patches, do not turn."""
        cos, sin = self.turns(x) if self.table is None else self.table
        own, others = x.split([self.config.tokens, x.shape[2] - self.config.tokens], dim=2)
        apart = self.config.rotary == "dinov3"
        a, b = own.chunk(2, dim=-1) if apart else (own[..., ::2], own[..., 1::2])
        a, b = a * cos - b * sin, a * sin + b * cos
        turned = torch.cat([a, b], dim=-1) if apart else torch.stack([a, b], dim=-1).flatten(-2)
        return torch.cat([turned.to(x.dtype), others], dim=2) if others.shape[2] else turned.to(x.dtype)


def relative_bias(table: Tensor, tokens: int) -> Tensor:
    """Biases (H, N, N) of scores from a table ((2 grid - 1)^2 + 3, H), with a row for each distance of two patches and
    three for the class token (Bao et al., 2022, arXiv 2106.08254). A method's tokens, behind the patches, have none."""
    side = math.isqrt(len(table) - 3)  # 2 grid - 1
    grid = (side + 1) // 2
    windows = table[:-3].T.unflatten(1, (side, side)).unfold(1, grid, 1).unfold(2, grid, 1).flip(-2, -1)
    end, more = 1 + grid**2, tokens - 1 - grid**2
    bias = F.pad(windows.flatten(3).flatten(1, 2), (1, more, 1, more))
    bias[:, 0, 1:end], bias[:, 1:end, 0], bias[:, 0, :1] = table[-3:, :, None]
    return bias


class QVLinear(nn.Linear):
    """A fused layer for queries, keys and values whose keys have no bias: that part is zero and gets no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.bias.chunk(3)
        return F.linear(x, self.weight, torch.cat([q, k.detach(), v]))


class Attention(nn.Module):
    """Multi-head self-attention with queries, keys and values from one fused linear layer."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        D, self.heads = config.width, config.heads
        fused = QVLinear if config.qkv_bias == "qv" else nn.Linear
        self.qkv = fused(D, 3 * D, bias=config.qkv_bias != "none")
        self.rotary = Rotary(config) if config.rotary != "none" else nn.Identity()
        self.norm = nn.LayerNorm(D, eps=config.norm_eps) if config.attention_norm else nn.Identity()
        self.proj = nn.Linear(D, D)
        table = torch.zeros((2 * config.grid - 1) ** 2 + 3, self.heads) if config.relative_position else None
        self.relative_position_bias_table = None if table is None else nn.Parameter(table)
        self.sites: dict[str, list[Edit]] = {name: [] for name in ATTENTION_SITES}
        self.score_biases: list[Callable[[Tensor], Tensor | None]] = []  # (B, N, D) -> added before the softmax

    def forward(self, x: Tensor) -> Tensor:
        qkv = apply(self.sites["qkv"], self.qkv(x), x)  # (B, N, 3D)
        q, k, v = split_heads(qkv, 3, self.heads)  # each (B, H, N, D/H)
        q, k = self.rotary(q), self.rotary(k)
        table = self.relative_position_bias_table
        bias = None if table is None else relative_bias(table, x.shape[1]).to(x.dtype)  # broadcast over (B, H, N, N)
        for part in self.score_biases:
            if (more := part(x)) is not None:
                bias = more if bias is None else bias + more
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # softmax(q k' / sqrt(D/H) + bias) v
        y = self.norm(y.transpose(1, 2).flatten(2))  # (B, N, D)
        y = apply(self.sites["heads"], y, qkv)
        return apply(self.sites["proj"], self.proj(y), y)


class MLP(nn.Module):
    """Two linear layers with an activation between, applied to each token alone."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden * (2 if config.gated else 1))
        self.act: nn.Module = nn.GELU("tanh" if config.tanh_gelu else "none")
        if config.quick_gelu or config.gated:
            self.act = QuickGELU() if config.quick_gelu else SwiGLU()
        self.norm = nn.LayerNorm(config.hidden, eps=config.norm_eps) if config.mlp_norm else nn.Identity()
        self.fc2 = nn.Linear(config.hidden, config.width)
        self.sites: dict[str, list[Edit]] = {name: [] for name in MLP_SITES}

    def forward(self, x: Tensor) -> Tensor:
        hidden = apply(self.sites["fc1"], self.fc1(x), x)  # (B, N, 4D)
        active = apply(self.sites["act"], self.norm(self.act(hidden)), hidden)
        return apply(self.sites["fc2"], self.fc2(active), active)  # (B, N, D)


class AttentionPool(nn.Module):
    """A learned query reads the tokens (B, N, D), and an MLP follows: (B, D) (Zhai et al., 2022, arXiv 2106.04560)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        D, self.heads = config.width, config.pool_heads or config.heads
        self.latent = nn.Parameter(D**-0.5 * torch.randn(1, 1, D))
        self.q, self.kv, self.proj = nn.Linear(D, D), nn.Linear(D, 2 * D), nn.Linear(D, D)
        self.norm, self.mlp = nn.LayerNorm(D, eps=config.norm_eps), MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        [q] = split_heads(self.q(self.latent.expand(x.shape[0], -1, -1)), 1, self.heads)  # (B, H, 1, D/H)
        k, v = split_heads(self.kv(x), 2, self.heads)
        y = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))  # (B, D)
        return y + self.mlp(self.norm(y))


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
    """Patches, position, blocks, pooling, and a linear head on what was pooled: images (B, 3, image_size, image_size),
    normalised with ``config.mean`` and ``config.std``, to logits (B, C). ``methods`` holds what methods have attached,
    by method name."""

    def __init__(self, config: ViTConfig, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; it must be 1 or more")
        self.config = config
        D, places = config.width, {"tokens": config.tokens, "patches": config.grid**2, "none": 0}[config.position]
        self.patch_embed = PatchEmbed(config)
        self.cls_token: Any = nn.Parameter(torch.zeros(1, 1, D)) if config.class_token else None
        self.reg_token = nn.Parameter(0.02 * torch.randn(1, config.registers, D)) if config.registers else None
        self.pos_embed: Any = nn.Parameter(torch.empty(1, places, D)) if places else None
        self.norm_pre = nn.LayerNorm(D, eps=config.norm_eps) if config.pre_norm else nn.Identity()
        self.blocks: Any = nn.ModuleList(Block(config) for _ in range(config.depth))  # of Block; mypy forgets that
        self.norm = nn.LayerNorm(D, eps=config.norm_eps) if config.final_norm == "tokens" else nn.Identity()
        self.attn_pool = AttentionPool(config) if config.pool == "attention" else None
        self.fc_norm = nn.LayerNorm(D, eps=config.norm_eps) if config.final_norm == "pooled" else nn.Identity()
        self.head = nn.Linear(D, num_classes)
        self.methods = nn.ModuleDict()
        self.sites: dict[str, list[Edit]] = {name: [] for name in MODEL_SITES}
        self.init_weights()

    def init_weights(self) -> None:
        """Linear weights and positions from a normal of deviation 0.02 cut at two units, biases zero (as timm does)."""
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def set_drop_path(self, rate: float) -> None:
        """Stochastic depth that grows linearly from 0 in the first block to ``rate`` in the last."""
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate is {rate}; it must lie in [0, 1)")
        for index, block in enumerate(self.blocks):
            block.drop_path1.rate = block.drop_path2.rate = rate * index / max(1, len(self.blocks) - 1)

    def tokens(self, images: Tensor, blocks: int = 0) -> Tensor:
        """Images (B, 3, height, width) to the tokens (B, N, D) behind the first ``blocks`` blocks."""
        at, position = self.sites, self.config.position
        patches = apply(at["patches"], self.patch_embed(images), images)  # (B, grid^2, D)
        x = patches + self.pos_embed if position == "patches" else patches
        for token in (self.reg_token, self.cls_token):
            x = x if token is None else torch.cat([token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.pos_embed if position == "tokens" else x  # (B, N, D)
        x = apply(at["embed"], self.norm_pre(x), patches)
        for block in list(self.blocks)[:blocks]:
            x = block(x)
        return x

    def features(self, x: Tensor, blocks: int = 0) -> Tensor:
        """Tokens (B, N, D) behind the first ``blocks`` blocks, through the others, to what the head reads (B, D)."""
        for block in list(self.blocks)[blocks:]:
            x = block(x)
        y, config = apply(self.sites["norm"], self.norm(x), x), self.config
        if config.pool == "class":
            pooled = y[:, 0]
        elif self.attn_pool is not None:
            pooled = self.attn_pool(y[:, : config.tokens])  # without tokens that a method has added behind the patches
        else:
            pooled = y[:, config.prefix : config.tokens].mean(dim=1)
        return apply(self.sites["features"], self.fc_norm(pooled), y)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, height, width) to what the head reads (B, D)."""
        return self.features(self.tokens(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.forward_features(images))  # (B, C)
