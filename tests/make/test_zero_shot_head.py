"""The zero-shot head: against open_clip's own computation, its cache, models that start from it, and all that may be
missing. A whole CLIP model of the real kind, but tiny and random."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

import petl_core as pc
from petl_core.models.weights import digest
from petl_core.models.zero_shot import TOWERS, read_head
from petl_core.utils import UserError
from petl_make import __main__ as command
from petl_make import zero_shot

open_clip = pytest.importorskip("open_clip")

CLIP = "vit_base_patch16_clip_quickgelu_224.openai"
TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
NAMES = ["goldfish", "great white shark", "hen", "window screen"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("configs")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip").eval()
    for tensor in (model.visual.proj, model.text_projection, model.token_embedding.weight, model.positional_embedding):
        torch.nn.init.normal_(tensor, std=0.3)
    return model


@pytest.fixture
def folder(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """PETL_DATA with the model's file under timm's name of the picture tower; timm's model as small; an own cache."""
    from petl_core.models.timm_names import timm_config

    plain = timm.create_model
    small = {"depth": 1, "embed_dim": 32, "num_heads": 2}
    monkeypatch.setattr(timm, "create_model", lambda name, **more: plain(name, **{**small, **more}))
    monkeypatch.setitem(TOWERS, CLIP, ("tiny-clip", "openai"))
    monkeypatch.setenv("PETL_DATA", str(tmp_path))
    monkeypatch.setenv("PETL_CACHE", str(tmp_path / "cache"))
    timm_config.cache_clear()
    safetensors.torch.save_file(model.state_dict(), tmp_path / f"{CLIP}.safetensors")
    (tmp_path / "names.txt").write_text("\n".join([*NAMES, ""]))
    yield tmp_path
    timm_config.cache_clear()


def weights(folder: Path) -> str:
    return str(folder / f"{CLIP}.safetensors")


@torch.no_grad()
def test_the_head_is_clips_up_to_the_length_of_the_feature(model: Any, folder: Path) -> None:
    head = zero_shot.write_head(CLIP, weights(folder), NAMES)
    ours = pc.create_model(CLIP, "linear", head=head).eval()
    vectors = open_clip.build_zero_shot_classifier(
        model, open_clip.get_tokenizer("tiny-clip"), NAMES, open_clip.OPENAI_IMAGENET_TEMPLATES
    )  # (24, 4), from all 77 tokens
    images = torch.randn(6, 3, 224, 224)
    features = model.encode_image(images)
    cosines = torch.nn.functional.normalize(features, dim=1) @ vectors
    photos = zero_shot.mean_length(CLIP, model.visual.proj.T)
    expected = model.logit_scale.exp() * cosines * features.norm(dim=1, keepdim=True) / photos
    logits = ours(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits.argmax(1), cosines.argmax(1)) and logits.std() > 0.1
    assert 0.3 < float(features.norm(dim=1).mean()) / photos < 3
    assert ours.head.out_features == 4 and not ours.head.bias.any()


def test_the_head_of_imagenet_is_found_in_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=rf"there is no zero-shot head of '{CLIP}' in .*; write it once with: python -m"
    ):
        pc.create_model(CLIP, "lora", head="zero_shot")
    monkeypatch.setattr(open_clip, "IMAGENET_CLASSNAMES", NAMES[:3])
    zero_shot.write_head(CLIP, weights(folder), ["owl"])  # other classes: used by its file only
    path = zero_shot.write_head(CLIP, weights(folder))
    assert path.parent == folder / "cache" and digest(CLIP) in path.name
    model = pc.create_model(CLIP, "lora", head="zero_shot")
    assert model.head.out_features == 3 and model.spec.head == "zero_shot"
    assert torch.equal(pc.interpolate(model, 0.0).head.weight, read_head(path, digest(CLIP))[0])
    saved = pc.save_adapter(model, folder / "adapter.safetensors")
    assert torch.equal(pc.load_adapter(saved).initial["head.weight"], model.head.weight)
    with pytest.raises(UserError, match="names 3 classes, num_classes is 10"):
        pc.create_model(CLIP, "lora", head="zero_shot", num_classes=10)


