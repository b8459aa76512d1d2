"""The fifteen operations of timm's "rand-m9-mstd0.5-inc1", on whole batches on the device.

``tests/core/training/test_augment.py`` compares them with Pillow's; rotating and shearing interpolate with torch's
bicubic kernel, -0.75, where Pillow's is -0.5.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

OPERATIONS = {  # timm's names, in its order, and whether the operation has a direction
    "AutoContrast": False,
    "Equalize": False,
    "Invert": False,
    "Rotate": True,
    "PosterizeIncreasing": False,
    "SolarizeIncreasing": False,
    "SolarizeAdd": False,
    "ColorIncreasing": True,
    "ContrastIncreasing": True,
    "BrightnessIncreasing": True,
    "SharpnessIncreasing": True,
    "ShearX": True,
    "ShearY": True,
    "TranslateXRel": True,
    "TranslateYRel": True,
}
GREY = (0.299, 0.587, 0.114)


def to_bytes(values: Tensor) -> Tensor:
    """Numbers cut to [0, 255] and to whole ones: uint8, the same shape."""
    return values.clamp(0.0, 255.0).to(torch.uint8)


def operate(name: str, images: Tensor, level: Tensor, fill: Tensor) -> Tensor:
    """What the operation makes of ``images`` uint8 (B, 3, S, S): new images of the same kind.

    ``level`` (B, 1, 1, 1) lies in [0, 1], or in [-1, 1] where the operation has a direction; ``fill`` (3,), in
    [0, 255], is the colour of what leaves the image.
    """
    match name:
        case "AutoContrast":
            low, high = (f(images, dim=(-2, -1), keepdim=True).float() for f in (torch.amin, torch.amax))
            stretched = (images - low) * (255.0 / (high - low).clamp(min=1.0))
            return torch.where(high > low, to_bytes(stretched + 1e-3), images)
        case "Equalize":
            from torchvision.transforms.v2.functional import equalize

            return equalize(images)
        case "Invert":
            return 255 - images
        case "PosterizeIncreasing":
            step = 2.0 ** (4 + (4 * level).floor()).clamp(max=7)  # of 8 bits, 4 - floor(4 level) are kept, or one
            return to_bytes((images / step).floor() * step)
        case "SolarizeIncreasing":
            return torch.where(images < 256 - (256 * level).floor(), images, 255 - images)
        case "SolarizeAdd":
            return torch.where(images < 128, to_bytes(images + (110 * level).floor()), images)
        case "ColorIncreasing":
            return _blend(images, _grey(images), level)
        case "ContrastIncreasing":
            return _blend(images, (_grey(images).mean((-2, -1), keepdim=True) + 0.5).floor(), level)
        case "BrightnessIncreasing":
            return _blend(images, torch.zeros_like(images, dtype=torch.float32), level)
        case "SharpnessIncreasing":
            return _blend(images, _smooth(images), level)
    return _moved(images, name, level, fill)


def _blend(images: Tensor, other: Tensor, level: Tensor) -> Tensor:
    """Away from ``other``, or towards it where the level is negative."""
    return to_bytes(other + (1.0 + 0.9 * level).clamp(min=0.1) * (images - other) + 1e-3)


def _grey(images: Tensor) -> Tensor:
    return (images * torch.tensor(GREY, device=images.device).view(3, 1, 1)).sum(1, keepdim=True).add(0.5).floor()


def _smooth(images: Tensor) -> Tensor:
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5.0
    smooth = images.float()
    smooth[..., 1:-1, 1:-1] = (F.conv2d(smooth, kernel / 13.0, groups=3) + 0.5).floor()  # the edge stays
    return smooth


def _moved(images: Tensor, name: str, level: Tensor, fill: Tensor) -> Tensor:
    """Each pixel from where the matrix (2, 3) maps its place (x, y, 1); the image reaches from -1 to 1."""
    matrix = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    level = level.flatten()
    match name:
        case "Rotate":
            angle = level * math.radians(30.0)
            matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos(), -angle.sin()
            matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin(), angle.cos()
        case "ShearX":  # about the upper left corner, as Pillow's
            matrix[:, 0, 1] = matrix[:, 0, 2] = 0.3 * level
        case "ShearY":
            matrix[:, 1, 0] = matrix[:, 1, 2] = 0.3 * level
        case "TranslateXRel":
            matrix[:, 0, 2] = 0.9 * level
        case "TranslateYRel":
            matrix[:, 1, 2] = 0.9 * level
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)  # (B, S, S, 2)
    moved = F.grid_sample(images.float(), grid, "bicubic", "border", align_corners=False)
    inside = ((grid >= -1.0) & (grid < 1.0)).all(-1)[:, None]
    return to_bytes(torch.where(inside, moved, fill.view(3, 1, 1)) + 0.5)
