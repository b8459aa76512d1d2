"""The folder that Jupyter Book builds from: the book's pages, the notebooks as pages, the configuration, the buttons.

The notebooks are shown with the outputs they have. Links to other chapters in computed text lead to the pages, pictures
keep their descriptions, widgets (dead without a kernel) are left out, and interactive figures become HTML.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from petl_core.utils import UserError
from petl_guide.interactive import offline

WIDGET = "application/vnd.jupyter.widget-view+json"
CHAPTER_LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb(#[^)\s]*)?")
ON_A_PAGE, ON_PAPER = r"](\1.html\2", r"](#document-notebooks/\1"
REPOSITORY = "PETL_REPOSITORY"
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")


def stage(
    notebooks: list[Path], folder: Path, source: Path, *, paper: bool = False, records: tuple[str, str] | None = None
) -> list[Path]:
    """Put the book of ``source`` and these notebooks into ``folder``; return the staged notebooks.

    ``records``: the profile and the folder that pages are computed from, if not the shipped ones. ``paper``: for one
    page with everything, where figures do not react and chapters are places on that page.
    """
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("_build", "*.py", "__pycache__"))
    write_config(folder / "_config.yml", records)
    (folder / "notebooks").mkdir()
    return [_page(path, folder / "notebooks" / path.name, paper=paper) for path in notebooks]


def find(chapters: Path) -> list[Path]:
    """The notebooks to show, in order."""
    notebooks = sorted(chapters.glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise UserError(
            f"no NN_topic.ipynb in {chapters}: execute the notebooks first, see python -m petl_guide notebooks --help"
        )
    return notebooks


def _page(source: Path, target: Path, *, paper: bool) -> Path:
    """Copy a notebook, its outputs made ready for a page."""
    notebook = json.loads(source.read_text(encoding="utf-8"))
    notebook["metadata"].pop("widgets", None)  # with it, MyST-NB asks other hosts for the widgets' scripts
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
        for output in cell.get("outputs", []):
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):  # left there by style.show
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
            data = output.get("data", {})
            if text := data.get("text/markdown"):
                data["text/markdown"] = CHAPTER_LINK.sub(ON_PAPER if paper else ON_A_PAGE, "".join(text))
            if payload := data.get(offline.MIME):
                output["data"] = {"text/html": offline.page(payload, live=not paper)}
    target.write_text(json.dumps(notebook), encoding="utf-8")
    return target


def write_config(path: Path, records: tuple[str, str] | None = None) -> None:
    """The configuration as Jupyter Book reads it: with buttons to the repository, or with none if none is named."""
    import yaml

    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    stated = config.pop("repository", None) or {}
    buttons = config.pop("launch_buttons", None) or {}
    if address := repository(stated.get("url") or ""):
        branch = stated.get("branch") or "main"
        config["repository"] = {"url": address, "branch": branch, "path_to_book": ""}
        config["launch_buttons"] = buttons
        config["html"] |= {"use_repository_button": True, "use_edit_page_button": True}
        context = config["sphinx"]["config"].setdefault("html_context", {})
        context |= {"edit_page_provider_name": "GitHub", "edit_page_url_template": _edit_template(address, branch)}
    if records:
        config["sphinx"]["config"] |= {"computed_profile": records[0], "computed_runs": records[1]}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def repository(stated: str) -> str:
    """The repository's public address: the environment variable's, else the configuration's; "" if it has none yet."""
    address = os.environ.get(REPOSITORY, stated).strip().removesuffix("/").removesuffix(".git")
    if address and not ADDRESS.fullmatch(address):
        raise UserError(
            f"the book's repository is {address!r}; use https://github.com/OWNER/NAME in {REPOSITORY} or in "
            "book/_config.yml (repository: url:), or leave it empty for a book without buttons"
        )
    return address


def _edit_template(address: str, branch: str) -> str:
    """Where the source of a page is edited: a chapter's beside its notebook, other pages in ``book/``."""
    chapter = "file_name[:-5] + 'py' if file_name.startswith('notebooks/') else 'book/' + file_name"
    return f"{address}/edit/{branch}/{{{{ {chapter} }}}}"
