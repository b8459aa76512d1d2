"""Models: a backbone, one or more methods attached to it, and a head; merging and interpolating them.

Saving and loading what was trained is in ``adapters.py``.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from petl_core import methods
from petl_core.methods import Method
from petl_core.models import weights as backbones
from petl_core.models.zero_shot import starting_head
from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig

_SOURCES = {True: "default", False: "random"}  # of weights that no file was given for


@dataclass(frozen=True)
class ModelSpec:
    """How a model was made. ``weights`` is the digest of the backbone's weights, or "random" or "merged"; ``source`` is
    where they came from: "default" (the backbone's own), "random", "merged", or a path."""

    backbone: str
    weights: str
    source: str
    methods: tuple[Method, ...]
    num_classes: int
    image_size: int
    keep_head: bool = False
    seed: int = 0
    head: str = "new"

    def plain(self) -> dict[str, Any]:
        """As JSON values; ``adapters.read_spec`` is the inverse."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**fields, "methods": [{"name": m.name, **m.hyper()} for m in self.methods]}


class Model(ViT):
    """A ViT that knows how it was made (``create_model``)."""

    spec: ModelSpec
    initial: dict[str, Tensor]  # the head and the unfrozen backbone parameters before training, on the CPU
    alpha: float  # how much of what the methods added acts: 1, unless ``interpolate`` made the model
    notes: dict[str, Any]  # whatever ``save_adapter`` was given to keep with the model, such as its classes


def create_model(
    backbone: str,
    method: str | Method | Sequence[str | Method] = "linear",
    *,
    num_classes: int | None = None,
    pretrained: bool | str | Path = True,
    keep_head: bool = False,
    image_size: int | None = None,
    seed: int = 0,
    head: str | Path = "new",
    **hyper: Any,
) -> Model:
    """A model, images (B, 3, S, S) to logits (B, C), in which exactly the head and what the methods train is trainable.

    Args:
        backbone: "mini", "mini_clip", a timm ViT, or a file of ``save_backbone``.
        method: a name, names joined by "+" ("lora+ssf"), a ``Method``, or a sequence of these; ``hyper`` are the
            hyper-parameters of a single name.
        num_classes: C; may be left out with ``keep_head`` and with a zero-shot head.
        pretrained: True for the backbone's own weights, False for random ones, or a weights file.
        keep_head: start from the head of the weights instead of a new one.
        image_size: S in pixels, if not the backbone's own; the position embedding is resized.
        seed: fixes random weights, the new head and what the method draws. The global generator is left alone.
        head: "new"; "zero_shot": with mini_clip the head of the task "world" that its text tower writes, with a CLIP of
            timm's the head for ImageNet that lies in the cache; or the file of a head (``petl_core.models.zero_shot``).
            With either of these ``interpolate(model, 0)`` is the zero-shot model.

    Raises ``UserError`` (a ``ValueError``) that says what is wrong, what is allowed and what to do.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed!r}; it must be a whole number, 0 or more")
    chosen, head = _methods(method, hyper), str(head)
    if head != "new" and (keep_head or pretrained is False or (head == "zero_shot" and pretrained is not True)):
        raise UserError(f"head={head!r} needs the backbone's own weights: leave pretrained and keep_head out")
    config = backbones.config_of(backbone, image_size)
    weights = None if pretrained is False else backbones.weights_of(backbone, source=pretrained)
    digest = "random" if weights is None else backbones.digest_of(weights.tensors)
    written = None if head == "new" else starting_head(str(backbone), head, digest)
    classes = _classes(num_classes, weights, written, keep_head=keep_head)
    source = _SOURCES[pretrained] if isinstance(pretrained, bool) else str(pretrained)
    spec = ModelSpec(
        backbone=str(backbone),
        weights=digest,
        source=source,
        methods=chosen,
        num_classes=classes,
        image_size=config.image_size,
        keep_head=keep_head,
        seed=seed,
        head=head,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _built(config, classes, weights, keep_head=keep_head)
        if written is not None:
            model.head.load_state_dict({"weight": written[0], "bias": written[1]})
        return attach(model, spec)


def rebuild(spec: ModelSpec, weights: str | Path | None = None) -> Model:
    """The model of a spec before training. Its backbone's weights come from where they came from, or from a file."""
    source = spec.source if weights is None else str(weights)
    pretrained = {"default": True, "random": False}.get(source, source)
    given = {name: getattr(spec, name) for name in ("num_classes", "image_size", "keep_head", "seed", "head")}
    return create_model(spec.backbone, spec.methods, pretrained=pretrained, **given)


def _methods(method: str | Method | Sequence[str | Method], hyper: dict[str, Any]) -> tuple[Method, ...]:
    if isinstance(method, str):
        method = method.split("+")
    parts = [method] if isinstance(method, Method) else list(method)
    if hyper and (len(parts) != 1 or isinstance(parts[0], Method)):
        raise UserError(
            f"hyper-parameters ({', '.join(hyper)}) go with one method name; for several methods give them inside: "
            "[methods.get('lora', rank=4), methods.get('ssf')]"
        )
    try:
        chosen = tuple(part if isinstance(part, Method) else methods.get(part, **hyper) for part in parts)
    except ValueError as error:
        raise UserError(str(error)) from error
    names = [part.name for part in chosen]
    if not names or len(set(names)) != len(names):
        raise UserError(f"methods are {names}; give one or more, each once")
    return chosen


def _classes(
    num_classes: int | None,
    weights: backbones.Weights | None,
    written: tuple[Tensor, Tensor] | None,
    *,
    keep_head: bool,
) -> int:
    """The number of classes, checked against the head that is kept or was written."""
    whole = isinstance(num_classes, int) and not isinstance(num_classes, bool)
    if num_classes is not None and (not whole or num_classes < 1):
        raise UserError(f"num_classes is {num_classes!r}; it must be a whole number, 1 or more")
    if written is not None:
        held, whose = len(written[0]), "the zero-shot head names"
    elif keep_head and weights is None:
        raise UserError("keep_head=True needs pre-trained weights; random ones (pretrained=False) have no head to keep")
    elif keep_head and weights is not None:
        if "head.weight" not in weights.tensors:
            raise UserError(f"{weights.where} has no head to keep; give num_classes and leave keep_head out")
        held, whose = len(weights.tensors["head.weight"]), f"the head of {weights.where} has"
    elif num_classes is None:
        raise UserError("say how many classes the new head has (num_classes=...), or keep_head=True")
    else:
        return num_classes
    if num_classes not in (None, held):
        raise UserError(
            f"{whose} {held:,} classes, num_classes is {num_classes}; leave num_classes out, or take a "
            "new head (head='new' without keep_head)"
        )
    return held


def _built(config: ViTConfig, classes: int, weights: backbones.Weights | None, *, keep_head: bool) -> Model:
    """A model with random or the given weights; in the second case only the head, if it is new, is drawn."""
    if weights is None:
        return Model(config, classes)
    with torch.device("meta"):  # no values yet: loading sets all of them but the head's
        model = Model(config, classes)
    model.to_empty(device="cpu")
    nn.init.trunc_normal_(model.head.weight, std=0.02)
    nn.init.zeros_(model.head.bias)
    backbones.load_weights(model, weights, keep_head=keep_head)
    return model


def attach(model: Model, spec: ModelSpec) -> Model:
    """Attach the methods of ``spec`` and set which parameters train."""
    for method in spec.methods:
        try:
            module = method.attach(model)
        except ValueError as error:  # such as the index of a block that the backbone does not have
            raise UserError(f"method '{method.name}' on '{spec.backbone}': {error}") from error
        if module is not None:
            model.methods[method.name] = module
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains(spec, name, model.config))
    model.spec, model.alpha, model.notes = spec, 1.0, {}
    model.initial = {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith("methods.")
    }
    return model


