"""What the chapters measure on a live model: shapes on the way, what an edit changes, whether a method keeps its word.

``examine`` is what the contract's rules of count, start and merging measure, as numbers on a backbone of one's choice.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import petl_core as pc
from petl_core.contract import gap
from petl_core.methods import Method
from petl_core.methods import meta_count as meta_count  # chapter 02 counts with it
from petl_core.vit import MODEL_SITES, Edit, ViT
from petl_guide.anatomy import SITES, SMALL, site_list


@contextmanager
def edit_at(vit: ViT, site: str, edit: Edit, blocks: Sequence[int] | None = None) -> Iterator[ViT]:
    """Inside the ``with``, ``edit`` is the last at ``site`` (of the given blocks, or all); afterwards it is gone."""
    places = range(len(vit.blocks)) if blocks is None else blocks
    lists = [site_list(vit, site)] if site in MODEL_SITES else [site_list(vit, site, block) for block in places]
    for edits in lists:
        edits.append(edit)
    try:
        yield vit
    finally:
        for edits in lists:
            edits.pop()


@dataclass(frozen=True)
class Step:
    """What arrived at a site and what left it, in one forward pass."""

    site: str
    x: tuple[int, ...]
    y: tuple[int, ...]


@torch.no_grad()
def trace(vit: ViT, images: Tensor, block: int = 0) -> list[Step]:
    """Shapes at every site of the model and of one block, in the order in which the images (B, 3, S, S) pass them."""
    found: dict[str, Step] = {}

    def watch(name: str, y: Tensor, x: Tensor) -> Tensor:
        found[name] = Step(name, tuple(x.shape), tuple(y.shape))
        return y

    with ExitStack() as watching:
        for name in SITES:
            watching.enter_context(edit_at(vit, name, functools.partial(watch, name), [block]))
        vit(images)
    return list(found.values())


@torch.no_grad()
def shake(model: ViT, std: float = 0.02, seed: int = 0) -> ViT:
    """Add normal noise to everything trainable except the head, so that a later comparison is not one of zeros."""
    random = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith("head."):
            parameter.add_(std * torch.randn(parameter.shape, generator=random))
    return model


@dataclass(frozen=True)
class Examination:
    """What was promised and what was measured. Gaps are the largest absolute difference over images and outputs."""

    method: str
    formula: int  # trainable parameters without the head, by the method's formula
    counted: int  # the same, counted
    start_gap: float  # features with the untrained method against features without it
    promises_start: bool  # does the method claim that the gap is zero?
    merge_gap: float | None  # logits merged against unmerged, after a disturbance; None: it cannot merge
    why_not: str  # the error message where it cannot

    @property
    def kept(self) -> bool:
        """Count equal to the formula, start as promised, merge exact to 1e-4 of logits that are of order one."""
        start = self.start_gap < 1e-5 or not self.promises_start
        return self.formula == self.counted and start and (self.merge_gap is None or self.merge_gap < 1e-4)

    def text(self) -> str:
        """One Markdown list."""
        start = f"{self.start_gap:.1e}" + (" (promised: 0)" if self.promises_start else " (promises no identity)")
        merged = f"{self.merge_gap:.1e}" if self.merge_gap is not None else f"cannot merge: {self.why_not}"
        return (
            f"**{self.method}** — {'every promise kept' if self.kept else 'a promise is BROKEN'}\n"
            f"- trainable parameters: formula {self.formula:,}, counted {self.counted:,}\n"
            f"- features before training, largest change: {start}\n"
            f"- logits after merging, largest change: {merged}"
        )


@torch.no_grad()
def examine(
    method: str, images: Tensor, backbone: str = "mini", *, pretrained: bool | str = True, **hyper: Any
) -> Examination:
    """Build ``method`` on ``backbone`` and measure its promises on normalised ``images`` (B, 3, S, S)."""
    model = pc.create_model(backbone, method, num_classes=10, pretrained=pretrained, **hyper).eval()
    plain = pc.create_model(backbone, "linear", num_classes=10, pretrained=pretrained).eval()
    promised = model.spec.methods[0]
    start_gap = gap(model.forward_features(images), plain.forward_features(images))
    shake(model)
    merge_gap, why_not = None, ""
    try:
        merge_gap = gap(pc.merge(model)(images), model(images))
    except ValueError as error:
        why_not = str(error)
    return Examination(
        method=promised.title,
        formula=promised.count(model.config),
        counted=pc.count_trainable(model),
        start_gap=start_gap,
        promises_start=promised.identity_at_start,
        merge_gap=merge_gap,
        why_not=why_not,
    )


def extract(method: Method) -> str:
    """The source that matters of a method: what its edits do, where it attaches them, what it unfreezes."""
    with torch.random.fork_rng(devices=[]):
        vit = ViT(SMALL, num_classes=2)
        method.attach(vit)
    functions: dict[str, Any] = {}
    for site in SITES:
        for edit in site_list(vit, site):
            function = edit.forward if isinstance(edit, nn.Module) else edit
            if not inspect.isroutine(function):
                function = type(edit).__call__  # an object that can be called
            functions.setdefault(function.__qualname__, function)
    for name in ("attach", "unfreezes"):
        if name in vars(type(method)):
            functions[f"{type(method).__name__}.{name}"] = vars(type(method))[name]
    classes = []
    for owner, members in itertools.groupby(functions.items(), key=lambda item: item[0].rpartition(".")[0]):
        sources = (textwrap.dedent(inspect.getsource(function)).rstrip() for _, function in members)
        classes.append(f"class {owner}:\n" + "\n".join(textwrap.indent(f"{source}\n", "    ") for source in sources))
    return "\n\n".join(classes) or "# nothing is attached and nothing of the backbone is trained\n"
