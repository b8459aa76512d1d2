"""The recipe: the settings of a training, the learning rate of each step, and which tensors decay or move how fast."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from petl_core.utils import Fraction, NumberFromZero, Positive, PositiveNumber, Share, UserError, check_fields, choices

if TYPE_CHECKING:
    from torch import Tensor, nn

NOT_MATRICES = re.compile(  # in a parameter's name
    r"token|pos_embed|latent|freqs|prompt|quer|gamma|scale|shift|norm|bias"
)


@dataclass(frozen=True)
class Recipe:
    """The optimiser's settings. ``warmup`` is a fraction of all steps; the last block has the rate ``drop_path``.

    ``decay="matrices"`` spares biases, norms, scales, shifts, prompts and tokens from weight decay; "all" spares
    nothing that trains, as the study's released code does. ``normalise``: with the mean and deviation that the backbone
    was pre-trained with, with ImageNet's, or with "none", images in [0, 1].

    Two ways to hold full fine-tuning near its start, both off by default. ``l2_sp`` = beta pulls each unfrozen backbone
    parameter w towards its pre-trained value w0, after each step of rate lr: w <- w + lr beta (w0 - w). This is L2-SP
    (Li, Grandvalet and Davoine, 2018, arXiv 1802.01483) decoupled from Adam's scaling, as AdamW's decay is.
    ``layer_decay`` = d gives block l of L the rate lr d^(L + 1 - l), the embeddings lr d^(L + 1), the head lr.

    ``clip_norm``: before each step the gradients of all trainable tensors together are scaled down to this Euclidean
    norm if theirs is larger; None leaves them as they are.

    ``augment``: the study's changes of the training images (``training.augment`` says what each does); "none", or
    "crop_flip", "crop_flip_vertical" and "clip", which mirror images already, so that ``flip`` is for "none" alone.

    Two say how, and leave the mathematics alone. ``checkpointing`` computes each block's activations a second time in
    the backward pass instead of keeping them: less memory, a third more work. ``compile``: "auto" compiles long runs on
    CUDA (``petl_core.training.steps.compiling_pays``), "on" any run, "off" none.
    """

    lr: PositiveNumber = 1e-3
    weight_decay: NumberFromZero = 1e-4
    epochs: Positive = 20
    warmup: Fraction = 0.1
    final_lr: NumberFromZero = 0.0
    batch_size: Positive = 64
    drop_path: Fraction = 0.0
    flip: bool = False
    normalise: Annotated[str, Literal["backbone", "imagenet", "none"]] = "backbone"
    precision: Annotated[str, Literal["auto", "fp32", "bf16"]] = "auto"
    decay: Annotated[str, Literal["matrices", "all"]] = "matrices"
    l2_sp: NumberFromZero = 0.0
    layer_decay: Share = 1.0
    augment: Annotated[str, Literal["none", "crop_flip", "crop_flip_vertical", "clip"]] = "none"
    checkpointing: bool = False
    compile: Annotated[str, Literal["auto", "on", "off"]] = "auto"
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "Recipe")
        if self.clip_norm is not None and not 0.0 < self.clip_norm < math.inf:
            raise UserError(f"Recipe: clip_norm is {self.clip_norm}; it must be above 0, or None for no clipping")
        if self.final_lr > self.lr:
            raise UserError(f"Recipe: final_lr is {self.final_lr}, above the base rate {self.lr}; choose a smaller one")
        if self.flip and self.augment != "none":
            raise UserError(f"Recipe: flip is True, but augment='{self.augment}' mirrors already; leave flip out")
        if self.checkpointing and self.compile == "on":
            raise UserError("Recipe: compile is 'on' with checkpointing, which is not compiled; leave one of them out")


CHOICES = choices(Recipe)


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """The rate of step 0 <= step < total: linear warm-up over W = floor(warmup * total) steps, then half a cosine.

    Step s < W: lr (s + 1) / (W + 1). Step s >= W: final_lr + (lr - final_lr) (1 + cos(pi (s - W) / (total - W))) / 2.
    So step W has exactly the base rate, which is the largest, and no step has rate zero.
    """
    warm = int(recipe.warmup * total)
    if step < warm:
        return recipe.lr * (step + 1) / (warm + 1)
    if step == warm:
        return recipe.lr
    phase = (step - warm) / (total - warm)
    return recipe.final_lr + (recipe.lr - recipe.final_lr) * 0.5 * (1.0 + math.cos(math.pi * phase))


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """AdamW's groups of the trainable tensors: equal in weight decay, and in the ``factor`` of their learning rate.

    With ``decay="matrices"`` only those decay that map vectors to vectors; with a ``layer_decay`` each depth has its
    factor, otherwise all have 1.
    """
    depth = len(cast("nn.Sequential", model.blocks))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = recipe.decay == "all" or is_matrix(name, parameter)
            factor = recipe.layer_decay ** (depth + 1 - layer_of(name, depth))
            groups.setdefault((recipe.weight_decay if decays else 0.0, factor), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in groups.items()
    ]


def layer_of(name: str, depth: int) -> int:
    """How deep a parameter lies: 0 the embeddings, l the l-th of ``depth`` blocks, ``depth`` + 1 all behind them and
    whatever a method adds."""
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return 0 if name.startswith(("patch_embed.", "pos_embed", "cls_token", "reg_token", "norm_pre.")) else depth + 1


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Is this a weight that maps vectors to vectors (and not a bias, norm, scale, shift, gamma, prompt or token)?"""
    if name.startswith("methods."):
        name = name.split(".", 2)[2]  # a method may be called "layernorm"
    return parameter.ndim >= 2 and not NOT_MATRICES.search(name)


def anchors_of(model: nn.Module, recipe: Recipe) -> list[tuple[nn.Parameter, Tensor]]:
    """With ``l2_sp``, the unfrozen backbone parameters and copies of what they are now, before training."""
    if recipe.l2_sp == 0.0:
        return []
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and not n.startswith(("head.", "methods."))]
    if not named:
        raise UserError(
            f"Recipe: l2_sp is {recipe.l2_sp}, but no parameter of the backbone is unfrozen; use it with full or with "
            "another method that edits the backbone's own weights"
        )
    return [(parameter, parameter.detach().clone()) for _, parameter in named]
