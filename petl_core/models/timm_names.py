"""What timm knows under a name, as a ``ViTConfig``, and timm's names of parameters as ours and back.

timm builds the model without memory (on torch's "meta" device), and its configuration is read from it. What our ViT
lacks is named. That the rest was read rightly is proved and not listed: a narrow one of two blocks gets random weights,
our ViT gets the same ones, and both are shown an image in double precision. Nothing is approximated.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from petl_core.models.hub import pretrained_cfg
from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig

KEYS = ("attn.k_proj.bias", "attn.k_bias")  # where timm's keys have no bias, ours is zero
FUSED = (  # here, and its parts in timm, which lie side by side
    ("attn.qkv.weight", ("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight")),
    ("attn.qkv.bias", ("attn.q_proj.bias", "attn.k_proj.bias", "attn.v_proj.bias")),
    ("attn.qkv.bias", ("attn.q_bias", "attn.k_bias", "attn.v_bias")),
    ("mlp.fc1.weight", ("mlp.fc1_g.weight", "mlp.fc1_x.weight")),
    ("mlp.fc1.bias", ("mlp.fc1_g.bias", "mlp.fc1_x.bias")),
)
ROTARIES = {
    "RotaryEmbeddingDinoV3": "dinov3",
    "RotaryEmbeddingCat": "axial",
    "RotaryEmbeddingMixed": "learned",
}
VITS = {"VisionTransformer", "VisionTransformerRelPos", "Eva", "Beit"}  # timm's classes of ViTs
POOLS: dict[str, Any] = {"token": "class", "avg": "average", "map": "attention"}
SIZES = ("image_size", "width", "depth", "heads", "mlp_ratio")  # of the configuration, in which the narrow one differs


def canonical(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in timm's names in ours; those that have our names already, and unknown ones, keep them."""
    state = {_renamed(name): tensor for name, tensor in tensors.items()}
    for name in [name for name in state if name.startswith("blocks.")]:
        for ours, parts in FUSED:
            before = name.removesuffix(parts[0])
            if before == name:
                continue
            if parts[1] in KEYS:
                state.setdefault(before + parts[1], torch.zeros_like(state[name]))
            if all(before + part in state for part in parts):  # else they keep their names, and loading reports them
                state[before + ours] = torch.cat([state.pop(before + part) for part in parts])
    if "rope.freqs" in state:
        for index, freqs in enumerate(state.pop("rope.freqs").unbind(1)):
            state[f"blocks.{index}.attn.rotary.freqs"] = freqs
    return state


def _renamed(name: str) -> str:
    return re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name)


def timm_state(vit: ViT, name: str) -> dict[str, Tensor]:
    """The weights of ``vit`` under the names of timm's model ``name``, the inverse of ``canonical``.

    ``UserError`` where timm's model has no place for one: for a bias that merging has added, say.
    """
    import timm

    shape: dict[str, Any] = {"depth": vit.config.depth, "img_size": vit.config.image_size}
    with torch.device("meta"):
        wanted = timm.create_model(name, num_classes=vit.head.out_features, **shape).state_dict()
    own, state = dict(vit.state_dict()), {}
    for theirs in wanted:
        block = re.match(r"blocks\.\d+\.", theirs)
        before, after = (block[0], theirs[len(block[0]) :]) if block else ("", theirs)
        fused = next((found for found in FUSED if after in found[1]), None)
        ours = before + fused[0] if fused else _renamed(theirs)
        if theirs == "rope.freqs":
            state[theirs] = torch.stack([own.pop(f"blocks.{i}.attn.rotary.freqs") for i in range(len(vit.blocks))], 1)
        elif fused:
            state[theirs] = own[ours].chunk(len(fused[1]))[fused[1].index(after)].contiguous()
        else:
            state[theirs] = own[ours]
    again = canonical(state)
    lost = [key for key, tensor in own.items() if key not in again or not torch.equal(again[key], tensor)]
    if lost:
        raise UserError(f"timm's '{name}' has no place for {', '.join(lost[:3])}, which merging may have added")
    return state


