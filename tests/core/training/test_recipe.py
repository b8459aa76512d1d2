"""The recipe: its schedule, what decays, and what it says of bad values."""

from __future__ import annotations

import math

import pytest
import torch
from small import tiny_model

from petl_core.training.recipe import Recipe, is_matrix, learning_rate, parameter_groups
from petl_core.utils import UserError


def test_the_schedule_is_its_closed_form_and_peaks_at_the_base_rate():
    recipe = Recipe(lr=3e-3, warmup=0.2, final_lr=1e-4)
    rates = [learning_rate(step, 50, recipe) for step in range(50)]
    rising = [3e-3 * (s + 1) / 11 for s in range(10)]
    falling = [1e-4 + 2.9e-3 * (1 + math.cos(math.pi * (s - 10) / 40)) / 2 for s in range(10, 50)]
    assert rates == pytest.approx(rising + falling, rel=1e-12)
    assert max(rates) == rates[10] == 3e-3  # exactly
    assert rates.count(3e-3) == 1
    assert min(rates) > 0


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 0.9), (2, 0.5), (7, 0.1), (1000, 0.99)])
def test_the_peak_is_the_base_rate_for_short_runs_too(total, warmup):
    recipe = Recipe(lr=0.1, warmup=warmup)
    assert max(learning_rate(step, total, recipe) for step in range(total)) == 0.1


def test_only_matrices_decay_by_default():
    model = tiny_model("lora")
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    names = {id(p): n for n, p in model.named_parameters()}
    spared, decayed = sorted(parameter_groups(model, Recipe(weight_decay=0.1)), key=lambda group: group["weight_decay"])
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    decayed = {names[id(p)] for p in decayed["params"]}
    spared = {names[id(p)] for p in spared["params"]}
    assert {"head.weight", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} < decayed
    assert {"methods.lora.0.down.weight", "methods.lora.1.up.weight"} < decayed
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.1.norm2.bias", "head.bias"} < spared
    (everything,) = parameter_groups(model, Recipe(weight_decay=0.1, decay="all"))
    assert len(everything["params"]) == len(names)


@pytest.mark.parametrize(
    ("name", "shape", "decays"),
    [
        ("methods.vpt_deep.prompts", (2, 5, 16), False),
        ("methods.vpt_deep.prompts.0", (5, 16), False),
        ("methods.vqt.queries", (2, 1, 16), False),
        ("methods.ssf.norm1.scale", (1, 16), False),
        ("methods.difffit.gamma1", (2, 16), False),
        ("methods.layernorm.extra.weight", (4, 4), True),
        ("methods.fact_tk.core", (4, 4, 4), True),
        ("blocks.0.mlp.fc1.weight", (8, 4), True),
        ("blocks.0.mlp.fc1.bias", (8,), False),
    ],
)
def test_what_counts_as_a_matrix(name, shape, decays):
    assert is_matrix(name, torch.zeros(shape)) is decays


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({"lr": 0.0}, "above 0"),
        ({"lr": math.nan}, "above 0"),
        ({"lr": "fast"}, "above 0"),
        ({"epochs": 0}, "whole number"),
        ({"batch_size": 2.5}, "whole number"),
        ({"batch_size": True}, "whole number"),
        ({"weight_decay": -1.0}, "0 or more"),
        ({"drop_path": 1.0}, r"\[0, 1\)"),
        ({"warmup": -0.1}, r"\[0, 1\)"),
        ({"final_lr": 1.0}, "smaller"),
        ({"normalise": "half"}, "backbone, imagenet, none"),
        ({"precision": "fp16"}, "auto, fp32, bf16"),
        ({"decay": "none"}, "matrices, all"),
        ({"l2_sp": -1.0}, "0 or more"),
        ({"layer_decay": 0.0}, r"\(0, 1\]"),
        ({"layer_decay": 1.5}, r"\(0, 1\]"),
        ({"augment": "mixup"}, "none, crop_flip, crop_flip_vertical, clip"),
        ({"augment": "clip", "flip": True}, "mirrors"),
        ({"clip_norm": 0.0}, "above 0"),
        ({"clip_norm": math.inf}, "above 0"),
        ({"clip_norm": math.nan}, "above 0"),
        ({"compile": "yes"}, "auto, on, off"),
        ({"compile": "on", "checkpointing": True}, "leave one"),
    ],
)
def test_a_recipe_says_what_is_wrong_with_it(values, allowed):
    field, value = next(iter(values.items()))
    with pytest.raises(UserError, match=f"(?s){field}.*{value}.*{allowed}"):
        Recipe(**values)
