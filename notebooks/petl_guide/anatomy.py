"""Pictures of a ViT block, its sites, and where each method attaches to it.

Nothing here knows a method by name. ``attachment`` lets a method attach itself to a small ViT and looks at the result:
which sites hold edits now, and which backbone parameters the method would train. A method that a reader writes
therefore appears in the pictures, at the right places, without a line of drawing code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyBboxPatch

from petl_core.methods import Method
from petl_core.vit import ATTENTION_SITES, BLOCK_SITES, MLP_SITES, MODEL_SITES, Edit, ViT, ViTConfig

SMALL = ViTConfig(image_size=32, patch_size=8, width=24, depth=12, heads=2)  # where methods are tried on
GREY, INK, FROZEN = "#9aa0a6", "#202124", "#e8eaed"


@dataclass(frozen=True)
class Station:
    """One thing on the wire from images to logits: an operation (drawn as a box) or a site (drawn as a dot)."""

    kind: str  # "box", "site" or "plus"
    name: str  # of a site, or of the part of the model that owns the operation's parameters
    label: str
    in_block: bool


def _read(text: str, in_block: bool) -> list[Station]:
    """``site`` or ``[part label]`` or ``+``, separated by commas; an underscore in a label is a space."""
    stations = []
    for word in text.split(", "):
        if word == "+":
            stations.append(Station("plus", "+", "+", in_block))
        elif word.startswith("["):
            part, label = word[1:-1].split(" ")
            stations.append(Station("box", part, label.replace("_", " "), in_block))
        else:
            stations.append(Station("site", word, word, in_block))
    return stations


STATIONS = [
    *_read("[patch_embed patches], patches, [embed +_position], embed", False),
    *_read("tokens, [norm1 LN1], norm1, [qkv qkv], qkv, [- softmax], heads, [proj proj], proj, attn, branch1", True),
    *_read("[ls LS,_DP], residual1, +, [norm2 LN2], norm2, [fc1 fc1], fc1, [- GELU], act, [fc2 fc2], fc2, mlp", True),
    *_read("branch2, [ls LS,_DP], residual2, +", True),
    *_read("[norm LN], norm, [- class_token], features, [head head]", False),
]
STEP = {"box": 0.86, "site": 0.66, "plus": 0.9}


def positions() -> list[float]:
    """The x coordinate of every station, in the units of the drawings."""
    at, x = [], 0.0
    for before, station in zip([None, *STATIONS], STATIONS, strict=False):
        gap = 0.35 if before is not None and before.in_block != station.in_block else 0.0
        x += (STEP[before.kind] / 2 if before else 0) + STEP[station.kind] / 2 + gap
        at.append(x)
    return at


def site_list(vit: ViT, site: str, block: int = 0) -> list[Edit]:
    """The list of edits kept for ``site``; ``block`` is ignored for the four sites of the model."""
    if site in MODEL_SITES:
        return vit.sites[site]
    owner = vit.blocks[block]
    for names, holder in ((BLOCK_SITES, owner), (ATTENTION_SITES, owner.attn), (MLP_SITES, owner.mlp)):
        if site in names:
            return holder.sites[site]
    allowed = ", ".join((*MODEL_SITES, *BLOCK_SITES, *ATTENTION_SITES, *MLP_SITES))
    raise ValueError(f"unknown site '{site}'; the sites are: {allowed}")


def part_of(parameter: str) -> str:
    """Which operation a backbone parameter (timm's name) belongs to: ``blocks.3.attn.qkv.bias`` -> ``qkv``."""
    if parameter in ("cls_token", "pos_embed") or parameter.startswith("norm_pre"):
        return "embed"
    if parameter.startswith("patch_embed"):
        return "patch_embed"
    words = parameter.split(".")
    if words[0] != "blocks":
        return words[0]  # norm, head
    part = words[3] if words[2] in ("attn", "mlp") else words[2]
    return "ls" if part in ("ls1", "ls2") else part


@dataclass(frozen=True)
class Attachment:
    """Where one method acts. ``sites``: name -> number of blocks with an edit there (1 for a site of the model).
    ``trained``: operation -> "all" of its parameters, or only its "bias"."""

    sites: Mapping[str, int]
    trained: Mapping[str, str]


def attachment(method: Method) -> Attachment:
    """Attach ``method`` to a small random ViT and report the sites it edits and the operations it unfreezes."""
    with torch.random.fork_rng(devices=[]):
        vit = ViT(SMALL, num_classes=2)
        parameters = [name for name, _ in vit.named_parameters() if not name.startswith("head")]
        method.attach(vit)
    names = (*BLOCK_SITES, *ATTENTION_SITES, *MLP_SITES)
    sites = {name: 1 for name in MODEL_SITES if vit.sites[name]}
    sites |= {name: sum(bool(site_list(vit, name, i)) for i in range(SMALL.depth)) for name in names}
    kinds: dict[str, set[str]] = {}
    for name in parameters:
        if method.unfreezes(name, SMALL):
            kinds.setdefault(part_of(name), set()).add(name.rsplit(".", 1)[-1])
    trained = {part: "bias" if found == {"bias"} else "all" for part, found in kinds.items()}
    return Attachment({name: count for name, count in sites.items() if count}, trained)


def draw_block(ax: Axes, marked: Mapping[str, str] | None = None) -> None:
    """Draw images -> block -> logits along y = 0, with every site as a dot.

    ``marked`` maps a site, or ``"[part]"`` for an operation's box, to a colour. The x axis is that of ``positions()``.
    """
    marked = marked or {}
    at = positions()
    block = [x for x, station in zip(at, STATIONS, strict=True) if station.in_block]
    left, right = block[0] - 0.45, block[-1] + 0.55
    ax.add_patch(FancyBboxPatch((left, -2.7), right - left, 5.3, boxstyle="round,pad=0.1", fc="#f8f9fa", ec=GREY, lw=1))
    ax.text(left + 0.05, 2.3, "one block, L times", ha="left", va="center", fontsize=9, color=INK)
    ax.plot([at[0] - 0.8, at[-1] + 0.8], [0, 0], color=INK, lw=1, zorder=1)
    ax.text(at[0] - 0.9, 0, "images", ha="right", va="center", fontsize=9)
    ax.text(at[-1] + 0.9, 0, "logits", ha="left", va="center", fontsize=9)
    pluses = [x for x, station in zip(at, STATIONS, strict=True) if station.kind == "plus"]
    tokens = next(x for x, station in zip(at, STATIONS, strict=True) if station.name == "tokens")
    for start, end in ((tokens + 0.29, pluses[0]), (pluses[0] + 0.4, pluses[1])):
        ax.plot([start, start, end, end], [0, 1.55, 1.55, 0.27], color=INK, lw=1, zorder=1)
        ax.text((start + end) / 2, 1.62, "residual", fontsize=8.5, color=GREY, ha="center", va="bottom")
    for x, station in zip(at, STATIONS, strict=True):
        colour = marked.get(station.name if station.kind == "site" else f"[{station.name}]")
        if station.kind == "site":
            ax.add_patch(Circle((x, 0), 0.2, fc=colour or "white", ec=colour or INK, lw=1, zorder=3))
            ax.text(x, -0.42, station.label, rotation=90, ha="center", va="top", fontsize=9, color=colour or INK)
        elif station.kind == "plus":
            ax.add_patch(Circle((x, 0), 0.27, fc="white", ec=INK, lw=1, zorder=3))
            ax.text(x, -0.02, "+", ha="center", va="center", fontsize=11, zorder=4)
        else:
            box = FancyBboxPatch(
                (x - 0.27, -1.2), 0.54, 2.4, boxstyle="round,pad=0.05", fc=colour or FROZEN, ec=INK, lw=0.8
            )
            box.set_zorder(3)
            ax.add_patch(box)
            shade = "white" if colour else INK
            ax.text(x, 0, station.label, rotation=90, ha="center", va="center", fontsize=8.5, zorder=4, color=shade)
    ax.set_xlim(at[0] - 2.8, at[-1] + 2.4)
    ax.set_ylim(-2.9, 2.8)
    ax.set_aspect("equal")
    ax.axis("off")


def sites_figure(marked: Mapping[str, str] | None = None, title: str = "") -> Figure:
    """The block with its sites, alone."""
    figure, ax = plt.subplots(figsize=(9.5, 1.9), layout="constrained")
    draw_block(ax, marked)
    if title:
        ax.set_title(title, loc="left")
    return figure


def attachments_figure(methods: Sequence[Method], colours: Mapping[str, str], title: str = "") -> Figure:
    """The block on top; below it one line per method, with a mark under each place where the method acts.

    ``colours`` maps a method's name to its colour. A disc: it edits that site. A square: it trains that operation's
    own parameters; half a square: only the biases.
    """
    at, row, top = positions(), 0.9, -3.6
    figure, ax = plt.subplots(figsize=(9.5, 2.7 + 0.26 * len(methods)), layout="constrained")
    draw_block(ax)
    for index, method in enumerate(methods):
        y, colour = top - index * row, colours[method.name]
        ax.plot([at[0] - 0.6, at[-1] + 0.6], [y, y], color=FROZEN, lw=0.8, zorder=0)
        ax.text(at[0] - 0.9, y, method.title, ha="right", va="center", fontsize=9, color=colour)
        where = attachment(method)
        for x, station in zip(at, STATIONS, strict=True):
            if station.kind == "site" and station.name in where.sites:
                ax.plot(x, y, "o", color=colour, ms=7, zorder=3)
            elif station.kind == "box" and station.name in where.trained:
                style = "full" if where.trained[station.name] == "all" else "bottom"
                ax.plot(x, y, "s", color=colour, ms=7, fillstyle=style, markerfacecoloralt="white", zorder=3)
    common: dict[str, Any] = {"ls": "", "color": INK, "ms": 7, "markerfacecoloralt": "white"}
    handles = [
        Line2D([], [], marker="o", label="edits this site", **common),
        Line2D([], [], marker="s", label="trains this operation's own parameters", **common),
        Line2D([], [], marker="s", fillstyle="bottom", label="only its biases", **common),
    ]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=3, frameon=False, fontsize=9)
    ax.set_xlim(at[0] - 5.4, at[-1] + 2.4)
    ax.set_ylim(top - len(methods) * row + 0.4, 2.8)
    ax.set_aspect("auto")
    ax.set_title(title, loc="left")
    return figure
