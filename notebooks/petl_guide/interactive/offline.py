"""Explorers without a kernel: every answer computed beforehand, as a figure that works in a plain web page.

``Offline`` is what a notebook displays: in Jupyter a table of some choices, beside the explorer's own sliders; in the
book, where no Python runs, ``page`` makes of the same output a figure with controls, drawn in the browser by Vega-Lite
from the answers in the page. A reader without JavaScript sees a picture and the table.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair
import pandas as pd
import vl_convert
from PIL import Image

from petl_core.methods import registry
from petl_core.utils import UserError
from petl_guide.figures.tables import Table

MIME = "application/vnd.petl-core.figure+json"
MOST = 300_000  # bytes of one figure in a page
PICTURE_WIDTH = 640
Chart = Callable[[pd.DataFrame], Any]  # from all answers to an altair chart with a parameter for each control


def parameter(control: str) -> str:
    """The name of the chart's parameter that holds the choice of a control."""
    return f"chosen_{control}"


@dataclass(frozen=True)
class Offline:
    """An explorer's answers to all choices of ``controls``, those of ``start`` shown first.

    ``answers`` has a row for each choice, the last control fastest: the controls, the answer's values, and its sentence
    (column ``text``). ``table`` shows some of them, ``alt`` says what is drawn.
    """

    name: str
    controls: Mapping[str, Sequence[Any]]
    start: Mapping[str, Any]
    answers: pd.DataFrame
    chart: Chart
    table: Table
    alt: str

    def payload(self) -> dict[str, Any]:
        """What a page needs: caption, picture, table, and packed the controls, a sentence for each choice and the
        Vega-Lite spec with its data."""
        chart = self.chart(self.answers.drop(columns="text")).add_params(
            *(altair.param(name=parameter(key), value=value) for key, value in self.start.items())
        )
        with altair.data_transformers.enable("default", consolidate_datasets=True, max_rows=None):
            spec = chart.configure(font="sans-serif", background="white").configure_view(stroke=None).to_dict()
        caption = spec.pop("title")
        wide = {**spec, "width": PICTURE_WIDTH}  # in a page it is as wide as its column
        controls = [
            {"name": key, "options": [[value, _label(value)] for value in values], "start": self.start[key]}
            for key, values in self.controls.items()
        ]
        sentences = [sentence(text) for text in self.answers["text"]]
        data = json.dumps(
            {"controls": controls, "sentences": sentences, "spec": spec}, separators=(",", ":"), allow_nan=False
        )
        return {
            "name": self.name,
            "alt": self.alt,
            "caption": caption,
            "picture": _text(_small(vl_convert.vegalite_to_png(wide, scale=1.5))),
            "table": self.table.to_html(),
            "data": _text(gzip.compress(data.encode(), mtime=0)),
        }

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {MIME: self.payload(), "text/html": self.table.to_html(), "text/plain": repr(self.table)}


def page(payload: Mapping[str, str], *, live: bool = True) -> str:
    """The HTML of a figure in a page of the book, as a notebook kept it. ``UserError`` if too large or not whole.

    ``live`` is False for paper: picture, caption and table, without what only a script needs.
    """
    if missing := {"alt", "caption", "picture", "table", "data"} - set(payload):
        raise UserError(
            f"figure '{payload['name']}' lacks its {', '.join(sorted(missing))}; execute again: make notebooks"
        )
    name, alt = payload["name"], html.escape(payload["alt"])
    shown = (
        f'<div class="petl-picture"><img alt="{alt}" src="data:image/png;base64,{payload["picture"]}"></div>'
        f"<figcaption>{html.escape(payload['caption'])}</figcaption>"
    )
    if not live:
        return f'<figure class="petl-figure">{shown}{payload["table"]}</figure>'
    text = (
        f'<figure class="petl-figure" id="figure-{name}">'
        f'<form class="petl-controls" aria-label="Choices of the figure {name}" hidden></form>'
        f'<p class="petl-answer" aria-live="polite" hidden></p>{shown}'
        f'<details class="petl-table"><summary>Some choices as a table</summary>{payload["table"]}</details>'
        f'<script type="text/plain" class="petl-data">{payload["data"]}</script></figure>'
    )
    if len(text) > MOST:
        raise UserError(f"figure '{name}' has {len(text):,} bytes; at most {MOST:,} are allowed: offer fewer choices")
    return text


def library() -> str:
    """The JavaScript that draws the figures: Vega, Vega-Lite and vega-embed in one file, as ``window.vegaEmbed``."""
    newest = vl_convert.get_vegalite_versions()[-1]
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=newest)
    script = script.replace("https://vega.github.io/", "/")  # names of formats, which nothing loads
    return f"(() => {{{script}}})();\n"


def unpack(data: str) -> dict[str, Any]:
    """``controls``, ``sentences`` and ``spec`` of a payload's ``data``."""
    return json.loads(gzip.decompress(base64.b64decode(data)))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _small(png: bytes) -> bytes:
    """The picture with 64 colours, which is enough for a chart and a tenth of the bytes."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _label(value: Any) -> str:
    return registry[value].title if value in registry else str(value)


def sentence(text: str) -> str:
    """The text of an answer as HTML: bold as it is, all else as plain text."""
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text, quote=False))
