"""Pre-trained backbones: what a name stands for, its weights, their digest, and loading them without surprises.

A backbone is ``mini`` or ``mini_clip`` (embedded, offline), a timm ViT, or the path of a file of ``save_backbone``.
Its weights come from where the name says, or from a file (safetensors, Google's ``.npz``, ``.pth``) in timm's names.
Weights of another shape are refused, and so is a file that leaves any parameter without a value.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from petl_core.models.formats import SUFFIXES, read_checkpoint
from petl_core.models.hub import timm_weights, timm_weights_cached
from petl_core.models.timm_names import canonical, timm_config
from petl_core.utils import EMBEDDED, UserError, petl_data, write_atomic
from petl_core.vit import ViT, ViTConfig

EMBEDDED_NAMES = ("mini", "mini_clip")
_SPARE = ("mask_token", "pre_logits")  # DINOv2's and MAE's training only; a layer of Google's 21k heads


@dataclass(frozen=True)
class Weights:
    """Tensors in timm's names, the file or name they came from, and their configuration if the file says it."""

    tensors: dict[str, Tensor]
    where: str
    config: ViTConfig | None = None


def config_of(name: str, image_size: int | None = None) -> ViTConfig:
    """The shape of a backbone, at its own image size or at another (pixels, a multiple of the patch size).

    Raises ``UserError`` for an unknown name (with close ones), an architecture that ``vit.py`` cannot express (with
    each difference), an impossible image size, or a file that is absent or not one of ``save_backbone``.
    """
    path = _own_file(name)
    if path is not None:
        config = _saved_config(path, read_checkpoint(path)[1])
    else:
        config = timm_config(name)
    if image_size is None or image_size == config.image_size:
        return config
    patch = config.patch_size
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1 or image_size % patch:
        nearest = max(1, round(image_size / patch)) * patch if isinstance(image_size, (int, float)) else patch
        raise UserError(
            f"image_size is {image_size!r}; '{name}' takes multiples of its patch size {patch}: try {nearest}"
        )
    return dataclasses.replace(config, image_size=image_size)


def weights_of(name: str, *, source: bool | str | Path = True) -> Weights:
    """The weights of a backbone as float32 tensors: its own (``source=True``) or those of a file.

    Its own are the embedded ones, or ``<name>.safetensors`` (or .npz, .pth, .bin) in the folder that the environment
    variable PETL_DATA names, or else what timm downloads or has in its cache.
    """
    path = file_of(name) if source is True else Path(str(source))
    if path is not None:
        return _read(path)
    return Weights({key: tensor.float() for key, tensor in canonical(timm_weights(name)).items()}, name)


def file_of(name: str) -> Path | None:
    """The file of a backbone's own weights; None where they are timm's to download or to find in its cache."""
    return _own_file(name) or _local_file(name)


def is_here(name: str) -> bool:
    """Are a backbone's own weights on this machine, so that they need not be downloaded?"""
    return file_of(name) is not None or timm_weights_cached(name)


def digest(name: str, *, source: bool | str | Path = True) -> str:
    """Sixteen hexadecimal digits that name the weights of a backbone, its head excluded, whatever file they are in."""
    return digest_of(weights_of(name, source=source).tensors)


def digest_of(state: dict[str, Tensor]) -> str:
    """The digest of tensors in timm's names; the head and tensors that our ViT does not use are left out."""
    return hash_of({name: t for name, t in state.items() if not name.startswith(("head.", *_SPARE))})[:16]


