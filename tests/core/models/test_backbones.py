"""Backbones: files of our own, resizing positions as timm does, and refusing weights that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from safetensors import safe_open
from timm.layers import resample_abs_pos_embed

from petl_core import create_model
from petl_core.models import weights as backbones
from petl_core.models.weights import (
    Weights,
    config_of,
    digest,
    digest_of,
    load_weights,
    resize_position,
    save_backbone,
)
from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig

CONFIG = ViTConfig(16, 8, 32, 2, 4, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(0)
    vit = ViT(CONFIG, 3)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return vit.eval()


@pytest.fixture
def saved(vit: ViT, tmp_path: Path) -> Path:
    return save_backbone(vit, tmp_path / "own.safetensors", {"val_accuracy": "33"})


def test_a_saved_backbone_comes_back(vit: ViT, saved: Path) -> None:
    assert config_of(str(saved)) == CONFIG
    again = create_model(str(saved), "linear", keep_head=True)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, vit.state_dict()[name]), name
    with safe_open(saved, "pt") as file:
        assert file.metadata()["val_accuracy"] == "33"


def test_half_precision_files_load_as_float32(vit: ViT, saved: Path, tmp_path: Path) -> None:
    small = save_backbone(vit, tmp_path / "half.safetensors", half=True)
    assert small.stat().st_size < 0.62 * saved.stat().st_size
    again = create_model(str(small), "linear", keep_head=True)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, vit.state_dict()[name].half().float()), name


def test_embedded_names_are_found_beside_the_package(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "EMBEDDED", tmp_path)
    with pytest.raises(UserError, match=r"'mini' is not at .*mini\.safetensors"):
        config_of("mini")
    saved.rename(tmp_path / "mini.safetensors")
    assert config_of("mini", 32) == replace(CONFIG, image_size=32)
    assert create_model("mini", "lora", num_classes=7, rank=2).spec.weights == digest("mini")


def test_the_digest_names_the_backbone_and_not_its_file(vit: ViT, saved: Path, tmp_path: Path) -> None:
    state = vit.state_dict()
    torch.save({"model": {**state, "mask_token": torch.zeros(1, 32)}}, tmp_path / "same.pth")
    assert digest(str(saved)) == digest(str(saved), source=tmp_path / "same.pth") == digest_of(state)
    assert digest_of({**state, "head.bias": torch.ones(3)}) == digest_of(state)
    bias = state["blocks.1.attn.qkv.bias"].clone()
    bias[5] += 1e-6
    assert digest_of({**state, "blocks.1.attn.qkv.bias": bias}) != digest_of(state)


@pytest.mark.parametrize(("old", "new"), [(14, 4), (4, 14), (37, 16), (3, 3)])
def test_positions_are_resized_as_in_timm(old: int, new: int) -> None:
    position = torch.randn(1, 1 + old * old, 24)
    expected = resample_abs_pos_embed(position, [new, new], num_prefix_tokens=1)
    torch.testing.assert_close(resize_position(position, new), expected, rtol=0, atol=1e-6)


def test_dinov2_at_224_is_what_timm_makes_of_the_same_file(tmp_path: Path) -> None:
    name, path = "vit_small_patch14_dinov2", tmp_path / "dino.pth"
    torch.manual_seed(0)
    with torch.device("meta"):
        at_518 = timm.create_model(name)
        theirs = timm.create_model(name, img_size=224)
    at_518, theirs = at_518.to_empty(device="cpu"), theirs.to_empty(device="cpu")
    for parameter in at_518.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save({**at_518.state_dict(), "mask_token": torch.zeros(1, 384)}, path)  # as the authors' files
    filtered = timm.models.vision_transformer.checkpoint_filter_fn(torch.load(path, weights_only=True), theirs)
    theirs.load_state_dict(filtered)
    with pytest.warns(UserWarning, match="not used from .*mask_token"):
        ours = create_model(name, "linear", num_classes=2, pretrained=path, image_size=224)
    assert ours.pos_embed.shape == (1, 257, 384)
    for key, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], tensor, rtol=0, atol=1e-6)
    assert ours.spec.weights == digest_of(at_518.state_dict())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 64}, ["width 32", "width 64"]),
        ({"depth": 3}, ["2 blocks", "3 blocks"]),
        ({"patch_size": 4}, ["patch 8", "patch 4"]),
        ({"mlp_ratio": 2.0}, ["MLP 128", "MLP 64"]),
        ({"layer_scale": True}, ["LayerScale"]),
        ({"pre_norm": True}, ["a norm before the blocks"]),
        ({"heads": 8}, ["heads=4", "heads=8"]),
        ({"quick_gelu": True}, ["quick_gelu=False", "quick_gelu=True"]),
        ({"norm_eps": 1e-5}, ["norm_eps=1e-06", "norm_eps=1e-05"]),
    ],
)
def test_weights_of_another_architecture_are_refused(saved: Path, changes: dict[str, float], words: list[str]) -> None:
    other = ViT(replace(CONFIG, **changes), 3)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(UserError, match=r"own\.safetensors holds a ViT with") as caught:
        load_weights(other, saved)
    assert all(word in str(caught.value) for word in words)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_missing_and_unexpected_tensors_are_reported(vit: ViT) -> None:
    state = vit.state_dict()
    del state["blocks.1.mlp.fc2.weight"]
    state["blocks.1.attn.q_norm.weight"] = torch.ones(8)
    with pytest.raises(UserError, match=r"missing blocks.1.mlp.fc2.weight; unexpected blocks.1.attn.q_norm.weight"):
        load_weights(vit, Weights(state, "a.pth"))


def test_a_tensor_of_another_shape_is_reported(vit: ViT) -> None:
    state = {**vit.state_dict(), "blocks.0.attn.proj.bias": torch.ones(31)}
    with pytest.raises(UserError, match=r"blocks\.0\.attn\.proj\.bias \(31,\) for \(32,\)"):
        load_weights(vit, Weights(state, "a.pth"))


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.safetensors"
    safetensors.torch.save_file({"conv1.weight": torch.ones(4, 3, 7, 7), "fc.bias": torch.ones(10)}, path)
    with pytest.raises(UserError, match=r"holds no ViT with timm's names; it has conv1\.weight, fc\.bias"):
        create_model("vit_tiny_patch16_224", "linear", num_classes=2, pretrained=path)
    with pytest.raises(UserError, match="does not say its architecture"):
        create_model(str(path), "linear", num_classes=2)


def test_tiny_weights_are_refused_by_a_base_model(saved: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds a ViT with width 32, 2 blocks.*width 768, 12 blocks, MLP 3072, patch 16"
    ):
        create_model("vit_base_patch16_224", "linear", num_classes=2, pretrained=saved)


@pytest.mark.parametrize("config", ["{", '{"image_size": 16, "colour": 1}', '{"width": 0}', "[1]"])
def test_a_damaged_configuration_is_reported(vit: ViT, tmp_path: Path, config: str) -> None:
    path = tmp_path / "odd.safetensors"
    safetensors.torch.save_file(vit.state_dict(), path, {"config": config})
    with pytest.raises(UserError, match="damaged 'config'"):
        config_of(str(path))


@pytest.mark.parametrize("size", [0, -8, 12, 8.0, True, "16"])
def test_impossible_image_sizes(saved: Path, size: int) -> None:
    with pytest.raises(UserError, match="multiples of its patch size 8"):
        config_of(str(saved), size)


def test_a_model_with_methods_is_no_backbone(saved: Path, tmp_path: Path) -> None:
    model = create_model(str(saved), "lora", num_classes=2)
    with pytest.raises(UserError, match=r"methods attached \(lora\); merge it first"):
        save_backbone(model, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"written as \.safetensors"):
        save_backbone(ViT(CONFIG, 2), tmp_path / "a.bin")
