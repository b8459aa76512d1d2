"""The maker of photographs, on invented images in repositories of the origins' forms, fetched here by git."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petl_core.data import load_task
from petl_core.data.vtab import group_of
from petl_core.utils import UserError
from petl_make.__main__ import main
from petl_make.photographs import check, items, make, table, weights

PARTS = {"train800": 3, "val200": 1, "test": 2}
BIRDS = "ex03/task2/bird_dataset"
GREY = np.arange(6 * 28 * 28, dtype=np.uint8).reshape(6, 28, 28)
FILES = {  # the images of each origin
    "caltech101": "101_ObjectCategories/{BACK,Faces,ant}/{0,1,2}.jpg",
    "eurosat": "EuroSAT_Dataset/{River,Forest}/{1,10,2}.jpg",
    "coil20_azimuth": "dataset/obj{1,10}__{0,6,71}.png",
    "sign_digits": "Dataset/{0-9}/IMG.JPG",
    "cifar10": "{test,train}/{dog,cat}/{0-49}.jpg",
    "gtsrb": "GTSRB/Final_Training/Images/{00000,00002}/{00000,00001}_{00000,00001}.ppm "
    "GTSRB/Final_Test/Images/{0-2}.ppm",
    "birds": BIRDS + "/images/{Blue_Jay,Ani}/{0-3}.jpg",
    "rsscn7": "{aGrass,bField}/{0-2}.jpg",
    "eth80_elevation": "{1,10}/{1,10}/x-{000-000,022-000,035-045}.png",
    "pacs": "PACS/{photo,sketch}/{dog,cat}/{1,2}.png",
}
LISTS = {
    "caltech101/train.txt": "ant/0.jpg\nant/1.jpg\nBACK/0.jpg\nFaces/2.jpg\n",
    "caltech101/test.txt": "ant/2.jpg\nFaces/0.jpg\n",
    "gtsrb/GTSRB/Final_Test/GT-final_test.csv": "Filename;Width;ClassId\n2.ppm;9;2\n0.ppm;9;0\n",
    f"birds/{BIRDS}/classes.txt": "0, Blue_Jay\n1, Ani\n",
    f"birds/{BIRDS}/images.txt": "".join(f"{n}, {('Blue_Jay', 'Ani')[n // 4]}/{n % 4}.jpg\n" for n in range(8)),
    f"birds/{BIRDS}/image_class_labels.txt": "".join(f"{n}, {n // 4}\n" for n in range(8)),
    f"birds/{BIRDS}/train_test_split.txt": "".join(f"{n}, {n % 4 // 2}\n" for n in range(8)),
}
EXPECTED = {  # candidates and classes
    "caltech101": ((4, 2), 3), "eurosat": ((6,), 2), "coil20_azimuth": ((6,), 12), "sign_digits": ((10,), 10),
    "pneumoniamnist": ((4, 2), 2), "cifar10": ((), 10), "gtsrb": ((4, 2), 43), "birds": ((4, 4), 2),
    "rsscn7": ((6,), 2), "eth80_elevation": ((6, 6), 6), "pacs": ((), 2),
}  # fmt: skip


def git(*arguments: str, at: Path) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *arguments], cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def expanded(patterns: str) -> list[str]:
    """ "{a,b}/{0-2}.jpg": six names."""
    found = []
    for pattern in patterns.split():
        choices = [part.split(",") for part in re.split(r"[{}]", pattern)]
        for number, choice in enumerate(choices):
            if number % 2 and re.fullmatch(r"\d{1,2}-\d{1,2}", choice[0]):
                low, high = choice[0].split("-")
                choices[number] = [str(n) for n in range(int(low), int(high) + 1)]
        found += ["".join(parts) for parts in itertools.product(*choices)]
    return found


def write_tree(name: str, tree: Path) -> None:
    """The invented tree of an origin; no two of its images are alike."""
    random_ = np.random.default_rng(sorted(EXPECTED).index(name))
    for file in expanded(FILES.get(name, "")):
        path = tree / file
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random_.integers(0, 256, (random_.integers(20, 140), 120, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        if name == "eth80_elevation":
            shape = Image.fromarray((pixels.mean(2) > 99).astype(np.uint8) * 255)
            (path.parent / "maps").mkdir(exist_ok=True)
            shape.save(path.parent / f"maps/{path.stem}-map.png")
    for file, text in LISTS.items():
        if file.startswith(f"{name}/"):
            (tree / file.partition("/")[2]).write_text(text)
    if name == "pneumoniamnist":
        (tree / "data").mkdir(parents=True)
        arrays = {"train_images": GREY[[0, 1, 2, 0, 4, 3]], "train_labels": np.array([[0], [1], [0], [0], [1], [1]])}
        np.savez(tree / table.SETS[name].paths[0], **arrays, test_images=GREY[4:], test_labels=np.array([[1], [0]]))


def row_of(name: str, tree: Path, commit: str) -> table.PhotoSet:
    """The table's row with the numbers of the invented images, and the digests that they give."""
    candidates, classes = EXPECTED[name]
    row = dataclasses.replace(table.SETS[name], commit=commit, parts=PARTS, candidates=candidates, classes=classes)
    if name == "pacs":
        row = dataclasses.replace(row, parts={"photo": 4, "sketch": 4})
    named, texts = make.pictures(row, tree)
    order = ("train800.txt", "val200.txt", "test.txt", "labels.txt")
    text = "".join(texts[file] for file in order) if texts else "".join(f"{path}\n" for path in sorted(named))
    content = b"".join(make.encoded(row, named[path]) for path in sorted(named))
    lists, files = (hashlib.sha256(part).hexdigest()[:16] for part in (text.encode(), content))
    return dataclasses.replace(row, lists=lists, files=files)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, table.PhotoSet]]:
    """A folder of bare repositories, one of their trees, and the rows; every second commit is named by 12 digits."""
    mirror, trees = tmp_path_factory.mktemp("mirror"), tmp_path_factory.mktemp("trees")
    rows = {}
    for number, (name, true) in enumerate(table.SETS.items()):
        write_tree(name, trees / name)
        clone = tmp_path_factory.mktemp("clone") / name
        shutil.copytree(trees / name, clone)
        git("init", "--quiet", at=clone)
        git("add", "--all", at=clone)
        git("commit", "--quiet", "--message=images", at=clone)
        commit = git("rev-parse", "HEAD", at=clone)
        git("rm", "--quiet", "-r", ".", at=clone)
        git("commit", "--quiet", "--message=gone", at=clone)
        git("clone", "--quiet", "--bare", str(clone), str(mirror / true.repository), at=mirror)
        git("config", "uploadpack.allowFilter", "true", at=mirror / true.repository)
        rows[name] = row_of(name, trees / name, commit[: 12 if number % 2 else 40])
    return mirror, trees, rows


