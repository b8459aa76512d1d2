"""What a fine-tuning method is: a frozen dataclass of hyper-parameters that can attach itself to a ViT.

A method has up to three effects, all of them declared here and none of them known to ``vit.py``:

* it *adds* modules. ``attach`` builds one ``nn.Module``, appends edits to the ViT's sites, and returns the module,
  which the caller registers as ``vit.methods[name]``: everything added has a name that starts with ``methods.<name>.``.
  Edits that need other modules (the block, a shared factor) hold them without registering them, so that no tensor has
  two names; they are objects, not closures, so that ``copy.deepcopy(vit)`` is a working, independent model;
* it *unfreezes* parameters of the backbone: ``unfreezes(parameter_name, config)`` says which;
* it can *fold* what it added into the backbone's own weights (``merge``), exactly, where the mathematics allows.

``set_alpha`` scales what was added, so that alpha = 0 is the pre-trained function and alpha = 1 the tuned one; unfrozen
backbone parameters and the head are interpolated by the caller (``petl_core.models.build.interpolate``).

Where methods are composed, ``merge`` is called in the order of ``merge_order``, then of attachment: what acts on the
output of a linear layer (LoRA, FacT, SSF) is folded before what acts on all of the layer's input or output from
outside (RepAdapter, DiffFit).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import nn

from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig

registry: dict[str, type[Method]] = {}


def register(cls: type[Method]) -> type[Method]:
    """Class decorator: make the method known under ``cls.name``."""
    if cls.name in registry:
        other = registry[cls.name].__module__
        raise UserError(f"two methods are called '{cls.name}': {other} and {cls.__module__}; give yours another name")
    registry[cls.name] = cls
    return cls


@dataclass(frozen=True)
class Method:
    """Base of all methods. A subclass's fields are its hyper-parameters; ``__post_init__`` checks them."""

    name: ClassVar[str]
    title: ClassVar[str]  # as in tables and figures
    family: ClassVar[str]  # "baseline", "selective", "adapter", "prompt" or "low-rank": colours and groups in figures
    paper: ClassVar[str]  # "Authors, year, arXiv id"
    size_field: ClassVar[str | None] = None  # the hyper-parameter that sets the number of parameters
    mergeable: ClassVar[bool] = True  # can what is added be folded into existing weights?
    obstacle: ClassVar[str] = ""  # why it cannot, where it cannot
    merge_order: ClassVar[int] = 0  # of composed methods, those with the smaller number are folded first
    lrs: ClassVar[tuple[float, ...]] = (1e-2, 3e-3, 3e-2)  # learning rates to tune over, in the order of trial
    space: ClassVar[dict[str, tuple[Any, ...]]] = {}  # hyper-parameters to tune over, on a ViT about 100 wide
    published_space: ClassVar[dict[str, tuple[Any, ...]]] = {}  # the study's grid for ViT-B/16 on VTAB-1K

    @property
    def identity_at_start(self) -> bool:
        """Is the model with this method, before training, exactly the pre-trained function?"""
        return True

    def attach(self, vit: ViT) -> nn.Module | None:
        """Add modules and edits to ``vit``; the returned module owns all added parameters (None: nothing is added)."""
        return None

    def unfreezes(self, parameter: str, config: ViTConfig) -> bool:
        """Is this backbone parameter (timm's name, never the head) trained?"""
        return False

    def count(self, config: ViTConfig) -> int:
        """Number of trainable parameters without the head, by formula."""
        raise NotImplementedError

    def merge(self, vit: ViT, module: Any) -> None:
        """Fold ``module`` into the weights of ``vit`` in place, without gradient; the caller then removes the edits.

        Raises ``ValueError`` that says why for a method that is not ``mergeable``.
        """
        if not self.mergeable:
            raise ValueError(f"method '{self.name}' cannot be merged: {self.obstacle}; keep it attached")

    def set_alpha(self, vit: ViT, module: nn.Module, alpha: float) -> None:
        """Scale what was added: 0 gives the pre-trained function, 1 the tuned one, exactly.

        Here: every part of ``module`` that has an attribute ``alpha`` gets this value.
        """
        for part in module.modules():
            if hasattr(part, "alpha"):
                part.alpha = alpha  # type: ignore[assignment]

    def hyper(self) -> dict[str, Any]:
        """The hyper-parameters as plain values, for records and saved files."""
        return asdict(self)


def check_positive(method: Method, *fields: str) -> None:
    """Raise ``ValueError`` unless each named field is a whole number of 1 or more."""
    for field in fields:
        value = getattr(method, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{method.name}: {field} is {value!r}; it must be a whole number, 1 or more")


def check_choice(method: Method, field: str, allowed: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless the named field holds one of the allowed values."""
    value = getattr(method, field)
    if value not in allowed:
        raise ValueError(f"{method.name}: {field} is {value!r}; allowed: {', '.join(allowed)}")


def check_number(method: Method, *fields: str) -> None:
    """Raise ``ValueError`` unless each named field is a finite number above 0."""
    for field in fields:
        value = getattr(method, field)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < math.inf:
            raise ValueError(f"{method.name}: {field} is {value!r}; it must be a finite number above 0")


def check_fraction(method: Method, *fields: str) -> None:
    """Raise ``ValueError`` unless each named field lies in [0, 1)."""
    for field in fields:
        value = getattr(method, field)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < 1.0:
            raise ValueError(f"{method.name}: {field} is {value!r}; it must be a number in [0, 1)")


def block_parameters(config: ViTConfig) -> int:
    """Number of parameters of one block: two LayerNorms, qkv, proj, fc1, fc2 and, in DINOv2, two LayerScales."""
    D, hidden = config.width, config.hidden
    return 4 * D + 4 * D * (D + 1) + 2 * D * hidden + hidden + D + 2 * D * config.layer_scale


def released_init(module: nn.Module) -> None:
    """What the constructor of the study's released code does to every ``nn.Linear`` it finds, whatever the method had
    intended: weights from a normal of deviation 0.02 cut at two units, biases zero. Other tensors keep their values."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
