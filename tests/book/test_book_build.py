"""The book: what is staged, what stops it, small books built from one notebook, and how it is published."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from matplotlib.figure import Figure

from book import build as book
from book import stage as book_stage
from petl_core.utils import UserError
from petl_guide import notebooks
from petl_guide.figures import style

ADDRESS = "https://github.com/someone/some-name"
INTRO = (
    "# A small book\n\nNo formula, {cite:p}`mai2025lessons`.\n\n```{tableofcontents}\n```\n\n```{bibliography}\n```\n"
)
TOC = {"format": "jb-book", "root": "intro", "chapters": [{"glob": "notebooks/*"}]}
PROSE = "# 07 · A small one\n\n## A part\n\nA formula, $a^2 + b^2$, and a [link](07_small.ipynb)."


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(book_stage.REPOSITORY, raising=False)


def write_notebook(path: Path, *outputs: dict[str, Any], prose: str = PROSE, **cell: Any) -> Path:
    """An executed notebook: some prose and one cell with these outputs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [nbformat.v4.new_output("display_data", data) for data in outputs]
    code = nbformat.v4.new_code_cell("show()", id="b", **{"execution_count": 1, "outputs": shown, **cell})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(prose, id="a"), code])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    return path


@pytest.fixture
def chapters(tmp_path: Path) -> Path:
    text = "see [the chapter](07_small.ipynb#a-part), not [that](https://x.org/04_other.ipynb)"
    return write_notebook(tmp_path / "chapters" / "07_small.ipynb", {"text/markdown": text}).parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The project's configuration and styles around a front page of its own."""
    folder = tmp_path_factory.mktemp("source") / "book"
    folder.mkdir()
    for name in ("_config.yml", "references.bib"):
        shutil.copy(repository / "book" / name, folder / name)
    shutil.copytree(repository / "book" / "_static", folder / "_static")
    (folder / "_toc.yml").write_text(yaml.safe_dump(TOC), encoding="utf-8")
    (folder / "intro.md").write_text(INTRO, encoding="utf-8")
    return folder


def staged_data(chapters: Path, source: Path, folder: Path, **how: bool) -> list[dict[str, Any]]:
    """The outputs of the staged notebook's code cell, by type."""
    (staged,) = book_stage.stage(book_stage.find(chapters), folder, source, **how)
    return [output["data"] for output in json.loads(staged.read_text(encoding="utf-8"))["cells"][1]["outputs"]]


def test_links_between_chapters_in_computed_text_lead_to_the_pages(
    chapters: Path, source: Path, tmp_path: Path
) -> None:
    (data,) = staged_data(chapters, source, tmp_path / "book")
    there = "not [that](https://x.org/04_other.ipynb)"
    assert data["text/markdown"] == f"see [the chapter](07_small.html#a-part), {there}"
    (data,) = staged_data(chapters, source, tmp_path / "paper", paper=True)
    assert data["text/markdown"] == f"see [the chapter](#document-notebooks/07_small), {there}"


def test_widgets_are_left_out(chapters: Path, source: Path, tmp_path: Path) -> None:
    widget = {book_stage.WIDGET: {"model_id": "a"}, "text/plain": "HBox()"}
    path = write_notebook(chapters / "07_small.ipynb", widget, {"text/plain": "2"})
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"a": {}}}}
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert [set(data) for data in staged_data(chapters, source, tmp_path / "book")] == [{"text/plain"}]
    assert "widgets" not in json.loads((tmp_path / "book/notebooks/07_small.ipynb").read_text("utf-8"))["metadata"]


def config(source: Path, folder: Path) -> dict[str, Any]:
    shutil.copy(source / "_config.yml", folder / "_config.yml")
    book_stage.write_config(folder / "_config.yml")
    return yaml.safe_load((folder / "_config.yml").read_text(encoding="utf-8"))


def test_without_an_address_nothing_leads_to_one(source: Path, tmp_path: Path) -> None:
    assert not {"repository", "launch_buttons"} & set(config(source, tmp_path))