@functools.lru_cache(maxsize=512)
def timm_config(name: str) -> ViTConfig:
    """The configuration of timm's model ``name`` at its own image size; mean and std are those of its weights.

    Raises ``UserError`` for a name that timm does not have, with the closest ones, and for an architecture that our ViT
    cannot express, with what it lacks.
    """
    import timm

    cfg = pretrained_cfg(name)
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    problems = list(lacking(model))
    if not problems:
        config = _read(model, cfg)
        problems = list(_unequal_parameters(model, config)) or list(_unequal_features(name, config))
    if problems:
        raise UserError(
            f"backbone '{name}' is a timm model that this package cannot express: {'; '.join(problems)}. "
            "Choose another, such as vit_base_patch16_224 (python -m petl_core list backbones)"
        )
    if any("QuickGELU" in note for note in cfg.get("notes") or ()) and "quickgelu" not in name:
        other = name.replace("_clip_", "_clip_quickgelu_")
        warnings.warn(
            f"the weights of '{name}' were trained with QuickGELU, but under this name timm builds the model with "
            f"GELU; '{other}' is the original function",
            stacklevel=2,
        )
    return config


def lacking(model: Any) -> Iterator[str]:
    """What timm's model has and our ViT does not, in words."""
    if not VITS & {cls.__name__ for cls in type(model).__mro__}:
        yield f"it is timm's {type(model).__name__}, which is no ViT"
        return
    modules = list(model.modules())
    kinds = " ".join(sorted({type(module).__name__ for module in modules}))
    height, width = model.patch_embed.img_size
    side, pool = model.patch_embed.patch_size[0], getattr(model, "attn_pool", None)
    turns = type(getattr(model, "rope", None)).__name__
    found = {
        f"pooling by '{model.global_pool}'": model.global_pool not in POOLS,
        "a stem of convolutions before the patches": "HybridEmbed" in kinds,
        "a distillation token with a head of its own": hasattr(model, "dist_token"),
        "branches in parallel": "Parallel" in kinds,
        "a norm after each branch": "Post" in kinds,
        "differential attention": "Diff" in kinds,
        "biases of scores by relative positions, other than BEiT's table": "RelPos" in kinds,
        "RMSNorm": "RmsNorm" in kinds,
        "norms of queries and keys": any(".q_norm." in name for name, _ in model.named_parameters()),
        "fewer heads for keys than for queries": any(getattr(module, "num_kv_groups", 1) > 1 for module in modules),
        f"rotary positions as {turns}": turns not in (*ROTARIES, "NoneType"),
        "images that are not square": height != width,
        f"images of {height} px, which are not a multiple of its patch size {side}": height % side != 0,
        "attention pooling that leaves registers out": bool(pool and model.num_prefix_tokens and "Eva" not in kinds),
        "attention pooling with an MLP of another width": bool(
            pool and pool.mlp.fc1.out_features != model.blocks[0].mlp.fc2.in_features
        ),
    }
    yield from (words for words, there in found.items() if there)


