"""Which of timm's ViTs this package takes, what each needs of ``vit.py``, and why the others are not taken.

The table is the file ``data/backbones.csv``, which ``python -m petl_make backbones`` writes by trying every name.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass

from petl_core.utils import DATA, UserError

FILE = DATA / "backbones.csv"
EXAMPLES = (  # one of each kind, as ``list backbones`` shows them
    "vit_base_patch16_224",
    "vit_base_patch16_clip_quickgelu_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_siglip_224",
    "vit_base_patch16_siglip_gap_224",
    "vit_pe_core_tiny_patch16_384",
    "vit_pe_spatial_tiny_patch16_512",
    "eva02_tiny_patch14_224",
    "eva_large_patch14_196",
    "vit_base_patch16_radio_v3",
    "vit_base_patch14_reg1_tipsv2",
    "deit3_small_patch16_224",
    "vit_medium_patch16_reg4_gap_256",
    "vit_small_patch16_rope_224",
    "beitv2_base_patch16_224",
    "beit3_base_patch16_224",
)


@dataclass(frozen=True)
class Row:
    """One architecture of timm. ``needs`` is what sets one that is taken apart from the textbook's ViT, ``lacks`` why
    another is not taken; millions of parameters are without a head, ``licences`` those of its weights in timm."""

    name: str
    kind: str
    needs: str
    lacks: str
    image_size: int
    millions: float
    tags: int
    licences: str

    @property
    def taken(self) -> bool:
        """Can it be a backbone here?"""
        return not self.lacks


@functools.cache
def rows() -> tuple[Row, ...]:
    """All, sorted by name. ``UserError`` where the file is not in the checkout."""
    if not FILE.is_file():
        raise UserError(f"the table of backbones is not at {FILE}; get the whole checkout")
    with open(FILE, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    numbers = {"image_size": int, "millions": float, "tags": int}
    return tuple(Row(**{key: numbers.get(key, str)(value) for key, value in row.items()}) for row in table)


def listing() -> str:
    """What ``list backbones`` prints: of each kind an example with the size of its images, its millions of parameters,
    the licences of its weights in timm, how many are of this kind, and what they need beyond the textbook's ViT."""
    taken = [row for row in rows() if row.taken]
    lines = ["backbones", "  mini, mini_clip: embedded, offline; a file of save_backbone; or a ViT of timm, such as"]
    for row in taken:
        if row.name in EXAMPLES:
            alike = sum(other.kind == row.kind for other in taken)
            lines.append(f"  {row.name:<36}{row.image_size:>4} px{row.millions:>7.1f} M  {row.licences}")
            lines.append(f"      {row.kind} ({alike}): {row.needs or 'nothing else'}")
    lines.append(
        f"  {len(taken)} of timm's {len(rows())} ViTs are taken; all, and why not the others: data/backbones.csv"
    )
    lines.append("  Weights come through timm when first used, under the licences named: some (dinov3-license, fair-")
    lines.append(
        "  noncommercial-research-license, cc-by-nc-4.0, ...) limit what you may do with them; read them first"
    )
    return "\n".join(lines)
