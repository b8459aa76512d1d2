"""Studies that are killed, and studies that share a folder: nothing is lost, doubled or left over."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")]
COMMAND = [sys.executable, "-m", "petl_core", "study", "--profile", "smoke", "--part", "tuned", "--workers", "2"]


def workers_of(process: int) -> list[int]:
    """The worker processes of a process (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process and b"popen_loky" in command:
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def start(backbone, repository, records):
    """Starts the command of a study of a few seconds; what is still there at the end is killed."""
    begun = []

    def begin() -> subprocess.Popen:
        command = [*COMMAND, "--backbone", backbone, "--results", str(records.root)]
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        begun.append(subprocess.Popen(command, env=environment, **pipes))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def test_workers_die_with_a_study_that_is_killed_and_no_finished_run_is_repeated(start, records, wait_for, unfinished):
    process = start()
    wait_for(lambda: len(records) >= 3 or process.poll() is not None)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 10)
    finished = {d: (records.root / d / "record.json").stat().st_mtime_ns for d in records.digests()}
    said, _ = start().communicate()
    assert len(records) > len(finished)  # it was killed half-way
    assert f"{len(records) - len(finished)} runs done, " in said
    for digest, written in finished.items():
        assert (records.root / digest / "record.json").stat().st_mtime_ns == written
    assert not unfinished()


@pytest.mark.parametrize("victim", ["worker", "all"])
def test_kills_lose_and_double_nothing(start, records, victim, wait_for, unfinished):
    """A handful; the same over and over is a matter of minutes."""
    random = np.random.default_rng(0)
    for _ in range(3):
        process = start()
        wait_for(lambda: workers_of(process.pid) or process.poll() is not None)  # noqa: B023
        time.sleep(float(random.uniform(1, 4)))
        workers = workers_of(process.pid)
        for pid in workers[:1] if victim == "worker" else [process.pid, *workers]:
            os.kill(pid, signal.SIGKILL)
        process.communicate()
        assert victim == "all" or process.returncode == 0
    said, _ = start().communicate()
    assert ", 0 failed" in said
    counts = re.search(r"(\d+) runs done, (\d+) were there", said)
    assert counts, said
    assert int(counts[1]) + int(counts[2]) == len(records)
    assert not unfinished()


def test_two_studies_on_one_folder_share_the_work_and_say_so(start, records, unfinished):
    said = [process.communicate()[0] for process in (start(), start())]
    done = [int(text.partition(" runs done")[0].split()[-1]) for text in said]
    assert sum(done) == len(records) and all(", 0 failed" in text for text in said)
    assert any("another study" in text or "runs a study into" in text for text in said)
    assert not unfinished()
