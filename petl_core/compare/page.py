"""The report of a comparison as one HTML file, and its short form for a notebook. Every name is escaped by jinja2."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from petl_core.methods import title
from petl_core.study.predictions import softmax
from petl_core.utils import __version__

Report = Any  # a petl_core.compare.report.Comparison, whose file imports this one
MISTAKES = 12  # pictures
CLASSES = 20  # at most, for a table of confusions; with more, the commonest confusions are listed
SIDE = 96  # pixels of a picture at least


def page(report: Report) -> str:
    """The whole report."""
    return _render("report.html", report)


def summary(report: Report) -> str:
    """The answer and the table."""
    return _render("summary.html", report)


def _render(name: str, report: Report) -> str:
    loader = PackageLoader("petl_core.compare", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["number"] = _number
    environment.globals.update(title=title, picture=_figure, mistakes=_mistakes, confusions=_confusions)
    return environment.get_template(name).render(report=report, version=__version__, most=CLASSES)


def _number(value: float, form: str = ".1f") -> str:
    """A number with a true minus sign; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else format(value, form).replace("-", "−")


def _inline(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _figure(report: Report) -> str:
    picture = io.BytesIO()
    report.figure().savefig(picture, format="png", dpi=150, metadata={"Software": None})
    return _inline(picture.getvalue())


def _mistakes(report: Report) -> list[dict[str, Any]]:
    """The test images of which the best method was surest and wrong, by the mean of its seeds."""
    part, task = report.predictions.of([report.best]), report.task
    mean = softmax(part.logits).mean(axis=0)
    predicted = mean.argmax(axis=1)
    wrong = np.flatnonzero(predicted != part.labels)
    surest = wrong[np.argsort(-mean[wrong].max(axis=1), kind="stable")][:MISTAKES]
    images = task.images[task.splits["test"][surest.tolist()]]
    found = []
    for row, pixels in zip(surest.tolist(), images, strict=True):
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        scale = max(1, SIDE // image.width)
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
        content = io.BytesIO()
        image.save(content, "PNG")
        said, true = task.classes[predicted[row]], task.classes[part.labels[row]]
        sure = 100 * float(mean[row].max())
        found.append({"image": _inline(content.getvalue()), "id": part.ids[row], "said": said, "true": true, "p": sure})
    return found


def _confusions(report: Report) -> list[dict[str, Any]]:
    """The commonest confusions of the best method: true class, predicted class, share of the true class in percent."""
    table = report.quality.confusion.copy()
    of_class = np.maximum(table.sum(axis=1), 1)
    np.fill_diagonal(table, 0)
    order = np.argsort(-table, axis=None, kind="stable")[:10]
    cells = [np.unravel_index(place, table.shape) for place in order]
    names = report.task.classes
    return [
        {"true": names[i], "said": names[j], "count": table[i, j], "share": 100 * table[i, j] / of_class[i]}
        for i, j in cells
        if table[i, j] > 0
    ]