def trains(spec: ModelSpec, name: str, config: ViTConfig) -> bool:
    """Does a model of this spec train (and save) the parameter or buffer of this name?"""
    return name.startswith(("head.", "methods.")) or any(method.unfreezes(name, config) for method in spec.methods)


def count_trainable(model: nn.Module) -> int:
    """Number of trainable parameters, the head excluded."""
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if p.requires_grad and not name.startswith("head."))


@torch.no_grad()
def merge(model: Model) -> Model:
    """A plain ViT with the same function: a copy into whose weights everything that the methods added is folded.

    Raises ``ValueError`` naming the method and the reason where that cannot be done exactly.
    """
    need_spec(model, "merge")
    for method in model.spec.methods:
        if not method.mergeable:
            raise ValueError(f"method '{method.name}' cannot be merged: {method.obstacle}; keep it attached")
    added = [m for m in sorted(model.spec.methods, key=lambda m: m.merge_order) if m.name in model.methods]
    merged = copy.deepcopy(model).cpu().double()  # rounded once, at the end, instead of at every fold
    before = copy.deepcopy(merged) if len(added) > 1 else None
    for method in added:
        method.merge(merged, merged.methods[method.name])
    module: Any
    for module in merged.modules():
        for edits in getattr(module, "sites", {}).values():
            edits.clear()
        if hasattr(module, "score_biases"):
            module.score_biases.clear()
    merged.methods = nn.ModuleDict()
    if before is not None:
        _check_same(before, merged, [m.name for m in added])
    merged.to(model.head.weight).train(model.training).requires_grad_(requires_grad=False)
    merged.spec = dataclasses.replace(model.spec, methods=(), source="merged", weights="merged")
    merged.initial, merged.alpha = {}, 1.0
    return merged


