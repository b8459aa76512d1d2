"""What every chapter owes its reader: how it opens, its figures, exercises, mistakes and summary, links to sources."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chapters import CHAPTERS, LINK, cells, chapter, executed, literal_texts, output_text, pieces, texts
from matplotlib.colors import to_rgb

from petl_core import methods
from petl_guide.figures import style

NEEDS = re.compile(r"^You need: (.+?)\. Time: (\d+) minutes with the exercises\.$", re.MULTILINE)
CLAIMLESS = {"10", "12"}  # a guide and a ledger: they judge the claims of the others
EXERCISE = re.compile(r"\*\*Exercise (\d)\*\* \((●○○ easy|●●○ medium|●●● hard), (\d+) minutes\)\. \S")
THREAD = re.compile(r"https://github\.com/([\w-]+/[\w.-]+)/issues/(\d+)$")
THREADS = {  # those that were read for the sections on mistakes; another one has to be read before it is cited
    "KMnP/vpt": {1, 4, 9, 27, 34, 42, 48, 62, 70, 76},
    "JieShibo/PETL-ViT": {8, 14, 16, 19},
    "dongzelian/SSF": {8, 10, 20},
    "visinf/adapter_plus": {3},
    "Lingyun0419/CVPT": {1},
    "OSU-MLB/ViT_PEFT_Vision": {1},
    "luogen1996/RepAdapter": {2, 9, 11, 13},
    "ZhangYuanhan-AI/NOAH": {1, 6, 26},
    "ziplab/SPT": {1},
    "google-research/task_adaptation": {8},
    "huggingface/peft": {577, 622, 664, 691, 960, 1514, 1705, 2322},
    "huggingface/pytorch-image-models": {320},
    "lucidrains/vit-pytorch": {34, 82},
    "mlfoundations/wise-ft": {5, 8},
    "openai/CLIP": {150},
    "revantteotia/clip-training": {3},
    "taoyang1122/adapt-image-models": {27},
    "skorch-dev/skorch": {499},
    "facebookresearch/deit": {130},
    "cornellius-gp/gpytorch": {1360},
    "ShoufaChen/AdaptFormer": {6, 9},
}
UNITS = re.compile(r"%|points|parameters|seconds|MB|half intervals|models|rule")
MESSAGE = re.compile(r"\d|\b(than|from|ahead|apart|equal|most|more|less|raises|lowers|found)\b")
HARMLESS = {"k", "w", "white", "black", "none"}


def exercises(found: list[Any]) -> list[tuple[re.Match, list[Any]]]:
    """Each exercise's heading and the code cells up to the next text."""
    groups: list[tuple[re.Match, list[Any]]] = []
    for number, cell in enumerate(found):
        if cell.cell_type == "markdown" and "**Exercise" in cell.source:
            head = EXERCISE.search(cell.source)
            assert head, f"not in the form of an exercise: {cell.source[:80]}"
            code = []
            for after in found[number + 1 :]:
                if after.cell_type == "markdown":
                    break
                code.append(after)
            groups.append((head, code))
    return groups


@CHAPTERS
def test_a_chapter_opens_with_its_question_claim_refutation_control_needs_and_time(path: Path) -> None:
    first = cells(path)[0].source
    assert re.match(rf"# {int(path.name[:2])} · \w.+\n", first)
    wanted = ["Question", "What would refute (?:it|them|the \\w+)", "Controls?"]
    wanted += [] if path.name[:2] in CLAIMLESS else ["Claims?"]
    missing = [word for word in wanted if not re.search(rf"^\*\*{word}[.*]", first, re.MULTILINE)]
    assert missing == []
    assert len(NEEDS.findall(first)) == 1 and NEEDS.search(first)[0] == first.splitlines()[-1]


@CHAPTERS
def test_the_time_of_a_chapter_leaves_time_to_read_it(path: Path) -> None:
    found = cells(path)
    prose = sum(len(cell.source.split()) for cell in found if cell.cell_type == "markdown")
    for_exercises = sum(int(head[3]) for head, _ in exercises(found))
    assert int(NEEDS.search(found[0].source)[2]) >= for_exercises + prose / 150  # words a minute, with the figures


@CHAPTERS
def test_exercises_have_a_difficulty_a_time_a_check_and_a_folded_solution_that_is_asserted(path: Path) -> None:
    found = exercises(cells(path))
    assert 2 <= len(found) <= 4 and [int(head[1]) for head, _ in found] == list(range(1, len(found) + 1))
    for head, code in found:
        name = f"answer_{head[1]}"
        assert code[0].source.splitlines()[-1].startswith(f"{name} = None  # "), "the first cell is the reader's"
        asked = [i for i, cell in enumerate(code) if re.search(rf"\bcheck\(\s*{name},", cell.source)]
        solved = [i for i, cell in enumerate(code) if "solution" in cell.metadata.get("tags", [])]
        assert len(asked) == 1 and len(solved) == 1 and 0 < asked[0] < solved[0] == len(code) - 1
        assert code[-1].metadata["tags"] == ["hide-cell", "solution"] and "assert is_right(" in code[-1].source


