"""The study's four backbones from the files that their authors publish, in those files' names and layouts, at their own
image size and at others: the same function as timm's. The weights are random, and the models narrow and shallow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from test_checkpoints import google_names
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from petl_core import create_model
from petl_core.models.formats import read_checkpoint
from petl_core.models.weights import digest
from petl_core.utils import UserError

SMALL = {"depth": 2, "embed_dim": 96, "num_heads": 3}
ORIGINAL, AUGREG = "vit_base_patch16_224.orig_in21k", "vit_base_patch16_224.augreg_in21k"
MAE, DINO = "vit_base_patch16_224.mae", "vit_base_patch14_dinov2.lvd142m"
CLIP = "vit_base_patch16_clip_quickgelu_224.openai"


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """PETL_DATA, and timm's models shrunk."""
    from petl_core.models.timm_names import timm_config

    plain = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **more: plain(name, **{**SMALL, **more}))
    monkeypatch.setenv("PETL_DATA", str(tmp_path))
    timm_config.cache_clear()
    torch.manual_seed(0)
    yield tmp_path
    timm_config.cache_clear()


def drawn(name: str, **more: Any) -> Any:
    """timm's model with random weights, none of them zero or one."""
    model = timm.create_model(name, **more)
    for key, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in key and "weight" in key), std=0.05)
    return model.eval()


@torch.no_grad()
def check(name: str, state: dict[str, Tensor], sizes: tuple[int, ...]) -> None:
    """Our ViT with the file below PETL_DATA and timm's with ``state``, resized by timm, are one function."""
    for size in sizes:
        theirs = timm.create_model(name, img_size=size, num_classes=0).eval()
        theirs.load_state_dict(checkpoint_filter_fn(state, theirs), strict=True)
        ours = create_model(name, "linear", num_classes=3, image_size=size).eval()
        images = torch.randn(2, 3, size, size)
        torch.testing.assert_close(ours.forward_features(images), theirs(images), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=rf"image_size is {size + 5}; .* multiples of its patch size"):
        create_model(name, "linear", num_classes=3, image_size=size + 5)


def without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.startswith("head.")}


@pytest.mark.parametrize("name", [ORIGINAL, AUGREG])
@pytest.mark.filterwarnings("ignore:not used from .*pre_logits")
def test_google_npz(weights: Path, name: str) -> None:
    arrays = google_names(width=96, depth=2, heads=3, classes=21843 if name == AUGREG else 5)
    if name == ORIGINAL:  # its head follows a hidden layer
        arrays |= {"pre_logits/kernel": np.zeros((96, 96), "f4"), "pre_logits/bias": np.zeros(96, "f4")}
    np.savez(weights / f"{name}.npz", **arrays)
    theirs = timm.create_model(name, num_classes=0)
    theirs.load_pretrained(str(weights / f"{name}.npz"))  # timm's own reader; at another size it would interpolate
    check(name, theirs.state_dict(), (224, 160))  # linearly, where timm's safetensors files are resized bicubically
    safetensors.torch.save_file(theirs.state_dict(), weights / "the_same.safetensors")
    assert digest(name) == digest(name, source=weights / "the_same.safetensors")


def test_mae_pth(weights: Path) -> None:
    state = without_head(drawn(MAE).state_dict())
    torch.save({"model": state}, weights / f"{MAE}.pth")
    check(MAE, state, (224, 112))


@pytest.mark.filterwarnings("ignore:not used from .*mask_token")
def test_dinov2_pth(weights: Path) -> None:
    state = without_head(drawn(DINO).state_dict())
    assert state["pos_embed"].shape == (1, 1 + 37 * 37, 96) and "blocks.1.ls2.gamma" in state
    torch.save({**state, "mask_token": torch.zeros(1, 96)}, weights / f"{DINO}.pth")
    check(DINO, state, (518, 224, 98))


def test_clip_in_timms_names(weights: Path) -> None:
    model = drawn(CLIP)
    safetensors.torch.save_file(model.state_dict(), weights / f"{CLIP}.safetensors")
    check(CLIP, without_head(model.state_dict()), (224, 96))
    images = torch.randn(2, 3, 224, 224)
    ours = create_model(CLIP, "linear", keep_head=True).eval()  # the projection to 512 numbers
    torch.testing.assert_close(ours(images), model(images), rtol=0, atol=1e-5)


@torch.no_grad()
def test_clip_in_openais_names(weights: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 224, "layers": 2, "width": 96, "head_width": 32, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(512, vision, text, quick_gelu=True).eval()
    torch.nn.init.normal_(model.visual.proj, std=0.05)
    torch.save(model.state_dict(), weights / f"{CLIP}.bin")  # as open_clip_pytorch_model.bin
    ours = create_model(CLIP, "linear", keep_head=True).eval()
    images = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(ours(images), model.encode_image(images), rtol=0, atol=1e-5)
    theirs = timm.create_model(CLIP)
    theirs.load_state_dict(checkpoint_filter_fn(model.state_dict(), theirs))
    check(CLIP, without_head(theirs.state_dict()), (224, 96))


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_torchscript_program_is_refused_with_where_to_go(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "ViT-B-16.pt")
    with pytest.raises(UserError, match=r"TorchScript program.*open_clip_model\.safetensors"):
        read_checkpoint(tmp_path / "ViT-B-16.pt")
