"""The loop that executes a plan, with places that do nothing: what is begun again, ended, left, or left to others."""

import threading
import time
from concurrent.futures import Future

import pytest
from made_records import make_run

from petl_core.study import executor, leases
from petl_core.study import plan as study
from petl_core.study.execute import Reply
from petl_core.study.executor import Outcome, Planned, Progress
from petl_core.study.records import as_record


class Nowhere(executor.Place):
    """Does no run: what becomes of one is told by ``fate``, a reply, an error, or None for a run that hangs."""

    def __init__(self, fate):
        self.fate, self.future = fate, None

    def begin(self, run):
        self.future, fate = Future(), self.fate(run)
        if isinstance(fate, Reply):
            self.future.set_result(fate)
        elif fate is not None:
            self.future.set_exception(fate)
        return self.future

    def end(self):
        if self.future is not None and not self.future.done():
            self.future.set_exception(OSError("ended"))


class Elsewhere(executor.Executor):
    """Two places that do nothing; ``begun`` are the specs whose runs were begun."""

    def __init__(self, records, fate):
        super().__init__(records, progress=False)
        self.begun, self.closed = [], False
        self.fate = lambda run: self.begun.append(run.spec) or fate(run)

    def close(self):
        self.closed = True
        super().close()

    def ready(self, waiting):
        self.places += [Nowhere(self.fate) for _ in range(2 - len(self.places))]
        return self.places


def finished(run: Planned) -> Reply:
    return Reply(*as_record(run.spec, make_run(evaluated_on="val200"), run.variant, {}))


def test_a_run_that_loses_its_place_each_time_fails_with_its_reason(tiny, records, unfinished):
    plan = study.plan_trials(tiny())
    bad = plan[1].spec
    there = Elsewhere(records, lambda run: OSError("SIGKILL") if run.spec == bad else finished(run))
    outcome = there.run(plan)
    ((spec, reason),) = outcome.failures
    assert (spec, outcome.done, outcome.again) == (bad, len(plan) - 1, executor.TRIES - 1)
    assert there.begun.count(bad) == executor.TRIES and "SIGKILL" in reason
    assert "FAILED" in outcome.report() and "begun again" in outcome.report()
    assert not unfinished()


def test_a_run_that_never_answers_is_ended(tiny, records, monkeypatch):
    """The study does not wait for it for ever."""
    plan = study.plan_trials(tiny())
    monkeypatch.setattr(executor.Executor, "limit", lambda self, spec: 0.0)
    monkeypatch.setattr(executor, "LOOK", 0.01)
    outcome = Elsewhere(records, lambda run: None).run(plan)
    assert len(outcome.failures) == len(plan) and outcome.again == (executor.TRIES - 1) * len(plan)


def test_how_long_a_run_may_take_follows_from_the_slowest_of_its_backbone(tiny, records, monkeypatch):
    plan = study.plan_trials(tiny())
    there = Elsewhere(records, lambda run: time.sleep(0.01) or finished(run))
    before = there.limit(plan[0].spec)
    there.run(plan)
    assert executor.HOUR < there.limit(plan[0].spec) < before


def test_what_does_not_begin_in_time_is_left(tiny, records):
    plan = study.plan_trials(tiny())
    assert Elsewhere(records, finished).run(plan, until=time.monotonic()).left == len(plan)
    assert Elsewhere(records, finished).run(plan).done == len(plan)


def test_an_interrupted_study_closes_and_gives_its_leases_back(tiny, records, unfinished):
    def stop(run):
        raise KeyboardInterrupt

    there = Elsewhere(records, stop)
    with pytest.raises(KeyboardInterrupt):
        there.run(study.plan_trials(tiny()))
    assert there.closed and not unfinished()


def test_what_another_study_is_doing_is_waited_for(tiny, records, monkeypatch, capsys, wait_for):
    plan = study.plan_trials(tiny())
    held = plan[0].spec
    monkeypatch.setattr(executor, "LOOK", 0.05)
    with leases.Leases(records.root.mkdir() or records.root) as other:
        assert other.take(held.digest)

        def finish() -> None:
            wait_for(lambda: len(records) == len(plan) - 1)
            records.save(held, make_run(evaluated_on="val200"), "theirs")
            other.give_back(held.digest)

        thread = threading.Thread(target=finish)
        thread.start()
        outcome = Elsewhere(records, finished).run(plan)
        thread.join()
    assert (outcome.done, outcome.elsewhere) == (len(plan) - 1, 1)
    assert records.get(held)["variants"] == ["theirs", "trial"]
    assert "process" in capsys.readouterr().err and "another study" in outcome.report()


def test_progress_names_the_phase_and_shows_no_line_for_each_run_where_there_is_no_terminal(tiny, capsys):
    plan = study.plan_trials(tiny())
    with Progress(plan, shown=True) as progress:
        for run in plan:
            done = Reply({"stage": "trial", "metrics": {"accuracy": 50.0}})
            progress.show(run.spec, Reply(error="x") if run is plan[0] else done)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "trials 1/4" in said[0] and "failed" in said[0] and "50.0 %" in said[1]
    with Progress(plan, shown=False) as progress:
        progress.show(plan[0].spec, Reply(error="x"))
    assert capsys.readouterr().err == ""


def test_outcomes_add_up():
    both = Outcome(1, 2, left=1) + Outcome(10, 20, [("spec", "why")], again=2)
    assert both == Outcome(11, 22, [("spec", "why")], 1, 2)