def hash_of(tensors: dict[str, Tensor], text: str = "") -> str:
    """SHA-256 in hexadecimal of ``text`` and of names, shapes and float32 values of tensors, in order of names."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().float().contiguous().cpu()
        total.update(f"{name}{tuple(tensor.shape)}".encode())
        total.update(tensor.numpy().data)
    return total.hexdigest()


def load_weights(vit: ViT, source: str | Path | Weights, *, keep_head: bool = False) -> None:
    """Copy weights (those of a file, or already read) into ``vit``; the position embedding is resized to its grid.

    The head is loaded only with ``keep_head``. Raises ``UserError`` if the weights are those of another architecture,
    lack a parameter or have one that ``vit`` lacks; ``vit`` is then unchanged.
    """
    weights = source if isinstance(source, Weights) else _read(Path(source))
    where = weights.where
    if keep_head and any(name.startswith("pre_logits") for name in weights.tensors):
        raise UserError(f"the head of {where} follows a pre_logits layer, which our ViT lacks; leave keep_head out")
    state = {name: tensor for name, tensor in weights.tensors.items() if keep_head or not name.startswith("head.")}
    own = {name: p for name, p in vit.named_parameters() if not name.startswith("methods.")}
    _check_architecture(state, own, where)
    _check_hidden_choices(weights.config, vit.config, where)
    wanted = {name: p for name, p in own.items() if keep_head or not name.startswith("head.")}
    added: dict[str, Any] = {  # biases that merging has given to layers which have none
        f"{name}.bias": (module, torch.nn.Parameter(torch.zeros(len(module.weight))))
        for name, module in vit.named_modules()
        if weights.config is not None and f"{name}.bias" in state and getattr(module, "bias", 0) is None
    }
    wanted.update({name: bias for name, (_, bias) in added.items()})
    if "pos_embed" in state:
        before = vit.config.prefix if vit.config.position == "tokens" else 0
        state["pos_embed"] = resize_position(state["pos_embed"], vit.config.grid, before)
    _check_fit(state, wanted, where)
    for module, bias in added.values():
        module.bias = bias
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(state[name])


def _check_fit(state: dict[str, Tensor], wanted: dict[str, torch.nn.Parameter], where: str) -> None:
    """``UserError`` unless each parameter has a tensor of its shape, and each tensor a parameter or a known reason."""
    left = [name for name in state if name not in wanted]
    spare = [name for name in left if name.startswith(_SPARE)]
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in left if name not in spare]
    if missing or unexpected:
        raise UserError(
            f"{where} does not fit: missing {_some(missing)}; unexpected {_some(unexpected)}. Nothing was loaded; "
            "give a file of this architecture, with timm's names"
        )
    odd = [f"{n} {tuple(state[n].shape)} for {tuple(p.shape)}" for n, p in wanted.items() if state[n].shape != p.shape]
    if odd:
        hint = "; relative positions are not resized: keep the image size" if "relative" in odd[0] else ""
        raise UserError(f"{where} does not fit, shapes differ: {_some(odd)}{hint}. Nothing was loaded")
    if spare:
        warnings.warn(f"not used from {where}: {', '.join(spare)}", stacklevel=3)


def resize_position(position: Tensor, grid: int, before: int = 1) -> Tensor:
    """Position embedding (1, before + n*n, D) to (1, before + grid*grid, D): those before the patches stay, the others'
    map of n x n vectors is resized by bicubic interpolation with antialiasing, as timm's ``resample_abs_pos_embed``."""
    old = math.isqrt(position.shape[1] - before)
    if old == grid or old * old != position.shape[1] - before:
        return position
    first, patches = position[:, :before], position[:, before:]
    picture = patches.reshape(1, old, old, -1).permute(0, 3, 1, 2)  # (1, D, n, n)
    picture = F.interpolate(picture, size=(grid, grid), mode="bicubic", antialias=True)
    return torch.cat([first, picture.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def save_backbone(
    vit: ViT, path: str | Path, extra_metadata: dict[str, str] | None = None, *, half: bool = False
) -> Path:
    """Write a whole ViT without attached methods (pre-trained, fully tuned or merged), its head and its configuration,
    as safetensors, in float16 if ``half``; ``create_model(path, ...)`` takes the file as a backbone."""
    path = Path(path)
    if len(vit.methods):
        names = ", ".join(vit.methods)
        raise UserError(f"the model has methods attached ({names}); merge it first, or use save_adapter")
    if path.suffix != ".safetensors":
        raise UserError(f"a backbone is written as .safetensors, not as '{path.name}'; choose such a name")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in vit.state_dict().items()}
    if half:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    metadata = {**(extra_metadata or {}), "config": json.dumps(dataclasses.asdict(vit.config))}
    return write_atomic(path, safetensors.torch.save(tensors, metadata))


def _read(path: Path) -> Weights:
    tensors, metadata = read_checkpoint(path)
    if "adapter" in metadata:
        raise UserError(f"{path} is an adapter, not a backbone; open it with petl_core.load_adapter('{path}')")
    return Weights(canonical(tensors), str(path), _saved_config(path, metadata) if "config" in metadata else None)


def _own_file(name: str) -> Path | None:
    """The file behind an embedded name or a path; None for any other name, which is timm's business."""
    if name in EMBEDDED_NAMES:
        path = EMBEDDED / f"{name}.safetensors"
        if not path.is_file():
            raise UserError(f"the embedded backbone '{name}' is not at {path}; get the whole checkout, or name another")
        return path
    return Path(name) if str(name).endswith(".safetensors") else None


def _local_file(name: str) -> Path | None:
    """The file of a timm backbone's weights below PETL_DATA, if there is one."""
    root = petl_data()
    places = (root / f"{name}{suffix}" for suffix in SUFFIXES) if root is not None else ()
    return next((place for place in places if place.is_file()), None)


def _saved_config(path: Path, metadata: dict[str, str]) -> ViTConfig:
    try:
        fields: dict[str, Any] = json.loads(metadata["config"])
        pairs: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return ViTConfig(**pairs)
    except KeyError:
        raise UserError(
            f"{path} does not say its architecture (no 'config' in its metadata): give a timm name as backbone and "
            "this file as pretrained"
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} has a damaged 'config' in its metadata ({error}); fetch it again") from error


def _check_hidden_choices(saved: ViTConfig | None, config: ViTConfig, where: str) -> None:
    """What no tensor shows, so that only files of ``save_backbone`` tell."""
    for field in dataclasses.fields(ViTConfig):
        asked = getattr(config, field.name)
        held = getattr(saved, field.name, asked)
        if held != asked and field.name not in ("image_size", "mlp_ratio", "mean", "std"):
            raise UserError(
                f"{where} holds a ViT with {field.name}={held}; asked for was {field.name}={asked}. Nothing was loaded"
            )


def _check_architecture(state: dict[str, Tensor], own: dict[str, torch.nn.Parameter], where: str) -> None:
    """Raise ``UserError`` that says what the weights are and what was asked for, if they are not the same ViT."""
    if "patch_embed.proj.weight" not in state or not any(name.startswith("blocks.") for name in state):
        raise UserError(f"{where} holds no ViT with timm's names; it has {_some(list(state))}. Nothing was loaded")
    held, asked = describe(state), describe(own)
    if held != asked:
        raise UserError(f"{where} holds a ViT with {held}; asked for was one with {asked}. Nothing was loaded")


def describe(state: dict[str, Tensor] | dict[str, torch.nn.Parameter]) -> str:
    """What tensors in timm's names are, in words: "width 192, 12 blocks, MLP 768, patch 16"."""
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    hidden = state["blocks.0.mlp.fc2.weight"].shape[1] if "blocks.0.mlp.fc2.weight" in state else "?"
    width, patch = state["patch_embed.proj.weight"].shape[0], state["patch_embed.proj.weight"].shape[-1]
    text = f"width {width}, {depth} blocks, MLP {hidden}, patch {patch}"
    there = {
        "blocks.0.ls1.gamma": "LayerScale",
        "norm_pre.weight": "a norm before the blocks",
        "reg_token": "registers",
        "attn_pool.latent": "attention pooling",
        "blocks.0.attn.norm.weight": "a norm in the attention",
        "blocks.0.mlp.norm.weight": "a norm in the MLP",
        "blocks.0.attn.relative_position_bias_table": "relative positions",
    }
    missing = {"cls_token": "no class token", "pos_embed": "no positions"}
    words = [word for name, word in there.items() if name in state]
    words += [word for name, word in missing.items() if name not in state]
    return ", ".join([text, *words])


def _some(names: list[str]) -> str:
    """The first few of a list of names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) + more) or "nothing"