@pytest.fixture(autouse=True)
def rows(world, monkeypatch) -> dict[str, table.PhotoSet]:
    monkeypatch.setattr(table, "SETS", dict(world[2]))
    return table.SETS


def fetch(world: tuple, out: Path, *options: str, server: str | None = None) -> int:
    return main(["photographs", "--out", str(out), "--mirror", server or world[0].as_uri(), *options])


def labels(path: Path) -> list[int]:
    return [int(line.rpartition(" ")[2]) for line in path.read_text().splitlines()]


def test_every_set_is_fetched_made_checked_and_then_left_alone(world, tmp_path, capsys) -> None:
    out = tmp_path / "data"
    assert fetch(world, out) == 0
    said = capsys.readouterr().out
    assert said.count("as expected") == 11 and "Apache-2.0" in said and "MB are to be fetched" in said
    assert sorted(path.name for path in out.iterdir()) == ["pacs", "vtab_processed"]
    facts = json.loads((out / "vtab_processed/birds" / check.FACTS).read_text())
    assert facts["commit"] == world[2]["birds"].commit and facts["files"] == facts["expected_files"]
    for name in world[2]:
        if name not in ("pacs", "sign_digits", "coil20_azimuth", "cifar10", "gtsrb", "eth80_elevation"):  # lack classes
            assert len(load_task(f"vtab:{out}/vtab_processed/{name}", size=8).split("test")[1]) == 2
    shutil.rmtree(out / "pacs")
    before = (out / "vtab_processed/eurosat/images/test/00000.jpg").stat().st_mtime_ns
    assert main(["photographs", "--out", str(out), "--from", str(world[1])]) == 0
    assert capsys.readouterr().out.count("there already") == 10
    assert (out / "vtab_processed/eurosat/images/test/00000.jpg").stat().st_mtime_ns == before


