"""What a saved model says of new images, which are prepared as those of its training were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from petl_core.data.decode import Preparation, prefetched, refuse_truncated
from petl_core.data.walk import walk
from petl_core.models.adapters import load_adapter
from petl_core.models.build import Model
from petl_core.study.predictions import softmax
from petl_core.training.recipe import Recipe
from petl_core.training.train import predict as logits_of
from petl_core.utils import UserError, progress_bar

if TYPE_CHECKING:
    import pandas as pd

BATCH = 64  # images that are held at a time
Images = str | Path | Tensor | Image.Image | Iterable[str | Path | Image.Image]


def predict(model: str | Path | Model, images: Images, top: int = 1, *, progress: bool = False) -> pd.DataFrame:
    """The classes that a model gives to images, with probabilities.

    Args:
        model: a file of ``save_adapter`` or ``Comparison.save_best``, or a model.
        images: a folder (every image in it and below), files, PIL images, or a tensor uint8 (n, 3, S, S) of squares.
        top: how many classes for each image.

    Returns a row for each image: image (path or number), class and probability, then class_2, probability_2, ...; an
    image that cannot be read has none of these and says why in ``problem``. Images become squares by the rule that is
    in the model's notes, so that equal files give the logits that they gave in training.
    Raises ``UserError`` where there is no model or no image, or the model does not know its classes' number.
    """
    import pandas as pd

    loaded = model if isinstance(model, torch.nn.Module) else load_adapter(model)
    classes = _classes(loaded)
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= len(classes):
        raise UserError(f"top is {top!r}; it must be a whole number from 1 to {len(classes)}, the number of classes")
    rows: list[dict[str, Any]] = []
    for names, squares, problems in _batches(loaded, images, progress=progress):
        recipe = Recipe(normalise=loaded.notes.get("normalise", "backbone"))
        answers = iter(softmax(logits_of(loaded, torch.stack(squares), recipe).numpy()) if squares else ())
        for name, problem in zip(names, problems, strict=True):
            rows.append({"image": name, "problem": problem} | ({} if problem else _best(next(answers), classes, top)))
    columns = ["image", *(column for k in range(1, top + 1) for column in _columns(k)), "problem"]
    return pd.DataFrame(rows, columns=columns)


def _columns(place: int) -> tuple[str, str]:
    end = "" if place == 1 else f"_{place}"
    return f"class{end}", f"probability{end}"


def _best(probabilities: np.ndarray, classes: list[str], top: int) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    pairs = zip(order, (_columns(place) for place in range(1, top + 1)), strict=True)
    return {key: value for i, names in pairs for key, value in zip(names, (classes[i], probabilities[i]), strict=True)}


def _classes(model: Model) -> list[str]:
    """The names of the classes in the order of the logits; their numbers where the file has no names."""
    count = int(getattr(model.head, "out_features", 0))
    names = model.notes.get("classes") or [str(number) for number in range(count)]
    if len(names) != count:
        raise UserError(f"the model has {count} outputs and {len(names)} class names; save it again with its classes")
    return [str(name) for name in names]


def _batches(model: Model, images: Images, *, progress: bool) -> Iterator[tuple[list[str], list[Tensor], list[str]]]:
    """Names, squares (3, S, S) of those that can be read, and problems, "" where there is none; batch by batch."""
    size = model.config.image_size
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8 or images.shape[1:] != (3, size, size):
            raise UserError(
                f"images are {images.dtype} {tuple(images.shape)}; the model takes uint8 (n, 3, {size}, {size}); "
                "files and PIL images are made into such squares here"
            )
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            yield [str(start + i) for i in range(len(part))], list(part), [""] * len(part)
        return
    refuse_truncated()
    prepare = Preparation(**model.notes.get("preparation", {}))
    named = _named(images)
    work = prefetched(progress_bar(named, "images", shown=progress), lambda pair: _square(pair[1], prepare, size))
    names, squares, problems = [], [], []
    for (name, _), found in work:
        names.append(name)
        problems.append(found if isinstance(found, str) else "")
        if not isinstance(found, str):
            squares.append(torch.from_numpy(found.copy()))
        if len(names) == BATCH:
            yield names, squares, problems
            names, squares, problems = [], [], []
    if names:
        yield names, squares, problems


def _square(image: Path | Image.Image, prepare: Preparation, size: int) -> np.ndarray | str:
    try:
        return prepare.square(image, size) if isinstance(image, Path) else prepare.squared(image, size)
    except UserError as error:
        return str(error)


def _named(images: Any) -> list[tuple[str, Path | Image.Image]]:
    """Each image with its name: files in order, those of a folder by their path below it."""
    if isinstance(images, Image.Image):
        images = [images]
    if isinstance(images, (str, Path)):
        place = Path(images).expanduser()
        if place.is_dir():
            files = [place.joinpath(*file.parts) for file in walk(place).files]
            if not files:
                raise UserError(f"there are no images in {place}; name a folder with images, or files")
            return [(str(path.relative_to(place)), path) for path in files]
        if not place.is_file():
            raise UserError(f"there is no file or folder {place}; name images, or a folder of them")
        images = [place]
    return [(str(i), one) if isinstance(one, Image.Image) else (str(one), Path(one)) for i, one in enumerate(images)]
