"""What a fine-tuning method is: a frozen dataclass of hyper-parameters that can attach itself to a ViT.

A method has up to three effects, all of them declared here and none of them known to ``vit.py``:

* it *adds* modules. ``attach`` builds one ``nn.Module``, appends edits to the ViT's sites, and returns the module,
  which the caller registers as ``vit.methods[name]``: everything added has a name that starts with ``methods.<name>.``.
  Edits that need other modules (the block, a shared factor) hold them without registering them, so that no tensor has
  two names; they are objects, not closures, so that ``copy.deepcopy(vit)`` is a working, independent model;
* it *unfreezes* parameters of the backbone: ``unfreezes(parameter_name, config)`` says which;
* it can *fold* what it added into the backbone's own weights (``merge``), exactly, where the mathematics allows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from petl_core.utils import Fraction, NumberFromZero, Positive, PositiveNumber, UserError, check_fields  # noqa: F401
from petl_core.vit import ViT, ViTConfig

registry: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Method:
    """Base of all methods. A subclass's fields are its hyper-parameters; the facts listed here, ``@register`` sets."""

    name: ClassVar[str]
    title: ClassVar[str]  # as in tables and figures
    family: ClassVar[str]  # "baseline", "selective", "adapter", "prompt" or "low-rank": colours and groups in figures
    paper: ClassVar[str]  # "Authors, year, arXiv id"
    size_field: ClassVar[str | None] = None  # the hyper-parameter that sets the number of parameters
    obstacle: ClassVar[str] = ""  # why what is added cannot be folded into existing weights, where it cannot
    mergeable: ClassVar[bool] = True  # there is no obstacle
    merge_order: ClassVar[int] = 0  # of composed methods, those with the smaller number are folded first
    exact_starts: ClassVar[tuple[str, ...]] = ("intended", "zero")  # values of ``init`` that change nothing at first
    lrs: ClassVar[tuple[float, ...]] = (1e-2, 3e-3, 3e-2)  # learning rates to tune over, in the order of trial
    space: ClassVar[dict[str, tuple[Any, ...]]] = {}  # hyper-parameters to tune over, on a ViT about 100 wide
    published_space: ClassVar[dict[str, tuple[Any, ...]]] = {}  # the study's grid for ViT-B/16 on VTAB-1K

    def __post_init__(self) -> None:
        check_fields(self, self.name)

    @property
    def identity_at_start(self) -> bool:
        """Is the model with this method, before training, exactly the pre-trained function?"""
        return getattr(self, "init", "intended") in self.exact_starts

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

        Raises ``ValueError`` that says why for a method that is not ``mergeable``. Composed methods are folded by
        ``merge_order``, then in the order of attachment: what acts on the output of a linear layer (LoRA, FacT, SSF)
        before what acts on all of a layer's input or output from outside (RepAdapter, DiffFit).
        """
        if not self.mergeable:
            raise ValueError(f"method '{self.name}' cannot be merged: {self.obstacle}; keep it attached")

    def set_alpha(self, vit: ViT, module: nn.Module, alpha: float) -> None:
        """Scale what was added: 0 gives the pre-trained function, 1 the tuned one, exactly.

        Here: every part of ``module`` that has an attribute ``alpha`` gets this value. Unfrozen backbone parameters and
        the head are interpolated by the caller (``petl_core.models.build.interpolate``).
        """
        for part in module.modules():
            if hasattr(part, "alpha"):
                part.alpha = alpha  # type: ignore[assignment]

    def hyper(self) -> dict[str, Any]:
        """The hyper-parameters as plain values, for records and saved files."""
        return asdict(self)


def register(cls: Any = None, /, **facts: Any) -> Any:
    """Class decorator ``@register(name=..., title=..., family=..., paper=...)``: make a method known under its name.

    The facts, all those that ``Method`` lists, become class variables; bare ``@register`` takes a class that has them.
    ``UserError`` for an unknown fact, for one of those four that is missing, or for a name that is taken.
    """
    if cls is None:
        return functools.partial(register, **facts)
    for fact, value in facts.items():
        if fact not in Method.__annotations__:
            raise UserError(f"@register knows no '{fact}'; it knows {', '.join(Method.__annotations__)}")
        setattr(cls, fact, value)
    missing = [fact for fact in ("name", "title", "family", "paper") if not getattr(cls, fact, "")]
    if missing:
        raise UserError(f"method {cls.__name__} lacks {', '.join(missing)}; write @register({missing[0]}=..., ...)")
    if cls.name in registry:
        other = registry[cls.name].__module__
        raise UserError(f"two methods are called '{cls.name}': {other} and {cls.__module__}; give yours another name")
    cls.mergeable = not cls.obstacle
    registry[cls.name] = cls
    return cls


def attach_edits(vit: ViT, sites: Sequence[str], make: Callable[[], nn.Module]) -> nn.ModuleList:
    """Append to each of the ``sites`` of every block an edit of its own; returns all of them, block by block."""
    edits = nn.ModuleList()
    for block in vit.blocks:
        for site in sites:
            edit = make()
            block.sites[site].append(edit)
            edits.append(edit)
    return edits


def released_init(module: nn.Module) -> None:
    """What the constructor of the study's released code does to every ``nn.Linear`` it finds, whatever the method had
    intended: weights from a normal of deviation 0.02 cut at two units, biases zero. Other tensors keep their values."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def bias_of(layer: Any) -> Tensor:
    """The bias of a layer, for folding something into it; one of zeros is made where it has none."""
    if layer.bias is None:
        layer.bias = nn.Parameter(layer.weight.new_zeros(len(layer.weight)), requires_grad=False)
    return layer.bias


