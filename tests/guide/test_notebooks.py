"""The runner of the notebooks, on small ones written here; and each committed notebook against its source."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest

from petl_core.utils import UserError
from petl_guide import notebooks
from petl_guide.__main__ import main

SOURCE = """\
# %% [markdown]
# # 07 · A small one

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PETL_PROFILE", "laptop")
RESULTS = os.environ.get("PETL_RESULTS", "shipped")

# %%
import sys

for step in range(3):
    print(f"step {step}", end="\\r", flush=True)
print(f"{PROFILE} {RESULTS}, done")

# %%
1 + 1

# %%
1 + 1
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "07_small.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def refreshed_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("refreshed") / "07_small.py"
    path.write_text(SOURCE, encoding="utf-8")
    return notebooks.refresh(path, timeout=300).read_bytes()


@pytest.fixture
def refreshed(source: Path, refreshed_bytes: bytes) -> Path:
    """The committed notebook beside ``source``, as ``refresh`` wrote it for the same source in another folder."""
    target = source.with_suffix(".ipynb")
    target.write_bytes(refreshed_bytes)
    return target


def text_of(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_sources_come_in_order_and_only_selects(tmp_path: Path) -> None:
    for name in ("10_ten.py", "02_two.py", "helper.py"):
        (tmp_path / name).touch()
    assert [path.name for path in notebooks.sources(folder=tmp_path)] == ["02_two.py", "10_ten.py"]
    assert [path.name for path in notebooks.sources(["10"], tmp_path)] == ["10_ten.py"]
    with pytest.raises(UserError, match="'03'; there are: 02_two, 10_ten"):
        notebooks.sources(["03"], tmp_path)


def test_records_folder() -> None:
    assert notebooks.records_folder("quick", "shipped").parts[-2:] == ("data", "results")
    assert notebooks.records_folder("real", "shipped").parts[-2:] == ("results", "real")
    assert notebooks.records_folder("quick", "shipped", "elsewhere") == Path("elsewhere")
    assert notebooks.records_folder("quick", "fresh").parts[-2:] == ("runs", "results-quick")
    assert notebooks.records_folder("quick", "fresh", "elsewhere") == Path("elsewhere")
    with pytest.raises(UserError, match="'shipped'"):
        notebooks.records_folder("quick", "new")


def test_cell_ids_depend_on_the_cells_alone(source: Path) -> None:
    ids = [cell.id for cell in notebooks.read(source).cells]
    assert len(set(ids)) == 5 and ids[4] == f"{ids[3]}-2"
    edit(source, "# # 07", "# # 08")
    assert [cell.id for cell in notebooks.read(source).cells][1:] == ids[1:]


@pytest.mark.parametrize("replacement", ["", 'tags=["parameters"]\nOTHER = 1\n\n# %% tags=["parameters"]'])
def test_a_source_needs_one_parameters_cell(source: Path, replacement: str) -> None:
    edit(source, 'tags=["parameters"]', replacement)
    with pytest.raises(UserError, match="needs exactly one"):
        notebooks.parameters(notebooks.read(source), source.name)


def test_execute_overrides_the_parameters_that_there_are(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "07_small.ipynb"
    executed = notebooks.execute(source, out, {"PROFILE": "smoke", "RESULTS": "fresh", "RUNS": "nowhere"}, timeout=300)
    assert text_of(out) == "smoke fresh, done\n"
    injected = [cell.source for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert len(injected) == 1 and "RUNS" not in injected[0]
    assert "papermill" not in out.read_text(encoding="utf-8").split("injected-parameters")[1]


def test_a_failing_cell_is_reported_and_what_ran_is_kept(source: Path, tmp_path: Path) -> None:
    edit(source, "1 + 1", "1 / 0")
    out = tmp_path / "07_small.ipynb"
    with pytest.raises(RuntimeError, match=r"07_small\.py: ZeroDivisionError: division by zero"):
        notebooks.execute(source, out, timeout=300)
    assert "laptop shipped, done" in text_of(out)


def test_refresh_ignores_the_environment_and_writes_the_same_bytes(
    source: Path, refreshed_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PETL_PROFILE", "smoke")
    target = notebooks.refresh(source, timeout=300)
    assert text_of(target) == "laptop shipped, done\n"
    assert notebooks.check(source) == []
    assert target.read_bytes() == refreshed_bytes
    assert sorted(path.name for path in source.parent.iterdir()) == ["07_small.ipynb", "07_small.py"]


def test_check_finds_each_fault(source: Path, refreshed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = refreshed.read_text(encoding="utf-8")

    def faults(old: str, new: str) -> str:
        refreshed.write_text(whole, encoding="utf-8")
        edit(refreshed, old, new)
        return " ".join(notebooks.check(source))

    assert "is not what 07_small.py says" in faults("A small one", "A large one")
    assert "is not what 07_small.py says" in faults("1 + 1", "1 + 2")
    assert "come from other code" in faults('"code": "', '"code": "0')
    assert "a memory address (at 0x7f00aa10)" in faults("shipped, done", "<object at 0x7f00aa10>")
    assert "a folder of the machine" in faults("shipped, done", f"{Path.home()}/x")
    assert "cell 3: was not executed" in faults('"execution_count": 3', '"execution_count": null')
    refreshed.write_text(whole, encoding="utf-8")
    monkeypatch.setattr(notebooks, "RESULTS", tmp_path)
    assert "come from other records" in " ".join(notebooks.check(source))
    refreshed.unlink()
    assert notebooks.check(source) == ["07_small.ipynb is missing: make notebooks"]


def test_check_finds_an_error_in_the_outputs(source: Path, refreshed: Path) -> None:
    notebook = json.loads(refreshed.read_text(encoding="utf-8"))
    error = {"output_type": "error", "ename": "KeyError", "evalue": "x", "traceback": []}
    notebook["cells"][3]["outputs"] = [error]
    refreshed.write_text(json.dumps(notebook), encoding="utf-8")
    assert notebooks.check(source) == ["07_small.ipynb, cell 3: ended in KeyError: x"]


def test_pair_keeps_outputs_when_prose_changes_and_check_sees_when_code_does(source: Path, refreshed: Path) -> None:
    edit(source, "A small one", "A tiny one")
    assert notebooks.check(source) != []
    notebooks.pair(source)
    assert notebooks.check(source) == [] and text_of(refreshed) == "laptop shipped, done\n"
    edit(source, "1 + 1\n\n", "2 + 2\n\n")
    notebooks.pair(source)
    problems = " ".join(notebooks.check(source))
    assert "come from other code" in problems and "cell 3: was not executed" in problems


def test_tidy_gives_widgets_the_same_names_each_time() -> None:
    def executed(first: str, second: str) -> str:
        view = {
            "application/vnd.jupyter.widget-view+json": {"model_id": second, "version_major": 2, "version_minor": 0}
        }
        cell = nbformat.v4.new_code_cell("slider", id="a", outputs=[nbformat.v4.new_output("display_data", view)])
        state = {second: {"state": {"layout": f"IPY_MODEL_{first}"}}, first: {"state": {}}}
        cell.metadata["execution"] = {"iopub.execute_input": first}
        notebook = nbformat.v4.new_notebook(cells=[cell])
        notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": state}}
        return nbformat.writes(notebooks.tidy(notebook, "07_small"))

    one, two = executed("a" * 32, "b" * 32), executed("1" * 32, "2" * 32)
    assert one == two and "IPY_MODEL_" in one and "a" * 32 not in one


def test_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--notebooks", str(tmp_path)]
    assert main(["notebooks", "check", *there]) == 1
    assert "07_small.ipynb is missing" in capsys.readouterr().out
    out = tmp_path / "executed"
    assert main(["notebooks", "execute", *there, "--profile", "quick", "--out", str(out), "--workers", "1"]) == 0
    assert "07_small: executed after" in capsys.readouterr().out
    assert text_of(out / "07_small.ipynb") == "quick fresh, done\n"
    assert main(["notebooks", "check", *there, "--only", "11"]) == 2
    assert "no notebook" in capsys.readouterr().err


@pytest.mark.parametrize("path", notebooks.sources(), ids=lambda path: path.stem)
def test_committed_notebook_is_what_its_source_says(path: Path) -> None:
    assert notebooks.check(path) == []


@pytest.mark.parametrize("path", notebooks.sources(), ids=lambda path: path.stem)
def test_a_chapter_that_reads_photographs_is_listed(path: Path) -> None:
    text = path.read_text("utf-8")
    reads = any(f"{name}(" in text for name in ("open_real", "claims.ledger", "ledger.rows_of"))
    assert path.name.startswith(notebooks.ON_PHOTOGRAPHS) == reads


def test_every_notebook_has_a_source() -> None:
    stems = {path.stem for path in notebooks.FOLDER.glob("*.ipynb")}
    assert stems <= {path.stem for path in notebooks.sources()}
    assert "PETL_PROFILE" not in os.environ


def test_a_notebook_with_a_cell_that_takes_too_long_is_run_once_more(source, tmp_path, capsys):
    marker = tmp_path / "been here"
    wait = f"""import time
from pathlib import Path

if not Path({str(marker)!r}).exists():
    Path({str(marker)!r}).touch()
    time.sleep(600)
"""
    source.write_text(SOURCE + "\n# %%\n" + wait, encoding="utf-8")
    stem, seconds, error = notebooks.attempt(notebooks.refresh, source, timeout=6)
    assert (stem, error) == ("07_small", "") and seconds < 120
    assert "once more" in capsys.readouterr().out
    source.write_text(SOURCE + "\n# %%\nimport time\n\ntime.sleep(600)\n", encoding="utf-8")
    assert "twice" in notebooks.attempt(notebooks.refresh, source, timeout=6)[2]
