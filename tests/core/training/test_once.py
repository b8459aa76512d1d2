"""What is computed once: for which methods and recipes, and that training then gives the same bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from small import easy_task, tiny_model

from petl_core import methods
from petl_core.training import once
from petl_core.training.evaluation import predict
from petl_core.training.once import still_blocks
from petl_core.training.recipe import Recipe
from petl_core.training.train import train
from petl_core.vit import ViT

RECIPE = Recipe(lr=1e-2, epochs=3, batch_size=32)
DEPTH = 4
STILL: dict[str, list[tuple[dict[str, Any], int]]] = {  # method: hyper-parameters, and how many of four blocks
    "linear": [({}, DEPTH + 1)],  # and the norm behind them
    "selective": [
        ({"index": (-1,), "part": "block"}, 3),
        ({"index": (-1,), "part": "fc2"}, 3),
        ({"index": (-2, -1)}, 2),
        ({"index": (1, 3)}, 1),
        ({"index": (0,)}, 0),
    ],
}  # all others begin in the first block or before it
CASES = [(name, hyper, still) for name in methods.names() for hyper, still in STILL.get(name, [({}, 0)])]
RANDOM = [
    {"flip": True},
    {"drop_path": 0.1},
    *({"augment": kind} for kind in ("crop_flip", "crop_flip_vertical", "clip")),
]
EXACT = [
    {},
    {"checkpointing": True},
    {"precision": "bf16"},
    {"normalise": "none"},
    {"layer_decay": 0.5},
    {"decay": "all"},
    {"clip_norm": 1.0},
]


@pytest.mark.parametrize(("method", "hyper", "still"), CASES)
def test_how_many_blocks_are_still(method: str, hyper: dict[str, Any], still: int) -> None:
    model = tiny_model(method, depth=DEPTH, **hyper)
    for values in EXACT:
        assert still_blocks(model, Recipe(**values)) == still
    for values in RANDOM:
        assert still_blocks(model, Recipe(**values)) == 0


def test_an_edit_that_trains_nothing_is_not_still() -> None:
    for site, still in (("embed", 0), ("patches", 0), ("norm", DEPTH), ("features", DEPTH)):
        model = tiny_model("linear", depth=DEPTH)
        model.sites[site].append(lambda y, x: y)
        assert still_blocks(model, Recipe()) == still
    for place in ("", "attn.", "mlp."):
        model = tiny_model("linear", depth=DEPTH)
        next(iter(model.get_submodule(f"blocks.2.{place}".rstrip(".")).sites.values())).append(lambda y, x: y)
        assert still_blocks(model, Recipe()) == 2
    model.blocks[1].attn.score_biases = [lambda x: None]
    assert still_blocks(model, Recipe()) == 1


@pytest.mark.parametrize("values", EXACT)
@pytest.mark.parametrize(("method", "hyper"), [("linear", {}), ("selective", {"index": (2, 3), "part": "block"})])
def test_training_behind_still_blocks_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, method: str, hyper: dict[str, Any], values: dict[str, Any]
) -> None:
    recipe = Recipe(**{**vars(RECIPE), **values})
    quick, slow = (tiny_model(method, depth=DEPTH, **hyper) for _ in range(2))
    one = train(quick, easy_task(), recipe, track=True)
    monkeypatch.setattr(once, "still_blocks", lambda model, recipe: 0)
    other = train(slow, easy_task(), recipe, track=True)
    assert one.logits.tobytes() == other.logits.tobytes()
    assert (one.history, one.best_epoch) == (other.history, other.best_epoch)
    for (name, a), b in zip(quick.named_parameters(), slow.parameters(), strict=True):
        assert torch.equal(a, b), name


def blocks_seen(model: ViT) -> list[int]:
    """From now on, the images that have gone through each block; the last number is that of the head."""
    seen = [0] * (len(model.blocks) + 1)

    def count(place: int, images: int) -> None:
        seen[place] += images

    for place, module in enumerate([*model.blocks, model.head]):
        module.register_forward_pre_hook(lambda _, inputs, place=place: count(place, len(inputs[0])))
    return seen


def test_each_training_image_passes_a_still_block_once() -> None:
    model = tiny_model("linear")
    seen = blocks_seen(model)
    run = train(model, easy_task(), RECIPE, track=True)
    assert seen == [80 + 40, 80 + 40, 3 * 80 + 4 * 40]
    assert np.array_equal(predict(model, easy_task().split("test")[0]).numpy().astype(np.float16), run.logits)
    model = tiny_model("selective", index=(1,))
    seen = blocks_seen(model)
    train(model, easy_task(), RECIPE, track=True)
    assert seen == [80 + 4 * 40, 3 * 80 + 4 * 40, 3 * 80 + 4 * 40]  # images to be answered go through all
    model = tiny_model("linear")
    seen = blocks_seen(model)
    train(model, easy_task(), Recipe(epochs=3, drop_path=0.1))
    assert seen == [3 * 80 + 40] * 3


def test_tokens_that_do_not_fit_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = 80 * 5 * 16 * 4  # images, tokens, width, bytes
    for room, first in ((11 * tokens, 80 + 40), (9 * tokens, 3 * 80 + 40)):
        monkeypatch.setattr(once, "memory", lambda device, room=room: room)
        model = tiny_model("selective", index=(1,))
        seen = blocks_seen(model)
        run = train(model, easy_task(), RECIPE)
        assert seen[0] == first
        assert not math.isnan(run.accuracy)
