"""Running plans: the same bits in workers, and nothing lost or doubled whatever is killed, hangs or runs beside it."""

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from petl_core import methods
from petl_core.methods.lora import LoRA
from petl_core.study import executor, leases, runner
from petl_core.study import plan as study
from petl_core.study.execute import WORKER_ENVIRONMENT, Reply, order_of, perform
from petl_core.study.executor import Outcome, Planned, Progress
from petl_core.study.profile import Part
from petl_core.study.profiles import profile
from petl_core.study.records import Records, StorageError, as_record
from petl_core.study.runner import Runner
from petl_core.training.train import Run
from petl_core.utils import UserError

posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")


@pytest.fixture
def tiny(backbone):
    """A profile of two methods, one task, a few images."""

    def make(**changes) -> study.Profile:
        values = {"tasks": ("digits",), "methods": ("linear", "lora"), "parts": (Part("tuned"),), "max_train": 16}
        return dataclasses.replace(profile("smoke"), **{**values, "backbone": backbone, "max_evaluate": 20, **changes})

    return make


@pytest.fixture
def records(tmp_path) -> Records:
    return Records(tmp_path / "runs")


def fake_run(on: str = "val200") -> Run:
    logits, labels = np.zeros((4, 2), dtype=np.float16), np.zeros(4, dtype=np.int64)
    return Run(50.0, on, logits, labels, tuple("abcd"), 50.0, 1.0, False, [], 1, 100, "natural", 1.0)


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


def unfinished(root: Path) -> list[Path]:
    """Leases, and records half-written."""
    return [path for path in root.glob(".*") if path.name != leases.LOCK]


