"""timm's pre-trained weights: what timm says of them, and fetching them from the hub or its local cache."""

from __future__ import annotations

import difflib
import socket
import warnings
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from torch import Tensor

from petl_core.utils import UserError

OPEN = ("apache-2.0", "mit")  # licences of weights that ask nothing of who uses them; others are named


def pretrained_cfg(name: str) -> dict[str, Any]:
    """timm's description of the weights of ``name``: an architecture, or an architecture and a tag after a dot.

    ``UserError`` for an architecture or a tag that timm does not have, with the close ones or with all.
    """
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


def timm_weights(name: str) -> dict[str, Tensor]:
    """The pre-trained weights that timm has for ``name``, downloaded or from its cache, as timm's ``state_dict``."""
    import timm

    cfg = pretrained_cfg(name)
    place = cfg.get("hf_hub_id") or cfg.get("url")
    licence = cfg.get("license") or "none stated"
    if not place:
        raise UserError(f"timm has no weights for '{name}'; give a file, pretrained='weights.safetensors', or False")
    try:
        if cfg.get("hf_hub_id") and not timm_weights_cached(name):
            find_hub()  # else the hub's own client tries for a minute
            if licence not in OPEN:
                warnings.warn(f"the weights of '{name}' are under the licence '{licence}': read it first", stacklevel=2)
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # the hub, the network and the disk each have exceptions of their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = f"huggingface.co/{place}" if cfg.get("hf_hub_id") else place
        raise UserError(
            f"could not get the weights of '{name}' from {where} or the local cache ({type(error).__name__}: {first}). "
            f"They are under the licence '{licence}'. Connect to the network once, or download the weights file "
            "elsewhere and give it: pretrained='path/to/model.safetensors' (on the command line: --weights)"
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

    place = str(pretrained_cfg(name).get("hf_hub_id") or "")
    files = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
    return bool(place) and any(isinstance(try_to_load_from_cache(place, file), str) for file in files)
