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
training crops from the whole image, evaluation reads the square in its middle. All random numbers of a batch are drawn
at once from generators of their own, which the seed fixes, so that they do not depend on how many processes share the
batch. The operations are those of timm's "rand-m9-mstd0.5-inc1" (``tests/test_augment.py`` compares them with Pillow's;
rotating and shearing interpolate with torch's bicubic kernel, -0.75, where Pillow's is -0.5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from petl_core.training.recipe import Recipe
    from petl_core.vit import ViT

STATISTICS = {  # mean and standard deviation of each channel; "backbone": the ones it was pre-trained with
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0,) * 3, (1.0,) * 3),
}
GREY = (0.299, 0.587, 0.114)
ATTEMPTS = 10  # at a rectangle that fits, as in torchvision and timm
OWN = 2**61  # keeps the generators here apart from the one of the order of the images

Draw = dict[str, Tensor]  # the random numbers of a batch, one row an image


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
        self.kind, self.size_in, self.size_out, self.fill = kind, size_in, size_out, fill
        self.random = torch.Generator().manual_seed((seed + OWN) % 2**63)
        self.noise = torch.Generator(device).manual_seed((seed + OWN) % 2**63)

    def draw(self, count: int, part: slice = slice(None)) -> Draw:
        """The random numbers of a batch of ``count`` images; of them, those of ``part``."""
        drawn = {"box": self._boxes(count, self.size_in, (0.08, 1.0), (3 / 4, 4 / 3))}
        drawn["mirror"] = self._uniform(count) < 0.5
        if self.kind == "crop_flip_vertical":
            drawn["turn"] = self._uniform(count) < 0.5
        if self.kind == "clip":
            chosen = torch.randint(len(OPERATIONS), (count, 2), generator=self.random)
            drawn["operation"] = chosen.where(self._uniform(count, 2) < 0.5, torch.tensor(-1))
            drawn["level"] = (0.9 + 0.05 * torch.randn(count, 2, generator=self.random)).clamp(0.0, 1.0)
            drawn["sign"] = 1.0 - 2.0 * (self._uniform(count, 2) < 0.5)
            box = self._boxes(count, self.size_out, (0.02, 1 / 3), (0.3, 1 / 0.3), inside=True)
            drawn["erase"] = box * (self._uniform(count, 1) < 0.25)
            shape = (count, 3, self.size_out, self.size_out)
            drawn["noise"] = torch.randn(shape, generator=self.noise, device=self.noise.device)
        return {name: values[part] for name, values in drawn.items()}

    def change(self, images: Tensor, draw: Draw) -> Tensor:
        """uint8 (B, 3, size_in, size_in) -> uint8 (B, 3, size_out, size_out): crop, mirror, RandAugment."""
        turn = draw.get("turn", torch.zeros(len(images), dtype=torch.bool))
        images = crop(images, draw["box"], self.size_out, draw["mirror"], turn)
        for layer in range(2 if "operation" in draw else 0):
            for number, (operation, signed) in enumerate(OPERATIONS.values()):
                rows = (draw["operation"][:, layer] == number).nonzero()[:, 0]
                if len(rows):
                    level = draw["level"][rows, layer] * (draw["sign"][rows, layer] if signed else 1.0)
                    rows, level = rows.to(images.device), level.to(images.device).view(-1, 1, 1, 1)
                    images[rows] = operation(images[rows], level, self.fill.to(images.device))
        return images

    def erase(self, inputs: Tensor, draw: Draw) -> Tensor:
        """Normalised (B, 3, S, S) with noise in the rectangles to be erased."""
        if "erase" not in draw:
            return inputs
        top, left, height, width = draw["erase"].to(inputs.device).view(-1, 4, 1, 1, 1).unbind(1)
        place = torch.arange(self.size_out, device=inputs.device)
        down, across = place.view(-1, 1), place.view(1, -1)
        inside = (down >= top) & (down < top + height) & (across >= left) & (across < left + width)
        return torch.where(inside, draw["noise"], inputs)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.random)

    def _boxes(
        self, count: int, size: int, areas: tuple[float, float], aspects: tuple[float, float], inside: bool = False
    ) -> Tensor:
        """Top, left, height, width (B, 4) of random rectangles in a square, uniform in area and in the logarithm of the
        aspect (width by height); the first of ``ATTEMPTS`` that fits (``inside``: with room to spare), or the whole."""
        area = size**2 * (areas[0] + (areas[1] - areas[0]) * self._uniform(count, ATTEMPTS))
        low, high = math.log(aspects[0]), math.log(aspects[1])
        aspect = (low + (high - low) * self._uniform(count, ATTEMPTS)).exp()
        heights, widths = (area / aspect).sqrt().round().long(), (area * aspect).sqrt().round().long()
        most = size - 1 if inside else size
        fitting = (heights >= 1) & (heights <= most) & (widths >= 1) & (widths <= most)
        first = fitting.int().argmax(1, keepdim=True)
        whole = 0 if inside else size
        height, width = (
            torch.where(fitting.any(1), sides.gather(1, first)[:, 0], whole) for sides in (heights, widths)
        )
        top, left = ((self._uniform(count) * (size - side + 1)).long() for side in (height, width))
        return torch.stack([top, left, height, width], dim=1)


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
    return _bytes(rows[:, None] @ between + 0.5)


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