def _check_same(before: Model, merged: Model, names: list[str]) -> None:
    """Folding several methods is exact only if their edits can be folded one after the other: try it on noise."""
    size = merged.config.image_size
    noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, got = before.eval()(noise), merged.eval()(noise)
    if not torch.allclose(expected, got, rtol=0.0, atol=1e-7 * float(expected.abs().max())):
        raise ValueError(f"methods {' and '.join(names)} act on each other, so that they cannot be folded one by one")


@torch.no_grad()
def interpolate(model: Model, alpha: float) -> Model:
    """A copy of ``model`` between the pre-trained model (alpha 0, with the initial head) and itself (alpha 1).

    The head and unfrozen backbone parameters are interpolated linearly; what the methods added is scaled by alpha.
    Both ends are exact. Raises ``UserError`` if alpha is not in [0, 1].
    """
    need_spec(model, "interpolate")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0.0 <= alpha <= 1.0:
        raise UserError(f"alpha is {alpha!r}; it must lie in [0, 1]: 0 is the pre-trained model, 1 the tuned one")
    between = copy.deepcopy(model)
    if alpha == 1.0:  # the tuned end needs no arithmetic
        return between
    parameters = dict(between.named_parameters())
    for name, start in model.initial.items():
        tuned = parameters[name]
        tuned.copy_(torch.lerp(start.to(tuned), tuned, alpha) if alpha else start)
    set_alpha(between, model.alpha * alpha)
    return between


def set_alpha(model: Model, alpha: float) -> None:
    """Scale what the methods added, in place; the other trained parameters stay as they are."""
    model.alpha = alpha
    for method in model.spec.methods:
        if method.name in model.methods:
            method.set_alpha(model, model.methods[method.name], alpha)


def need_spec(model: Model, what: str) -> None:
    """Raise ``UserError`` unless ``model`` came from ``create_model`` and is not merged."""
    if not isinstance(getattr(model, "spec", None), ModelSpec):
        raise UserError(f"{what} needs a model made by create_model or load_adapter")
    if model.spec.source == "merged":
        raise UserError(f"{what} cannot act on a merged model: it is a whole backbone now; save_backbone writes it")
