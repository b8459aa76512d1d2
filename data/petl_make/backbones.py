"""Write ``data/backbones.csv``: which of timm's ViTs ``petl_core`` takes, what they need, what the others lack."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch

from petl_core.models.catalogue import FILE, Row
from petl_core.models.timm_names import timm_config
from petl_core.utils import UserError, write_atomic
from petl_core.vit import ViT, ViTConfig
from petl_make import command_line

PATTERNS = ("vit_*", "deit*", "eva*", "beit*", "*dinov3*")  # timm's names of ViTs
KINDS = (  # part of a name: the kind; the first that fits
    ("dinov3|lingbot", "DINOv3"),
    ("reg4_dinov2", "DINOv2 with registers"),
    ("dinov2", "DINOv2"),
    ("siglip_gap", "SigLIP, averaged"),
    ("siglip", "SigLIP, SigLIP 2"),
    ("_pe_core", "Perception Encoder, core"),
    ("_pe_", "Perception Encoder, language and spatial"),
    ("radio", "RADIO"),
    ("tipsv2", "TIPS v2"),
    ("eva02", "EVA-02"),
    ("^eva", "EVA"),
    ("clip", "CLIP"),
    ("beit3", "BEiT-3"),
    ("beit", "BEiT, BEiT v2"),
    ("deit3", "DeiT III"),
    ("rope", "ViT with rotary positions"),
    ("gap", "ViT without class token, averaged"),
    ("", "ViT as in the textbook (AugReg, MAE, DeiT)"),
)
WORDS: dict[str, dict[Any, str]] = {  # of a configuration's field, by its value
    "class_token": {False: "no class token"},
    "position": {"patches": "positions of patches only", "none": "no learned positions"},
    "rotary": {
        "dinov3": "DINOv3's rotary positions",
        "axial": "rotary positions",
        "learned": "learned rotary positions",
    },
    "relative_position": {True: "a table of relative positions"},
    "qkv_bias": {"qv": "no bias of keys", "none": "no bias of queries, keys and values"},
    "attention_norm": {True: "a norm in the attention"},
    "mlp_norm": {True: "a norm in the MLP"},
    "gated": {True: "gated MLP"},
    "quick_gelu": {True: "QuickGELU"},
    "tanh_gelu": {True: "GELU by tanh"},
    "pre_norm": {True: "a norm before the blocks"},
    "layer_scale": {True: "LayerScale"},
    "pool": {"average": "the average is read", "attention": "attention pooling is read"},
    "final_norm": {"pooled": "the last norm after pooling", "none": "no last norm"},
}


def needs(config: ViTConfig) -> str:
    """What sets a configuration apart from the textbook's, in words."""
    words = {0: [], 1: ["1 register"]}.get(config.registers, [f"{config.registers} registers"])
    values = dataclasses.asdict(config)
    return ", ".join([*words, *(of[values[field]] for field, of in WORDS.items() if values[field] in of)])


def row_of(name: str) -> Row:
    """Try one name of timm."""
    tags = [timm.get_pretrained_cfg(tag) for tag in timm.list_pretrained(f"{name}.*")]
    licences = ", ".join(sorted({str(cfg.license or "none stated") for cfg in tags if cfg is not None}))
    kind = next(kind for part, kind in KINDS if re.search(part, name))
    try:
        config = timm_config(name)
    except UserError as error:
        lacks = re.split(r"cannot express: |\. Choose", str(error))[1]
        return Row(name, kind, "", lacks, 0, 0.0, len(tags), licences)
    with torch.device("meta"):
        named = list(ViT(config, 1).named_parameters())
    millions = sum(p.numel() for key, p in named if not key.startswith("head.")) / 1e6
    return Row(name, kind, needs(config), "", config.image_size, round(millions, 1), len(tags), licences)


def survey() -> Iterator[Row]:
    """Every ViT of the installed timm, by name."""
    names = {name for pattern in PATTERNS for name in timm.list_models(pattern)}
    for name in sorted(names):
        if not name.startswith(("convnext", "vitamin")):
            yield row_of(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = command_line("backbones", __doc__, "--out data/backbones.csv")
    parser.add_argument("--out", type=Path, default=FILE, help=f"default: {FILE.name} of the checkout")
    out = parser.parse_args(arguments).out
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in dataclasses.fields(Row)], lineterminator="\n")
    table.writeheader()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights whose activation timm changed
        found = list(survey())
    table.writerows(dataclasses.asdict(row) for row in found)
    write_atomic(out, text.getvalue().encode())
    print(f"{sum(row.taken for row in found)} of {len(found)} are taken; wrote {out}")
    return 0
