"""Every number in the prose of a chapter comes from somewhere.

That is: it has its source (a paper, a thread) in the same paragraph; or it is used by the code of the same section, or
of the same exercise; or it is one of the few definitions in ``SETTINGS``; or an output of the chapter shows it.
Sentences in code (computed text, captions, titles) are prose too, but their own output is no source for them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from chapters import CHAPTERS, Number, cells, constants, executed, literal_texts, numbers, output_text, pieces

from petl_core import methods
from petl_core.data import load_task
from petl_core.data.folder import split_sizes
from petl_core.models.weights import config_of
from petl_guide import accuracy, notebooks, sweep

SOURCE = re.compile(r"\]\(https://(?:arxiv\.org/abs/|doi\.org/|github\.com/[\w.-]+/[\w.-]+/issues/)")


def of_split(name: str) -> Callable[[], float]:
    return lambda: len(load_task("digits").splits[name])


def whole(backbone: str) -> Callable[[], float]:
    return lambda: methods.get("full").count(config_of(backbone))


# What prose may name because it is a definition: value and unit, where the value is looked up, and what it is.
SETTINGS: list[tuple[float, str, Callable[[], float], str]] = [
    (95, "%", lambda: 100 * inspect.signature(accuracy.interval).parameters["level"].default, "of every interval"),
    (5, "%", lambda: sweep.SMALL, "the share of parameters that the study calls enough"),
    (32, "px", lambda: config_of("mini").image_size, "the embedded pictures"),
    (800, "image", of_split("train800"), "to train on"),
    (200, "image", of_split("val200"), "to choose by"),
    (1000, "image", of_split("train1000"), "both together"),
    (1000, "image", of_split("test"), "to test on"),
    (2000, "image", lambda: next(n for n in range(1, 9999) if split_sizes(n)[2] >= 1000), "of a folder"),
    (1000, "", of_split("train1000"), "labelled images"),
    (86e6, "parameter", whole("vit_base_patch16_224"), "ViT-B/16"),
    (85.8e6, "parameter", whole("vit_base_patch16_224"), "ViT-B/16"),
    (0.8e6, "parameter", whole("mini"), "mini"),
]


def founded(number: Number, text: str, code: str) -> bool:
    """Has the number its source beside it, or is it a definition, or used by this code?"""
    if SOURCE.search(text):
        return True
    if any((number.value, number.unit) == setting[:2] for setting in SETTINGS):
        return True
    same = (number.value, number.value / 100) if number.unit == "%" else (number.value,)
    return any(abs(used - value) < 1e-9 * max(1.0, value) for used in constants(code) for value in same)


def shown(number: Number, outputs: list[Number]) -> bool:
    """Does an output show it, as precisely, and in its unit (or in a table, where units stand elsewhere)?"""
    seen = [o for o in outputs if (o.value, o.grain) == (number.value, number.grain)]
    return any(number.unit == o.unit or (not o.unit and number.grain < 1) for o in seen)


def unfounded(found: list[Any], output: str) -> list[str]:
    """The numbers of a chapter's prose that come from nowhere, each with the beginning of its paragraph."""
    return [f"{n.shown} in: {' '.join(text.split())[:150]}" for n, text in _examined(found, output, founded_ones=False)]


def _examined(source: list[Any], output: str, *, founded_ones: bool) -> list[tuple[Number, str]]:
    parts, outputs = list(pieces(source)), numbers(output)
    code: dict[str, str] = {}
    for piece in parts:
        if piece.code:
            code[piece.section] = code.get(piece.section, "") + "\n" + piece.text
    found = []
    for piece in parts:
        for text in literal_texts(piece.text) if piece.code else [piece.text]:
            for number in numbers(text):
                good = founded(number, text, code.get(piece.section, "")) or (not piece.code and shown(number, outputs))
                found += [(number, text)] if good == founded_ones else []
    return found


def of(path: Path) -> tuple[list[Any], str]:
    return cells(path), "\n".join(output_text(cell) for cell in executed(path) if cell.cell_type == "code")


@CHAPTERS
def test_every_number_in_the_prose_comes_from_somewhere(path: Path) -> None:
    assert unfounded(*of(path)) == []


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting[0]:g} {setting[1]} {setting[3]}")
def test_the_definitions_that_prose_may_name_are_true(setting: tuple) -> None:
    value, unit, look_up, _ = setting
    (grain,) = {number.grain for number in numbers(f"{value / 1e6:g} million parameters")} if value > 1e5 else {1.0}
    assert abs(look_up() - value) <= grain / 2, (value, unit)


RIGHT = [
    "## 1 A section",
    "Each of 70 % of 300 images, 1,234 steps; in *4.5 seconds*; 12 apart; see section 3.5, Table 2.1, chapters 4 to 6.",
    "It was 65.9 % there ([Hu et al., 2022](https://arxiv.org/abs/2106.09685)). In 2019, ViT-B/16, `x = 77 %`, $8.5$.",
    "A 95 % interval of pictures of 32 pixels, from a model of 86 million parameters; fifteen pairs.",
]
CODE = 'n = 300\nshare = 0.7\nMarkdown(f"{n:,} images, 70 % of {n}")\nfor i in range(15): pass'
OUTPUT = "It took 4.5 seconds for 1,234 steps."


def small(prose: list[str], code: str = CODE) -> list[Any]:
    return [nbformat.v4.new_markdown_cell("\n\n".join(prose)), nbformat.v4.new_code_cell(code)]


def test_a_right_chapter_passes() -> None:
    assert unfounded(small(RIGHT), OUTPUT) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("70 %", "71 %"),
        ("300 images", "301 images"),
        ("1,234 steps", "1,235 steps"),
        ("4.5 seconds", "4.6 seconds"),
        ("4.5 seconds", "4.5 points"),
        ("12 apart", "12 points apart"),
        ("95 %", "94 %"),
        ("32 pixels", "33 pixels"),
        ("86 million", "85 million"),
        ("fifteen", "sixteen"),
        ("](https://arxiv.org/abs/2106.09685)", "]"),
    ],
)
def test_a_wrong_number_is_found(right: str, wrong: str) -> None:
    assert sum(right in text for text in RIGHT) == 1
    found = unfounded(small([text.replace(right, wrong) for text in RIGHT]), OUTPUT)
    assert len(found) == 1 and (wrong.split()[0] in found[0] or "65.9" in found[0])


def test_a_wrong_number_in_computed_text_is_found_though_its_output_shows_it() -> None:
    wrong = CODE.replace("70 %", "72.5 %")
    assert [text.partition(" in:")[0] for text in unfounded(small(RIGHT, wrong), f"{OUTPUT} 72.5 % of 300")] == [
        "72.5 %"
    ]


def test_most_wrong_numbers_in_the_real_chapters_would_be_found() -> None:
    """Change the last digit of every number that passes without a source beside it: how many pass still?"""
    tried = caught = 0
    for path in notebooks.sources():
        found, output = of(path)
        outputs = numbers(output)
        code = "\n".join(cell.source for cell in found if cell.cell_type == "code")
        for number, text in _examined(found, output, founded_ones=True):
            if not SOURCE.search(text):
                wrong = replace(number, value=number.value + number.grain)
                tried += 1
                caught += not founded(wrong, text, code) and not shown(wrong, outputs)
    assert tried > 40 and caught > 0.6 * tried
