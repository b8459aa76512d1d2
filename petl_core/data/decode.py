"""Image files to uint8 arrays: any mode to RGB, 16 bits to 8, resized to a square; a damaged file is an error, not
noise.

There are two ways to a square, and a task decides for one. Plainly: bicubic, without regard to the proportions (VTAB-1K
in the study). With ``crop``: bicubic until the short side is 256/224 of the square's, then the centre is cut out (the
study's many-shot tasks; what most ImageNet models were tested with).
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from petl_core.utils import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
SHORT_SIDE = 256 / 224  # of the square's side
REPAIR = "replace the file or take it out of the data set"
AHEAD = 64  # items that are worked on before they are asked for; the most that is held in memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB from any mode. Grey is repeated; transparency is laid on white; 16-bit grey is divided by 257 (65535 -> 255);
    32-bit integer and float images are stretched from their own minimum and maximum."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        if image.mode.startswith("I;16") or (image.mode == "I" and values.min() >= 0 and 255 < values.max() <= 65535):
            values = values / 257.0
        elif values.min() < 0 or values.max() > 255:
            values = (values - values.min()) / max(float(np.ptp(values)), 1e-12) * 255.0
        elif image.mode == "F" and values.max() <= 1:
            values = values * 255.0
        return Image.fromarray(np.round(values).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def open_image(path: Path, content: bytes | None = None, *, pixels: bool = True) -> Image.Image:
    """One file, or its ``content`` where that is at hand, read whole or, without ``pixels``, its head alone.

    UserError naming ``path`` if it is missing, no image, or damaged."""
    try:
        image = Image.open(path if content is None else io.BytesIO(content))
        if pixels:
            image.load()
        return image
    except FileNotFoundError as error:
        raise UserError(f"image {path} does not exist; {REPAIR}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image that Pillow can read; {REPAIR}") from error
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UserError(f"image {path} is damaged or truncated ({error}); {REPAIR}") from error


def to_square(picture: Image.Image, size: int, *, crop: bool = False) -> np.ndarray:
    """An RGB picture as uint8 (3, size, size), resized bicubically: whole, or with ``crop`` its centre (see above).

    The crop is torchvision's ``Resize(256)`` and ``CenterCrop(224)`` to the bit, and the same in proportion elsewhere.
    """
    width = height = size
    if crop:
        short = round(size * SHORT_SIDE)
        width, height = (int(short * length / min(picture.size)) for length in picture.size)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    picture = picture.crop((left, top, left + size, top + size)) if crop else picture
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)


def decode_image(path: Path, size: int, *, crop: bool = False) -> np.ndarray:
    """One file as uint8 (3, size, size); see ``to_square``."""
    with open_image(path) as image:
        return to_square(to_rgb(image), size, crop=crop)


def refuse_truncated() -> None:
    """UserError where Pillow has been told to fill up what is missing of an image."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UserError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so damaged images would pass as good; set it to False"
        )


def prefetched(
    items: Iterable[Item], work: Callable[[Item], Result], *, ahead: int = AHEAD
) -> Iterator[tuple[Item, Result]]:
    """Each item with ``work(item)``, in order, done by a few threads while the caller uses those before it."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def decode_images(paths: Sequence[Path], size: int) -> np.ndarray:
    """Files as uint8 (n, 3, size, size). The first bad file, in order, is reported."""
    refuse_truncated()
    images = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    for row, (_, image) in zip(images, prefetched(paths, lambda path: decode_image(path, size)), strict=True):
        row[:] = image
    return images
