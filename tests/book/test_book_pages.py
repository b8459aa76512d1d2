"""The book's pages around the chapters: literature that resolves, words that are explained, chapters as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from book import computed
from book.pages import data as data_pages
from book.pages import methods as method_pages
from petl_core.methods.base import Method, registry
from petl_core.study import plan as study
from petl_core.study.packs import pack
from petl_core.study.profiles import profile
from petl_core.study.records import Records
from petl_core.utils import UserError
from petl_guide import chapters
from petl_guide.facts import Facts
from petl_guide.results import Results, open_results

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


@pytest.fixture(scope="module")
def methods_page() -> str:
    return method_pages.index()


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
    texts += [path for folder in ("notebooks", "petl_core", "data") for path in (repository / folder).rglob("*.py")]
    texts += (repository / "book").glob("*.md")
    found = {(path.name, number) for path in texts for number in method_pages.ARXIV.findall(path.read_text("utf-8"))}
    assert len(found) > 30
    assert sorted((name, number) for name, number in found if number not in known) == []


def test_citations_on_the_pages_are_in_the_bibliography(entries: dict, pages: dict, methods_page: str) -> None:
    cited = {key for text in [*pages.values(), methods_page] for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", text)
             for key in keys.split(",")}  # fmt: skip
    assert len(cited) > 40 and cited <= set(entries)


@pytest.mark.parametrize("name", sorted(registry))
def test_every_method_has_a_paper_in_the_bibliography_and_an_entry(name: str, methods_page: str) -> None:
    cls = registry[name]
    said = method_pages.described(cls)
    number = method_pages.ARXIV.search(cls.paper)
    key = method_pages.cite_keys()[number[1]]
    text = methods_page.partition(f"(method-{name.replace('_', '-')})=\n")[2].partition("\n(method-")[0]
    assert text.startswith(f"### {cls.title}\n") and f"`{key}`" in text and f"methods/{name}.py" in text
    assert ARXIV_OF_BASELINES.get(name, number[1]) in method_pages.ARXIV.findall(said["Paper"])


ARXIV_OF_BASELINES = {"linear": "1403.6382", "full": "2010.11929"}


def test_a_method_without_docstring_or_without_its_paper_is_refused() -> None:
    class Silent(Method):
        name, title, family, paper = "silent", "Silent", "adapter", "Nobody, 2000, arXiv 0000.00000"

    with pytest.raises(UserError, match=r"test_book_pages\.py lacks Paper, Formula"):
        method_pages.described(Silent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method_pages, "by_family", lambda: [Silent])
        patch.setattr(method_pages, "described", lambda cls: dict.fromkeys(("Idea", *method_pages.FIELDS), "x"))
        with pytest.raises(UserError, match=r"'silent'.*references"):
            method_pages.index()


def test_formulas_are_typeset_and_markup_is_not_made() -> None:
    assert method_pages.typeset("x <- x + s * A z, A: r x D") == "x ← x + s · A z, A: r × D"
    assert method_pages.typeset("12 L r^2 of ``qkv`` and a_b * c") == "12 L r² of `qkv` and a\\_b · c"


def test_bibtex_says_what_the_citation_file_says(repository: Path, pages: dict[str, str]) -> None:
    said = yaml.safe_load((repository / "CITATION.cff").read_text("utf-8"))
    block = pages["cite.md"].partition("```bibtex\n")[2].partition("```")[0]
    guide, study = pybtex.parse_string(block, "bibtex").entries.values()
    year = re.search(r"Copyright \(c\) (\d{4})", (repository / "LICENSE").read_text("utf-8"))
    for entry, source in ((guide, {**said, "year": year[1]}), (study, said["references"][0])):
        names = [
            person.get("name") or f"{person['family-names']}, {person['given-names']}" for person in source["authors"]
        ]
        assert [str(person).strip("{}") for person in entry.persons["author"]] == names
        for field in ("title", "year", "version", "license", "doi", "url"):
            assert entry.fields.get(field, "").strip("{}") == str(source.get(field, "")), field
    assert study.fields["booktitle"] == said["references"][0]["conference"]["name"]


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
    assert all(part["caption"] for part in toc["parts"])
    assert {"glob": "notebooks/*"} in toc["parts"][0]["chapters"]


# computed parts


def test_every_computed_part_stands_on_one_page(pages: dict[str, str]) -> None:
    used = [name for text in pages.values() for name in computed.DIRECTIVE.findall(text)]
    assert sorted(used) == sorted(computed.PARTS)


def test_parts_pictures_and_links_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computed, "PARTS", {"a": lambda facts: f"# {facts}"})
    monkeypatch.setattr(computed, "PICTURES", {"images/a.png": lambda facts: b"1", "images/b.png": lambda facts: b"2"})
    text = "x\n```{computed} a\n```\n```{figure} images/a.png\n```\n[4.5](nowhere)"
    found = computed.filled(text, "quick", tmp_path)
    assert found.startswith("x\n# quick\n```{figure}") and "[4.5](notebooks/04_" in found
    assert [path.name for path in tmp_path.rglob("*.png")] == ["a.png"]
    with pytest.raises(UserError, match=r"'b'.* a"):
        computed.filled("```{computed} b\n```", "quick", tmp_path)
    with pytest.raises(UserError, match=r"4\.99"):
        computed.filled("[4.99](there)", "quick", tmp_path)


# a book of other records


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the quick profile would compute, taken from the shipped records, in a folder of its own."""
    plan, every = profile("quick"), open_results("quick").records
    wanted: dict[str, list[str]] = {}
    for planned in study.plan_trials(plan) + study.plan_finals(plan, every):
        wanted.setdefault(planned.spec.digest, []).append(planned.variant)
    folder = pack(every, tmp_path_factory.mktemp("quick"), wanted, lambda record: "tuned" in record["variants"])
    records = Records(folder)
    for digest, variants in wanted.items():
        records.get(digest)["variants"] = variants  # the shipped ones also serve what only laptop asks for
    return Results(plan, records, fresh=True)


def test_a_book_of_other_records_shows_these_on_every_page(
    pages: dict[str, str], quick: Results, tmp_path: Path
) -> None:
    facts = Facts(quick)
    found = {name: computed.filled(text, facts, tmp_path) for name, text in pages.items()}
    for shipped in ("594 runs", "2,528 runs", "profile laptop)"):
        assert [name for name, text in found.items() if shipped in text] == []
    assert "72 runs (8 methods, 3 tasks, 3 seeds" in found["intro.md"]
    assert "On the small suite (profile quick): not run" in found["claims.md"]
    assert "293 runs of profile quick" in found["data.md"]
    made = data_pages.made_from(facts)
    assert made in found["intro.md"]
    for lacking in ("longer, more_seeds, published", "C9", "photographs (profile real)"):  # it cannot give these
        assert lacking in made