def test_a_head_is_made_once_for_one_tower_and_one_list_of_classes(
    folder: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = zero_shot.write_head(CLIP, weights(folder), NAMES)
    before = first.read_bytes()
    calls = []
    plain = zero_shot.class_vectors
    monkeypatch.setattr(
        zero_shot, "class_vectors", lambda *given, **more: calls.append(given[2]) or plain(*given, **more)
    )
    assert zero_shot.write_head(CLIP, weights(folder), NAMES) == first and first.read_bytes() == before and not calls
    assert zero_shot.write_head(CLIP, weights(folder), NAMES[::-1]) != first and len(calls) == 1
    state = {**model.state_dict(), "text_projection": model.text_projection * 2 + 1}
    safetensors.torch.save_file(state, folder / "other.safetensors")
    assert zero_shot.write_head(CLIP, folder / "other.safetensors", NAMES) != first and len(calls) == 2


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "head.safetensors"
    arguments = ["zero-shot", "--backbone", CLIP, "--text-weights", weights(folder), "--out", str(out)]
    assert command.main([*arguments, "--classes", str(folder / "names.txt"), "--device", "cpu"]) == 0
    assert f"the zero-shot head of 4 classes is in {out}" in capsys.readouterr().out
    assert pc.create_model(CLIP, "linear", head=str(out)).head.out_features == 4
    assert command.main([*arguments[:-1], str(folder / "no/head.safetensors")]) == 2
    assert "in a folder that exists" in capsys.readouterr().err
    (folder / "none.txt").write_text("\n \n")
    assert command.main([*arguments, "--classes", str(folder / "none.txt")]) == 2
    assert "no text file with one class name a line" in capsys.readouterr().err


def test_without_open_clip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = zero_shot.write_head(CLIP, weights(folder), NAMES)
    plain = builtins.__import__

    def no_open_clip(name: str, *more: Any, **rest: Any) -> Any:
        if name == "open_clip":
            raise ModuleNotFoundError("No module named 'open_clip'")
        return plain(name, *more, **rest)

    monkeypatch.setattr(builtins, "__import__", no_open_clip)
    with pytest.raises(UserError, match=r"needs open_clip, which is not here.*-e \.\[clip\]"):
        zero_shot.write_head(CLIP, weights(folder), NAMES)
    assert pc.create_model(CLIP, "linear", head=head).head.out_features == 4  # reading one needs none


def test_without_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOWERS, CLIP, ("ViT-B-16-quickgelu", "openai"))
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    with pytest.raises(UserError, match=r"could not get the text tower of ViT-B-16-quickgelu.*--text-weights FILE"):
        zero_shot.write_head(CLIP, None, NAMES)


def test_towers_that_do_not_belong_together(folder: Path, model: Any) -> None:
    other = {**model.state_dict(), "visual.positional_embedding": torch.randn(197, 32)}
    safetensors.torch.save_file(other, folder / "other.safetensors")
    with pytest.raises(UserError, match="their picture towers differ"):
        zero_shot.write_head(CLIP, folder / "other.safetensors", NAMES)
    picture = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("visual.")}
    safetensors.torch.save_file(picture, folder / "half.safetensors")
    with pytest.raises(UserError, match="no whole CLIP model in OpenAI's names: it lacks token_embedding"):
        zero_shot.write_head(CLIP, folder / "half.safetensors", NAMES)
    longer = {**model.state_dict(), "transformer.resblocks.2.ln_1.bias": torch.zeros(16)}
    safetensors.torch.save_file(longer, folder / "longer.safetensors")
    with pytest.raises(UserError, match=r"not that of open_clip's tiny-clip: transformer\.resblocks\.2\.ln_1\.bias"):
        zero_shot.write_head(CLIP, folder / "longer.safetensors", NAMES)


def test_files_that_are_no_head_of_this_backbone(folder: Path) -> None:
    head = zero_shot.write_head(CLIP, weights(folder), NAMES)
    with pytest.raises(UserError, match=r"is the zero-shot head of .* the backbone asked for has weights"):
        pc.create_model("mini", "linear", head=head)
    with pytest.raises(UserError, match="is no zero-shot head of this version"):
        pc.create_model(CLIP, "linear", head=weights(folder))
    with pytest.raises(UserError, match="there is no zero-shot head at"):
        pc.create_model(CLIP, "linear", head=folder / "gone.safetensors")
    with pytest.raises(UserError, match="needs the backbone's own weights"):
        pc.create_model(CLIP, "linear", head=head, pretrained=False)
    with pytest.raises(UserError, match=r"backbone 'mini' has no text tower, .*: mini_clip, vit_base_patch32_clip"):
        zero_shot.write_head("mini")
    with pytest.raises(UserError, match="one class name or more"):
        zero_shot.write_head(CLIP, weights(folder), ["owl", " "])
