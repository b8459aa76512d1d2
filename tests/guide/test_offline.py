"""Explorers without a kernel: every choice has its answer, the figure fits its page, and a fault is an error."""

from __future__ import annotations

import base64
import io
import itertools

import pandas as pd
import pytest
import torch
from PIL import Image

import petl_core as pc
from book.build import SOURCE
from book.stage import find, stage
from petl_core.vit import ViT, ViTConfig
from petl_guide import notebooks
from petl_guide.figures.tables import table
from petl_guide.interactive import explorer, offline
from petl_guide.interactive.explorer import Answer, Explorer
from petl_guide.notebooks import load

TINY = ViTConfig(image_size=16, patch_size=4, width=16, depth=2, heads=2)
IN_CHAPTERS = {"sites": "01", "updates": "02", "counts": "02", "pairs": "05", "alphas": "08", "choices": "10"}


def figure(made: Explorer, name: str = "small", **only: list) -> offline.Offline:
    return made.offline(name, table(made.static()), "what is drawn", **only)


@pytest.fixture(scope="module")
def counts() -> Explorer:
    return explorer.count_explorer({"ViT-B/16": ViTConfig(), "tiny": TINY})


def test_every_choice_has_its_sentence_in_order(counts: Explorer) -> None:
    payload = figure(counts, size=[2, 8]).payload()
    inside = offline.unpack(payload["data"])
    offered = [[value for value, _ in control["options"]] for control in inside["controls"]]
    assert offered == [["ViT-B/16", "tiny"], pc.methods.names(), [2, 8]]
    choices = list(itertools.product(*offered))
    assert len(inside["sentences"]) == len(choices)
    for index in (0, 17, len(choices) - 1):
        answer = counts.answer(**dict(zip(("backbone", "method", "size"), choices[index], strict=True)))
        assert inside["sentences"][index].replace("<strong>", "**").replace("</strong>", "**") == answer.text
    assert [control["start"] for control in inside["controls"]] == ["ViT-B/16", "lora", 8]
    started = {parameter["name"]: parameter["value"] for parameter in inside["spec"]["params"]}
    assert started == {"chosen_backbone": "ViT-B/16", "chosen_method": "lora", "chosen_size": 8}


def test_a_page_has_a_picture_a_table_and_a_caption_without_javascript(counts: Explorer) -> None:
    payload = figure(counts, size=[8]).payload()
    text = offline.page(payload)
    picture = Image.open(io.BytesIO(base64.b64decode(payload["picture"])))
    assert picture.width >= offline.PICTURE_WIDTH and len(picture.convert("L").getcolors()) > 5
    assert 'alt="what is drawn"' in text and "<figcaption>Trained parameters" in text and "294,912" in text
    assert figure(counts, size=[8]).payload() == payload  # the same answers give the same bytes


def test_a_size_that_a_method_does_not_have_is_said_and_not_an_error(counts: Explorer) -> None:
    answer = counts.answer(method="repadapter", size=1)
    assert "no such size" in answer.text and pd.isna(answer.values["trained"])
    figure(counts, size=[8, 1]).payload()


def test_choices_that_are_not_on_offer_are_refused(counts: Explorer) -> None:
    with pytest.raises(ValueError, match="size=7 is not on offer"):
        figure(counts, size=[7])
    with pytest.raises(ValueError, match="no control 'rank'"):
        figure(counts, rank=[7])
    with pytest.raises(pc.UserError, match="has no chart"):
        figure(Explorer({"a": [1]}, {"a": 1}, lambda a: Answer({"a": a}, "x")))


def test_a_figure_that_is_too_large_for_a_page_is_refused(counts: Explorer) -> None:
    payload = figure(counts, size=[8]).payload()
    with pytest.raises(pc.UserError, match=r"'small' has .* at most 300,000"):
        offline.page({**payload, "data": "A" * offline.MOST})
    with pytest.raises(pc.UserError, match=r"'small' lacks its caption.*make notebooks"):
        offline.page({key: value for key, value in payload.items() if key != "caption"})


def test_text_of_an_answer_cannot_become_markup() -> None:
    assert offline.sentence("a < b, **c & d**") == "a &lt; b, <strong>c &amp; d</strong>"


def test_the_chart_of_sites_counts_the_methods_that_act_there() -> None:
    made = explorer.site_explorer(ViT(TINY, num_classes=3), torch.randn(1, 3, 16, 16))
    inside = offline.unpack(figure(made).payload()["data"])
    rows = [row for data in inside["spec"]["datasets"].values() for row in data if row.get("site") == "qkv"]
    number = len(made.answer(site="qkv").values["methods"].split(", "))
    assert number > 1 and {row["acting"] for row in rows} == {"", f"{number} methods"}  # the box and the site


@pytest.mark.parametrize(("name", "chapter"), IN_CHAPTERS.items())
def test_the_chapters_hold_their_figures(name: str, chapter: str) -> None:
    (source,) = notebooks.sources([chapter])
    notebook = load(source.with_suffix(".ipynb"))
    payloads = [
        output["data"].get(offline.MIME)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    (payload,) = [payload for payload in payloads if payload and payload["name"] == name]
    inside = offline.unpack(payload["data"])
    number = 1
    for control in inside["controls"]:
        number *= len(control["options"])
        assert control["start"] in [value for value, _ in control["options"]]
    assert number == len(inside["sentences"]) > 1
    assert len(offline.page(payload)) <= offline.MOST


def test_the_book_makes_pages_of_figures(counts: Explorer, tmp_path) -> None:
    import nbformat

    output = nbformat.v4.new_output("display_data", figure(counts, size=[8])._repr_mimebundle_())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output], execution_count=1)])
    path = tmp_path / "07_small.ipynb"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    for paper, scripts in ((False, 1), (True, 0)):
        (staged,) = stage(find(tmp_path), tmp_path / f"book{paper}", SOURCE, paper=paper)
        (shown,) = load(staged).cells[0].outputs
        text = "".join(shown["data"].pop("text/html"))
        assert shown["data"] == {} and text.count("<script") == scripts and "294,912" in text
