"""What a comparison is asked to look at: the name of the task, and the card of a folder or list."""

from __future__ import annotations

from pathlib import Path

from petl_core.data.card import Card
from petl_core.data.card import look as card_of_place
from petl_core.data.embedded import embedded_names
from petl_core.data.load import DEFAULT_SIZE, LOADERS
from petl_core.data.survey import Options, with_options
from petl_core.models.weights import config_of
from petl_core.utils import UserError, as_given_or_below

FOLDER = "folder:"
PATHS = tuple(start for start in LOADERS if start.endswith(":"))  # what follows is a path
NAMED = tuple(start for start in LOADERS if start.endswith("/"))  # tasks below PETL_DATA


def look(
    images: str | Path, backbone: str, size: int | None, resize: str | None, group: str | None, *, strict: bool
) -> Card:
    """The data card of a folder or list. UserError for another task, or where there is nothing to learn from."""
    card = card_of_task(task_name(images, resize, group, strict=strict), size or config_of(backbone).image_size)
    if card is None:
        raise UserError(f"--look says what is in a folder or list of your own; '{images}' is another task")
    return card


def card_of_task(name: str, size: int | None) -> Card | None:
    """The data card of a task by its name; None where it is no folder or list of the user's own."""
    return card_of_place(name.removeprefix(FOLDER), size or DEFAULT_SIZE) if name.startswith(FOLDER) else None


def task_name(images: str | Path, resize: str | None = None, group: str | None = None, *, strict: bool = False) -> str:
    """The name under which any process finds the task: that of an embedded one, or one with an absolute path."""
    name = _plain_name(images)
    options = Options(resize or "", group or "", "yes" if strict else "")
    if options == Options():
        return name
    if not name.startswith(FOLDER):
        raise UserError(f"resize, group and strict are for folders and lists of your own, not for the task {name!r}")
    return with_options(name, options)


def _plain_name(images: str | Path) -> str:
    """The name of a task without options."""
    text = str(images)
    if isinstance(images, str) and text.startswith(NAMED):
        return text
    if isinstance(images, str) and text.startswith(PATHS):
        prefix, _, place = text.partition(":")
        return f"{prefix}:{as_given_or_below(place).resolve()}" if place.strip() else text
    if isinstance(images, str) and text.partition("@")[0] in embedded_names():
        if Path(text).is_dir():
            raise UserError(f"'{text}' is an embedded task and a folder here; write './{text}' for the folder")
        return text
    if not text.strip() or text == ".":
        raise UserError("no folder is named; give the folder that holds one sub-folder of images for each class")
    return f"folder:{Path(text).expanduser().resolve()}"
