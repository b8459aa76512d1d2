"""From bytes to what the model reads: normalisation, and the study's augmentations, on the device in whole batches.

===================  ================================================================================================
``augment``          what happens to a training image
===================  ================================================================================================
none                 nothing (``Recipe.flip`` may mirror it)
crop_flip            a random crop of 8 to 100 % of its area and of aspect 3/4 to 4/3, resized with a bicubic filter;
                     mirrored half of the time (the study's CIFAR-100)
crop_flip_vertical   the same, and turned upside down half of the time (its RESISC-45)
clip                 crop and mirror; two operations of RandAugment, each with probability 1/2 and a magnitude drawn
                     from N(9, 0.5); after normalisation, in a quarter of the images, a rectangle of noise (its CLIP
                     runs)
===================  ================================================================================================

Where there is an augmentation, the task's images may be larger than the model's (256 and 224 pixels, as in the study):
training crops from the whole image, evaluation reads the square in its middle. Random numbers come from generators of
their own, which the seed fixes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from petl_core.training.randaugment import OPERATIONS, operate, to_bytes

if TYPE_CHECKING:
    from petl_core.training.recipe import Recipe
    from petl_core.vit import ViT

STATISTICS = {  # mean and standard deviation of each channel; "backbone": the ones it was pre-trained with
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0,) * 3, (1.0,) * 3),
}
ATTEMPTS = 10  # at a rectangle that fits, as in torchvision and timm
OWN = 2**61  # keeps the generators here apart from the one of the order of the images


class Normaliser:
    """uint8 (B, 3, S, S) -> float with the mean and deviation that the recipe names; one multiply and add.

    Where the recipe augments, of larger images the square in the middle is taken.
    """

    def __init__(self, model: ViT, recipe: Recipe) -> None:
        own = (model.config.mean, model.config.std)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in STATISTICS.get(recipe.normalise, own))
        device = next(model.parameters()).device
        self.factor, self.offset = (1.0 / (255.0 * std)).to(device), (-mean / std).to(device)
        self.mean = mean.flatten()
        self.size = model.config.image_size if recipe.augment != "none" else None

    def __call__(self, images: Tensor) -> Tensor:
        if self.size is not None and images.shape[-1] != self.size:
            edge = (images.shape[-1] - self.size) // 2
            images = images[..., edge : edge + self.size, edge : edge + self.size]
        return torch.addcmul(self.offset, images.float(), self.factor)


class Augmentation:
    """The augmentation ``kind`` from images of ``size_in`` to ``size_out`` pixels; what leaves an image is ``fill``."""

    def __init__(self, kind: str, size_in: int, size_out: int, fill: Tensor, device: torch.device, seed: int) -> None:
        self.kind, self.size_in, self.size_out, self.fill = kind, size_in, size_out, fill.to(device)
        self.random = torch.Generator().manual_seed((seed + OWN) % 2**63)
        self.noise = torch.Generator(device).manual_seed((seed + OWN) % 2**63)

    def __call__(self, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> Tensor:
        """Augmented and normalised images, float (B, 3, size_out, size_out), of uint8 (B, 3, size_in, size_in)."""
        count = len(images)
        box = self.boxes(count, self.size_in, (0.08, 1.0), (3 / 4, 4 / 3))
        mirror, turn = self._uniform(count) < 0.5, torch.zeros(count, dtype=torch.bool)
        if self.kind == "crop_flip_vertical":
            turn = self._uniform(count) < 0.5
        images = crop(images, box, self.size_out, mirror, turn)
        if self.kind != "clip":
            return normalise(images)
        return self.erased(normalise(self.operated(images)))

    def operated(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) after two operations of RandAugment, each of which half of the images get."""
        count = len(images)
        chosen = torch.randint(len(OPERATIONS), (count, 2), generator=self.random)
        chosen = chosen.where(self._uniform(count, 2) < 0.5, torch.tensor(-1))  # -1: none
        levels = (0.9 + 0.05 * torch.randn(count, 2, generator=self.random)).clamp(0.0, 1.0)
        signs = 1.0 - 2.0 * (self._uniform(count, 2) < 0.5)
        for layer in range(2):
            for number, (name, signed) in enumerate(OPERATIONS.items()):
                rows = (chosen[:, layer] == number).nonzero()[:, 0]
                if len(rows):
                    level = levels[rows, layer] * signs[rows, layer] if signed else levels[rows, layer]
                    rows, level = rows.to(images.device), level.to(images.device).view(-1, 1, 1, 1)
                    images[rows] = operate(name, images[rows], level, self.fill)
        return images

    def erased(self, inputs: Tensor) -> Tensor:
        """Normalised (B, 3, S, S), in a quarter of the images with noise in a rectangle."""
        count, size = len(inputs), inputs.shape[-1]
        box = self.boxes(count, size, (0.02, 1 / 3), (0.3, 1 / 0.3)) * (self._uniform(count, 1) < 0.25)
        top, left, height, width = box.to(inputs.device).view(-1, 4, 1, 1, 1).unbind(1)
        place = torch.arange(size, device=inputs.device)
        down, across = place.view(-1, 1), place.view(1, -1)
        inside = (down >= top) & (down < top + height) & (across >= left) & (across < left + width)
        noise = torch.randn(inputs.shape, generator=self.noise, device=inputs.device)
        return torch.where(inside, noise, inputs)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.random)

    def boxes(self, count: int, size: int, areas: tuple[float, float], aspects: tuple[float, float]) -> Tensor:
        """Top, left, height, width (B, 4) of random rectangles in a square, uniform in area and in the logarithm of the
        aspect (width by height). Of ``ATTEMPTS`` for each image the first is taken that fits; where none does, that is
        the whole square."""
        area = size**2 * (areas[0] + (areas[1] - areas[0]) * self._uniform(count, ATTEMPTS))
        low, high = math.log(aspects[0]), math.log(aspects[1])
        aspect = (low + (high - low) * self._uniform(count, ATTEMPTS)).exp()
        heights, widths = (area / aspect).sqrt().round().long(), (area * aspect).sqrt().round().long()
        fits = (heights >= 1) & (heights <= size) & (widths >= 1) & (widths <= size)
        first, image = fits.int().argmax(1), torch.arange(count)
        height = torch.where(fits.any(1), heights[image, first], size)
        width = torch.where(fits.any(1), widths[image, first], size)
        top = (self._uniform(count) * (size - height + 1)).long()
        left = (self._uniform(count) * (size - width + 1)).long()
        return torch.stack([top, left, height, width], dim=1)


