"""Which method for these images? A fair search within a time budget, several seeds, one look at the test images.

    report = compare("path/to/images", budget="10m")
    report.save_best("model.safetensors")

This file is all that ``import petl_core`` loads of the package: the search imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from petl_core.compare.report import Comparison

# Both baselines, without which "it works" means nothing, and one method of each kind that is cheap to run: biases,
# scale and shift, low rank, adapter. Prompts are left out: they lengthen the sequence, so that each step costs more.
METHODS = ("linear", "bitfit", "ssf", "lora", "adaptformer", "full")


def compare(
    images: str | Path,
    methods: Sequence[str] = METHODS,
    backbone: str = "mini",
    budget: str | float = "1h",
    *,
    results: str | Path | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    image_size: int | None = None,
    resize: str | None = None,
    group: str | None = None,
    strict: bool = False,
    workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Comparison:
    """Compare methods on the user's own images (a folder with a sub-folder for each class, a list) or a task by name.

    Before anything runs, it says what is in the folder (``petl_core.data.card``).

    Args:
        methods: single methods, each once; every one gets the same first look.
        backbone: a name, or a file of weights. "mini" looks at 32 pixels; for photographs take a timm ViT.
        budget: wall-clock time, such as "10m". Models and all, it is used to 85 to 105 % unless nothing is left to do.
        results: the folder for the records; the same call with it goes on where it was stopped. None: a temporary one.
        trials, epochs, seeds: of each method, of a run, and of final runs, instead of what the budget gives.
        image_size: side of the images in pixels (the backbone's own).
        resize: "crop", "pad" or "squash"; None for what suits the pictures.
        group: a regular expression; files whose names share what it finds are kept on one side of each split. For a
            list, a column's name.
        strict: refuse a folder with any file that cannot be read (else up to 1 % are left out, and named).
        workers: processes on a CPU (one for each core); 0 or 1: in this process.
        device: "auto", "cpu", "cuda" or "mps".

    Raises ``UserError`` for bad input and for a budget into which no comparison fits, with the least that would do.
    """
    from petl_core.compare.request import Request

    asked = Request(
        images, methods, backbone, budget,
        results=results, trials=trials, epochs=epochs, seeds=seeds, image_size=image_size, resize=resize, group=group,
        strict=strict, workers=workers, device=device, progress=progress,
    )  # fmt: skip
    return asked.answer()
