"""Running plans: the same bits in workers, and nothing lost or doubled whatever is killed, hangs or runs beside it."""

import dataclasses
import json
import math
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from petl_core import methods
from petl_core.methods.lora import LoRA
from petl_core.study import plan as study
from petl_core.study import runner
from petl_core.study.execute import WORKER_ENVIRONMENT, Reply, order_of, perform
from petl_core.study.executor import Planned
from petl_core.study.records import Records, StorageError
from petl_core.study.runner import Runner
from petl_core.utils import UserError

posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")


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


def test_a_study_runs_and_the_second_time_has_nothing_to_do(tiny, records, unfinished):
    outcome = study.run_study(tiny(), records, workers=0, progress=False)
    assert (outcome.done, outcome.skipped, outcome.failures) == (2 * 2 + 2 * 2, 0, [])
    assert sorted(records.table().variant.unique()) == ["trial", "tuned"]
    again = study.run_study(tiny(), records, workers=0, progress=False)
    assert (again.done, again.skipped) == (0, 8)
    assert not unfinished()


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
def test_a_run_whose_worker_is_killed_or_hangs_is_begun_again(tiny, records, signalling, tmp_path, monkeypatch, number):
    plan = study.plan_trials(tiny(methods=("mine", "linear"), trials=1))
    signalling(number, 1)

    ended, end = [], runner.Worker.end
    monkeypatch.setattr(runner.Worker, "end", lambda place: ended.append(place) or end(place))

    def limit(self, spec):
        hangs = number == signal.SIGSTOP and spec.method == "mine" and (tmp_path / "sent-0").exists() and not ended
        return 0.0 if hangs else math.inf

    monkeypatch.setattr(Runner, "limit", limit)
    outcome = study.run_plan(plan, records, 2, progress=False)
    assert (outcome.done, outcome.failures, outcome.again) == (len(plan), [], 1)
    assert "begun again" in outcome.report()


def test_fewer_workers_than_none_are_refused(records):
    with pytest.raises(UserError, match="-1"):
        Runner(records, -1)


def test_workers_take_the_gpus_in_turn():
    assert [runner.shared_out("cuda", i, gpus=2) for i in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [runner.shared_out("cuda", i, gpus=1) for i in range(2)] == ["cuda", "cuda"]
    assert runner.shared_out("cuda:1", 0, gpus=2) == "cuda:1"
    assert runner.shared_out("cpu", 3, gpus=2) == "cpu"
