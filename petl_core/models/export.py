"""Models for other tools: ONNX, a timm state dict, an adapter of Hugging Face peft. Nothing is written unchecked.

    export(model, "model.onnx")              any method; any batch; tried with onnxruntime where that is installed
    export(model, "model.safetensors")       timm's names, for timm.create_model(name, checkpoint_path=...)
    export(model, "folder", format="peft")   LoRA alone, for peft.PeftModel.from_pretrained(timm_model, "folder")

Each comes with a model card, ``<name>.md``, that says what the model is, its classes, and how images are prepared.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from petl_core import methods
from petl_core.models.build import Model, merge, need_spec
from petl_core.models.timm_names import timm_state
from petl_core.utils import UserError, __version__, write_atomic

ONNX, TIMM, PEFT = "onnx", "timm", "peft"
SUFFIXES = {".onnx": ONNX, ".safetensors": TIMM, "": PEFT}
CLOSE = 1e-4  # between the logits of the model and of what was exported
BATCHES = (1, 3)  # on which an export is tried


def export(model: Model, path: str | Path, format: str | None = None) -> Path:
    """Write a model for another tool; returns the path. ``format`` is "onnx", "timm" or "peft" (default: by suffix).

    Raises ``UserError`` for an unknown format, a method that the format cannot hold, a package that is missing, or an
    export whose logits are further than ``CLOSE`` from the model's; then nothing is written.
    """
    path = Path(path)
    chosen = format or SUFFIXES.get(path.suffix)
    if chosen not in WRITERS:
        raise UserError(f"cannot export {path.name} as {format or path.suffix!r}; formats: {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    need_spec(model, "export")
    model = model.eval()
    for target, content in WRITERS[chosen](model, path).items():
        write_atomic(target, content, make_folder=True)
    write_atomic(path / "README.md" if chosen == PEFT else path.with_suffix(".md"), card(model, chosen).encode())
    return path


def _onnx(model: Model, path: Path) -> dict[Path, bytes]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise UserError(
            f"an ONNX export needs {error.name}; install it: pip install onnx onnxscript onnxruntime"
        ) from None
    example = _images(model, BATCHES[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    content = program.model_proto.SerializeToString()  # type: ignore[union-attr]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _check(model, lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0]), ONNX)
    return {path: content}


def _timm(model: Model, path: Path) -> dict[Path, bytes]:
    import timm

    plain, name = _merged(model), model.spec.backbone
    state = plain.state_dict()
    if timm.is_model(name.partition(".")[0]):  # else it is one of our own, whose names are timm's
        state = timm_state(plain, name)
        theirs = timm.create_model(name, num_classes=plain.head.out_features, img_size=plain.config.image_size)
        theirs.load_state_dict(state)
        _check(model, theirs.eval(), TIMM)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    return {path: safetensors.torch.save(tensors, {"format": "pt"})}


def _merged(model: Model) -> Model:
    try:
        return merge(model)
    except ValueError as error:
        raise UserError(f"a timm state dict holds no added parts: {error}. ONNX takes every method") from error


def _peft(model: Model, path: Path) -> dict[Path, bytes]:
    names = [method.name for method in model.spec.methods]
    if names != ["lora"]:
        raise UserError(f"a peft adapter can hold LoRA alone, not {' + '.join(names) or 'a merged model'}")
    lora: Any = model.spec.methods[0]
    start = "base_model.model"
    state: dict[str, Tensor] = {f"{start}.head.{key}": value for key, value in model.head.state_dict().items()}
    updates: Any = model.methods["lora"]
    for number, update in enumerate(updates):
        site = f"{start}.blocks.{number}.attn.qkv"
        state |= {f"{site}.lora_A.weight": update.down.weight, f"{site}.lora_B.weight": update.up.weight}
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": model.spec.backbone,
        "r": lora.rank,
        "lora_alpha": model.alpha * lora.scale * lora.rank,
        "lora_dropout": lora.dropout,
        "target_modules": ["qkv"],
        "modules_to_save": ["head"],
        "bias": "none",
        "inference_mode": True,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return {
        path / "adapter_model.safetensors": safetensors.torch.save(tensors, {"format": "pt"}),
        path / "adapter_config.json": json.dumps(settings, indent=1).encode(),
    }


WRITERS: dict[str, Callable[[Model, Path], dict[Path, bytes]]] = {ONNX: _onnx, TIMM: _timm, PEFT: _peft}


def _images(model: Model, count: int) -> Tensor:
    """Random normalised images (count, 3, S, S), the same each time."""
    size = model.config.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


@torch.no_grad()
def _check(model: Model, other: Callable[[Tensor], Tensor], what: str) -> None:
    for count in BATCHES:
        images = _images(model, count)
        expected = model.cpu()(images)
        apart = float((other(images) - expected).abs().max())
        if not apart <= CLOSE * max(1.0, float(expected.abs().max())):
            raise UserError(
                f"the {what} export gives other logits than the model, up to {apart:.2g}; nothing is written"
            )


def card(model: Model, written_as: str) -> str:
    """A model card in Markdown: what it is, its classes, how images are prepared, what was measured."""
    notes, config = model.notes, model.config
    tuned = " + ".join(methods.title(method.name) for method in model.spec.methods) or "merged"
    lines = [
        f"# {model.spec.backbone}, {tuned}",
        "",
        f"Written by petl_core {__version__} as {written_as}: a Vision Transformer, {model.head.out_features} classes.",
        "",
        f"- Images: RGB, {config.image_size} x {config.image_size} pixels, values in 0 to 1, then normalised with mean "
        f"{_three(config.mean)} and standard deviation {_three(config.std)}.",
    ]
    if resize := notes.get("preparation", {}).get("resize"):
        lines.append(f"- Squares are made by: {resize}.")
    if accuracy := notes.get("test_accuracy"):
        lines.append(f"- Measured: {accuracy:.1f} % on {notes.get('test_images', 'its')} test images.")
    if classes := notes.get("classes"):
        lines += ["- Classes, in the order of the logits:", "", *(f"  {i}. `{name}`" for i, name in enumerate(classes))]
    return "\n".join([*lines, ""])


def _three(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values)
