"""Clipping of gradients, and that what saves time under it changes no answer."""

import dataclasses
import math

import pytest
import torch
from small import easy_task, tiny_model

from petl_core.data.load import load_task
from petl_core.models.build import create_model
from petl_core.training.evaluation import predict
from petl_core.training.recipe import Recipe
from petl_core.training.steps import Gradients
from petl_core.training.train import train
from petl_core.utils import UserError


def gradient_norms(monkeypatch, recipe: Recipe) -> list[float]:
    """The joint norm of all gradients at each step of the optimiser."""
    seen: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self, *rest):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"] if p.grad is not None]
        seen.append(torch.cat(gradients).norm().item())
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    train(tiny_model("full"), easy_task(), recipe)
    monkeypatch.undo()
    return seen


def test_gradients_are_clipped_together_and_small_ones_left_alone(monkeypatch):
    free = gradient_norms(monkeypatch, Recipe(lr=1e-6, epochs=1, batch_size=16))
    most = sorted(free)[len(free) // 2]
    clipped = gradient_norms(monkeypatch, Recipe(lr=1e-6, epochs=1, batch_size=16, clip_norm=most))
    assert clipped == pytest.approx([min(norm, most) for norm in free], rel=1e-3)
    assert clipped[free.index(min(free))] == pytest.approx(min(free), rel=1e-3)


def test_clipping_counts_the_whole_batch_where_it_is_computed_in_pieces(monkeypatch):
    recipe = Recipe(lr=1e-6, epochs=1, batch_size=16)
    free = gradient_norms(monkeypatch, recipe)
    recipe = dataclasses.replace(recipe, clip_norm=sorted(free)[len(free) // 2])
    whole = gradient_norms(monkeypatch, recipe)
    start = Gradients.__init__

    def in_pieces(self, *rest):
        start(self, *rest)
        self.micro = 4

    monkeypatch.setattr(Gradients, "__init__", in_pieces)
    assert gradient_norms(monkeypatch, recipe) == pytest.approx(whole, rel=1e-3)


def test_a_clipped_run_that_diverges_ends_too():
    run = train(tiny_model(), easy_task(), Recipe(lr=1e30, epochs=50, batch_size=16, clip_norm=1.0))
    assert run.diverged
    assert run.steps < 10


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_norm_that_cannot_be_is_refused(value):
    with pytest.raises(UserError, match="clip_norm"):
        Recipe(clip_norm=value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["land_cover", "count"])
def test_cached_features_change_no_answer_of_a_whole_run(name):
    recipe, task = Recipe(lr=1e-2, epochs=16, batch_size=32, clip_norm=1.0), load_task(name)
    quick, slow = (create_model("mini", "linear", num_classes=task.num_classes) for _ in range(2))
    train(quick, task, recipe)
    slow.methods["nothing"] = torch.nn.Identity()  # an attached module: features are not kept
    train(slow, task, recipe)
    mine, theirs = (predict(model, task.split("test")[0]) for model in (quick, slow))
    assert torch.allclose(mine, theirs, atol=1e-4)
    assert torch.equal(mine.argmax(1), theirs.argmax(1))
