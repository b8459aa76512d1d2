"""Saved adapters: only what was trained, in a safetensors file whose metadata say how to rebuild the rest.

The metadata hold the backbone's name and the digest of its weights, the methods with their hyper-parameters, classes,
image size and a checksum. The head is always in the file. No code is stored, and none is run on loading.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from petl_core import methods
from petl_core.models.build import Model, ModelSpec, need_spec, rebuild, set_alpha, trains
from petl_core.models.formats import read_checkpoint
from petl_core.models.weights import digest_of, hash_of
from petl_core.utils import UserError, __version__, write_atomic

FORMAT = "1"


def save_adapter(model: Model, path: str | Path, notes: dict[str, Any] | None = None) -> Path:
    """Write what was trained, and what is needed to rebuild the rest, to a safetensors file.

    ``notes`` are plain JSON values about the model, such as its classes; ``load_adapter`` puts them in ``model.notes``.
    Raises ``UserError`` if the file cannot be written (an old one then stays as it was), if the model is a merged one,
    or if parameters train that belong to no method.
    """
    need_spec(model, "save_adapter")
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"an adapter is written as .safetensors, not as '{path.name}'; choose such a name")
    stray = [n for n, p in model.named_parameters() if p.requires_grad and not trains(model.spec, n, model.config)]
    if stray:
        raise UserError(
            f"{len(stray)} parameters train that belong to no method, such as {stray[0]}; a file of this model would "
            "be incomplete: unfreeze them with a method, such as 'selective'"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trained(model).items()}
    fields = {"alpha": model.alpha, "petl_core": __version__, "spec": model.spec.plain()}
    fields["notes"] = model.notes if notes is None else notes
    if model.spec.source == "random":
        fields["random_weights"] = _initial_digest(model)
    text = json.dumps(fields, sort_keys=True)
    metadata = {"adapter": FORMAT, "fields": text, "checksum": hash_of(tensors, text)}
    return write_atomic(path, safetensors.torch.save(tensors, metadata))


def load_adapter(path: str | Path, backbone_weights: str | Path | None = None) -> Model:
    """Rebuild a saved model. The backbone's weights come from where they came from, or from ``backbone_weights``.

    Raises ``UserError`` if the file is damaged or no adapter, or if the backbone's weights are not those that the
    adapter was trained on.
    """
    path = Path(path)
    tensors, fields = _read_adapter(path)
    spec, alpha = read_spec(path, fields)
    file = spec.source not in ("default", "random")
    if backbone_weights is None and file and not Path(spec.source).is_file():
        raise UserError(
            f"{path} was trained on the backbone weights in {spec.source}, which is not there now; say where they are: "
            "load_adapter(path, backbone_weights='file')"
        )
    model = rebuild(spec, backbone_weights)
    _check_backbone(path, model, spec, fields)
    own = trained(model)
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
        raise UserError(f"{path} holds other tensors than its methods have in this version of the package; train anew")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    if alpha != 1.0:
        set_alpha(model, alpha)
    model.notes = fields.get("notes", {})
    return model


def _check_backbone(path: Path, model: Model, spec: ModelSpec, fields: dict[str, Any]) -> None:
    if model.spec.weights != spec.weights:
        raise UserError(
            f"{path} was trained on '{spec.backbone}' with weights {spec.weights} ({spec.source}), but those given "
            f"now ({model.spec.source}) are {model.spec.weights}; give the same (backbone_weights='file')"
        )
    if spec.weights == "random" and _initial_digest(model) != fields["random_weights"]:
        raise UserError(
            f"{path} was trained on random weights, which this version of torch draws otherwise; train anew"
        )


def trained(model: Model) -> dict[str, Tensor]:
    """The head, all that the methods added (buffers too), and the unfrozen backbone parameters."""
    state = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if trains(model.spec, name, model.config)}


def _initial_digest(model: Model) -> str:
    """The digest of the backbone before training."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("methods.")}
    return digest_of({**state, **model.initial})


def _read_adapter(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = read_checkpoint(path)
    if "adapter" not in metadata:
        raise UserError(f"{path} is not an adapter: it was not written by save_adapter")
    if metadata["adapter"] != FORMAT:
        raise UserError(f"{path} has adapter format '{metadata['adapter']}', this version reads '{FORMAT}'")
    if metadata.get("checksum") != hash_of(tensors, metadata.get("fields", "")):
        raise UserError(f"{path} was changed after it was written (its checksum differs); get it again")
    return tensors, json.loads(metadata["fields"])


def read_spec(path: Path, fields: dict[str, Any]) -> tuple[ModelSpec, float]:
    """Spec and alpha of an intact file; its methods may be unknown to this version of the package, or have changed."""
    try:
        held: dict[str, Any] = dict(fields["spec"])
        held["methods"] = tuple(_method(plain) for plain in held["methods"])
        return ModelSpec(**held), float(fields["alpha"])
    except (KeyError, TypeError, ValueError) as error:
        version = fields.get("petl_core", "an unknown version")
        raise UserError(
            f"{path}, written by petl_core {version}, cannot be rebuilt by {__version__}: {error}"
        ) from error


def _method(plain: dict[str, Any]) -> methods.Method:
    hyper = {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items() if key != "name"}
    return methods.get(plain["name"], **hyper)
