"""Saving what was trained and rebuilding it; files that were tampered with, belong elsewhere, or cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from small import disturbed, gap, small_backbone
from torch import Tensor, nn

import petl_core as pc
from petl_core import create_model, interpolate, load_adapter, merge, save_adapter
from petl_core.models.adapters import trained
from petl_core.models.build import Model, ModelSpec, attach
from petl_core.models.weights import hash_of
from petl_core.utils import UserError
from petl_core.vit import ViTConfig


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    return str(small_backbone(tmp_path / "small.safetensors"))


def rewritten(path: Path, **changes: str) -> Path:
    """The file with other metadata and the same tensors."""
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(tensors, path, {**metadata, **changes})
    return path


def test_composed_interpolated_and_resized_models_come_back(backbone: str, tmp_path: Path) -> None:
    model = disturbed(create_model(backbone, "lora+difffit", num_classes=4, image_size=16))
    half = interpolate(model, 0.5)
    again = load_adapter(save_adapter(half, tmp_path / "a.safetensors")).eval()
    assert gap(half, again) == 0.0
    assert gap(interpolate(half, 0.5), interpolate(again, 0.5)) == 0.0
    large = disturbed(create_model(backbone, "lora", keep_head=True, image_size=32))
    again = load_adapter(save_adapter(large, tmp_path / "b.safetensors")).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(large(images), again(images))


def test_random_backbones_come_back_from_their_seed(backbone: str, tmp_path: Path) -> None:
    model = disturbed(create_model(backbone, "bitfit", num_classes=4, pretrained=False, seed=11))
    path = save_adapter(model, tmp_path / "a.safetensors")
    assert gap(model, load_adapter(path).eval()) == 0.0
    with pytest.raises(UserError, match="with weights random"):
        load_adapter(path, backbone_weights=backbone)


def test_only_what_was_trained_is_in_the_file(backbone: str, tmp_path: Path) -> None:
    for method in ("lora", "bitfit"):
        model = create_model(backbone, method, num_classes=4)
        with safe_open(save_adapter(model, tmp_path / "a.safetensors"), "pt") as file:
            held = set(file.keys())
        assert held == {name for name, p in model.named_parameters() if p.requires_grad}


def test_lora_8_on_vit_base_takes_1_25_megabytes_besides_the_head(tmp_path: Path) -> None:
    spec = ModelSpec("vit_base_patch16_224", "0" * 16, "default", (pc.methods.get("lora", rank=8),), 100, 224)
    with torch.device("meta"):  # the file does not hold the other 86 million numbers
        model = attach(Model(ViTConfig(), 100), spec)
    for name, tensor in trained(model).items():
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(torch.randn(tensor.shape)))
    size = save_adapter(model, tmp_path / "a.safetensors").stat().st_size
    head = 4 * (768 * 100 + 100)
    assert 4 * 294_912 < size - head <= 1_250_000


def test_weights_from_another_file_of_the_same_content(backbone: str, tmp_path: Path) -> None:
    file = Path(backbone).rename(tmp_path / "moved.safetensors")
    small_backbone(Path(backbone))
    model = disturbed(create_model(backbone, "lora", num_classes=4, pretrained=file))
    path = save_adapter(model, tmp_path / "a.safetensors")
    file.rename(tmp_path / "again.safetensors")
    with pytest.raises(UserError, match=r"moved\.safetensors, which is not there now.*backbone_weights="):
        load_adapter(path)
    assert gap(model, load_adapter(path, backbone_weights=tmp_path / "again.safetensors").eval()) == 0.0


def test_other_backbone_weights_are_refused(backbone: str, tmp_path: Path) -> None:
    path = save_adapter(create_model(backbone, "lora", num_classes=4), tmp_path / "a.safetensors")
    other = small_backbone(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(
        UserError, match=r"a\.safetensors was trained on .* with weights [0-9a-f]{16} .* are [0-9a-f]{16}"
    ):
        load_adapter(path, backbone_weights=other)
    small_backbone(Path(backbone), seed=1)
    with pytest.raises(UserError, match="give the same"):
        load_adapter(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rank": 8', '"rank": 4'),
        ('"scale": 1.0', '"scale": 2.0'),
        ('"alpha": 1.0', '"alpha": 0.5'),
        ('"num_classes": 4', '"num_classes": 5'),
        ('"image_size": 16', '"image_size": 32'),
        ('"name": "lora"', '"name": "ssf"'),
        ("}", ""),
    ],
)
def test_changed_metadata_are_noticed(backbone: str, tmp_path: Path, old: str, new: str) -> None:
    path = save_adapter(create_model(backbone, "lora", num_classes=4), tmp_path / "a.safetensors")
    with safe_open(path, "pt") as file:
        fields = file.metadata()["fields"]
    assert old in fields
    with pytest.raises(UserError, match=r"a\.safetensors was changed after it was written"):
        load_adapter(rewritten(path, fields=fields.replace(old, new)))


def test_one_changed_bit_is_noticed(backbone: str, tmp_path: Path) -> None:
    path = save_adapter(create_model(backbone, "lora", num_classes=4), tmp_path / "a.safetensors")
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="was changed"):
        load_adapter(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": [{"name": "lora", "ranks": 8}]}, "no hyper-parameter 'ranks'"),
        ({"methods": [{"name": "loha"}]}, "unknown method 'loha'"),
        ({"colour": "red"}, "cannot be rebuilt"),
        ({"methods": [{"name": "lora", "rank": 4}]}, "holds other tensors"),
    ],
)
def test_files_of_other_versions_say_so(backbone: str, tmp_path: Path, change: dict[str, object], message: str) -> None:
    """Intact, with a checksum that is right, but not what this version writes."""
    path = save_adapter(create_model(backbone, "lora", num_classes=4), tmp_path / "a.safetensors")
    with safe_open(path, "pt") as file:
        fields = json.loads(file.metadata()["fields"])
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = json.dumps({**fields, "spec": {**fields["spec"], **change}})
    with pytest.raises(UserError, match=message):
        load_adapter(rewritten(path, fields=text, checksum=hash_of(tensors, text)))
    with pytest.raises(UserError, match="adapter format '2'"):
        load_adapter(rewritten(path, adapter="2"))


def test_other_files_are_no_adapters_and_adapters_no_backbones(backbone: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not an adapter"):
        load_adapter(backbone)
    with pytest.raises(UserError, match="no weights file"):
        load_adapter(tmp_path / "absent.safetensors")
    path = save_adapter(create_model(backbone, "lora", num_classes=4), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="is an adapter, not a backbone"):
        create_model(backbone, "lora", num_classes=4, pretrained=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cut short"):
        load_adapter(path)


def test_models_that_no_adapter_describes_are_refused(backbone: str, tmp_path: Path) -> None:
    model = create_model(backbone, "lora", num_classes=4)
    with pytest.raises(UserError, match="merged model"):
        save_adapter(merge(model), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"written as \.safetensors"):
        save_adapter(model, tmp_path / "a.pth")
    model.blocks[0].norm1.weight.requires_grad_(True)
    with pytest.raises(
        UserError, match=r"1 parameters train that belong to no method, such as blocks\.0\.norm1\.weight"
    ):
        save_adapter(model, tmp_path / "a.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["small.safetensors"]


def test_impossible_places_leave_nothing_behind(backbone: str, tmp_path: Path) -> None:
    model = create_model(backbone, "lora", num_classes=4)
    with pytest.raises(UserError, match=r"cannot write .*make the folder first"):
        save_adapter(model, tmp_path / "absent" / "a.safetensors")
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(UserError, match="that is a folder"):
        save_adapter(model, tmp_path / "a.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "small.safetensors"]


def test_a_disk_that_fills_up_keeps_the_old_file(backbone: str, tmp_path: Path) -> None:
    """In a process that may write no file longer than 4 kB, where the adapter takes about 20."""
    path = save_adapter(create_model(backbone, "linear", num_classes=4), tmp_path / "a.safetensors")
    old = path.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from petl_core import create_model, save_adapter\n"
        "model = create_model(sys.argv[1], 'lora', num_classes=4)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: save_adapter(model, sys.argv[2])\n"
        "except ValueError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, backbone, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith(f"cannot write {path}: file too large")
    assert path.read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "small.safetensors"]
