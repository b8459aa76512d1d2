"""What the text calls by name exists: functions, files, commands; and every formula says what its letters are."""

from __future__ import annotations

import ast
import builtins
import importlib
import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from chapters import CHAPTERS, cells, chapter, executed, output_text, texts

import petl_core
import petl_guide
import petl_make
from petl_core import methods
from petl_core.cli import main
from petl_core.models.weights import EMBEDDED_NAMES
from petl_guide import notebooks
from petl_guide.anatomy import STATIONS

ROOT = notebooks.ROOT
FOLDERS = (".", "petl_core", "petl_core/methods", "notebooks", "notebooks/petl_guide", "data", "data/petl_make")
FROM_SOURCE = re.compile(r"getsource\(|measure\.extract\(|getdoc\(|\bpart\(\"|\bsource\[")
GIVEN = set("DNLHCPTGrplkijhs") | set("fgcq")  # sizes, indices and the scale; functions
GREEK = r"\\(?:gamma|beta|mu|sigma|ell|Delta|theta|epsilon)(?![a-z])"
GIVEN |= {r"\Delta", r"\theta", r"\epsilon"}
SPECIAL = {  # inline code that names nothing of ours, and why
    "q_proj": "a layer of other libraries",
    "my_images": "the reader's folder",
    "model.safetensors": "the reader's file",
    "my_method.py": "the reader's file",
    "train/": "a folder of the reader's",
    "test/": "a folder of the reader's",
    "scaled_dot_product_attention": "torch's",
}


def names_of_package() -> set[str]:
    """Every module, and every public name and attribute in one, of petl_core and petl_guide; petl_make's modules."""
    found = {"petl_core", "petl_guide", "petl_make", "pc"}
    found |= {info.name for info in pkgutil.iter_modules(petl_make.__path__)}
    walked = [pkgutil.walk_packages(package.__path__, f"{package.__name__}.") for package in (petl_core, petl_guide)]
    for name in [info.name for infos in walked for info in infos if not info.name.endswith("__main__")]:
        module = importlib.import_module(name)
        found |= {name.rpartition(".")[2], *vars(module)}
        for value in vars(module).values():
            if isinstance(value, type):
                found |= {*dir(value), *getattr(value, "__annotations__", {})}
            elif callable(value) and hasattr(value, "__code__"):
                found |= set(value.__code__.co_varnames)
    return found


KNOWN = {*names_of_package(), *methods.names(), *dir(builtins), *EMBEDDED_NAMES}
KNOWN |= {station.name for station in STATIONS}


def names_of_code(found: Iterable[Any]) -> set[str]:
    """What a chapter's own code names: variables, attributes, arguments, and strings of one word."""
    named: set[str] = set()
    for cell in found:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                for field in ("id", "attr", "arg", "name"):
                    named |= {value for value in [getattr(node, field, None)] if isinstance(value, str)}
                if isinstance(node, ast.Constant) and re.fullmatch(r"\w+", str(node.value)):
                    named.add(str(node.value))
    return named


def is_path(text: str) -> bool:
    return bool(re.fullmatch(r"[\w./-]+", text)) and ("/" in text or text.endswith((".py", ".md", ".json", ".ipynb")))


def unknown(found: list[Any]) -> list[str]:
    """The inline code of a chapter's text that names nothing: no file, no command, no name of ours or of its code."""
    own, wrong = names_of_code(found), []
    prose = re.sub("```.*?```", "", "\n".join(texts(found)), flags=re.DOTALL)
    for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose):
        if span in SPECIAL or span.startswith(("runs/", "python -m ", "make ")) or "⟨⟩" in span:
            continue
        if is_path(span):
            wrong += [] if any((ROOT / folder / span).exists() for folder in FOLDERS) else [span]
            continue
        code = re.sub(r"\"[^\"]*\"|'[^']*'", "", span)
        wrong += [span for chain in re.findall(r"(?<![\w.-])[A-Za-z_][\w.]*", code) if not resolves(chain, own)]
    return wrong


def resolves(chain: str, own: set[str]) -> bool:
    """``pc.merge`` has to be an attribute of the package; of other chains each part has to be a name that exists."""
    parts = chain.strip(".").split(".")
    if parts[0] in ("pc", "petl_core") and len(parts) > 1:
        value: Any = petl_core
        for part in parts[1:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return all(part in KNOWN or part in own for part in parts)


@CHAPTERS
def test_inline_code_names_what_exists(path: Path) -> None:
    assert unknown(cells(path)) == []


def test_a_wrong_name_is_found() -> None:
    text = "`pc.merge` `pc.merg` `petl_core/vit.py` `petl_core/vitt.py` `measure.trace` `measure.tracee` `width`"
    text += " `frobnicate(x)` `runs/x` `mine`"
    found = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("mine = 1\nx = mine")]
    assert unknown(found) == ["pc.merg", "petl_core/vitt.py", "measure.tracee", "frobnicate(x)"]