def fc1_width(config: ViTConfig) -> int:
    """Width of what fc1 makes: hidden units and, in a gated MLP, their gates."""
    return config.hidden * (2 if config.gated else 1)


def attention_parameters(config: ViTConfig) -> dict[str, int]:
    """Number of parameters of qkv, which has a bias or none, and of proj."""
    D = config.width
    return {"attn.qkv": 3 * D * (D + (config.qkv_bias != "none")), "attn.proj": D * (D + 1)}


def mlp_parameters(config: ViTConfig) -> dict[str, int]:
    """Number of parameters of fc1 and of fc2."""
    D = config.width
    return {"mlp.fc1": fc1_width(config) * (D + 1), "mlp.fc2": D * (config.hidden + 1)}


def norm_channels(config: ViTConfig) -> int:
    """Channels of the LayerNorms of one block: LN1, LN2 and, where it has them, those inside attention and MLP."""
    return (2 + config.attention_norm) * config.width + config.mlp_norm * config.hidden


def outer_norms(config: ViTConfig) -> int:
    """How many LayerNorms of the width are outside the blocks: before them, behind them, in attention pooling."""
    return config.pre_norm + (config.final_norm != "none") + (config.pool == "attention")


def block_parameters(config: ViTConfig) -> int:
    """Number of parameters of one block: its LayerNorms, qkv, proj, fc1, fc2, and what only some kinds have: two
    LayerScales, the frequencies of learned rotary positions, a table of relative positions."""
    D = config.width
    layers = sum(attention_parameters(config).values()) + sum(mlp_parameters(config).values())
    places = D * (config.rotary == "learned")
    places += ((2 * config.grid - 1) ** 2 + 3) * config.heads * config.relative_position
    return 2 * norm_channels(config) + layers + 2 * D * config.layer_scale + places


def meta_count(method: Method, config: ViTConfig) -> int:
    """Trainable parameters without the head, counted (not by formula) on a ViT without weights: costs no memory."""
    with torch.device("meta"):
        vit = ViT(config, num_classes=1)
        own = [(n, p) for n, p in vit.named_parameters() if not n.startswith("head.")]
        module = method.attach(vit)
    added = sum(p.numel() for p in module.parameters()) if module is not None else 0
    return added + sum(p.numel() for name, p in own if method.unfreezes(name, config))
