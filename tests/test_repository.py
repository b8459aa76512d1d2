"""The repository itself: what lies where, how large it is, the lock against the ranges, the README against the rest."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from petl_guide import notebooks

TOP = {"README.md", "requirements.txt", "pyproject.toml", "Makefile", "LICENSE", "CITATION.cff", ".ci", ".gitignore"}
TOP |= {"petl_core", "notebooks", "tests", "book", "data"}
ALSO_ALLOWED = {".gitattributes", ".github"}
MEGABYTE = 1e6
TEXT = {".py", ".md", ".yml", ".toml", ".txt", ".cff", ".bib", ".ipynb", ".csv", ".json", ".jsonl", ""}
PYTHONS, PLATFORMS = ("3.11", "3.12", "3.13"), (("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows"))
EXTRAS = {"notebooks", "export", "clip", "dev", "data", "ray"}


@pytest.fixture(scope="module")
def files(repository: Path) -> list[Path]:
    """What a commit would hold: tracked files and new ones that are not ignored."""
    if not (repository / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout: what belongs to it cannot be told from what was made here")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout.split("\0")
    return [repository / name for name in names if name and (repository / name).is_file()]


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def lock(repository: Path) -> list[Requirement]:
    lines = (repository / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked_extras(repository: Path) -> set[str]:
    return set(re.findall(r"--extra (\w+)", (repository / "Makefile").read_text(encoding="utf-8")))


def megabytes(paths: list[Path]) -> float:
    return sum(path.stat().st_size for path in paths) / MEGABYTE


def test_top_level_is_the_design(files: list[Path], repository: Path) -> None:
    assert {path.relative_to(repository).parts[0] for path in files} - ALSO_ALLOWED == TOP


def test_the_checkout_travels(files: list[Path], repository: Path) -> None:
    assert megabytes(files) <= 60
    for folder, limit in (("data/embedded", 22), ("data/results", 18), ("notebooks", 10)):
        assert megabytes([path for path in files if path.is_relative_to(repository / folder)]) <= limit, folder
    largest = max(files, key=lambda path: path.stat().st_size)
    assert megabytes([largest]) <= 10, largest


def test_no_text_names_a_folder_of_somebodys_machine(files: list[Path]) -> None:
    private = re.compile(r"(?<![\w.~*/-])/(?:home|Users|root|work|opt)/\w")
    texts = [path for path in files if path.suffix in TEXT]
    found = [path.name for path in texts if private.search(path.read_text(encoding="utf-8"))]
    assert len(texts) > 20 and found == []


MAY = {"methods/base.py", "methods/_fact.py"}  # abstract bases
MAY |= {"study/execute.py"}  # sends a method that a notebook defined to this machine's own workers, never to a file


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"\b(TODO|FIXME|XXX)\b", "unfinished"),
        (
            r"(?<!safetensors\.)torch\.save\(|torch\.load\((?!.*weights_only=True)|allow_pickle\s*=\s*True",
            "a pickle runs code",
        ),
        (r"\bpickle\.(dumps?|loads?|Pickler|Unpickler)\(|\bfrom pickle\b", "a pickle runs code"),
        (r"raise NotImplementedError\b", "a path that ends in a traceback"),
    ],
)
def test_the_package_is_free_of(pattern: str, why: str, repository: Path) -> None:
    sources = [
        path for room in ("petl_core", "notebooks", "data", "book") for path in (repository / room).rglob("*.py")
    ]
    sources = [path for path in sources if f"{path.parent.name}/{path.name}" not in MAY]
    found = [path.name for path in sources if re.search(pattern, path.read_text(encoding="utf-8"))]
    assert sources and found == [], why


def test_every_lock_line_is_one_plain_version(lock: list[Requirement]) -> None:
    assert len(lock) > 100
    for pin in lock:
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and pin.url is None, pin
        assert Version(specifier.version).local is None, f"{pin}: such a build is on no public index"


@pytest.mark.parametrize(("python", "platform"), list(itertools.product(PYTHONS, PLATFORMS)))
def test_the_lock_satisfies_every_range_once(
    python: str, platform: tuple[str, str], lock: list[Requirement], project: dict, repository: Path
) -> None:
    values = {"python_version": python, "python_full_version": f"{python}.5", "sys_platform": platform[0]}
    values |= {"platform_system": platform[1], "os_name": "nt" if platform[0] == "win32" else "posix"}
    pins: dict[str, Version] = {}
    for pin in lock:
        if pin.marker is None or pin.marker.evaluate(values):
            assert pin.name not in pins, f"{pin.name} is pinned twice"
            pins[pin.name] = Version(next(iter(pin.specifier)).version)
    locked = [extra for name, extra in project["optional-dependencies"].items() if name in locked_extras(repository)]
    for requirement in map(Requirement, [*project["dependencies"], *itertools.chain(*locked)]):
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_the_project_states_the_pythons_it_locks_for(project: dict) -> None:
    ranges = Requirement(f"x{project['requires-python']}").specifier
    assert [f"3.{minor}" for minor in range(9, 16) if ranges.contains(f"3.{minor}.5")] == list(PYTHONS)
    assert set(project["optional-dependencies"]) == EXTRAS


def test_the_lock_leaves_out_what_has_an_environment_of_its_own(
    lock: list[Requirement], project: dict, repository: Path
) -> None:
    assert locked_extras(repository) == EXTRAS - {"data"}
    names = {pin.name for pin in lock}
    assert not {"tensorflow", "tensorflow-cpu", "tensorflow-datasets"} & names
    assert "tensorflow-datasets" in {Requirement(text).name for text in project["optional-dependencies"]["data"]}


def test_citation_names_the_guide_and_the_study(repository: Path, project: dict) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    (study,) = citation["references"]
    names = [author["family-names"] for author in study["authors"]]
    assert names == ["Mai", "Zhang", "Tu", "Chen", "Nguyen", "Zhang", "Chao"] and study["year"] == 2025
    assert "2409.16434" in study["identifiers"][0]["value"]


def test_readme_names_what_exists(readme: str, repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make (?:PYTHON=\S+ )?([a-z-]+)", readme, re.MULTILINE))
    assert {"reproduce", "test", "book", "notebooks", "bench", "clean", "help"} <= named <= targets
    paths = re.findall(r"`([\w.-]+/[\w./-]*)`", readme) + re.findall(r"\]\(((?!http)[^)#]+)\)", readme)
    elsewhere = ("runs/", "vtab1k/", "imagenet/")  # made by a command; names of tasks
    missing = [path for path in paths if not path.startswith(elsewhere) and not _exists(path, repository)]
    assert len(paths) > 5 and missing == []


def _exists(path: str, repository: Path) -> bool:
    return any((repository / folder / path).exists() for folder in ("", "petl_core", "data", "notebooks"))


def test_readme_commands_are_understood(readme: str, capsys: pytest.CaptureFixture[str]) -> None:
    from petl_core.cli import main

    commands = [line.split("#")[0].split() for line in re.findall(r"python -m petl_core (.+)$", readme, re.MULTILINE)]
    assert len(commands) >= 3
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([command[0], "--help"])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in command if word.startswith("--")), command


def test_readme_papermill_command_fits_the_notebook(readme: str, repository: Path) -> None:
    pattern, parameters = re.findall(r"papermill (\S+) \S+ (-p .+)$", readme, re.MULTILINE)[0]
    (notebook,) = repository.glob(pattern)
    known = notebooks.parameters(notebooks.read(notebook.with_suffix(".py")), notebook.name)
    assert set(re.findall(r"-p (\w+)", parameters)) <= known


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize(
    "target", ["help", "install", "reproduce", "reproduce-photographs", "test", "lint", "book", "bench", "clean"]
)
def test_make_knows_what_to_do(target: str, repository: Path) -> None:
    done = subprocess.run(["make", "-n", target], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize(("profile", "minutes"), [("quick", True), ("laptop", False)])
def test_reproduce_says_in_which_step_it_is(profile: str, minutes: bool, repository: Path) -> None:
    command = ["make", "-n", "reproduce", f"PROFILE={profile}"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    steps = re.findall(r'^echo "step (\d) of 4: [\w ]+(; from here \d+ to \d+ minutes)?', done.stdout, re.MULTILINE)
    assert [number for number, _ in steps] == list("1234")
    assert {bool(text) for _, text in steps} == {minutes}