def augmentation_of(model: ViT, recipe: Recipe, size_in: int, seed: int) -> Augmentation | None:
    """The recipe's augmentation of images of ``size_in`` pixels to what ``model`` takes; None where it asks for none.
    What leaves an image is filled with the mean that the recipe normalises with."""
    if recipe.augment == "none":
        return None
    fill, device = (255.0 * Normaliser(model, recipe).mean).round(), next(model.parameters()).device
    return Augmentation(recipe.augment, size_in, model.config.image_size, fill, device, seed)


def crop(images: Tensor, box: Tensor, size: int, mirror: Tensor, turn: Tensor) -> Tensor:
    """The part ``box`` (B, 4: top, left, height, width) of each image, resized, mirrored and turned upside down where
    asked: uint8 (B, 3, size, size). The bicubic filter is as wide as the reduction asks for (it is Pillow's).

    Resizing is linear in rows and in columns, so a batch of different crops is two batched matrix products.
    """
    top, left, height, width = box.to(images.device).unbind(1)
    rows, columns = _filter(top, height, size, images.shape[-2]), _filter(left, width, size, images.shape[-1])
    rows = torch.where(turn.to(images.device).view(-1, 1, 1), rows.flip(1), rows)
    columns = torch.where(mirror.to(images.device).view(-1, 1, 1), columns.flip(1), columns)
    between = (images.float() @ columns[:, None].transpose(-1, -2)).clamp(0.0, 255.0)  # Pillow's are bytes
    return to_bytes(rows[:, None] @ between + 0.5)


def _filter(start: Tensor, length: Tensor, out: int, size: int) -> Tensor:
    """Weights (B, out, size) that resize ``length`` pixels from ``start`` on, of ``size``, to ``out`` pixels."""
    scale = (length / out).view(-1, 1, 1)
    wide = scale.clamp(min=1.0)
    place = (torch.arange(size, device=start.device) - start[:, None]).view(-1, 1, size)  # within the crop
    centre = (torch.arange(out, device=start.device).view(1, -1, 1) + 0.5) * scale
    x = ((place + 0.5 - centre) / wide).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))
    weights = weights * ((place >= 0) & (place < length.view(-1, 1, 1)))
    return weights / weights.sum(-1, keepdim=True)
