"""How the embedded backbone ``mini_clip`` was made: contrastive pre-training on captioned pictures of a rendered world.

    python -m petl_make mini-clip --out data/embedded/mini_clip.safetensors

Nothing but this package is needed: pictures and captions are drawn first (about a minute), in all twelve styles, the
target's ``photo`` style being rare. The image tower starts from ``mini``: a few hundred thousand noisy pairs are little
to learn seeing from. It takes ten minutes on one core; the shipped run shared its core with other work for its first
three epochs, as the log shows. The loss is CLIP's: in a batch of pairs, each picture has to find its caption
among all captions and each caption its picture (Radford et al., 2021, arXiv 2103.00020). The recipe is in
``ClipRecipe``, the loop in ``petl_make.pretraining``. Next to the image tower the command
writes the text tower (``mini_clip_text.safetensors``) and the log (``mini_clip_log.jsonl``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from petl_core.data import codec
from petl_core.models.text_tower import TextConfig, TextTower, class_embeddings
from petl_core.models.weights import load_weights, weights_of
from petl_core.utils import progress_bar, write_atomic
from petl_core.vit import ViT
from petl_make import command_line
from petl_make.codec import levels_of
from petl_make.pretraining import Pretraining, Shape, add_options, augment, normalise
from petl_make.suite.draw import Draw
from petl_make.world.captions import PROMPTS, VOCABULARY, caption
from petl_make.world.scenes import CLASSES, STYLES, Pose, picture_of, scene


@dataclass(frozen=True)
class ClipRecipe(Shape):
    """Everything that decides the result: the network, the optimisers, and how pictures and captions are drawn."""

    epochs: int = 10
    lr: float = 4e-3
    shift: int = 2
    out: int = 64  # width of the space that both towers map to
    images: int = 40_000
    photos: float = 0.05  # share of pictures in the target's style; the other styles have equal shares of the rest
    wrong: float = 0.1  # share of those captions that name a thing: they name another one
    beside: float = 0.1  # share of captions that name no thing
    held: int = 2000  # further pictures, to measure on after each epoch
    start: str = "mini"  # backbone whose weights the image tower starts from; "" for random ones


POSE = Pose(small=7.0, large=14.0, turn=0.6)


def draw_pairs(recipe: ClipRecipe, split: str, count: int) -> tuple[Tensor, list[str], Tensor, list[str]]:
    """Pictures uint8 (M, 3, 32, 32), their captions, true classes (M,) and styles."""
    others = [name for name in STYLES if name != "photo"]
    images, captions, labels, styles = [], [], [], []
    for i in progress_bar(range(count), f"drawing {split} pictures"):
        draw = Draw("captioned world", split, i, i)
        label = draw.integer(0, len(CLASSES) - 1)
        style = "photo" if draw.chance(recipe.photos) else draw.pick(others)
        at = scene(draw, label, POSE)
        captions.append(caption(draw, label, style, at, recipe.wrong, recipe.beside))
        images.append(codec.intensities(levels_of(picture_of(draw, at, style))))
        labels.append(label)
        styles.append(style)
    return torch.from_numpy(np.stack(images)), captions, torch.tensor(labels), styles


class Towers(nn.Module):
    """Both towers. The image tower's head, without its bias, is the projection to the common space."""

    def __init__(self, recipe: ClipRecipe) -> None:
        super().__init__()
        self.image = ViT(recipe.config(), recipe.out)
        self.image.head.bias.requires_grad = False
        if recipe.start:
            load_weights(self.image, weights_of(recipe.start))
        nn.init.normal_(self.image.head.weight, std=recipe.width**-0.5)
        self.text = TextTower(TextConfig(VOCABULARY, out=recipe.out))

    def loss(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Symmetric InfoNCE: images (B, 3, S, S), normalised, and word numbers (B, W)."""
        a, b = F.normalize(self.image(images), dim=1), self.text(numbers)
        logits = self.text.logit_scale.clamp(max=4.6052).exp() * a @ b.T  # (B, B); the factor is 100 at most, as CLIP's
        pairs = torch.arange(len(logits))
        return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2

    @torch.inference_mode()
    def embed(self, images: Tensor) -> Tensor:
        """uint8 images to vectors (M, E), not normalised."""
        self.image.eval()
        vectors = torch.cat([self.image(normalise(part)) for part in images.split(500)])
        self.image.train()
        return vectors

    def zero_shot(self, images: Tensor, labels: Tensor) -> float:
        """Accuracy in percent of naming the thing."""
        guesses = (self.embed(images) @ class_embeddings(self.text, CLASSES, PROMPTS).T).argmax(1)
        return 100 * (guesses == labels).float().mean().item()


def pretrain_clip(out: Path, recipe: ClipRecipe, threads: int) -> None:
    """Draw, train, and write both towers; continue from the last epoch if there is one."""
    torch.set_num_threads(threads)
    images, captions, _, _ = draw_pairs(recipe, "train", recipe.images)
    held, _, labels, styles = draw_pairs(recipe, "val", recipe.held)
    photo = torch.tensor([style == "photo" for style in styles])
    torch.manual_seed(recipe.seed)
    towers = Towers(recipe)
    numbers = towers.text.numbers(captions)

    def loss_of(batch: Tensor, generator: torch.Generator) -> Tensor:
        pictures = normalise(augment(images[batch], recipe.shift, generator))
        return towers.loss(pictures, numbers[batch])

    def score() -> dict[str, float]:
        return {
            "val_accuracy": towers.zero_shot(held, labels),
            "val_photos": towers.zero_shot(held[photo], labels[photo]),
            "logit_scale": towers.text.logit_scale.exp().item(),
        }

    pretraining = Pretraining(towers, [*towers.image.blocks, *towers.text.blocks], recipe, out)
    pretraining.run(len(images), loss_of, score)
    towers.half().float()  # the files hold float16: what is measured here is what is shipped
    towers.text.feature_norm.fill_(towers.embed(held).norm(dim=1).mean().item())
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in towers.text.state_dict().items()}
    vocabulary = {"text": json.dumps(asdict(towers.text.config))}
    write_atomic(out.with_name(out.stem + "_text.safetensors"), safetensors.torch.save(tensors, vocabulary))
    pretraining.finish(towers.image, towers.zero_shot(held, labels))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``mini-clip``. The shipped weights were made with one thread."""
    parser = command_line("mini-clip", __doc__, "--out data/embedded/mini_clip.safetensors")
    add_options(parser, "runs/mini_clip.safetensors", ClipRecipe(), 1)
    parser.add_argument("--images", type=int, default=ClipRecipe.images, help="pictures to draw (%(default)s)")
    chosen = parser.parse_args(arguments)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    pretrain_clip(chosen.out, ClipRecipe(epochs=chosen.epochs, images=chosen.images), chosen.threads)
    return 0
