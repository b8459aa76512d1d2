"""Reading the study's zero-shot head: a linear layer over CLIP's picture tower, which CLIP's text tower wrote.

``petl_make.zero_shot`` writes such heads, once, with the extra ``clip``; here they are only found and read. For
ImageNet-R and -A, which hold 200 of the classes, the same head is used, and the task says which they are
(``Task.allowed``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from petl_core.models.formats import read_checkpoint
from petl_core.models.text_tower import zero_shot_head
from petl_core.models.weights import EMBEDDED_NAMES
from petl_core.utils import UserError, cache_folder

# timm's name of the picture tower: open_clip's name of the whole model and of its weights
TOWERS = {
    f"vit_{size}_clip_quickgelu_224.openai": (f"{name}-quickgelu", "openai")
    for size, name in (("base_patch32", "ViT-B-32"), ("base_patch16", "ViT-B-16"), ("large_patch14", "ViT-L-14"))
}
COMMAND = "python -m petl_make zero-shot --backbone"
FORMAT = 1


def starting_head(backbone: str, head: str, weights: str) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) of the head "zero_shot" of a backbone with these weights (a digest), or of a file."""
    if head.endswith(".safetensors"):
        return read_head(head, weights)
    if head != "zero_shot":
        raise UserError(f"head is {head!r}; allowed: 'new', 'zero_shot', or a .safetensors file of a zero-shot head")
    if backbone in EMBEDDED_NAMES or backbone.endswith(".safetensors"):
        return zero_shot_head(backbone)
    return read_head(cached_head(backbone, weights), weights)


def cached_head(backbone: str, weights: str) -> Path:
    """The file in the cache of the head for ImageNet's classes; ``weights`` is the digest of the backbone's weights."""
    tower_of(backbone)
    places = sorted(cache_folder().glob(f"zero-shot-{weights}-*.safetensors"))
    standard = [path for path in places if _facts(path)["standard"]]
    if len(standard) != 1:
        held = f"{len(standard)} zero-shot heads" if standard else "no zero-shot head"
        raise UserError(
            f"there is {held} of '{backbone}' in {cache_folder()}; "
            + (f"give one: head='{standard[0]}'" if standard else f"write it once with: {COMMAND} {backbone}")
        )
    return standard[0]


def read_head(path: str | Path, weights: str) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) of a file of ``write_head``. ``UserError`` where the file is none or is of a backbone
    with other weights than those with the digest ``weights``."""
    facts = _facts(Path(path))
    if facts["weights"] != weights:
        raise UserError(
            f"{path} is the zero-shot head of '{facts['backbone']}' with weights {facts['weights']}; the backbone "
            f"asked for has weights {weights}. Write its own: {COMMAND} NAME"
        )
    tensors = read_checkpoint(path)[0]
    return tensors["weight"], tensors["bias"]


def _facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"there is no zero-shot head at {path}; write it there: {COMMAND} NAME --out {path}")
    _, metadata = read_checkpoint(path)
    try:
        facts = json.loads(metadata["zero_shot"])
        if facts["format"] != FORMAT:
            raise KeyError(f"format {facts['format']}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no zero-shot head of this version ({error}); write one: {COMMAND} NAME --out FILE"
        ) from error
    return facts


def tower_of(backbone: str) -> tuple[str, str]:
    """open_clip's names of the CLIP model that a backbone belongs to, and of its weights. ``UserError`` if none."""
    if backbone not in TOWERS:
        raise UserError(
            f"backbone {backbone!r} has no text tower, so no zero-shot head; those that have one: mini_clip, "
            f"{', '.join(TOWERS)}"
        )
    return TOWERS[backbone]
