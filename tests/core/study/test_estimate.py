"""What a study will cost, before it starts: counts by name, plans without data, timed rates, and the question asked."""

import dataclasses

import pytest
import torch

from petl_core import cli, methods
from petl_core.data import load_task
from petl_core.data.load import counts
from petl_core.data.vtab import VTAB_SIZES
from petl_core.study import budget, digests, estimate
from petl_core.study import plan as study
from petl_core.study.estimate import Kind, forecast, kind_of
from petl_core.study.profile import Part
from petl_core.study.profiles import profile
from petl_core.study.profiles_large import BACKBONE, CLIP, IMAGENET, MANY, NOT_PUBLISHED, SECOND, SEEDS_OF_THE_CODE
from petl_core.study.records import Records, RunSpec
from petl_core.study.time import Speed, cost, images, seconds
from petl_core.training.train import Recipe
from petl_core.utils import UserError


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine without VTAB-1K and without downloaded weights."""
    digests.forget()
    monkeypatch.delenv("PETL_DATA", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))


def spec(method: str = "lora", task: str = "digits", on: str = "test", backbone: str = "mini", **recipe) -> RunSpec:
    more = {key: recipe.pop(key) for key in ("track", "measure", "max_train", "max_evaluate") if key in recipe}
    hyper = recipe.pop("hyper", {})
    return RunSpec(backbone, "w", method, hyper, task, "d", Recipe(**recipe), evaluate_on=on, **more)


# Counts


@pytest.mark.parametrize("task", ["digits", "orientation@100", "textures@150", "count"])
def test_the_counts_of_an_embedded_task_are_those_of_its_data(task):
    known, read = counts(task), load_task(task)
    for split, index in read.splits.items():
        assert known.of(split) == len(index)
    assert known.classes == read.num_classes


def test_the_counts_of_real_tasks_follow_from_their_names():
    assert (counts("vtab1k/svhn").test, counts("vtab:/some/where/dtd").classes) == (26_032, 47)
    many = counts("real/cifar100@10000")
    assert (many.of("train1000"), many.of("train800"), many.test, many.classes) == (10_000, 9_000, 10_000, 100)
    assert counts(IMAGENET[0]).of("train800") == 100_000
    assert images(spec(task="vtab1k/svhn", max_evaluate=500, max_train=64)) == (64, 500)


# Plans without data


def test_a_plan_needs_neither_data_nor_weights_and_says_what_is_absent(no_data, tmp_path):
    plan = forecast(profile("gpu"), Records(tmp_path / "runs"))
    wanted = {
        *(f"task vtab1k/{name}" for name in VTAB_SIZES),
        f"task {IMAGENET[0]}",
        *(f"task {task}" for task in MANY),
    }
    assert wanted | {f"weights of {name}" for name in (BACKBONE, CLIP, SECOND)} <= set(plan.absent)
    rows = {name: (some, more) for name, some, more in plan.parts}
    chosen = profile("gpu")
    cells = len(chosen.tasks) * len(chosen.methods)
    assert rows["tuned"] == (chosen.trials * cells, len(chosen.seeds) * cells)
    assert len(plan.todo) == sum(some + more for some, more in rows.values()) and plan.there == 0
    text = plan.text()
    assert f"{len(plan.todo):,} runs in all; 0 are there already" in text
    assert "task vtab1k/svhn" in text and "PETL_DATA" in text and " GB" in text
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("part", "names"), [("tuned", "weights|PETL_DATA"), ("many_shot", "weights|real/cifar100")])
def test_without_the_data_a_part_is_refused_by_name(no_data, part, names):
    with pytest.raises(UserError, match=rf"part '{part}' of profile 'gpu' cannot be planned: .*({names})"):
        study.plan_trials(profile("gpu"), [part])


@pytest.mark.slow
def test_gpu_is_inside_full_and_full_has_the_published_protocol(no_data, tmp_path):
    small, large = (study.plan_trials(profile(name), absent="count") for name in ("gpu", "full"))
    drawn = estimate.Drawn(tmp_path)
    gpu, full = (study.plan_finals(profile(name), drawn, absent="count") for name in ("gpu", "full"))
    finals = [{(p.spec.digest, p.variant) for p in plan} for plan in (gpu, full)]
    published = [p for p in full if p.variant == "published"]
    assert {p.spec.digest for p in small} < {p.spec.digest for p in large}
    chosen = {pair for pair in finals[0] if pair[1] == "robustness_chosen"}  # of fewer rates
    assert finals[0] - chosen < finals[1]
    trials = [p.spec for p in large if p.variant == "published_trial"]
    assert len(trials) == 516 * len(VTAB_SIZES)  # the released tuning tables' number
    assert {s.method for s in trials} == set(methods.names()) - set(NOT_PUBLISHED)
    assert {(s.recipe.epochs, s.recipe.batch_size, s.recipe.normalise) for s in trials} == {(100, 64, "none")}
    assert {p.spec.seed for p in published} == set(SEEDS_OF_THE_CODE)
    assert {s.image_size for s in trials} == {None}  # so 224, as tasks of folders are and these backbones take


def test_the_recipe_of_final_runs_at_gpu_is_the_published_one():
    chosen = profile("gpu")
    assert (chosen.final.epochs, chosen.final.batch_size, chosen.final.warmup) == (100, 64, 0.1)
    assert (chosen.tune.epochs, chosen.tune.batch_size, len(chosen.seeds)) == (20, 64, 3)
    assert {r.precision for r in (chosen.tune, chosen.final)} == {"bf16"}
    robust = chosen.part("robustness")
    assert (robust.tune.batch_size, robust.final.epochs) == (256, 5)


def test_a_forecast_counts_what_the_study_then_runs(backbone, tmp_path):
    values = {"tasks": ("digits",), "methods": ("linear", "lora"), "parts": (Part("tuned"),), "backbone": backbone}
    chosen = dataclasses.replace(profile("smoke"), max_train=16, max_evaluate=20, **values)
    records = Records(tmp_path / "runs")
    before = forecast(chosen, records)
    assert (before.parts, before.there, len(before.todo), before.absent) == ([("tuned", 4, 4)], 0, 8, {})
    assert study.run_study(chosen, records, workers=0, progress=False).done == 8
    after = forecast(chosen, records)
    assert (after.there, after.todo) == (8, [])
    taken = sum(512 * path.stat().st_blocks for path in (tmp_path / "runs").rglob("*"))
    expected = sum(map(estimate.record_bytes, before.todo))
    assert 0.2 * expected < taken < 2 * expected


# Time


def test_runs_of_one_kind_are_timed_once():
    one = kind_of(spec(hyper={"rank": 8}))
    for same in ({"lr": 1e-4}, {"hyper": {"rank": 4}}, {"epochs": 3}, {"task": "count"}):
        assert kind_of(spec(**same)) == one
    for other in ({"backbone": "mini_clip"}, {"batch_size": 8}, {"precision": "bf16"}, {"method": "ssf"}):
        assert kind_of(spec(**other)) != one
    assert kind_of(spec("linear")).head_only and not kind_of(spec("linear", drop_path=0.1)).head_only
    assert kind_of(spec(task="vtab1k/dtd", backbone=SECOND)).image_size == 224


def test_seconds_of_a_run():
    rate = Speed(build=1.0, train=0.01, evaluate=0.001)
    assert seconds(spec(epochs=2), rate) == pytest.approx(1 + 2 * 1000 * 0.01 + 1000 * 0.001)
    assert seconds(spec(epochs=2, track=True), rate) == pytest.approx(1 + 20 + 3)
    head = dataclasses.replace(rate, head_only=True)  # each image passes the backbone once, whatever the epochs
    assert seconds(spec("linear", epochs=2), head) == seconds(spec("linear", epochs=2, track=True), head)
    assert seconds(spec("linear", epochs=2), head) == pytest.approx(1 + 20 + 2)
    assert (cost(spec("linear", epochs=5)), cost(spec(epochs=5))) == (2000 + 0.02 * 5000, 3 * 5000 + 1000)
    assert seconds(spec(epochs=2, measure=("displacement",)), rate) == pytest.approx(1 + 20 + 1 + 1)
    assert seconds(spec(task="world", epochs=2, measure=("interpolation",)), rate) == pytest.approx(22 + 6 * 5)
    todo = [spec(epochs=2), spec(epochs=2, lr=1.0), spec("ssf")]
    found = estimate.estimate(todo, {kind_of(spec()): rate}, 2)
    assert (found.work, found.wall, found.unknown) == (pytest.approx(44), pytest.approx(22), 1)
    assert estimate.estimate(todo, {kind_of(spec()): rate}, 8).wall == pytest.approx(22)  # the longest run


@pytest.mark.slow
def test_rates_are_measured(backbone):
    kinds = [kind_of(spec("lora", backbone=backbone)), kind_of(spec("linear", backbone=backbone, task="count"))]
    rates = estimate.time_kinds(kinds, "cpu", 2)
    assert set(rates) == set(kinds)
    assert all(0 < value < 60 for rate in rates.values() for value in (rate.build, rate.train, rate.evaluate))
    assert [rates[kind].head_only for kind in kinds] == [False, True]


def test_a_kind_that_cannot_be_built_ends_the_timing(backbone):
    with pytest.raises(UserError, match=r"timing on cpu failed.*no such method"):
        estimate.time_kinds([Kind(backbone, "no such method", 32, 8, "auto", False)], "cpu", 1)


def test_one_hiccup_moves_no_rate(monkeypatch, backbone):
    """Of the rounds of training the median counts."""
    real, calls = budget.train, []

    def train(*args, **options):
        calls.append(options["max_train"])
        run = real(*args, **options)
        usual = options["max_train"] * args[2].epochs / 1e4
        return dataclasses.replace(run, seconds=100.0 if len(calls) == 3 else usual)

    monkeypatch.setattr(budget, "train", train)
    assert budget.measure(backbone, "lora", load_task("digits"), "cpu").train == pytest.approx(1e-4)
    assert calls == [1, 8, 32, 32, 32]


# The question before a start


@pytest.fixture
def small(backbone, tmp_path) -> list[str]:
    """The command of a study of a few runs."""
    command = ["study", "--profile", "smoke", "--part", "default", "--backbone", backbone, "--workers", "1"]
    return [*command, "--results", str(tmp_path / "runs")]


def test_the_plan_counts_and_after_measuring_says_how_long(small, capsys, tmp_path):
    assert cli.main([*small, "--plan"]) == 0
    text = capsys.readouterr().out
    assert "12 runs in all; 0 are there already" in text and "no rates are measured" in text
    assert cli.main([*small, "--plan", "--measure"]) == 0
    assert "with 1 at a time" in capsys.readouterr().out
    assert not Records(tmp_path / "runs").digests()


def test_more_than_a_day_is_not_started_without_being_asked(small, capsys, tmp_path, monkeypatch):
    slow = Speed(estimate.DAY / 6, 0.0, 0.0)
    monkeypatch.setattr(estimate, "time_kinds", lambda kinds, *_: dict.fromkeys(kinds, slow))
    assert cli.main([*small, "--measure"]) == 2
    assert "12 runs are to be done; time: 48h" in (error := capsys.readouterr().err) and "Add --yes" in error
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert cli.main([*small, "--measure"]) == 0
    assert not Records(tmp_path / "runs").digests()
    assert cli.main([*small, "--measure", "--yes"]) == 0
    assert "12 runs done" in capsys.readouterr().out


def test_a_large_profile_is_not_started_while_nobody_knows_how_long_it_takes(no_data, capsys, tmp_path):
    gpu = ["study", "--profile", "gpu", "--results", str(tmp_path / "runs")]
    assert cli.main(gpu) == 2
    assert "add --measure. Add --yes to start them" in capsys.readouterr().err
    assert cli.main([*gpu, "--yes", "--device", "cpu", "--workers", "0"]) == 2
    assert "part 'tuned' of profile 'gpu' cannot be planned" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_profile_for_a_gpu_says_where_there_is_none(capsys, tmp_path):
    assert cli.main(["study", "--profile", "gpu", "--results", str(tmp_path / "runs"), "--yes"]) == 2
    assert "device 'cuda' is not available here; available: cpu" in capsys.readouterr().err
