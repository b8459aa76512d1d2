"""Exports: each is loaded by the tool that it is for, and gives the model's logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import petl_core as pc
from petl_core import methods
from petl_core.models.export import export
from petl_core.utils import UserError

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def moved(method: str, backbone: str = "mini", **made) -> torch.nn.Module:
    """A model none of whose trained tensors is at its start."""
    model = pc.create_model(backbone, method, num_classes=7, **made).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model.notes = {"classes": list("abcdefg"), "preparation": {"resize": "crop"}}
    return model


@pytest.mark.parametrize("name", ["lora", "vpt_deep", pytest.param("vqt", marks=pytest.mark.slow)])
def test_onnx_gives_the_same_logits_on_any_batch(name: str, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = moved(name)
    path = export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path))
    for count in (1, 4):
        (logits,) = session.run(None, {"images": IMAGES[:count].numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(logits), model(IMAGES[:count]), atol=1e-4)
    card = (tmp_path / "model.md").read_text()
    assert "`g`" in card and "crop" in card and f"{model.config.mean[0]:g}" in card


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.get(n).mergeable])
def test_timm_loads_what_merges(name: str, tmp_path: Path):
    model = moved(name, "vit_tiny_patch16_224", pretrained=False, image_size=32)
    path = export(model, tmp_path / "model.safetensors")
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=32, checkpoint_path=str(path)).eval()
    with torch.no_grad():
        assert torch.allclose(theirs(IMAGES), model(IMAGES), atol=1e-4)


def test_peft_loads_lora(tmp_path: Path):
    peft = pytest.importorskip("peft")
    model = moved("lora", "vit_tiny_patch16_224", pretrained=False, image_size=32, rank=4, scale=0.5)
    folder = export(model, tmp_path / "adapter")
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=32).eval()
    theirs.load_state_dict({n: v for n, v in model.state_dict().items() if n in theirs.state_dict()})
    loaded = peft.PeftModel.from_pretrained(theirs, str(folder)).eval()
    with torch.no_grad():
        assert torch.allclose(loaded(IMAGES), model(IMAGES), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "file", "how", "word"),
    [
        ("vpt_deep", "x.safetensors", None, "ONNX takes every method"),
        ("ssf", "folder", None, "LoRA alone"),
        ("lora", "x.tflite", None, "formats: onnx, timm, peft"),
        ("lora", "nowhere/x.onnx", None, "make it first"),
    ],
)
def test_what_cannot_be_written_is_refused_before(name: str, file: str, how: str | None, word: str, tmp_path: Path):
    with pytest.raises(UserError, match=word):
        export(moved(name), tmp_path / file, how)
    assert list(tmp_path.iterdir()) == []
