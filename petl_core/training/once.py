"""What of a model is computed once and not in every epoch: all that nothing changes below the first thing that does.

Where nothing random happens to the images, a block that does not train, that no method edits and below which the same
holds, gives an image the same output in each epoch. So each training image passes these blocks once, and the steps
begin with what came out. For linear probing that is all but the head. Training gives the same numbers, on a CPU to the
bit: what a block makes of an image does not depend on the others in the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from petl_core.training.augment import Normaliser
from petl_core.training.evaluation import evaluate
from petl_core.training.feeds import Feed, memory
from petl_core.training.recipe import Recipe, layer_of
from petl_core.training.steps import Network

if TYPE_CHECKING:
    from petl_core.vit import ViT


KEPT = 0.1  # of the memory: more than that is not taken for tokens; several runs may share it


@dataclass(frozen=True)
class Part:
    """A model, or what is left of it to compute, and its images: ``network(prepare(batch))`` are logits (B, C)."""

    network: Network
    prepare: Callable[[Tensor], Tensor]
    images: Feed

    def behind(self, below: Network, network: Network, recipe: Recipe) -> Part:
        """``network`` on what ``below`` makes of the images."""
        return Part(
            network, nn.Identity(), Feed(evaluate(below, self.images, self.prepare, recipe), self.images.device)
        )


def parts_of(model: ViT, recipe: Recipe, images: Feed, held: Feed) -> tuple[Part, Part]:
    """What trains on ``images``, and what answers ``held``, the images that are evaluated.

    Training images pass the still blocks now, unless their tokens (n, N, D) take more than ``KEPT`` of the memory. The
    others pass them only where the head alone moves, so that every epoch may be evaluated quickly.
    """
    model.eval()
    normalise = Normaliser(model, recipe)
    training, answering = Part(model, normalise, images), Part(model, normalise, held)
    still, config = still_blocks(model, recipe), model.config
    tokens = 4 * len(images) * config.tokens * config.width  # bytes
    if still > config.depth:
        training = training.behind(model.forward_features, model.head, recipe)
        answering = answering.behind(model.forward_features, model.head, recipe)
    elif still > 0 and tokens <= KEPT * memory(images.device):
        below = functools.partial(model.tokens, blocks=still)
        training = training.behind(below, lambda x: model.head(model.features(x, still)), recipe)
    return training, answering


def still_blocks(model: ViT, recipe: Recipe) -> int:
    """How many blocks, counted from the first, give an image the same output in every epoch; one more than there are
    if the norm behind them does so too, and the head alone moves."""
    at, depth = model.sites, len(model.blocks)
    if recipe.flip or recipe.augment != "none" or recipe.drop_path > 0.0 or at["patches"] or at["embed"]:
        return 0
    moving = {depth + 2}  # 0: the embeddings, l: the l-th block, depth + 1: the norm behind them, depth + 2: the head
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith(("head.", "methods.")):
            moving.add(layer_of(name, depth))
    for level, block in enumerate(model.blocks, start=1):
        if any(block.sites.values()) or block.attn.score_biases:
            moving.add(level)
    if at["norm"] or at["features"]:
        moving.add(depth + 1)
    return max(0, min(moving) - 1)
