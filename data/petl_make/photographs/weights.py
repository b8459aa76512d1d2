"""The ViT-Ti's weights from a public mirror, for machines that cannot reach timm's hub; bit-equal to the measured ones.

The mirror has a file for each tensor: as many little-endian int32 as the tensor has dimensions, which are its shape,
and then float32 values in C order. The file's name is the tensor's with "." as "_".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from petl_core.utils import UserError, write_atomic
from petl_make.photographs import table

_LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def dimensions() -> dict[str, int]:
    """The number of dimensions of each of the ViT's 152 tensors, by timm's names."""
    layers = [f"blocks.{block}.{layer}" for block in range(12) for layer in _LAYERS] + ["norm", "head"]
    found = {"cls_token": 3, "pos_embed": 3, "patch_embed.proj.weight": 4, "patch_embed.proj.bias": 1}
    for layer in layers:
        found |= {f"{layer}.weight": 1 if "norm" in layer else 2, f"{layer}.bias": 1}
    return found


def read_tensor(path: Path, number: int) -> np.ndarray:
    """One of the mirror's files with so many dimensions. ``UserError`` where its length is not that of its shape."""
    content = path.read_bytes()
    shape = tuple(np.frombuffer(content[: 4 * number], dtype="<i4").tolist())
    if len(shape) != number or min(shape) < 1 or len(content) != 4 * (number + math.prod(shape)):
        raise UserError(f"{path} is cut or no tensor of {number} dimensions: {len(content)} bytes, shape {shape}")
    return np.frombuffer(content, dtype="<f4", offset=4 * number).reshape(shape)


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Sixteen digits of SHA-256 over each name and its float32 values, in order of names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode("ascii"))
        total.update(tensors[name].astype("<f4").tobytes())
    return total.hexdigest()[:16]


def demand(tensors: Mapping[str, np.ndarray], where: Path) -> str:
    """What is to be told of the weights. ``UserError`` unless they are those that were measured with."""
    found = digest(tensors)
    if found != table.WEIGHTS_DIGEST:
        raise UserError(f"{where} has other weights (digest {found}, {table.WEIGHTS_DIGEST} expected); not used")
    return f"{len(tensors)} tensors, digest {found}, as expected"


def write(tree: Path, target: Path) -> str:
    """Write the mirror's tensors to ``target``; what is to be told of them."""
    tensors = {}
    for name, number in dimensions().items():
        tensors[name] = read_tensor(tree / "parameters" / f"{name.replace('.', '_')}.bin", number)
    text = demand(tensors, tree)
    write_atomic(target, save(tensors, {"format": "pt"}), make_folder=True)
    return text


def look(target: Path) -> str:
    """What is to be told of weights that are there. ``UserError`` where they are other ones, or cannot be read."""
    try:
        return demand(load_file(target), target)
    except UserError:
        raise
    except Exception as error:  # safetensors has an error of its own
        raise UserError(f"{target} cannot be read ({error}); move it away and start again") from error
