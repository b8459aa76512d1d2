"""Our LoRA on the fused qkv against Hugging Face's peft on timm's model: the same weights, outputs and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F

from petl_core import create_model, merge
from petl_core.models.build import Model
from petl_core.models.weights import Weights, load_weights

NAME, RANK, SCALE, CLASSES = "vit_tiny_patch16_224", 8, 2.0, 5
peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Model]:
    """peft's model and ours, with equal weights; B is not zero, so that A gets a gradient."""
    torch.manual_seed(0)
    base = timm.create_model(NAME, num_classes=CLASSES)
    config = peft.LoraConfig(r=RANK, lora_alpha=int(SCALE * RANK), target_modules=["qkv"], modules_to_save=["head"])
    ours = create_model(NAME, "lora", num_classes=CLASSES, pretrained=False, rank=RANK, scale=SCALE, dropout=0.0)
    load_weights(ours, Weights(base.state_dict(), "timm's model"), keep_head=True)
    theirs = peft.get_peft_model(base, config)
    with torch.no_grad():
        for (down, up), update in zip(factors(theirs), ours.methods["lora"], strict=True):
            up.normal_(std=0.1)
            update.down.weight.copy_(down)
            update.up.weight.copy_(up)
    return theirs.eval(), ours.eval()


def factors(theirs: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(A, B) of every block of peft's model."""
    qkvs = [block.attn.qkv for block in theirs.base_model.model.blocks]
    return [(qkv.lora_A["default"].weight, qkv.lora_B["default"].weight) for qkv in qkvs]


@torch.no_grad()
def test_outputs_are_equal(pair: tuple[Any, Model]) -> None:
    theirs, ours = pair
    images = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)
    with theirs.disable_adapter():
        assert (ours(images) - theirs(images)).abs().max() > 1e-2, "the update must matter"


def test_the_same_numbers_train(pair: tuple[Any, Model]) -> None:
    theirs, ours = pair
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in pair]
    assert counts[0] == counts[1] == 36_864 * RANK // 4 + 193 * CLASSES  # a quarter of ViT-B's width
    assert sum(a.numel() + b.numel() for a, b in factors(theirs)) == ours.spec.methods[0].count(ours.config)


def test_gradients_are_equal(pair: tuple[Any, Model]) -> None:
    theirs, ours = pair
    images, labels = torch.randn(2, 3, 224, 224), torch.tensor([0, 3])
    for model in pair:
        F.cross_entropy(model(images), labels).backward()
    for (down, up), update in zip(factors(theirs), ours.methods["lora"], strict=True):
        torch.testing.assert_close(update.down.weight.grad, down.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(update.up.weight.grad, up.grad, rtol=1e-4, atol=1e-6)
        assert down.grad is not None
        assert down.grad.abs().max() > 1e-4
    head = theirs.base_model.model.head.modules_to_save["default"]
    torch.testing.assert_close(ours.head.weight.grad, head.weight.grad, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_merging_agrees_with_peft(pair: tuple[Any, Model]) -> None:
    theirs, ours = pair
    for (down, up), block, base in zip(
        factors(theirs), merge(ours).blocks, theirs.base_model.model.blocks, strict=True
    ):
        expected = base.attn.qkv.base_layer.weight + SCALE * up @ down
        torch.testing.assert_close(block.attn.qkv.weight, expected, rtol=0, atol=1e-6)
