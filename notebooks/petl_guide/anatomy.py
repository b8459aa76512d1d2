"""Pictures of a ViT block, its sites, and where each method attaches to it.

Nothing here knows a method by name. ``attachment`` lets a method attach itself to a small ViT and looks at the result:
which sites hold edits now, and which backbone parameters the method would train. A method that a reader writes
therefore appears in the pictures, at the right places, without a line of drawing code.
"""

from __future__ import annotations

import itertools
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
SITES_OF_BLOCK = (*BLOCK_SITES, *ATTENTION_SITES, *MLP_SITES)
GREY, INK, FROZEN = "#9aa0a6", "#202124", "#e8eaed"


@dataclass(frozen=True)
class Station:
    """One thing on the wire from images to logits: an operation (drawn as a box) or a site (drawn as a dot)."""

    kind: str  # "box", "site" or "plus"
    name: str  # of a site, or of the part of the model that owns the operation's parameters ("-": it has none)
    label: str
    in_block: bool = True


STATIONS = [  # from images to logits
    Station("box", "patch_embed", "patches", in_block=False),
    Station("site", "patches", "patches", in_block=False),
    Station("box", "embed", "+ position", in_block=False),
    Station("site", "embed", "embed", in_block=False),
    Station("site", "tokens", "tokens"),
    Station("box", "norm1", "LN1"),
    Station("site", "norm1", "norm1"),
    Station("box", "qkv", "qkv"),
    Station("site", "qkv", "qkv"),
    Station("box", "-", "softmax"),
    Station("site", "heads", "heads"),
    Station("box", "proj", "proj"),
    Station("site", "proj", "proj"),
    Station("site", "attn", "attn"),
    Station("site", "branch1", "branch1"),
    Station("box", "ls", "LS, DP"),
    Station("site", "residual1", "residual1"),
    Station("plus", "+", "+"),
    Station("box", "norm2", "LN2"),
    Station("site", "norm2", "norm2"),
    Station("box", "fc1", "fc1"),
    Station("site", "fc1", "fc1"),
    Station("box", "-", "GELU"),
    Station("site", "act", "act"),
    Station("box", "fc2", "fc2"),
    Station("site", "fc2", "fc2"),
    Station("site", "mlp", "mlp"),
    Station("site", "branch2", "branch2"),
    Station("box", "ls", "LS, DP"),
    Station("site", "residual2", "residual2"),
    Station("plus", "+", "+"),
    Station("box", "norm", "LN", in_block=False),
    Station("site", "norm", "norm", in_block=False),
    Station("box", "-", "class token", in_block=False),
    Station("site", "features", "features", in_block=False),
    Station("box", "head", "head", in_block=False),
]
SITES = [station.name for station in STATIONS if station.kind == "site"]  # in the order in which images pass them
BOX: dict[str, Any] = {"boxstyle": "round,pad=0.05", "ec": INK, "lw": 0.8, "zorder": 3}
STEP = {"box": 0.86, "site": 0.66, "plus": 0.9}


def positions() -> list[float]:
    """The x coordinate of every station, in the units of the drawings."""
    at = [STEP[STATIONS[0].kind] / 2]
    for before, station in itertools.pairwise(STATIONS):
        gap = 0.35 if before.in_block != station.in_block else 0.0  # at either end of the block
        at.append(at[-1] + (STEP[before.kind] / 2 + STEP[station.kind] / 2 + gap))
    return at


def site_list(vit: ViT, site: str, block: int = 0) -> list[Edit]:
    """The list of edits kept for ``site``; ``block`` is ignored for the four sites of the model."""
    if site in MODEL_SITES:
        return vit.sites[site]
    owner = vit.blocks[block]
    for holder in (owner, owner.attn, owner.mlp):
        if site in holder.sites:
            return holder.sites[site]
    raise ValueError(f"unknown site '{site}'; the sites are: {', '.join((*MODEL_SITES, *SITES_OF_BLOCK))}")


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
    sites = {name: 1 for name in MODEL_SITES if vit.sites[name]}
    sites |= {name: sum(bool(site_list(vit, name, i)) for i in range(SMALL.depth)) for name in SITES_OF_BLOCK}
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
            ax.add_patch(FancyBboxPatch((x - 0.27, -1.2), 0.54, 2.4, fc=colour or FROZEN, **BOX))
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