def wait_for(condition, seconds: float = 120.0):
    """What ``condition`` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


@dataclasses.dataclass(frozen=True)
class Mine(LoRA):
    """A method that worker processes cannot import."""

    name = "mine"


@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setitem(methods.registry, "mine", Mine)
    return Mine


def write_environment(method, model):
    seen = [os.getpid(), torch.get_num_threads(), dict(os.environ)]
    Path(os.environ["PETL_TEST_PLACE"]).write_text(json.dumps(seen))
    return LoRA.attach(method, model)


def signal_self(method, model):
    """Sends its own process the signal PETL_TEST_SIGNAL, as often as PETL_TEST_TIMES says."""
    for number in range(int(os.environ["PETL_TEST_TIMES"])):
        try:
            Path(f"{os.environ['PETL_TEST_PLACE']}-{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), int(os.environ["PETL_TEST_SIGNAL"]))
        time.sleep(5)
    return LoRA.attach(method, model)


@pytest.fixture
def signalling(monkeypatch, mine, tmp_path):
    """The method "mine" sends a signal to its process, so many times in all."""

    def make(number: signal.Signals, times: int) -> None:
        monkeypatch.setattr(Mine, "attach", signal_self)
        values = {"SIGNAL": int(number), "TIMES": times, "PLACE": tmp_path / "sent"}
        for name, value in values.items():
            monkeypatch.setenv(f"PETL_TEST_{name}", str(value))

    return make


# Runs and their bits


def test_a_study_runs_and_the_second_time_has_nothing_to_do(tiny, records):
    outcome = study.run_study(tiny(), records, workers=0, progress=False)
    assert (outcome.done, outcome.skipped, outcome.failures) == (2 * 2 + 2 * 2, 0, [])
    assert sorted(records.table().variant.unique()) == ["trial", "tuned"]
    again = study.run_study(tiny(), records, workers=0, progress=False)
    assert (again.done, again.skipped) == (0, 8)
    assert not unfinished(records.root)


def test_records_of_another_folder_are_taken_over_trials_first_then_what_they_decide(tiny, records, tmp_path):
    study.run_study(tiny(), records, workers=0, progress=False)
    fresh = Records(tmp_path / "fresh")
    (lost,) = [p.spec for p in study.plan_trials(tiny()) if p.spec.method == "linear"][:1]
    (records.root / lost.digest).rename(tmp_path / "lost")
    outcome = study.run_study(tiny(), fresh, workers=0, progress=False, reuse=records)
    assert (outcome.done, outcome.failures) == (1, [])  # the lost one; the final runs followed from it
    assert set(fresh.digests()) == {*records.digests(), lost.digest}


def test_workers_give_the_bits_that_this_process_gives_and_report_what_failed(tiny, records, tmp_path):
    plan = study.plan_trials(tiny())
    plan += [Planned(dataclasses.replace(p.spec, evaluate_on="test"), "x") for p in plan]
    wrong = dataclasses.replace(plan[0].spec, task_digest="other data")
    inline = Records(tmp_path / "inline")
    for root, workers in ((records, 2), (inline, 0)):
        outcome = study.run_plan([Planned(wrong, "trial"), *plan], root, workers, progress=False)
        assert (outcome.done, outcome.again) == (len(plan), 0)  # the others finish
        ((spec, reason),) = outcome.failures
        assert spec == wrong
        assert "other data" in reason
        assert wrong.digest in outcome.report()
    assert records.digests() == inline.digests()
    for digest in records.digests():
        one, other = records.get(digest), inline.get(digest)
        assert (one["logits_sha256"], one["metrics"]) == (other["logits_sha256"], other["metrics"])
        assert one["environment"]["threads"] == 1


def test_a_diverged_run_is_recorded_and_not_chosen(tiny, records):
    plan = study.plan_trials(tiny(methods=("lora",)))
    wild = dataclasses.replace(plan[0].spec, recipe=dataclasses.replace(plan[0].spec.recipe, lr=1e30))
    specs = [wild, plan[0].spec]
    outcome = study.run_plan([Planned(s, "trial") for s in specs], records, workers=0, progress=False)
    assert outcome.failures == []
    assert records.get(wild)["metrics"] == {**records.get(wild)["metrics"], "diverged": True, "accuracy": None}
    assert study.choose(specs, records) == plan[0].spec


# A method of the user's own


def test_a_method_defined_outside_the_package_runs_in_workers_with_their_threads_and_environment(
    tiny, records, tmp_path, mine, monkeypatch
):
    monkeypatch.setenv("PETL_TEST_PLACE", str(tmp_path / "seen"))
    monkeypatch.setattr(Mine, "attach", write_environment)
    plan = study.plan_trials(tiny(methods=("mine",)))
    assert study.run_plan(plan, records, workers=2, progress=False).done == len(plan) > 1
    process, threads, seen = json.loads((tmp_path / "seen").read_text())
    assert process != os.getpid() and threads == 1
    assert {name: seen.get(name) for name in WORKER_ENVIRONMENT} == WORKER_ENVIRONMENT
    inline = Records(tmp_path / "inline")
    study.run_plan(plan, inline, workers=0, progress=False)
    for digest in inline.digests():
        assert records.get(digest)["logits_sha256"] == inline.get(digest)["logits_sha256"]


def test_a_method_that_cannot_be_sent_to_a_worker_is_named(tiny, records, monkeypatch, mine):
    monkeypatch.setattr(Mine, "lock", threading.Lock(), raising=False)
    plan = study.plan_trials(tiny(methods=("mine",)))
    outcome = study.run_plan(plan, records, workers=2, progress=False)
    assert len(outcome.failures) == len(plan)
    assert all("'mine'" in reason and "workers=0" in reason for _, reason in outcome.failures)


def test_another_version_of_the_package_is_refused(tiny):
    order = order_of(study.plan_trials(tiny())[0].spec, "x")
    assert "another version" in perform({**order, "digest": "0" * 16}, "cpu").error
    assert "not available" in perform(order, "no device").error


# Damage, disks, processes that die or hang


def test_a_damaged_record_is_set_aside_and_run_again(tiny, records, capsys):
    plan = study.plan_trials(tiny(methods=("linear",)))
    study.run_plan(plan, records, workers=0, progress=False)
    digest = plan[0].spec.digest
    before, path = records.get(digest), records.root / digest / "record.json"
    path.write_text(path.read_text().replace('"accuracy": ', '"accuracy": 9'))
    outcome = study.run_plan(plan, records, workers=0, progress=False)
    assert (outcome.done, outcome.skipped) == (1, len(plan) - 1)
    assert records.get(digest)["metrics"] == before["metrics"]
    said = capsys.readouterr().err
    assert str(path) in said and "set-aside" in said


def test_an_unwritable_folder_is_refused_before_anything_runs(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "attempt", lambda *_: pytest.fail("a run was begun"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write records"):
        study.run_study(tiny(), Records(tmp_path / "file" / "runs"), workers=0)


def test_a_full_disk_stops_the_plan_at_once(tiny, records, monkeypatch):
    begun = []
    monkeypatch.setattr(runner, "attempt", lambda spec, *_: begun.append(spec) or Reply({"digest": spec.digest}))

    def full(*_):
        raise StorageError("No space left on device")

    monkeypatch.setattr(Records, "add", full)
    with pytest.raises(StorageError, match="No space"):
        study.run_plan(study.plan_trials(tiny()), records, workers=0, progress=False)
    assert len(begun) == 1
    assert not list(records.root.glob(".lease-*"))


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_whose_worker_is_killed_or_hangs_is_begun_again(tiny, records, signalling, tmp_path, number):
    plan = study.plan_trials(tiny(methods=("mine", "linear"), trials=1))
    signalling(number, 1)

    class Watchful(Runner):
        def limit(self, spec):
            hangs = spec.method == "mine" and (tmp_path / "sent-0").exists() and not self.stopped
            return 0.0 if hangs and number == signal.SIGSTOP else math.inf

        def end(self, job):
            self.stopped = True
            super().end(job)

        stopped = False

    with Watchful(records, 2, progress=False) as running:
        outcome = running.run(plan)
    assert (outcome.done, outcome.failures, outcome.again) == (len(plan), [], 1)
    assert running.stopped == (number == signal.SIGSTOP)
    assert "begun again" in outcome.report()


class Elsewhere(executor.Executor):
    """Does runs nowhere: what becomes of them is told by ``fate``, a function of the job."""

    def __init__(self, records, fate):
        super().__init__(records, progress=False)
        self.fate, self.jobs, self.begun, self.closed = fate, [], [], False

    def close(self):
        self.closed = True

    def has_room(self, waiting):
        return len(self.jobs) < 2

    def begin(self, job):
        self.begun.append(job.spec)
        self.jobs.append(job)

    def ended(self, seconds):
        replies = [(job, reply) for job in self.jobs if (reply := self.fate(job)) is not None]
        self.jobs = [job for job in self.jobs if job not in [one for one, _ in replies]]
        return replies

    def end(self, job):
        job.ended = True


def finished(job) -> Reply:
    return Reply(*as_record(job.spec, fake_run(), job.variant, {}))


def test_a_run_that_loses_its_worker_each_time_fails_with_its_reason(tiny, records):
    plan = study.plan_trials(tiny())
    bad = plan[1].spec
    there = Elsewhere(records, lambda job: Reply(error="SIGKILL", lost=True) if job.spec == bad else finished(job))
    outcome = there.run(plan)
    ((spec, reason),) = outcome.failures
    assert (spec, outcome.done, outcome.again) == (bad, len(plan) - 1, executor.TRIES - 1)
    assert there.begun.count(bad) == executor.TRIES and "SIGKILL" in reason
    assert not unfinished(records.root)


def test_a_run_that_takes_far_too_long_is_ended(tiny, records, monkeypatch):
    plan = study.plan_trials(tiny())
    monkeypatch.setattr(executor, "HOUR", 0.0)
    monkeypatch.setattr(executor, "SLOWEST", 0.0)
    hangs = lambda job: Reply(error="ended", lost=True) if hasattr(job, "ended") else None  # noqa: E731
    outcome = Elsewhere(records, hangs).run(plan)
    assert len(outcome.failures) == len(plan) and outcome.again == (executor.TRIES - 1) * len(plan)


def test_what_does_not_begin_in_time_is_left(tiny, records):
    plan = study.plan_trials(tiny())
    assert Elsewhere(records, finished).run(plan, until=time.monotonic()).left == len(plan)
    assert Elsewhere(records, finished).run(plan).done == len(plan)


def test_an_interrupted_study_closes_and_gives_its_leases_back(tiny, records):
    def stop(job):
        raise KeyboardInterrupt

    there = Elsewhere(records, stop)
    with pytest.raises(KeyboardInterrupt):
        there.run(study.plan_trials(tiny()))
    assert there.closed and not unfinished(records.root)


COMMAND = [sys.executable, "-m", "petl_core", "study", "--profile", "smoke", "--part", "tuned", "--workers", "2"]


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


@posix
@pytest.mark.slow
def test_workers_die_with_a_study_that_is_killed_and_no_finished_run_is_repeated(start, records):
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
    assert not unfinished(records.root)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "all"])
def test_kills_lose_and_double_nothing(start, records, victim):
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
    assert not unfinished(records.root)


# Several studies on one folder


@posix
@pytest.mark.slow
def test_two_studies_on_one_folder_share_the_work_and_say_so(start, records):
    said = [process.communicate()[0] for process in (start(), start())]
    done = [int(text.partition(" runs done")[0].split()[-1]) for text in said]
    assert sum(done) == len(records) and all(", 0 failed" in text for text in said)
    assert any("another study" in text or "runs a study into" in text for text in said)
    assert not unfinished(records.root)


def test_what_another_study_is_doing_is_waited_for(tiny, records, monkeypatch, capsys):
    plan = study.plan_trials(tiny(methods=("linear",)))
    held = plan[0].spec
    monkeypatch.setattr(executor, "LOOK", 0.05)
    with leases.Leases(records.root.mkdir() or records.root) as other:
        assert other.take(held.digest)

        def finish() -> None:
            wait_for(lambda: len(records) == len(plan) - 1)
            records.save(held, fake_run(), "theirs")
            other.give_back(held.digest)

        thread = threading.Thread(target=finish)
        thread.start()
        outcome = study.run_plan(plan, records, workers=0, progress=False)
        thread.join()
    assert (outcome.done, outcome.elsewhere) == (len(plan) - 1, 1)
    assert records.get(held)["variants"] == ["theirs", "trial"]
    assert f"process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("holder", "age", "free"),
    [
        ({"host": leases.HOST, "pid": 999999999}, 0, True),
        ({"host": leases.HOST, "pid": os.getpid()}, 0, False),
        ({"host": leases.HOST, "pid": os.getpid()}, leases.EXPIRES + 1, True),
        ({"host": "another machine", "pid": 999999999}, 0, False),
        ({"host": "another machine", "pid": 1}, leases.EXPIRES + 1, True),
        ("cut", 0, False),
        ("cut", leases.EXPIRES + 1, True),
    ],
)
def test_a_lease_is_void_when_its_holder_is_gone_or_it_expired(tmp_path, holder, age, free):
    path = tmp_path / ".lease-0123456789abcdef"
    path.write_text('{"ho' if holder == "cut" else json.dumps(holder))
    os.utime(path, (time.time() - age, time.time() - age))
    with leases.Leases(tmp_path) as mine, leases.Leases(tmp_path) as other:
        assert mine.take("0123456789abcdef") == free
        assert not other.take("0123456789abcdef")
    assert path.exists() != free
    assert not list(tmp_path.glob(".tmp*"))


def test_a_lease_is_renewed_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "RENEWED", 0.02)
    with leases.Leases(tmp_path) as mine:
        mine.take("d")
        path = tmp_path / ".lease-d"
        os.utime(path, (0, 0))
        wait_for(lambda: path.stat().st_mtime > 1, 5)


def test_of_many_that_want_a_void_lease_one_gets_it(tmp_path):
    path = tmp_path / ".lease-d"
    for _ in range(20):
        path.write_text(json.dumps({"host": leases.HOST, "pid": 999999999}))
        holders = [leases.Leases(tmp_path) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda holder: holder.take("d"), holders)) == 1
        path.unlink()


# What is said meanwhile


def test_progress_names_the_phase_and_shows_no_bar_where_there_is_no_terminal(tiny, capsys):
    jobs = [executor.Job(p.spec, "x") for p in study.plan_trials(tiny())]
    with Progress(jobs, shown=True) as progress:
        for job in jobs:
            done = Reply({"stage": "trial", "metrics": {"accuracy": 50.0}})
            progress.show(job.spec, Reply(error="x") if job is jobs[0] else done)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "trials 1/4" in said[0] and "failed" in said[0] and "50.0 %" in said[1]
    with Progress(jobs, shown=False) as progress:
        progress.show(jobs[0].spec, Reply(error="x"))
    assert capsys.readouterr().err == ""


def test_outcomes_add_up():
    both = Outcome(1, 2, 3.0, left=1) + Outcome(10, 20, 30.0, [("spec", "why")], again=2)
    assert both == Outcome(11, 22, 33.0, [("spec", "why")], 1, 2)
    assert not math.isnan(both.seconds)


def test_fewer_workers_than_none_are_refused(records):
    with pytest.raises(UserError, match="-1"):
        Runner(records, -1)