@pytest.mark.parametrize("given", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git"])
def test_the_address_may_come_from_the_environment_or_the_configuration(
    given: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert book_stage.repository(given) == ADDRESS
    monkeypatch.setenv(book_stage.REPOSITORY, given)
    assert book_stage.repository("https://github.com/another/one") == ADDRESS
    assert config(source, tmp_path)["repository"] == {"url": ADDRESS, "branch": "main", "path_to_book": ""}


@pytest.mark.parametrize(
    "given", ["someone/some-name", "https://github.com/someone", "http://github.com/a/b", ADDRESS + "/tree"]
)
def test_another_kind_of_address_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(book_stage.REPOSITORY, given)
    with pytest.raises(UserError, match=r"use https://github\.com/OWNER/NAME in PETL_REPOSITORY"):
        book_stage.repository("")


def refused(chapters: Path) -> str:
    with pytest.raises(UserError) as raised:
        book.build(chapters.parent / "out", chapters)
    assert not (chapters.parent / "out").exists()
    return str(raised.value)


def test_notebooks_that_cannot_be_shown_stop_the_build_and_are_named(chapters: Path) -> None:
    path = chapters / "07_small.ipynb"
    assert "execute the notebooks first" in refused(chapters.parent / "nowhere")
    write_notebook(path, execution_count=None)
    assert "07_small.ipynb, cell 1: was not executed" in refused(chapters)
    error = nbformat.v4.new_output("error", ename="KeyError", evalue="'x'")
    write_notebook(path, outputs=[error])
    assert "07_small.ipynb, cell 1: ended in KeyError: 'x'" in refused(chapters)
    write_notebook(path, outputs=[error], metadata={"tags": ["raises-exception"]})
    assert notebooks.unfinished(path) == []
    path.write_text("half a noteb", encoding="utf-8")
    assert "07_small.ipynb is not a notebook" in refused(chapters)


def test_notebooks_beside_their_sources_must_be_what_these_say_and_records_be_there(
    chapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chapters / "07_small.py").write_text('# %% tags=["parameters"]\nA = 1\n', encoding="utf-8")
    assert "07_small.ipynb is not what 07_small.py says" in refused(chapters)
    monkeypatch.setattr(book, "RESULTS", tmp_path / "results")
    assert re.search(r"results: there are no records.*git checkout .*results", refused(chapters))


def test_only_a_book_is_replaced(chapters: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("three years of work", encoding="utf-8")
    for out in (mine, mine.parent):
        with pytest.raises(UserError, match="is not a book"):
            book.build(out, chapters)
    assert mine.read_text(encoding="utf-8") == "three years of work"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").touch()
    book.move(tmp_path / "site", tmp_path / "new" / "book")
    assert [path.name for path in (tmp_path / "new").rglob("*")] == ["book", "index.html"]


def test_pictures_keep_their_descriptions(source: Path, tmp_path: Path) -> None:
    data, metadata = style.show(Figure(figsize=(1, 1)), "a dot above a line")._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data=data, metadata=metadata)
    path = write_notebook(tmp_path / "09_small.ipynb", outputs=[output])
    (staged,) = book_stage.stage([path], tmp_path / "book", source)
    shown = nbformat.read(staged, as_version=4).cells
    assert shown[1].metadata["mystnb"]["image"]["alt"] == "a dot above a line" and shown[1].outputs == [output]
    assert "mystnb" not in shown[0].metadata


@pytest.mark.parametrize("options", ["--runs x", "--profile quick", "--print --runs x --profile quick"])
def test_other_records_need_their_profile(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert book.main(options.split()) == 2
    assert "--runs DIR and --profile NAME go together" in capsys.readouterr().err


def test_a_folder_without_runs_of_the_profile_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert book.main(["--runs", str(tmp_path), "--profile", "quick"]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def pages(site: Path) -> dict[str, bytes]:
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_small_book_is_the_same_twice_and_has_buttons_once_it_has_an_address(
    chapters: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = book.build(tmp_path / "one", chapters, source)
    page = (front.parent / "notebooks" / "07_small.html").read_text(encoding="utf-8")
    assert "A small one" in page and 'href="07_small.html#a-part"' in page and "_static/mathjax/tex-chtml.js" in page
    assert "MathJax" not in (front.parent / "intro.html").read_text(encoding="utf-8")
    assert not re.search(r"github\.com/|mybinder|colab", page)
    download = front.parent / "_sources" / "notebooks" / "07_small.ipynb"
    assert download.read_bytes() == (chapters / "07_small.ipynb").read_bytes() and download.name in page
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    one, two = pages(front.parent), pages(book.build(tmp_path / "elsewhere" / "two", chapters, source).parent)
    assert one.keys() == two.keys() and [name for name in one if one[name] != two[name]] == []
    monkeypatch.setenv(book_stage.REPOSITORY, ADDRESS)
    with_buttons = book.build(tmp_path / "one", chapters, source).parent
    links = set(re.findall(r'href="(https://[^"]*)"', (with_buttons / "notebooks/07_small.html").read_text("utf-8")))
    assert links == {
        ADDRESS,
        f"{ADDRESS}/edit/main/notebooks/07_small.py",
        "https://mybinder.org/v2/gh/someone/some-name/main?urlpath=lab/tree/notebooks/07_small.ipynb",
        "https://colab.research.google.com/github/someone/some-name/blob/main/notebooks/07_small.ipynb",
        "https://x.org/04_other.ipynb",
    }
    assert f'href="{ADDRESS}/edit/main/book/intro.md"' in (with_buttons / "intro.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_fault_stops_the_build_and_leaves_the_book_that_is_there(
    chapters: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    site_before = out / "index.html"
    out.mkdir()
    site_before.write_text("the last good book", encoding="utf-8")
    write_notebook(chapters / "07_small.ipynb", prose=f"{PROSE} {{ref}}`nowhere` [gone](08_gone.ipynb)")
    with pytest.raises(RuntimeError, match=r"(?s)07_small\.ipynb.*nowhere"):
        book.build(out, chapters, source)
    write_notebook(chapters / "07_small.ipynb", {"text/html": '<script src="https://x.org/a.js"></script>'})
    with pytest.raises(RuntimeError, match=r"notebooks/07_small\.html loads https://x\.org/a\.js"):
        book.build(out, chapters, source)
    assert [path.name for path in out.iterdir()] == ["index.html"]
    assert site_before.read_text(encoding="utf-8") == "the last good book"


@pytest.mark.slow
def test_the_print_version_holds_the_chapters(
    chapters: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("book.paper.find_browser", lambda: None)
    (made,) = book.build_print(tmp_path / "print", chapters, source)
    text = made.read_text(encoding="utf-8")
    assert "A small book" in text and "A small one" in text and "_static/print.css" in text
    assert 'id="document-notebooks/07_small"' in text and 'href="#document-notebooks/07_small"' in text


def test_the_workflow_publishes_what_make_book_writes(repository: Path) -> None:
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    assert workflow[True] == {"push": {"branches": ["main"]}, "workflow_dispatch": None}  # YAML reads "on" as true
    build, deploy = workflow["jobs"]["build"], workflow["jobs"]["deploy"]
    commands = [step["run"] for step in build["steps"] if "run" in step]
    uses = {step["uses"].split("@")[0]: step.get("with", {}) for step in build["steps"] if "uses" in step}
    written = re.search(r"book\.build --out (\S+)", (repository / "Makefile").read_text(encoding="utf-8"))
    assert commands == ["make book"] and written and uses["actions/upload-pages-artifact"] == {"path": written[1]}
    assert uses["actions/setup-python"]["cache"] == "pip"
    assert build["env"][book_stage.REPOSITORY] == "${{ github.server_url }}/${{ github.repository }}"
    assert [step["uses"].split("@")[0] for step in deploy["steps"]] == ["actions/deploy-pages"]
    assert deploy["needs"] == "build" and workflow["permissions"] == {"contents": "read"}
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    every = [step["uses"] for job in (build, deploy) for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", name) for name in every)


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_serves_on_this_machine_alone(repository: Path) -> None:
    command = ["make", "-n", "PORT=8765", "book-serve"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert "-m http.server 8765 --bind 127.0.0.1 --directory runs/book" in done.stdout


def test_a_package_installed_without_its_data_finds_those_of_the_checkout(repository: Path, tmp_path: Path) -> None:
    """As on Binder, which installs the package with ``pip install .`` and opens the notebooks of the checkout."""
    (tmp_path / "petl_core").mkdir()
    shutil.copy(repository / "petl_core" / "utils.py", tmp_path / "petl_core" / "utils.py")
    (tmp_path / "petl_core" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", "from petl_core.utils import DATA; print(DATA)"],
        cwd=repository / "notebooks",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(repository / "data")
