"""What timm knows under a name, as a ``ViTConfig``. The only file that looks at timm, whose import takes seconds.

timm builds the model without memory (on torch's "meta" device), which gives its shape. What users meet and cannot have
is named; that all the rest is the same is proved and not listed: one block of timm's model gets random weights, our
ViT gets the same ones, and both are shown an image in double precision. Nothing is approximated.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import socket
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig


@functools.lru_cache(maxsize=64)
def timm_config(name: str) -> ViTConfig:
    """The configuration of timm's model ``name`` at its own image size; mean and std are those of its weights.

    Raises ``UserError`` for a name that timm does not have, with the closest ones, and for an architecture that our ViT
    cannot express, with what differs.
    """
    import timm

    cfg = _pretrained_cfg(name)
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    problems = list(_differences(model))
    if not problems:
        config = _shape_of(model, cfg)
        problems = list(_unequal_parameters(model, config)) or list(_unequal_features(name, config))
    if problems:
        raise UserError(
            f"backbone '{name}' is a timm model that this package cannot express: {'; '.join(problems)}. "
            "Choose a plain ViT with a class token, such as vit_base_patch16_224"
        )
    if any("QuickGELU" in note for note in cfg.get("notes") or ()) and "quickgelu" not in name:
        other = name.replace("_clip_", "_clip_quickgelu_")
        warnings.warn(
            f"the weights of '{name}' were trained with QuickGELU, but under this name timm builds the model with "
            f"GELU; '{other}' is the original function",
            stacklevel=2,
        )
    return config


def timm_weights(name: str) -> dict[str, Tensor]:
    """The pre-trained weights that timm has for ``name``, downloaded or from its cache, as timm's ``state_dict``."""
    import timm

    cfg = _pretrained_cfg(name)
    place = cfg.get("hf_hub_id") or cfg.get("url")
    if not place:
        raise UserError(f"timm has no weights for '{name}'; give a file, pretrained='weights.safetensors', or False")
    try:
        if cfg.get("hf_hub_id") and not timm_weights_cached(name):
            find_hub()  # else the hub's own client tries for a minute
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # the hub, the network and the disk each have exceptions of their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = f"huggingface.co/{place}" if cfg.get("hf_hub_id") else place
        raise UserError(
            f"could not get the weights of '{name}' from {where} or the local cache ({type(error).__name__}: {first}). "
            "Connect to the network once, or download the weights file elsewhere and give it: "
            "pretrained='path/to/model.safetensors' (on the command line: --weights)"
        ) from error


def find_hub(seconds: float = 5.0) -> None:
    """OSError at once where the hub cannot be reached from here. Behind a proxy nothing is asked."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    place = urlsplit(ENDPOINT)
    if HF_HUB_OFFLINE or getproxies():
        return
    port = place.port or (80 if place.scheme == "http" else 443)
    socket.create_connection((place.hostname or ENDPOINT, port), timeout=seconds).close()


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
    """What of timm's model our ViT does not have and users meet, in words."""
    if type(model).__name__ != "VisionTransformer":
        yield f"it is timm's {type(model).__name__}, not its VisionTransformer"
        return
    if model.cls_token is None:
        yield "it has no class token"
    elif model.no_embed_class:
        yield "its class token has no position embedding"
    if model.num_reg_tokens:
        yield f"it has {model.num_reg_tokens} register tokens"
    if model.global_pool != "token":
        yield f"the head reads global_pool='{model.global_pool}', not the class token"
    block = model.blocks[0]
    parts = [model.patch_embed, block, *(getattr(block, part, None) for part in ("attn", "mlp"))]
    kinds = [type(part).__name__ for part in parts if part is not None]
    if kinds != ["PatchEmbed", "Block", "Attention", "Mlp"]:
        yield f"it is built of {', '.join(kinds)}, not of PatchEmbed, Block, Attention, Mlp"
    elif not isinstance(block.attn.q_norm, nn.Identity):
        yield "it normalises queries and keys (qk_norm)"
    elif block.attn.qkv.bias is None:
        yield "its qkv layers have no bias"


def _shape_of(model: Any, cfg: dict[str, Any]) -> ViTConfig:
    block, width = model.blocks[0], model.embed_dim
    hidden = block.mlp.fc1.out_features
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
        pre_norm=isinstance(model.norm_pre, nn.LayerNorm),
        layer_scale=not isinstance(block.ls1, nn.Identity),
        quick_gelu=type(block.mlp.act).__name__ == "QuickGELU",
        norm_eps=block.norm1.eps,
        mean=tuple(cfg.get("mean") or (0.5, 0.5, 0.5)),
        std=tuple(cfg.get("std") or (0.5, 0.5, 0.5)),
    )


def _unequal_parameters(model: nn.Module, config: ViTConfig) -> Iterator[str]:
    """Every parameter of timm's model but the head has one of ours, of the same shape; else, what differs."""
    with torch.device("meta"):
        ours = {(n, p.shape) for n, p in ViT(config, 1).named_parameters() if not n.startswith("head.")}
    theirs = {(n, p.shape) for n, p in model.named_parameters() if not n.startswith("head.")}
    if odd := sorted({name for name, _ in ours ^ theirs}):
        yield f"it differs in {', '.join(odd[:6])}"


@torch.no_grad()
def _unequal_features(name: str, config: ViTConfig) -> Iterator[str]:
    """With one block, images of two by two patches and equal random weights, are the features (2, D) equal?"""
    import timm

    small = dataclasses.replace(config, depth=1, image_size=2 * config.patch_size)
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        theirs: Any = timm.create_model(name, depth=1, img_size=small.image_size, num_classes=0)
        ours = ViT(small, 1)
    theirs, ours = (model.double().to_empty(device="cpu").eval() for model in (theirs, ours))
    parameters = dict(theirs.named_parameters())
    for key, parameter in ours.named_parameters():
        parameter.normal_(std=0.2, generator=random)
        if key in parameters:
            parameters[key].copy_(parameter)
    with torch.device("cpu"):  # whatever device the caller has made the default
        images = torch.randn(2, 3, small.image_size, small.image_size, generator=random, dtype=torch.float64)
        expected, got = theirs(images), ours.forward_features(images)
    if not torch.allclose(got, expected, rtol=0.0, atol=1e-9 * float(expected.abs().max())):
        yield "with equal weights it does not give the features of our ViT of its shape"
