"""The book's pages around the chapters: literature that resolves, words that are explained, chapters as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from book import citation, front
from book.pages import methods as method_pages
from petl_core.methods.base import Method, registry
from petl_core.utils import UserError
from petl_guide import chapters

pybtex = pytest.importorskip("pybtex.database")

WORDS = (  # the vocabulary that the glossary must explain
    "backbone", "head", "method", "hyper-parameter", "site", "task", "group", "split", "recipe", "trial", "run", "spec",
    "record", "profile", "claim", "verdict", "B, N, D, L, H, C, r", "PEFT", "PETL", "low-shot", "many-shot", "rank",
    "bottleneck", "prompt", "merge", "weight-space ensemble", "ensemble", "oracle", "kappa", "agreement",
    "overlap by chance", "seed noise", "t interval", "bootstrap", "Friedman test", "Nemenyi test",
    "relative standard deviation", "Pareto front", "domain distance", "domain affinity", "zero-shot", "drop path",
    "L2-SP", "layer-wise decay", "effective robustness", "control", "matched accuracy",
)  # fmt: skip
DOI = re.compile(r"10\.\d{4,9}/\S+")


@pytest.fixture(scope="module")
def entries(repository: Path) -> dict:
    return dict(pybtex.parse_file(repository / "book" / "references.bib").entries)


@pytest.fixture(scope="module")
def pages(repository: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted((repository / "book").glob("*.md"))}


# literature


def test_every_entry_leads_somewhere_and_says_why_it_has_no_doi(entries: dict) -> None:
    assert len(entries) > 60
    for key, entry in entries.items():
        fields = entry.fields
        assert {"title", "year", "keywords"} <= set(fields) and entry.persons.get("author"), key
        if "doi" in fields:
            assert DOI.fullmatch(fields["doi"]), key
        else:
            assert fields["url"].startswith("http") and re.search(r"\bDOIs?\b", fields["note"]), key
        if fields.get("doi", "").startswith("10.48550/"):
            assert fields["doi"] == f"10.48550/arXiv.{fields['eprint']}", key


def test_keys_papers_and_dois_are_there_once(repository: Path, entries: dict) -> None:
    keys = re.findall(r"^@\w+\{([^,]+),", (repository / "book" / "references.bib").read_text("utf-8"), re.MULTILINE)
    assert len(keys) == len(set(keys)) == len(entries)
    for field in ("doi", "eprint", "title"):
        values = [entry.fields[field].lower() for entry in entries.values() if field in entry.fields]
        assert len(values) == len(set(values)), field


def test_every_entry_is_listed_in_one_section_of_the_bibliography(entries: dict, pages: dict[str, str]) -> None:
    sections = re.findall(r':filter: keywords % "(\w+)"', pages["bibliography.md"])
    assert len(sections) == len(set(sections)) > 3
    for key, entry in entries.items():
        assert [s for s in sections if re.search(s, entry.fields["keywords"])] == [entry.fields["keywords"]], key


def test_every_arxiv_number_in_sources_and_pages_is_in_the_bibliography(repository: Path, entries: dict) -> None:
    known = {entry.fields["eprint"] for entry in entries.values() if "eprint" in entry.fields}
    texts = [repository / "README.md", repository / "CITATION.cff", *(repository / "data").glob("*/README.md")]
    texts += [*(repository / "notebooks").glob("*.py"), *(repository / "petl_core").rglob("*.py")]
    texts += (repository / "book").glob("*.md")
    found = {(path.name, number) for path in texts for number in method_pages.ARXIV.findall(path.read_text("utf-8"))}
    assert len(found) > 30
    assert sorted((name, number) for name, number in found if number not in known) == []


def test_citations_on_the_pages_are_in_the_bibliography(entries: dict, pages: dict[str, str]) -> None:
    cited = {key for text in pages.values() for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", text)
             for key in keys.split(",")}  # fmt: skip
    assert len(cited) > 40 and cited <= set(entries)


@pytest.mark.parametrize("name", sorted(registry))
def test_every_method_has_a_paper_in_the_bibliography_and_an_entry(
    name: str, repository: Path, pages: dict[str, str]
) -> None:
    cls = registry[name]
    said = method_pages.described(cls)
    number = method_pages.ARXIV.search(cls.paper)
    key = method_pages.cite_keys(repository)[number[1]]
    text = pages["methods.md"].partition(f"(method-{name.replace('_', '-')})=\n")[2].partition("\n(method-")[0]
    assert text.startswith(f"### {cls.title}\n") and f"`{key}`" in text and f"methods/{name}.py" in text
    assert ARXIV_OF_BASELINES.get(name, number[1]) in method_pages.ARXIV.findall(said["Paper"])


ARXIV_OF_BASELINES = {"linear": "1912.11370", "full": "2010.11929"}


def test_a_method_without_docstring_or_without_its_paper_is_refused(repository: Path) -> None:
    class Silent(Method):
        name, title, family, paper = "silent", "Silent", "adapter", "Nobody, 2000, arXiv 0000.00000"

    with pytest.raises(UserError, match=r"test_book_pages\.py lacks Paper, Formula"):
        method_pages.described(Silent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method_pages, "described", lambda cls: dict.fromkeys(("Idea", *method_pages.FIELDS), "x"))
        with pytest.raises(UserError, match=r"'silent'.*not in book/references"):
            method_pages._method(Silent, chapters.chapters(), method_pages.cite_keys(repository), None)


def test_bibtex_says_what_the_citation_file_says(repository: Path, pages: dict[str, str]) -> None:
    said = yaml.safe_load((repository / "CITATION.cff").read_text("utf-8"))
    made = citation.bibtex(repository)
    found = pybtex.parse_string(made.removeprefix("```bibtex").removesuffix("```"), "bibtex").entries
    guide, study = found.values()
    assert guide.fields["title"].strip("{}") == said["title"] and guide.fields["version"] == said["version"]
    assert study.fields["doi"] == said["references"][0]["doi"] == "10.48550/arXiv.2409.16434"
    assert [str(person.last_names[0]) for person in study.persons["author"]][:2] == ["Mai", "Zhang"]
    assert made in pages["cite.md"]


def test_a_licence_without_a_year_is_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "CITATION.cff").write_bytes((repository / "CITATION.cff").read_bytes())
    (tmp_path / "LICENSE").write_text("MIT", "utf-8")
    with pytest.raises(UserError, match="names no year"):
        citation.bibtex(tmp_path)


# words


def glossary(text: str) -> list[tuple[list[str], str]]:
    """Terms and the text of each entry."""
    entries: list[tuple[list[str], str]] = []
    for block in re.findall(r"```\{glossary\}\n(.*?)```", text, re.DOTALL):
        for entry in block.strip().split("\n\n"):
            lines = entry.splitlines()
            terms = [line for line in lines if not line.startswith(" ")]
            entries.append((terms, " ".join(line.strip() for line in lines[len(terms) :])))
    return entries


def test_the_glossary_explains_the_vocabulary_once_and_briefly(pages: dict[str, str]) -> None:
    entries = glossary(pages["glossary.md"])
    terms = [term for its, _ in entries for term in its]
    assert len(terms) == len(set(terms)) and set(WORDS) <= set(terms)
    for its, text in entries:
        links = chapters.LINK.findall(text)
        sentences = re.split(r"(?<=[a-z0-9)`}?])[.?] (?=[A-Z*\[])", re.sub(r" ?\[\d+\.\d+\]\([^)]*\)", "", text))
        assert len(links) == 1, f"{its}: one link to the section that explains it"
        assert 1 <= len(sentences) <= 3, its


# chapters


def test_chapters_are_read_from_their_sources(repository: Path) -> None:
    every = chapters.chapters()
    assert list(every) == [f"{n:02d}" for n in range(13)] == list(chapters.QUESTIONS)
    for chapter in every.values():
        assert 10 <= chapter.minutes <= 90 and chapter.needs and len(chapter.sections) >= 5
        assert (repository / "notebooks" / f"{chapter.stem}.py").is_file()


FIRST = "# %% [markdown]\n# # 4 · A title\n#\n# Text. {needs}\n\n# %%\n1\n\n# %% [markdown]\n# ## 4.1 One & two's\n"


def test_a_first_cell_is_understood(tmp_path: Path) -> None:
    source = tmp_path / "04_small.py"
    needs = "You need: chapter 3 (the\n# protocol). Time: 60 minutes with the exercises."
    source.write_text(FIRST.format(needs=needs), "utf-8")
    chapter = chapters.read(source)
    assert (chapter.name, chapter.needs, chapter.minutes) == ("4 · A title", "chapter 3 (the protocol)", 60)
    every = {"04": chapter}
    assert chapters.mended("see [4.1](nowhere)", every) == "see [4.1](notebooks/04_small.ipynb#41-one--twos)"
    assert "*60 minutes.* You need: chapter 3 (the protocol)." in chapters.chapter_map(every)
    assert "(notebooks/04_small.ipynb)" in chapters.chapter_table(every)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("04_small.py", FIRST.format(needs="You need: a pen."), "must say 'You need"),
        ("04_small.py", FIRST.replace("# # 4 ·", "# 4 ").format(needs="You need: a pen. Time: 5 minutes"), "a heading"),
        ("77_small.py", FIRST.format(needs="You need: a pen. Time: 5 minutes"), "has no question"),
    ],
)
def test_a_first_cell_that_lacks_something_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(UserError, match=message):
        chapters.read(tmp_path / name)


# the table of contents


def test_the_table_of_contents_holds_every_page(repository: Path, pages: dict[str, str]) -> None:
    toc = yaml.safe_load((repository / "book" / "_toc.yml").read_text("utf-8"))
    listed = [entry.get("file") for part in toc["parts"] for entry in part["chapters"]]
    assert {f"{name}.md" for name in [toc["root"], *filter(None, listed)]} == set(pages)
    assert {name.partition("/")[2] for name in front.PAGES if name.startswith("book/")} == set(pages)
    assert all(part["caption"] for part in toc["parts"])
    assert {"glob": "notebooks/*"} in toc["parts"][0]["chapters"]