def _read(model: Any, cfg: dict[str, Any]) -> ViTConfig:
    """The configuration of timm's model, which lacks nothing; ``cfg`` is timm's description of its weights."""
    block, width, grid = model.blocks[0], model.embed_dim, model.patch_embed.grid_size[0]
    hidden, act = block.mlp.fc2.in_features, type(block.mlp.act).__name__
    pool, places = getattr(model, "attn_pool", None), 0 if model.pos_embed is None else model.pos_embed.shape[1]
    position: Any = {0: "none", grid**2 + model.num_prefix_tokens: "tokens"}.get(places, "patches")
    final_norm: Any = "pooled" if isinstance(model.fc_norm, nn.LayerNorm) else "none"
    if isinstance(model.norm, nn.LayerNorm):
        final_norm = "tokens"
    ratio = hidden / width
    if int(width * ratio) != hidden:  # the division was rounded down
        ratio = (hidden + 0.5) / width
    return ViTConfig(
        image_size=model.patch_embed.img_size[0],
        patch_size=model.patch_embed.patch_size[0],
        width=width,
        depth=len(model.blocks),
        heads=block.attn.num_heads,
        mlp_ratio=ratio,
        pre_norm=isinstance(getattr(model, "norm_pre", None), nn.LayerNorm),
        layer_scale=hasattr(getattr(block, "ls1", None), "gamma") or getattr(block, "gamma_1", None) is not None,
        quick_gelu=act == "QuickGELU",
        norm_eps=block.norm1.eps,
        mean=tuple(cfg.get("mean") or (0.5, 0.5, 0.5)),
        std=tuple(cfg.get("std") or (0.5, 0.5, 0.5)),
        class_token=model.cls_token is not None,
        registers=model.num_prefix_tokens - (model.cls_token is not None),
        position=position,
        relative_position=getattr(block.attn, "relative_position_bias_table", None) is not None,
        qkv_bias=_qkv_bias(block.attn),
        attention_norm=isinstance(getattr(block.attn, "norm", None), nn.LayerNorm),
        mlp_norm=isinstance(block.mlp.norm, nn.LayerNorm),
        gated=type(block.mlp).__name__ in ("GluMlp", "SwiGLU"),
        tanh_gelu=act == "GELUTanh",
        pool=POOLS[model.global_pool],
        pool_heads=pool.num_heads if pool and pool.num_heads != block.attn.num_heads else 0,
        final_norm=final_norm,
        **_rotary(getattr(model, "rope", None)),
    )


def _qkv_bias(attention: Any) -> Any:
    """Which of queries, keys and values have a bias, "all", "qv" or "none": timm has several ways to say it."""
    names = {name for name, _ in attention.named_parameters()}
    if {"qkv.bias", "k_proj.bias"} & names:
        return "all"
    return "qv" if {"q_bias", "q_proj.bias"} & names else "none"


def _rotary(rope: Any) -> dict[str, Any]:
    """The fields of rotary positions; none without."""
    if rope is None:
        return {}
    offset, reference = getattr(rope, "grid_offset", 0), getattr(rope, "ref_feat_shape", None)
    return {
        "rotary": ROTARIES[type(rope).__name__],
        "rotary_base": float(rope.temperature),
        "rotary_grid": reference[0] if reference else 0,
        "rotary_offset": int(offset),
        "columns_first": rope.grid_indexing == "xy",
    }


def _unequal_parameters(model: nn.Module, config: ViTConfig) -> Iterator[str]:
    """Every parameter of timm's model but the head has one of ours, of the same shape; else, what differs."""
    with torch.device("meta"):
        ours = {(n, p.shape) for n, p in ViT(config, 1).named_parameters() if not n.startswith("head.")}
        theirs = {
            (n, p.shape) for n, p in canonical(dict(model.named_parameters())).items() if not n.startswith("head.")
        }
    if odd := sorted({name for name, _ in ours ^ theirs}):
        yield f"it differs in {', '.join(odd[:6])}"


@torch.no_grad()
def _unequal_features(name: str, config: ViTConfig) -> Iterator[str]:
    """Narrow, with two blocks, images of three by three patches and equal weights: are the features (2, D) equal?"""
    import timm

    shape: dict[str, Any] = {"embed_dim": 2 * config.width // config.heads, "num_heads": 2, "depth": 2}
    size, random = 3 * config.patch_size, torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # whatever device the caller has made the default
        theirs: Any = timm.create_model(name, img_size=size, num_classes=0, **shape).double().eval()
        small = _read(theirs, {"mean": config.mean, "std": config.std})
        ours = ViT(small, 1).double().eval()
        for key in sorted(state := theirs.state_dict()):
            state[key].normal_(std=0.2, generator=random)
        ours.load_state_dict(canonical(state), strict=False)
        images = torch.randn(2, 3, size, size, generator=random, dtype=torch.float64)
        expected, got = theirs(images), ours.forward_features(images)
    other = [f for f in dataclasses.asdict(config) if f not in SIZES and getattr(config, f) != getattr(small, f)]
    near = 1e-9 if config.rotary == "none" else 1e-5  # timm rounds the tables of rotary positions to float32
    if other or not torch.allclose(got, expected, rtol=0.0, atol=near * float(expected.abs().max())):
        yield "with equal weights it does not give the features of our ViT of its shape"
