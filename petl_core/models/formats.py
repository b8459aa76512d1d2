"""Reading weights files: safetensors, Google's ``.npz`` and PyTorch's ``.pth`` all become tensors under timm's names.
CLIP's picture tower, under OpenAI's names in either kind of file, does too.

Nothing here knows which model the tensors are for; ``weights.py`` compares and loads them. No pickled code is run:
``.pth`` files are read with ``weights_only=True``, ``.npz`` files without ``allow_pickle``.
"""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from petl_core.utils import UserError

SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin")
READERS = (SafetensorError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError)
DAMAGE = (*READERS, OSError, ValueError, RuntimeError, EOFError, KeyError)  # of files cut short, or something else
_WRAPPERS = ("model", "state_dict")  # keys under which .pth files keep the tensors (MAE: "model")


def read_checkpoint(path: str | Path, *, convert: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a weights file, floating-point ones as float32 on the CPU, and its metadata (safetensors only).

    Of a CLIP model under OpenAI's names only the picture tower is kept, under timm's; not so without ``convert``.
    Raises ``UserError`` if the file is absent, of another kind, truncated or corrupt.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is not a weights file this package reads; allowed: {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"no weights file at {path}; give the path of an existing {', '.join(SUFFIXES)} file")
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            tensors, metadata = _read_safetensors(path)
        elif path.suffix == ".npz":
            tensors = from_jax(_read_npz(path))
        else:
            tensors = _read_torch(path)
        if convert and "visual.class_embedding" in tensors:
            tensors = from_openai(tensors)
    except PermissionError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"{path} is not a readable {path.suffix} file ({reason}); it may be cut short: fetch it again"
        raise UserError(message) from error
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _read_torch(path: Path) -> dict[str, Tensor]:
    if _is_program(path):
        raise ValueError(
            "it is a TorchScript program, as OpenAI's own ViT-B-16.pt is, not a dictionary of tensors; take the same "
            "weights from huggingface.co/timm/vit_base_patch16_clip_224.openai, open_clip_model.safetensors"
        )
    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError("it holds no dictionary of tensors")
    return {name.removeprefix("module."): value for name, value in content.items()}  # DataParallel adds "module."


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


# Google's checkpoints (github.com/google-research/vision_transformer), named as Flax names modules.
GOOGLE_TENSORS = {"cls": "cls_token", "Transformer/posembed_input/pos_embedding": "pos_embed"}
GOOGLE_MODULES = {
    "embedding": "patch_embed.proj",
    "Transformer/encoder_norm": "norm",
    "head": "head",
    "LayerNorm_0": "norm1",  # this and what follows: in each block
    "LayerNorm_2": "norm2",
    "MlpBlock_3/Dense_0": "mlp.fc1",
    "MlpBlock_3/Dense_1": "mlp.fc2",
    "MultiHeadDotProductAttention_1/query": "attn.q",
    "MultiHeadDotProductAttention_1/key": "attn.k",
    "MultiHeadDotProductAttention_1/value": "attn.v",
    "MultiHeadDotProductAttention_1/out": "attn.proj",
}
GOOGLE_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def from_jax(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Google's names and layouts to timm's. A name that is not known stays, so that loading reports it."""
    state: dict[str, Tensor] = {}
    for name, tensor in arrays.items():
        path, _, leaf = name.rpartition("/")
        block = re.fullmatch(r"Transformer/encoderblock_(\d+)/(.+)", path)
        prefix, path = (f"blocks.{block[1]}.", block[2]) if block else ("", path)
        if path in GOOGLE_MODULES and leaf in GOOGLE_LEAVES:
            module = GOOGLE_MODULES[path]
            state[f"{prefix}{module}.{GOOGLE_LEAVES[leaf]}"] = _torch_layout(tensor, module, leaf)
        else:
            state[GOOGLE_TENSORS.get(name, name)] = tensor
    for name in [name for name in state if ".attn.q." in name]:  # queries, keys and values become one fused layer
        parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if all(part in state for part in parts):
            state[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat([state.pop(part) for part in parts])
    return state


def _torch_layout(tensor: Tensor, module: str, leaf: str) -> Tensor:
    """Flax: kernels input first, attention heads apart: (in, out), (in, H, out/H), (H, in/H, out), (h, w, in, out)."""
    if leaf != "kernel":
        return tensor.flatten()
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    if tensor.ndim == 3:
        tensor = tensor.flatten(0, 1) if module == "attn.proj" else tensor.flatten(1)
    return tensor.T.contiguous()


# CLIP's picture tower as OpenAI (github.com/openai/CLIP) and open_clip name it. Its text tower is open_clip's business.
OPENAI = {
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "conv1.": "patch_embed.proj.",
    "ln_pre.": "norm_pre.",
    "ln_post.": "norm.",
    "transformer.resblocks.": "blocks.",
    ".ln_1.": ".norm1.",
    ".ln_2.": ".norm2.",
    ".attn.in_proj_": ".attn.qkv.",
    ".attn.out_proj.": ".attn.proj.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}


def from_openai(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The picture tower of a CLIP model in timm's names and layouts; ``head`` is the projection to the common space."""
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith("visual."):
            name = name.removeprefix("visual.")
            for theirs, ours in OPENAI.items():
                name = name.replace(theirs, ours)
            state[name] = tensor
    width = state["cls_token"].numel()
    state["cls_token"] = state["cls_token"].reshape(1, 1, width)
    state["pos_embed"] = state["pos_embed"].reshape(1, -1, width)
    if "proj" in state:
        state["head.weight"] = state.pop("proj").T.contiguous()  # theirs is (D, E)
        state["head.bias"] = torch.zeros(len(state["head.weight"]))
    return state