def test_the_rule_draws_what_a_few_lines_draw(world, tmp_path) -> None:
    assert (
        main(["photographs", "--out", str(tmp_path), "--from", str(world[1]), "--sets", "eurosat,birds,cifar10"]) == 0
    )
    lot = random.Random(0)
    everything = [(f"{kind}/{n}.jpg", c) for c, kind in enumerate(("Forest", "River")) for n in (1, 10, 2)]
    lot.shuffle(everything)
    rest = everything[4:]
    lot.shuffle(rest)
    made = tmp_path / "vtab_processed/eurosat"
    assert labels(made / "train800.txt") == [label for _, label in everything[:3]]
    assert labels(made / "test.txt") == [label for _, label in rest[:2]]
    first = Image.open(world[1] / "eurosat/EuroSAT_Dataset" / everything[0][0]).convert("RGB")
    scale = 64 / max(first.size)
    size = tuple(round(side * scale) for side in first.size)
    assert Image.open(made / "images/train800/00000.jpg").size == size
    birds = tmp_path / "vtab_processed/birds"
    assert sorted(labels(birds / "train800val200.txt")) == [0, 0, 1, 1]
    assert (birds / "labels.txt").read_text() == "Blue Jay\nAni\n"
    assert set(labels(tmp_path / "vtab_processed/cifar10/test.txt")) <= {3, 5}


def test_rules_of_single_sets(world) -> None:
    trees = world[1]
    signs = items.gtsrb(trees / "gtsrb")
    assert [label for _, label in signs.pool] == [0, 0, 2, 2] and [label for _, label in signs.test] == [2, 0]
    assert len(signs.names) == 43 and signs.names[14] == "stop"
    assert [label for _, label in items.coil20(trees / "coil20_azimuth").pool] == [0, 1, 11, 0, 1, 11]
    elevation = items.eth80(trees / "eth80_elevation")
    assert [label for _, label in elevation.pool] == [0, 1, 2] * 2 == [label for _, label in elevation.test]
    assert (np.asarray(elevation.pool[0][0]()).max(2) == 0).mean() > 0.05
    xrays = items.pneumonia(trees / "pneumoniamnist")
    assert [label for _, label in items.once(xrays).pool] == [0, 1, 0, 1] and len(xrays.pool) == 6
    assert items.rsscn7(trees / "rsscn7").names == ["Grass", "Field"]


def test_each_set_has_its_group() -> None:
    groups = {"caltech101 cifar10 gtsrb birds": "natural", "eurosat pneumoniamnist rsscn7": "specialised"}
    groups["coil20_azimuth sign_digits eth80_elevation"] = "structured"
    for names, group in groups.items():
        assert {group_of(name) for name in names.split()} == {group}
    assert sorted([*" ".join(groups).split(), "pacs"]) == sorted(table.SETS)


