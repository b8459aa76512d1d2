"""The fifteen operations of timm's "rand-m9-mstd0.5-inc1", on whole batches on the device.

Each takes images uint8 (B, 3, S, S), a level (B, 1, 1, 1) in [0, 1], or in [-1, 1] where the operation has a direction,
and the colour (3,) in [0, 255] that fills what leaves the image; it returns new images of the same kind.
``tests/core/training/test_augment.py`` compares them with Pillow's; rotating and shearing interpolate with torch's
bicubic kernel, -0.75, where Pillow's is -0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)


def to_bytes(values: Tensor) -> Tensor:
    """Numbers cut to [0, 255] and to whole ones: uint8, the same shape."""
    return values.clamp(0.0, 255.0).to(torch.uint8)


def _auto_contrast(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    low, high = (f(images, dim=(-2, -1), keepdim=True).float() for f in (torch.amin, torch.amax))
    stretched = (images - low) * (255.0 / (high - low).clamp(min=1.0))
    return torch.where(high > low, to_bytes(stretched + 1e-3), images)


def _equalize(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize

    return equalize(images)


def _invert(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return 255 - images


def _posterize(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    step = 2.0 ** (4 + (4 * level).floor()).clamp(max=7)  # of 8 bits, 4 - floor(4 level) are kept, or one
    return to_bytes((images / step).floor() * step)


def _solarize(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return torch.where(images < 256 - (256 * level).floor(), images, 255 - images)


def _solarize_add(images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    return torch.where(images < 128, to_bytes(images + (110 * level).floor()), images)


def _blend(images: Tensor, other: Tensor, level: Tensor) -> Tensor:
    """Away from ``other``, or towards it where the level is negative."""
    return to_bytes(other + (1.0 + 0.9 * level).clamp(min=0.1) * (images - other) + 1e-3)


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
    return to_bytes(torch.where(inside, moved, fill.view(3, 1, 1)) + 0.5)


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
