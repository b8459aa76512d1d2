"""What timm knows under a name, as a ``ViTConfig``. The only file that looks at timm, whose import takes seconds.

timm builds the model without memory (on torch's "meta" device); its parts are compared one by one with what ``vit.py``
can express, and everything that differs is named in one error. Nothing is approximated.
"""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig


@functools.lru_cache(maxsize=64)
def timm_config(name: str) -> ViTConfig:
    """The configuration of timm's model ``name`` at its own image size; mean and std are those of its weights.

    Raises ``UserError`` for a name that timm does not have, with the closest ones, and for an architecture that our ViT
    cannot express, with each difference.
    """
    import timm

    cfg = _pretrained_cfg(name)
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    problems = list(_differences(model))
    if problems:
        raise UserError(
            f"backbone '{name}' is a timm model that this package cannot express: {'; '.join(problems)}. "
            "Choose a plain ViT with a class token, such as vit_base_patch16_224"
        )
    for note in cfg.get("notes") or ():
        if "QuickGELU" in note and "quickgelu" not in name:
            other = name.replace("_clip_", "_clip_quickgelu_")
            warnings.warn(
                f"the weights of '{name}' were trained with QuickGELU, but under this name timm builds the model with "
                f"GELU; '{other}' is the original function",
                stacklevel=2,
            )
    block = model.blocks[0]
    width, hidden = model.embed_dim, block.mlp.fc1.out_features
    config = ViTConfig(
        image_size=model.patch_embed.img_size[0],
        patch_size=model.patch_embed.patch_size[0],
        width=width,
        depth=len(model.blocks),
        heads=block.attn.num_heads,
        mlp_ratio=next(r for r in (hidden / width, (hidden + 0.5) / width) if int(width * r) == hidden),
        pre_norm=isinstance(model.norm_pre, nn.LayerNorm),
        layer_scale=not isinstance(block.ls1, nn.Identity),
        quick_gelu=type(block.mlp.act).__name__ == "QuickGELU",
        norm_eps=block.norm1.eps,
        mean=tuple(cfg.get("mean") or (0.5, 0.5, 0.5)),
        std=tuple(cfg.get("std") or (0.5, 0.5, 0.5)),
    )
    _same_parameters(name, model, config)
    return config


def timm_weights(name: str) -> dict[str, Tensor]:
    """The pre-trained weights that timm has for ``name``, downloaded or from its cache, as timm's ``state_dict``."""
    import timm

    cfg = _pretrained_cfg(name)
    place = cfg.get("hf_hub_id") or cfg.get("url")
    if not place:
        raise UserError(f"timm has no weights for '{name}'; give a file, pretrained='weights.safetensors', or False")
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # the hub, the network and the disk each have exceptions of their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = f"huggingface.co/{place}" if cfg.get("hf_hub_id") else place
        raise UserError(
            f"could not get the weights of '{name}' from {where} or the local cache ({type(error).__name__}: {first}). "
            "Connect to the network once, or download the weights file elsewhere and give it: "
            "pretrained='path/to/model.safetensors' (on the command line: --weights)"
        ) from error


def timm_weights_cached(name: str) -> bool:
    """Are the weights of ``name`` in the hub's local cache? Asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    place = str(_pretrained_cfg(name).get("hf_hub_id") or "")
    files = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
    return bool(place) and any(isinstance(try_to_load_from_cache(place, file), str) for file in files)


def _pretrained_cfg(name: str) -> dict[str, Any]:
    """timm's description of the weights of ``name``: an architecture, or an architecture and a tag after a dot."""
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = ["mini", "mini_clip", *timm.list_models()]
        close = difflib.get_close_matches(architecture, known, n=4, cutoff=0.5)
        hint = f"; close names: {', '.join(close)}" if close else ""
        raise UserError(
            f"unknown backbone '{name}'{hint}. Allowed: mini, mini_clip, the path of a file made by save_backbone, "
            "or a timm ViT (timm.list_models('vit*') lists them)"
        )
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(f"timm has no weights '{tag}' of '{architecture}'; it has: {', '.join(tags) or 'none'}")
    cfg = timm.get_pretrained_cfg(name)
    return cfg.to_dict() if cfg is not None else {}