def _bytes(values: Tensor) -> Tensor:
    return values.clamp(0.0, 255.0).to(torch.uint8)


# ---- RandAugment: images uint8 (B, 3, S, S), level (B, 1, 1, 1) in [-1, 1] or [0, 1], fill (3,) in [0, 255]


def _auto_contrast(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    low, high = (f(images, dim=(-2, -1), keepdim=True).float() for f in (torch.amin, torch.amax))
    stretched = (images - low) * (255.0 / (high - low).clamp(min=1.0))
    return torch.where(high > low, _bytes(stretched + 1e-3), images)


def _equalize(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize

    return equalize(images)


def _invert(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return 255 - images


def _posterize(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    step = 2.0 ** (4 + (4 * level).floor()).clamp(max=7)  # of 8 bits, 4 - floor(4 level) are kept, or one
    return _bytes((images / step).floor() * step)


def _solarize(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return torch.where(images < 256 - (256 * level).floor(), images, 255 - images)


def _solarize_add(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return torch.where(images < 128, _bytes(images + (110 * level).floor()), images)


def _blend(images: Tensor, other: Tensor, level: Tensor) -> Tensor:
    """Away from ``other``, or towards it where the level is negative."""
    return _bytes(other + (1.0 + 0.9 * level).clamp(min=0.1) * (images - other) + 1e-3)


def _grey(images: Tensor) -> Tensor:
    return (images * torch.tensor(GREY, device=images.device).view(3, 1, 1)).sum(1, keepdim=True).add(0.5).floor()


def _colour(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return _blend(images, _grey(images), level)


def _contrast(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return _blend(images, (_grey(images).mean((-2, -1), keepdim=True) + 0.5).floor(), level)


def _brightness(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return _blend(images, torch.zeros_like(images, dtype=torch.float32), level)


def _sharpness(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5.0
    smooth = images.float()
    smooth[..., 1:-1, 1:-1] = (F.conv2d(smooth, kernel / 13.0, groups=3) + 0.5).floor()  # the edge stays
    return _blend(images, smooth, level)


def _affine(images: Tensor, matrix: list[list[Tensor | float]], fill: Tensor) -> Tensor:
    """Each pixel from the place to which the matrix [[a, b, c], [d, e, f]] maps it, in pixels from the centre."""
    size, count = images.shape[-1], len(images)
    rows = [[torch.as_tensor(v, device=images.device).expand(count, 1, 1, 1) for v in row] for row in matrix]
    place = torch.arange(size, device=images.device) + 0.5 - size / 2
    across, down = place.view(1, 1, size, 1), place.view(1, size, 1, 1)
    x, y = (a * across + b * down + c for a, b, c in rows)
    grid = torch.cat([x, y], dim=-1) * (2.0 / size)  # (B, S, S, 2), from -1 to 1
    moved = F.grid_sample(images.float(), grid, "bicubic", "border", align_corners=False)
    inside = ((grid >= -1.0) & (grid < 1.0)).all(-1)[:, None]
    return _bytes(torch.where(inside, moved, fill.view(3, 1, 1)) + 0.5)


def _rotate(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    angle = level * math.radians(30.0)
    return _affine(images, [[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]], fill)


def _shear_x(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:  # about the upper left corner, as Pillow's
    return _affine(images, [[1.0, 0.3 * level, 0.15 * level * images.shape[-1]], [0.0, 1.0, 0.0]], fill)


def _shear_y(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return _affine(images, [[1.0, 0.0, 0.0], [0.3 * level, 1.0, 0.15 * level * images.shape[-1]]], fill)


def _translate_x(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return _affine(images, [[1.0, 0.0, 0.45 * level * images.shape[-1]], [0.0, 1.0, 0.0]], fill)


def _translate_y(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return _affine(images, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.45 * level * images.shape[-1]]], fill)


OPERATIONS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], bool]] = {  # timm's name: function, signed
    "AutoContrast": (_auto_contrast, False),
    "Equalize": (_equalize, False),
    "Invert": (_invert, False),
    "Rotate": (_rotate, True),
    "PosterizeIncreasing": (_posterize, False),
    "SolarizeIncreasing": (_solarize, False),
    "SolarizeAdd": (_solarize_add, False),
    "ColorIncreasing": (_colour, True),
    "ContrastIncreasing": (_contrast, True),
    "BrightnessIncreasing": (_brightness, True),
    "SharpnessIncreasing": (_sharpness, True),
    "ShearX": (_shear_x, True),
    "ShearY": (_shear_y, True),
    "TranslateXRel": (_translate_x, True),
    "TranslateYRel": (_translate_y, True),
}
