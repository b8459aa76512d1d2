"""Every ViT of timm that the table takes, against timm: equal logits from equal random weights, and the way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import petl_core as pc
from petl_core.models.catalogue import rows
from petl_core.models.timm_names import canonical, timm_state
from petl_core.models.weights import Weights, config_of, load_weights
from petl_core.vit import ViT

pytestmark = pytest.mark.filterwarnings("ignore:the weights of")
TAKEN = [row for row in rows() if row.taken]
SMALLEST = {row.needs: row.name for row in sorted(TAKEN, key=lambda row: -row.millions)}  # one for each configuration


def both(name: str) -> tuple[Any, ViT]:
    """timm's model with two blocks for images of 4 x 4 patches, its random parameters in ours too."""
    import timm

    config = config_of(name)
    small = replace(config, depth=2, image_size=4 * config.patch_size)
    with torch.device("meta"):  # their random start takes longer than the test
        theirs = timm.create_model(name, depth=2, img_size=small.image_size, num_classes=5)
        ours = ViT(small, 5)
    theirs, ours = theirs.to_empty(device="cpu").eval(), ours.to_empty(device="cpu").eval()
    for module in theirs.modules():
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()
    random = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 25  # keeps every layer's output of order one
        torch.nn.init.normal_(parameter, std=inputs**-0.5, generator=random)
    load_weights(ours, Weights(canonical(theirs.state_dict()), "timm's model"), keep_head=True)
    return theirs, ours


def names() -> list:
    """Every name; those whose configuration a smaller one shares are exhaustive."""
    quick = set(SMALLEST.values())
    return [pytest.param(r.name, marks=[] if r.name in quick else [pytest.mark.exhaustive]) for r in TAKEN]


@pytest.mark.parametrize("name", names())
@torch.no_grad()
def test_equals_timm_and_goes_back(name: str) -> None:
    theirs, ours = both(name)
    size = ours.config.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = theirs(images)
    assert expected.std() > 1e-3, "a difference could hide"
    torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))
    state, back = theirs.state_dict(), timm_state(ours, name)
    assert set(back) == set(state) and all(torch.equal(back[key], state[key]) for key in state)


def test_enough_are_taken() -> None:
    assert len(rows()) == 259 and len(TAKEN) >= 205
    assert all(row.lacks and not row.needs for row in rows() if not row.taken)


def test_a_file_in_timms_names_becomes_a_model_and_its_adapter_comes_back(tmp_path: Path) -> None:
    import timm

    name = "eva02_tiny_patch14_224"  # timm's own names: q_bias, v_bias, fc_norm
    torch.manual_seed(0)
    theirs = timm.create_model(name, img_size=56, num_classes=3).eval()
    weights = tmp_path / "eva.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), weights)
    made = {"pretrained": weights, "image_size": 56, "keep_head": True}
    images = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(pc.create_model(name, **made).eval()(images), theirs(images), rtol=0, atol=1e-5)
    model = pc.create_model(name, "lora+ssf", **made).eval()
    again = pc.load_adapter(pc.save_adapter(model, tmp_path / "a.safetensors")).eval()
    assert torch.equal(again(images), model(images)) and again.spec.weights == model.spec.weights