def _differences(model: Any) -> Iterator[str]:
    """Everything in timm's model that our ViT does not have, in words."""
    if type(model).__name__ != "VisionTransformer":
        yield f"it is timm's {type(model).__name__}, not its VisionTransformer"
        return
    if model.cls_token is None:
        yield "it has no class token"
    if model.num_reg_tokens:
        yield f"it has {model.num_reg_tokens} register tokens"
    if model.global_pool != "token":
        yield f"the head reads global_pool='{model.global_pool}', not the class token"
    if model.pos_embed is None:
        yield "it has no position embedding"
    elif model.no_embed_class and model.cls_token is not None:
        yield "its class token has no position embedding"
    if not isinstance(model.norm, nn.LayerNorm) or model.attn_pool is not None:
        yield "it has no LayerNorm after the last block" if model.attn_pool is None else "it pools by attention"
    if not isinstance(model.fc_norm, nn.Identity):
        yield "it has a norm after pooling (fc_norm)"
    yield from _patch_differences(model.patch_embed)
    yield from dict.fromkeys(problem for block in model.blocks for problem in _block_differences(block))
    norms = [m for name, m in model.named_modules() if "norm" in name.rpartition(".")[2]]
    if any(type(m).__name__ not in ("LayerNorm", "Identity") for m in norms):
        yield "its norms are not LayerNorm"
    elif len({m.eps for m in norms if isinstance(m, nn.LayerNorm)}) > 1:
        yield "its LayerNorms differ in eps"


def _patch_differences(embed: Any) -> Iterator[str]:
    if type(embed).__name__ != "PatchEmbed":
        yield f"its patch embedding is a {type(embed).__name__}"
        return
    if not embed.flatten:
        yield "it takes images of any size (dynamic_img_size)"
        return
    (height, width), (tall, wide) = embed.img_size, embed.patch_size
    if height != width or tall != wide:
        yield f"its images ({height} x {width}) or patches ({tall} x {wide}) are not square"
    elif height % tall:
        yield f"its image size {height} is not a multiple of its patch size {tall}"
    if embed.proj.in_channels != 3:
        yield f"its images have {embed.proj.in_channels} channels"
    if not isinstance(embed.norm, nn.Identity):
        yield "its patch embedding is normalised"


def _block_differences(block: Any) -> Iterator[str]:
    kinds = (type(block).__name__, type(block.attn).__name__, type(block.mlp).__name__) if hasattr(block, "mlp") else ()
    if kinds != ("Block", "Attention", "Mlp"):
        yield f"its blocks are built as {' / '.join(kinds) or type(block).__name__}, not Block / Attention / Mlp"
        return
    attn, mlp = block.attn, block.mlp
    if not isinstance(attn.q_norm, nn.Identity):
        yield "it normalises queries and keys (qk_norm)"
    if getattr(attn, "gate", None) is not None:
        yield "its attention is gated"
    if not isinstance(attn.norm, nn.Identity) or not isinstance(mlp.norm, nn.Identity):
        yield "it has a norm inside attention or MLP"
    for name, layer in (("qkv", attn.qkv), ("proj", attn.proj), ("fc1", mlp.fc1), ("fc2", mlp.fc2)):
        if layer.bias is None:
            yield f"its {name} layers have no bias"
    if attn.qkv.out_features != 3 * attn.qkv.in_features:
        yield "its attention is wider or narrower than its tokens"
    act = type(mlp.act).__name__
    if act not in ("GELU", "QuickGELU") or getattr(mlp.act, "approximate", "none") != "none":
        yield f"its activation is {act}" + (" (tanh)" if getattr(mlp.act, "approximate", "none") != "none" else "")


def _same_parameters(name: str, model: nn.Module, config: ViTConfig) -> None:
    """The last net: every parameter of timm's model but the head has one of ours, of the same shape."""
    with torch.device("meta"):
        ours = {n: p.shape for n, p in ViT(config, 1).named_parameters() if not n.startswith("head.")}
    theirs = {n: p.shape for n, p in model.named_parameters() if not n.startswith("head.")}
    if ours != theirs:
        odd = sorted({n for n, _ in ours.items() ^ theirs.items()})
        raise UserError(f"backbone '{name}' is a timm model that this package cannot express: it differs in {odd[:6]}")
