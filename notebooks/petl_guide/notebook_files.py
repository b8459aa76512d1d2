"""Notebooks as files: read a source, give it stable cell ids, remove what changes with each execution, write it.

Nothing here executes anything; ``notebooks.py`` does. jupytext and nbformat are imported where they are used, so that
the package can be used where they are not installed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from petl_core.utils import UserError


def read(source: Path) -> Any:
    """The source as a notebook without outputs, with cell ids that depend on the cells alone."""
    import jupytext

    notebook = jupytext.read(source)
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        cell.id = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[cell.id] = seen.get(cell.id, 0) + 1
        if seen[cell.id] > 1:
            cell.id += f"-{seen[cell.id]}"
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return _node(notebook)


def parameters(notebook: Any, name: str) -> set[str]:
    """The names that the cell tagged ``parameters`` assigns."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise UserError(f"{name}: {len(cells)} cells are tagged 'parameters'; a notebook needs exactly one")
    targets = (node.targets for node in ast.parse(cells[0].source).body if isinstance(node, ast.Assign))
    return {target.id for group in targets for target in group if isinstance(target, ast.Name)}


def tidy(notebook: Any, stem: str) -> Any:
    """Drop what differs from one execution to the next: timings, versions, half-drawn progress bars, widgets' names."""
    notebook.metadata = {key: notebook.metadata[key] for key in sorted(notebook.metadata) if key != "papermill"}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in ("tags", "jupyter", "slideshow") if cell.metadata.get(key)}
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
    text = json.dumps(notebook)
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for number, name in enumerate(sorted(widgets, key=text.index)):
        text = text.replace(name, hashlib.md5(f"{stem} {number}".encode()).hexdigest())
    return _node(json.loads(text))


def content(cell: Any) -> tuple[str, str, list[str]]:
    """What a cell and its counterpart in the source must have in common."""
    return cell.cell_type, cell.source, sorted(cell.metadata.get("tags", []))


def digest_files(*folders: Path) -> str:
    """A digest of the names and the contents of the files in these folders, those of sub-folders left out."""
    digest = hashlib.sha256()
    for path in (path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def load(path: Path) -> Any:
    """A notebook from an ``.ipynb`` file."""
    import nbformat

    return nbformat.read(path, as_version=4)


def write(notebook: Any, path: Path) -> None:
    """Write a valid notebook, whole or not at all."""
    import nbformat

    nbformat.validate(notebook)
    part = path.with_name(f".{path.name}.part")
    part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    part.replace(path)


def _node(notebook: Any) -> Any:
    import nbformat

    return nbformat.from_dict({**notebook, "nbformat": 4, "nbformat_minor": 5})