@CHAPTERS
def test_commands_in_the_text_are_understood(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(cell.source for cell in cells(path))
    for command in re.findall(r"python -m petl_core ([a-z-]+[^`\n#)]*)", text):
        words = command.split()
        if words[0].startswith("-"):
            continue
        given = words[:2] if words[0] == "data" else words[:1]
        with pytest.raises(SystemExit) as ended:
            main([*given, "--help"])
        shown = capsys.readouterr().out
        assert ended.value.code == 0 and all(word in shown for word in words if word.startswith("--")), command
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)|^make ([a-z]+)", text, re.MULTILINE)) <= {(t, "") for t in targets} | {
        ("", t) for t in targets
    }


@CHAPTERS
def test_code_that_is_shown_is_the_code_that_runs(path: Path) -> None:
    for cell in cells(path):
        if cell.cell_type == "markdown":
            assert "```python" not in cell.source
            continue
        calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
        for call in calls:
            if isinstance(call.func, ast.Name) and call.func.id == "Code":
                assert not isinstance(call.args[0], ast.Constant) and FROM_SOURCE.search(cell.source), cell.source


def letters(math: str) -> set[str]:
    """The letters of a formula, without indices, words and commands: ``W_{qkv}`` and ``W_q`` are both W."""
    math = re.sub(r"\\(?:mathrm|text|mathbb)\{[^}]*\}", " ", math)
    math = re.sub(r"[_^](?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\\?\w+)", " ", math)
    greek = set(re.findall(GREEK, math))
    return greek | set(re.findall("[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", math)))


def undeclared(prose: Iterable[str]) -> list[str]:
    """The displayed formulas with a letter whose shape neither the same cell nor an earlier one says."""
    shaped, wrong = set(GIVEN), []
    for text in prose:
        displayed = re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
        for math in displayed + re.findall(r"(?<!\$)\$([^$]+)\$(?!\$)", text):
            for part in math.split(r"\in \mathbb{R}")[:-1]:
                shaped |= letters(re.split(r"\\qquad|\\quad", part)[-1].partition("=")[0])
        for math in displayed:
            before = re.sub(r"\\in \\mathbb\{R\}(?:\^(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\w))?", " ", math)
            wrong += [f"{letter} in {math.strip()[:60]}" for letter in sorted(letters(before) - shaped)]
    return wrong


@pytest.mark.parametrize("number", ["01", "02"])
def test_every_displayed_formula_says_the_shapes_of_its_letters(number: str) -> None:
    prose = [cell.source for cell in cells(chapter(number)) if cell.cell_type == "markdown"]
    assert sum("$$" in text for text in prose) >= 5
    assert undeclared(prose) == []
    assert all(text.count("$$") % 2 == 0 for text in prose)


def test_a_letter_without_a_shape_is_found() -> None:
    right = (
        r"$$ y = Wx + b, \qquad x \in \mathbb{R}^{D},\; y, b \in \mathbb{R}^{4D},\; W \in \mathbb{R}^{4D\times D} $$"
    )
    assert undeclared([right, "$$ z = W_q y $$ with $z \\in \\mathbb{R}^{4}$"]) == []
    assert [text[0] for text in undeclared([right.replace("x \\in", "u \\in"), r"$$ z = Wy $$"])] == ["x", "z"]


@pytest.mark.parametrize("name", methods.names())
def test_each_method_is_derived_under_its_name(name: str) -> None:
    title, found = methods.registry[name].title, cells(chapter("02"))
    (place,) = [i for i, cell in enumerate(found) if cell.cell_type == "markdown" and f"**{title}**" in cell.source]
    own = re.split(r"\*\*(?=[A-Z])", found[place].source.partition(f"**{title}**")[2])[0]
    assert "$$" in own and r"\mathbb{R}" in own and re.search("[Cc]ount|numbers|parameters|each block", own), title
    assert f'"{name}"' in found[place + 1].source and "look(" in found[place + 1].source


def test_the_readers_method_keeps_the_contract_and_stands_in_the_tables() -> None:
    shown = {cell.source: output_text(cell) for cell in executed(chapter("11")) if cell.cell_type == "code"}
    tables = [text for source, text in shown.items() if "table(" in source]
    assert sum("(IA)³" in text or re.search(r"\bia3\b", text) is not None for text in tables) >= 4
    (contract,) = [text for source, text in shown.items() if 'contract.check(methods.get("ia3")' in source]
    assert contract.count("kept") > 10 and "BROKEN" not in contract