def test_paths_are_sorted_as_text_on_every_system(tmp_path) -> None:
    for name in ("a/b", "a-b/c", "B/x", ".git/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert items.files(tmp_path, "*/*") == ["B/x", "a-b/c", "a/b"]


def test_another_byte_is_told_and_another_label_or_count_refused(world, tmp_path, capsys) -> None:
    trees = tmp_path / "trees"
    shutil.copytree(world[1], trees)
    go = ["photographs", "--out", str(tmp_path / "out"), "--from", str(trees), "--sets"]
    image = trees / "eurosat/EuroSAT_Dataset/River/1.jpg"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    assert main([*go, "eurosat"]) == 0 and "OTHER BYTES" in capsys.readouterr().out
    assert main([*go, "eurosat"]) == 0 and "OTHER BYTES" in capsys.readouterr().out
    flags = trees / f"birds/{BIRDS}/image_class_labels.txt"
    flags.write_text(flags.read_text().replace("0, 0", "0, 1", 1))
    (trees / "rsscn7/aGrass/0.jpg").unlink()
    assert main([*go, "birds,rsscn7"]) == 1
    said = capsys.readouterr().err
    assert "birds: other labels" in said and "rsscn7: 5 images at the origin, 6 are expected" in said
    assert [path.name for path in (tmp_path / "out/vtab_processed").iterdir()] == ["eurosat"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vtab_processed"]
    made = tmp_path / "out/vtab_processed/eurosat/val200.txt"
    made.write_text(made.read_text().replace(" 0", " x").replace(" 1", " 0").replace(" x", " 1"))
    assert main([*go, "eurosat"]) == 1 and "eurosat: other labels" in capsys.readouterr().err


@pytest.fixture
def page() -> Iterator[str]:
    """A server that answers everything with a page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>Please sign in to the proxy</html>")

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def bad_line(mirror: Path, holds: bool) -> Iterator[str]:
    """git's own server behind a line that breaks after 20,000 bytes, or ``holds`` and brings nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["git", "daemon", "--reuseaddr", "--export-all", f"--base-path={mirror}", f"--port={port}"]
    daemon = subprocess.Popen([*command, "--listen=127.0.0.1"], stderr=subprocess.DEVNULL, start_new_session=True)
    line = socket.create_server(("127.0.0.1", 0))

    def relay() -> None:
        while True:
            near, _ = line.accept()
            far = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=pump, args=(near, far, 1 << 30), daemon=True).start()
            threading.Thread(target=pump, args=(far, near, 20_000), daemon=True).start()

    def pump(source: socket.socket, sink: socket.socket, left: int) -> None:
        while left > 0 and (chunk := source.recv(min(left, 4096))):
            sink.sendall(chunk)
            left -= len(chunk)
        if left > 0 or not holds:
            sink.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=relay, daemon=True).start()
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    try:
        yield f"git://127.0.0.1:{line.getsockname()[1]}"
    finally:
        line.close()
        os.killpg(daemon.pid, signal.SIGKILL)  # git, and the server that it started
        daemon.wait()


@pytest.fixture
def cutting(world) -> Iterator[str]:
    yield from bad_line(world[0], holds=False)


@pytest.fixture
def stalling(world) -> Iterator[str]:
    yield from bad_line(world[0], holds=True)


@pytest.mark.parametrize("server", ["page", "silent", "cutting", "stalling", "nowhere"])
def test_what_a_bad_line_gives_is_named_and_never_used(server, world, tmp_path, capsys, request) -> None:
    url = "http://127.0.0.1:9" if server == "nowhere" else request.getfixturevalue(server)
    started = time.monotonic()
    assert fetch(world, tmp_path, "--sets", "caltech101,eurosat", "--patience", "2", server=url) == 1
    assert time.monotonic() - started < 30
    said = capsys.readouterr().err
    for name in ("caltech101", "eurosat"):
        row = world[2][name]
        for part in (f"{url}/{row.repository}", row.commit, f"FOLDER/{name}/", "--from", "make reproduce"):
            assert part in said
    assert not (tmp_path / "vtab_processed").exists()
    assert fetch(world, tmp_path, "--sets", "caltech101,eurosat") == 0  # and then goes on


def test_a_commit_or_a_repository_that_is_gone_and_a_damaged_one(world, tmp_path, rows, capsys) -> None:
    rows["eurosat"] = dataclasses.replace(rows["eurosat"], commit="0123456789ab")
    rows["caltech101"] = dataclasses.replace(rows["caltech101"], commit="1" * 40)
    rows["birds"] = dataclasses.replace(rows["birds"], repository="nobody/nothing")
    mirror = tmp_path / "mirror"
    shutil.copytree(world[0], mirror)
    for pack in (mirror / rows["rsscn7"].repository / "objects").rglob("*"):
        if pack.is_file() and pack.stat().st_size > 5000:
            content = bytearray(pack.read_bytes())
            content[len(content) // 2] ^= 1
            pack.chmod(0o644)
            pack.write_bytes(content)
    chosen = ("--sets", "eurosat,caltech101,birds,rsscn7")
    assert fetch(world, tmp_path / "out", *chosen, server=mirror.as_uri()) == 1
    said = capsys.readouterr().err
    assert said.count("FAILED") == 4 and "0123456789ab" in said and "nobody/nothing" in said
    assert not (tmp_path / "out/vtab_processed").exists()


def test_a_run_that_was_killed_goes_on_without_fetching_again(world, tmp_path, monkeypatch) -> None:
    encoded: Callable = make.encoded
    monkeypatch.setattr(make, "encoded", lambda *args: time.sleep(1) or encoded(*args))
    run = multiprocessing.get_context("fork").Process(target=fetch, args=(world, tmp_path, "--sets", "eurosat"))
    run.start()
    while not (tmp_path / ".eurosat.part/made").exists():
        time.sleep(0.02)
        assert run.is_alive()
    run.kill()
    run.join()
    assert not (tmp_path / "vtab_processed").exists()
    monkeypatch.setattr(make, "encoded", encoded)
    assert fetch(world, tmp_path, "--sets", "eurosat", server="file:///nowhere") == 0
    assert check.checked(world[2]["eurosat"], tmp_path / "vtab_processed/eurosat").files == world[2]["eurosat"].files


def test_bad_input(tmp_path, world, monkeypatch, capsys) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "no/eurosat").mkdir(parents=True)
    for wrong in (["--sets", "mnist"], ["--from", str(tmp_path / "none")]):
        assert main(["photographs", "--out", str(tmp_path / "out"), *wrong]) == 2
        assert wrong[1] in capsys.readouterr().err
    assert main(["photographs", "--out", str(tmp_path / "file")]) == 2
    assert main(["photographs", "--out", str(tmp_path), "--from", str(tmp_path / "no"), "--sets", "eurosat"]) == 1
    assert "EuroSAT_Dataset" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    assert main(["photographs", "--out", str(tmp_path / "out")]) == 2 and "git" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_of_the_mirror(tmp_path, monkeypatch, capsys) -> None:
    tensors = {name: np.full((2,) * size, i, "<f4") for i, (name, size) in enumerate(weights.dimensions().items())}
    tree = tmp_path / "trees/weights/parameters"
    tree.mkdir(parents=True)
    for name, tensor in tensors.items():
        shape = np.array(tensor.shape, "<i4")
        (tree / f"{name.replace('.', '_')}.bin").write_bytes(shape.tobytes() + tensor.tobytes())
    go = ["photographs", "--out", str(tmp_path / "out"), "--from", str(tree.parents[1]), "--sets", "none", "--weights"]
    assert main(go) == 1 and "other weights" in capsys.readouterr().err
    monkeypatch.setattr(table, "WEIGHTS_DIGEST", weights.digest(tensors))
    assert main(go) == 0 and main(go) == 0 and "there already" in capsys.readouterr().out
    (tmp_path / "out" / table.WEIGHTS.place).write_bytes(b"{}")
    assert main(go) == 1
    with pytest.raises(UserError, match="cut"):
        weights.read_tensor(tree / "head_bias.bin", 2)


def test_the_folder_that_was_measured_is_as_the_table_says(petl_data, monkeypatch) -> None:
    monkeypatch.undo()  # the rows
    there = [row for row in table.SETS.values() if row.target(petl_data).is_dir()]
    for row in there:
        assert check.checked(row, row.target(petl_data)).files == row.files, row.name