@CHAPTERS
def test_unanswered_exercises_say_so_and_solutions_show_something(path: Path) -> None:
    for _, code in exercises(executed(path)):
        shown = [output_text(cell) for cell in code]
        assert "Not answered yet" in "".join(shown[:-1]) and len(shown[-1].strip()) > 20


@CHAPTERS
def test_one_figure_is_the_signature_and_can_be_understood_alone(path: Path) -> None:
    signed = [cell for cell in executed(path) if "signature" in cell.metadata.get("tags", [])]
    assert len(signed) == 1
    (picture,) = [output for output in signed[0].outputs if "image/png" in output.get("data", {})]
    said = picture.metadata["image/png"]
    assert len(said["title"].split()) > 5 and MESSAGE.search(said["title"]), said["title"]
    assert len(said["title"]) <= 98 and len(said["alt"]) > 40  # a longer one is cut off
    numbered = said["x"] + said["y"]
    assert said["unnamed"] == [] and (not numbered or UNITS.search(" ".join(numbered))), numbered


@CHAPTERS
def test_every_axis_with_numbers_has_a_name(path: Path) -> None:
    outputs = [output for cell in executed(path) for output in cell.get("outputs", [])]
    said = [output.metadata["image/png"] for output in outputs if "image/png" in output.get("metadata", {})]
    assert [text["alt"] for text in said if text["unnamed"]] == []
    assert all(text["title"] for text in said)


@CHAPTERS
def test_no_chapter_chooses_colours_by_hand(path: Path) -> None:
    code = "\n".join(cell.source for cell in cells(path) if cell.cell_type == "code")
    assert re.findall(r"#[0-9a-fA-F]{6}\b", code) == []
    named = set(re.findall(r"\b(?:color|mfc|mec|ec|fc|facecolor|edgecolor)=\"(\w+)\"", code))
    assert named <= HARMLESS


@pytest.mark.parametrize("kind", ["protan", "deutan", "tritan"])
def test_families_are_told_apart_with_any_colour_vision(kind: str) -> None:
    """Machado, Oliveira and Fernandes, 2009: what a person without one kind of cone sees (linear RGB)."""
    matrices = {
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    seen = [np.array(matrices[kind]) @ np.array(to_rgb(colour)) ** 2.2 for colour in style.FAMILIES.values()]
    assert min(np.abs(one - other).max() for one, other in combinations(seen, 2)) > 0.05


def mistakes(path: Path) -> list[str]:
    inside = [piece.text for piece in pieces(cells(path)) if piece.section.startswith("Common mistakes")]
    return [text for text in inside if text.lstrip().startswith("- ")]


@CHAPTERS
def test_common_mistakes_come_from_threads_and_say_how_to_notice_and_what_to_do(path: Path) -> None:
    found = mistakes(path)
    assert 3 <= len(found) <= 6
    for text in found:
        assert re.match(r"- \*\*.+?[.?]\*\* ", text) and "*Notice:*" in text and "*Do:*" in text, text
        threads = [THREAD.match(target) for _, target in LINK.findall(text) if "github.com" in target]
        assert threads and all(threads), f"no thread, or not the address of one: {text}"


@CHAPTERS
def test_links_say_where_they_lead(path: Path) -> None:
    for text in texts(cells(path)):
        for label, target in LINK.findall(text):
            if thread := THREAD.match(target):
                assert label.endswith(f"#{thread[2]}") and label.split("#")[0] in thread[1], target
                assert int(thread[2]) in THREADS.get(thread[1], ()), f"{target} is not among those that were read"
            elif target.startswith("http"):
                assert re.match(r"https://(arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\S+)$", target), target


@CHAPTERS
def test_papers_are_cited_by_links(path: Path) -> None:
    bare = r"et al\.,? \(?\d{4}|\barXiv[ :]\d{4}\.|\b[A-Z][a-z]+ (?:&|and) [A-Z][a-z]+,? \(?\d{4}"
    assert [text for text in texts(cells(path)) if re.search(bare, LINK.sub("", text))] == []


@CHAPTERS
def test_a_chapter_ends_with_five_lines(path: Path) -> None:
    last = cells(path)[-1]
    assert last.cell_type == "code" and "## Summary in five lines" in last.source
    shown = output_text(executed(path)[-1])
    assert re.findall(r"^(\d)\. \S", shown.partition("## Summary in five lines")[2], re.MULTILINE) == list("12345")
    for text in literal_texts(last.source):
        if "Summary" in text:
            assert text.count("⟨⟩") >= 3, "its numbers are computed"


def test_every_method_is_cited_where_it_is_derived() -> None:
    text = "\n".join(cell.source for cell in cells(chapter("02")) if cell.cell_type == "markdown")
    for name in methods.names():
        (identifier,) = re.findall(r"arXiv (\S+)$", methods.registry[name].paper)
        assert f"https://arxiv.org/abs/{identifier})" in text, name


@CHAPTERS
def test_a_chapter_is_short_enough_to_read(path: Path) -> None:
    code = [cell.source for cell in cells(path) if cell.cell_type == "code"]
    lines = [line for source in code for line in source.splitlines() if line.strip()]
    assert len(lines) <= 360 and len(cells(path)) <= 70, "move some of the code to the package and show its source"
