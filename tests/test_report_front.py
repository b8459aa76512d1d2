"""The front pages say what the shipped records say, and the check that guards it can fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from petl_core.errors import UserError
from petl_core.report import front
from petl_core.report.results import Results, open_results


@pytest.fixture(scope="module")
def results() -> Results:
    return open_results(front.PROFILE)


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    for name in (*front.PAGES, front.PICTURE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)
    return tmp_path


def test_the_front_pages_are_what_the_records_say(repository: Path, results: Results) -> None:
    assert front.problems(repository, results) == []


def test_a_changed_number_and_another_picture_are_found_and_mended(copy: Path, results: Results) -> None:
    page, picture = copy / "README.md", copy / front.PICTURE
    page.write_text(page.read_text("utf-8").replace("tuning trials each", "tuning trial each"), "utf-8")
    picture.write_bytes(_blank())
    found = front.problems(copy, results)
    assert len(found) == 2 and "README.md" in found[0] and front.PICTURE in found[1]
    front.write(copy, results)
    assert front.problems(copy, results) == []


def _blank() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (720, 300), "white").save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("text", ["no marks", f"{front.END}\n{front.START}", f"{front.START}{front.START}{front.END}"])
def test_a_page_without_its_marks_is_refused_and_left_alone(copy: Path, results: Results, text: str) -> None:
    (copy / "README.md").write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"README\.md needs the marks"):
        front.write(copy, results)
    assert (copy / "README.md").read_text("utf-8") == text
