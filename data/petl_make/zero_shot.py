"""The study's zero-shot head: a linear layer over CLIP's picture tower, written by CLIP's text tower.

For each of ImageNet's 1,000 classes, OpenAI's 80 sentences ("a bad photo of a {}.", ...) become unit vectors; their
mean, made a unit vector again, is the class's vector t_c. Class names and sentences are those of the package open_clip
(Radford et al., 2021, arXiv 2103.00020, section 3.1.4), which also runs the text tower: it is the extra ``clip``.

    pip install -e .[clip]
    python -m petl_make zero-shot --backbone vit_base_patch16_clip_quickgelu_224.openai

The logit of class c is ``scale * cos(P f, t_c)``, with f the picture's feature and P the projection. As in
``clip.zero_shot_head``, both go into one matrix, ``W_c = scale / n * t_c P``, with n a typical length of P f: the
logits are CLIP's times ``|P f| / n``, one positive number per picture, so that each picture's ranking of the classes is
CLIP's, and only how sharp its probabilities are differs a little. Here n is the mean over ``PHOTOS``, which other
packages bring; the study keeps the normalisation in the head, and trains projection and classes both.

The 80,000 sentences take about twenty minutes of one core, far less of a GPU; so a head is written once and kept in the
user's cache. ``create_model(backbone, head="zero_shot")`` and ``head=<file>`` only read it. For ImageNet-R and -A,
which hold 200 of the classes, the same head is used, and the task says which they are (``Task.allowed``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from petl_core.data.decode import CROPPED, decode_image
from petl_core.models import weights as backbones
from petl_core.models.build import create_model
from petl_core.models.formats import read_checkpoint
from petl_core.models.zero_shot import FORMAT, TOWERS, tower_of
from petl_core.study.execute import device_called
from petl_core.training.train import Recipe, forward
from petl_core.utils import UserError, cache_folder, write_atomic
from petl_make import command_line
from petl_make.suite.photos import FOLDERS, package_file

PHOTOS = (
    *("skimage/astronaut.png", "skimage/chelsea.png", "skimage/coffee.png", "skimage/rocket.jpg"),
    *("skimage/motorcycle_left.png", "sklearn/china.jpg", "sklearn/flower.jpg"),
)


def write_head(
    backbone: str,
    text_weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
    out: str | Path | None = None,
    *,
    device: str = "cpu",
    progress: bool = False,
) -> Path:
    """Make the zero-shot head of a CLIP backbone, keep it in the cache and at ``out``; returns where it lies.

    ``text_weights``: a file of the whole CLIP model in OpenAI's names (open_clip_model.safetensors or .bin); without
    it, open_clip downloads that file or has it in the hub's cache. ``classes``: other names than ImageNet's; such a
    head is used by its file only. A head that the cache has is not made again. ``UserError`` for another backbone,
    without open_clip, without a network where one is needed, or where the two towers do not belong together.
    """
    tower = tower_of(backbone)
    open_clip = _open_clip()
    standard = classes is None
    names = tuple(open_clip.IMAGENET_CLASSNAMES if classes is None else classes)
    if not names or not all(name.strip() for name in names):
        raise UserError("a zero-shot head needs one class name or more, none of them empty")
    templates = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
    state = _text_state(tower, text_weights)
    weights = backbones.weights_of(backbone)
    projection = _projection(weights, state, backbone)
    text = {key: tensor for key, tensor in state.items() if not key.startswith("visual.")}
    facts = {"format": FORMAT, "backbone": backbone, "weights": backbones.digest_of(weights.tensors)}
    facts |= {"text": backbones.digest_of(text), "classes": names, "templates": templates, "standard": standard}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / f"zero-shot-{facts['weights']}-{key}.safetensors"
    if not path.is_file():
        vectors = class_vectors(tower[0], text, names, templates, device, progress=progress)  # (C, E)
        factor = float(state["logit_scale"].exp()) / mean_length(backbone, projection)
        weight = (factor * vectors @ projection).contiguous()  # (C, D)
        content = {"weight": weight, "bias": torch.zeros(len(weight))}
        write_atomic(path, safetensors.torch.save(content, {"zero_shot": json.dumps(facts)}), make_folder=True)
    if out is None:
        return path
    write_atomic(Path(out), path.read_bytes())
    return Path(out)


def class_vectors(
    model: str,
    text: dict[str, Tensor],
    classes: Sequence[str],
    templates: Sequence[str],
    device: str,
    *,
    progress: bool,
) -> Tensor:
    """Vectors (C, E) of length 1 of classes, float32 on the CPU; ``text`` is the text tower of open_clip's ``model``.

    The tower takes 77 tokens; a sentence has about ten and the rest is filled up. Attention looks back only and the
    sentence's vector is read at its last token, so the tower is built as long as the longest sentence: same vectors.
    """
    open_clip = _open_clip()
    tokenizer = open_clip.get_tokenizer(model)
    longest = max(
        int(tokenizer([template.format(name) for template in templates]).argmax(dim=1).max()) + 1 for name in classes
    )  # the token that ends a sentence has the largest number
    config = open_clip.get_model_config(model)
    tower = open_clip.CLIP(**config | {"text_cfg": config["text_cfg"] | {"context_length": longest}})
    state = {**text, "positional_embedding": text["positional_embedding"][:longest]}
    try:
        missing, unexpected = tower.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"the text tower is not that of open_clip's {model}: {error}") from error
    missing = [name for name in missing if not name.startswith("visual.")]
    if missing or unexpected:
        raise UserError(f"the text tower is not that of open_clip's {model}: {', '.join([*missing, *unexpected][:6])}")
    rows = open_clip.build_zero_shot_classifier(
        tower.eval().to(device),
        lambda sentences: tokenizer(sentences)[:, :longest],
        classes,
        list(templates),
        num_classes_per_batch=4,
        device=device,
        use_tqdm=progress and sys.stderr.isatty(),
    )
    return rows.T.float().cpu()


@torch.no_grad()
def mean_length(backbone: str, projection: Tensor) -> float:
    """The mean length of the projected features of ``PHOTOS``."""
    model = create_model(backbone, "linear", num_classes=1).eval()
    parts = [name.split("/") for name in PHOTOS]
    paths = [package_file(package, f"{FOLDERS[package]}/{file}") for package, file in parts]
    pictures = np.stack([decode_image(path, model.config.image_size, CROPPED) for path in paths])
    features = forward(model, model.forward_features, torch.from_numpy(pictures), Recipe(precision="fp32"))
    return float((features @ projection.T).norm(dim=1).mean())


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise UserError(
            f"a zero-shot head needs open_clip, which is not here ({error}); pip install 'open-clip-torch>=3.2,<4', or "
            "in the checkout: pip install -e .[clip]"
        ) from error
    return open_clip


def _text_state(tower: tuple[str, str], file: str | Path | None) -> dict[str, Tensor]:
    """All tensors of the CLIP model, in OpenAI's names."""
    open_clip = _open_clip()
    if file is None:
        try:
            file = open_clip.download_pretrained(open_clip.get_pretrained_cfg(*tower))
        except Exception as error:  # the hub, the network and the disk each have exceptions of their own
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"could not get the text tower of {tower[0]} ({tower[1]}) from the network or the hub's cache "
                f"({type(error).__name__}: {first}). Connect once, or download open_clip_model.safetensors elsewhere "
                "(huggingface.co/timm/vit_base_patch16_clip_224.openai for ViT-B/16) and give it: --text-weights FILE"
            ) from error
    state = read_checkpoint(file, convert=False)[0]
    needed = ("visual.proj", "visual.positional_embedding", "token_embedding.weight", "text_projection", "logit_scale")
    if lacks := [name for name in needed if name not in state]:
        raise UserError(f"{file} is no whole CLIP model in OpenAI's names: it lacks {', '.join(lacks)}")
    return state


