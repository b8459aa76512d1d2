"""Weights files: Google's npz against timm's own reader, .pth, and files that are damaged, absent or something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from petl_core import create_model
from petl_core.models.formats import read_checkpoint
from petl_core.utils import UserError

NAME = "vit_tiny_patch16_224"


def google_names(width: int = 192, depth: int = 12, heads: int = 3, classes: int = 5) -> dict[str, np.ndarray]:
    """Random weights with the names and layouts of Google's ViT files (there: ViT-B_16.npz and others)."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)

    each, hidden = width // heads, 4 * width
    arrays = {
        "embedding/kernel": draw(16, 16, 3, width),
        "embedding/bias": draw(width),
        "cls": draw(1, 1, width),
        "Transformer/posembed_input/pos_embedding": draw(1, 197, width),
        "Transformer/encoder_norm/scale": 1 + draw(width),
        "Transformer/encoder_norm/bias": draw(width),
        "head/kernel": draw(width, classes),
        "head/bias": draw(classes),
    }
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            arrays[f"{attention}/{part}/kernel"] = draw(width, heads, each)
            arrays[f"{attention}/{part}/bias"] = draw(heads, each)
        arrays[f"{attention}/out/kernel"] = draw(heads, each, width)
        arrays[f"{attention}/out/bias"] = draw(width)
        arrays[f"{block}/MlpBlock_3/Dense_0/kernel"] = draw(width, hidden)
        arrays[f"{block}/MlpBlock_3/Dense_0/bias"] = draw(hidden)
        arrays[f"{block}/MlpBlock_3/Dense_1/kernel"] = draw(hidden, width)
        arrays[f"{block}/MlpBlock_3/Dense_1/bias"] = draw(width)
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            arrays[f"{block}/{norm}/scale"] = 1 + draw(width)
            arrays[f"{block}/{norm}/bias"] = draw(width)
    return arrays


@torch.no_grad()
def test_google_files_load_as_timm_loads_them(tmp_path: Path) -> None:
    path = tmp_path / "ViT-Ti_16.npz"
    np.savez(path, **google_names())
    with torch.device("meta"):
        theirs = timm.create_model(NAME, num_classes=5)
    theirs.to_empty(device="cpu").load_pretrained(str(path))
    ours = create_model(NAME, "linear", pretrained=path, keep_head=True)
    state = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=0, atol=1e-5)


def test_google_heads_behind_pre_logits(tmp_path: Path) -> None:
    path = tmp_path / "ViT-Ti_16.npz"
    extra = {"pre_logits/kernel": np.zeros((192, 192), "f4"), "pre_logits/bias": np.zeros(192, "f4")}
    np.savez(path, **google_names(), **extra)
    with pytest.raises(UserError, match="follows a pre_logits layer"):
        create_model(NAME, "linear", pretrained=path, keep_head=True)
    with pytest.warns(UserWarning, match="not used from .*pre_logits/kernel, pre_logits/bias"):
        assert create_model(NAME, "linear", pretrained=path, num_classes=3).head.out_features == 3


def test_google_files_with_something_missing(tmp_path: Path) -> None:
    arrays = google_names()
    del arrays["Transformer/encoderblock_3/MultiHeadDotProductAttention_1/key/bias"]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=r"missing blocks.3.attn.qkv.bias; unexpected blocks.3.attn.q.bias"):
        create_model(NAME, "linear", pretrained=tmp_path / "a.npz", num_classes=3)


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float16), "c": torch.tensor([7])}


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_pth_files(tmp_path: Path, tensors: dict[str, Tensor], wrapper: str | None) -> None:
    path = tmp_path / "a.pth"
    content = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, path)
    held, metadata = read_checkpoint(path)
    assert metadata == {}
    assert {name: tensor.dtype for name, tensor in held.items()} == {
        "a": torch.float32,
        "b": torch.float32,
        "c": torch.int64,
    }
    assert all(torch.equal(held[name], tensors[name].to(held[name].dtype)) for name in tensors)


class Trap:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_code_in_files_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"a": Trap(trace)}, tmp_path / "a.pth")
    np.savez(tmp_path / "a.npz", a=np.array([Trap(trace)], dtype=object))
    for name in ("a.pth", "a.npz"):
        with pytest.raises(UserError, match=name):
            read_checkpoint(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.98])
def test_truncated_files(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"weights{suffix}"
    big = {f"t{i}": torch.randn(50, 50) for i in range(4)}
    if suffix == ".safetensors":
        safetensors.torch.save_file(big, path)
    elif suffix == ".npz":
        np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in big.items()})
    else:
        torch.save(big, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(UserError, match=f"weights{suffix} is not a readable {suffix} file"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_files_of_noise(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(UserError, match="may be cut short"):
        read_checkpoint(path)


def test_a_corrupt_array_inside_a_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.random.default_rng(0).standard_normal(5000))
    damaged = bytearray(path.read_bytes())
    damaged[20_000] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"a\.npz is not a readable"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.safetensors", "no weights file at"), ("a.txt", r"allowed: \.safetensors, \.npz"), ("a", "allowed")],
)
def test_absent_and_other_files(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / name)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UserError, match="no weights file at"):
        read_checkpoint(tmp_path / "folder.npz")


def test_a_pth_file_with_something_else(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no dictionary of tensors"):
        read_checkpoint(tmp_path / "a.pth")