def _projection(weights: backbones.Weights, state: dict[str, Tensor], backbone: str) -> Tensor:
    """The projection (E, D), after a look whether the backbone is the picture tower of this CLIP model."""
    theirs, ours = state["visual.positional_embedding"], weights.tensors["pos_embed"]
    size = float(theirs.abs().max())
    if theirs.numel() != ours.numel() or not torch.allclose(
        ours.reshape(theirs.shape), theirs, rtol=0, atol=1e-2 * size
    ):
        raise UserError(
            f"the text tower is of another CLIP model than '{backbone}' from {weights.where}: their picture towers "
            "differ; give the text weights of the same model"
        )
    return state["visual.proj"].T.float()


def main(arguments: Sequence[str]) -> int:
    """The command ``zero-shot``."""
    parser = command_line("zero-shot", __doc__, "--backbone vit_base_patch16_clip_quickgelu_224.openai")
    parser.add_argument("--backbone", required=True, help=f"one of: {', '.join(TOWERS)}")
    parser.add_argument(
        "--text-weights", type=Path, metavar="FILE",
        help="the whole CLIP model, such as open_clip_model.safetensors (default: downloaded, or the hub's cache)",
    )  # fmt: skip
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="a text file with one class name a line (default: ImageNet's)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="a .safetensors file; the cache keeps a copy")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    chosen = parser.parse_args(arguments)
    if chosen.out is not None and (chosen.out.suffix != ".safetensors" or not chosen.out.parent.is_dir()):
        raise UserError(f"--out got '{chosen.out}'; give a .safetensors file in a folder that exists")
    device = device_called(chosen.device)
    names = None if chosen.classes is None else _names(chosen.classes)
    path = write_head(chosen.backbone, chosen.text_weights, names, chosen.out, device=device, progress=True)
    print(f"the zero-shot head of {len(read_checkpoint(path)[0]['weight']):,} classes is in {path}")
    print(f"use it: create_model('{chosen.backbone}', 'lora', head='{path if names or chosen.out else 'zero_shot'}')")
    return 0


def _names(path: Path) -> list[str]:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if names := [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]:
            return names
    raise UserError(f"{path} is no text file with one class name a line")
