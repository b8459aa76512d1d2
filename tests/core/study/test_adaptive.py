"""The adaptive protocol as a study: stage by stage from the records, task by task, resumed, and its further parts."""

import dataclasses
import itertools
import math
import shutil

import numpy as np
import pytest
import torch

from petl_core.cli import main
from petl_core.data import load_task
from petl_core.data.task import split_anew, with_split
from petl_core.study import plan as study
from petl_core.study import runner
from petl_core.study.estimate import forecast
from petl_core.study.execute import Reply, execute
from petl_core.study.profile import HELD_BACK, Part
from petl_core.study.profiles import profile
from petl_core.study.profiles_adaptive import MINI, PLAIN, RECIPE, TRIALS
from petl_core.study.protocol import Tuning, our_trials
from petl_core.study.records import Records, RunSpec, as_record
from petl_core.study.search import step
from petl_core.training.train import Recipe, Run
from petl_core.utils import UserError

FAST = Recipe(epochs=1, batch_size=32, clip_norm=1.0)


@pytest.fixture
def records(tmp_path) -> Records:
    return Records(tmp_path / "runs")


@pytest.fixture
def tiny(backbone):
    """Two methods, one task, a few images, the adaptive search."""

    def make(*parts: Part, **changes) -> study.Profile:
        values = {"tasks": ("digits",), "methods": ("linear", "lora"), "parts": parts or (Part("tuned"),)}
        values |= {"max_train": 16, "max_evaluate": 20, "tune": FAST, "final": FAST, "seeds": (0, 1)}
        return dataclasses.replace(profile("laptop16"), **{**values, "backbone": backbone, **changes})

    return make


def invented(spec: RunSpec) -> float:
    """An accuracy that depends on the spec alone."""
    return int(spec.digest[:4], 16) % 101


def made_run(spec: RunSpec, accuracy: float) -> Run:
    logits, answers, wrong = np.zeros((4, 2), dtype=np.float16), np.zeros(4, dtype=np.int64), math.isnan(accuracy)
    return Run(accuracy, spec.evaluate_on, logits, answers, tuple("abcd"), 50.0, 1.0, wrong, [], 1, 9, "other", 1.0)


def keep(spec: RunSpec, records: Records, accuracy: float) -> None:
    records.save(spec, made_run(spec, accuracy), "")


def finish_trials(chosen: study.Profile, records: Records) -> list[int]:
    """Invent the trials, round after round as they become known; how many there were in each."""
    rounds = []
    while new := {p.spec for p in study.plan_trials(chosen, None, records) if not records.has(p.spec)}:
        rounds.append(len(new))
        for spec in new:
            keep(spec, records, invented(spec))
    return rounds


def by_variant(chosen: study.Profile, records: Records) -> dict[str, list[RunSpec]]:
    found: dict[str, list[RunSpec]] = {}
    for planned in study.plan_finals(chosen, records):
        found.setdefault(planned.variant, []).append(planned.spec)
    return found


# Stages


def test_trials_become_known_stage_by_stage_and_final_runs_after_the_last(tiny, records):
    chosen = tiny()
    assert len(study.plan_trials(chosen)) == 2 * 4
    specs = [p.spec for p in study.plan_trials(chosen, None, records)]
    assert [s.recipe.lr for s in specs if s.method == "linear"] == list(MINI.linear)
    for spec in specs:
        assert study.plan_finals(chosen, records) == []
        keep(spec, records, invented(spec))
    assert finish_trials(chosen, records) == [2, 2]
    assert len(study.plan_trials(chosen, None, records)) == 2 * TRIALS
    variants = by_variant(chosen, records)
    assert len(variants["tuned"]) == 2 * 2
    assert {s.stage for s in variants["tuned_chosen"]} == {"trial"}
    for best in variants["tuned_chosen"]:
        finals = [s for s in variants["tuned"] if s.method == best.method]
        assert {(s.recipe.lr, str(s.hyper)) for s in finals} == {(best.recipe.lr, str(best.hyper))}
        assert {s.recipe for s in finals} == {dataclasses.replace(chosen.final, lr=best.recipe.lr)}


@pytest.mark.parametrize(("best", "edge"), [(1e-2, False), (3e-3, True)])
def test_a_choice_at_an_end_is_marked(tiny, records, best, edge):
    chosen = tiny(methods=("linear",), trials=4)
    for planned in study.plan_trials(chosen):
        keep(planned.spec, records, 50.0 + (planned.spec.recipe.lr == best))
    assert ("tuned_edge" in by_variant(chosen, records)) == edge


def test_a_cell_whose_trials_all_diverged_has_no_final_runs(tiny, records):
    chosen = tiny(methods=("linear",))
    while new := [p.spec for p in study.plan_trials(chosen, None, records) if not records.has(p.spec)]:
        for spec in new:
            keep(spec, records, math.nan)
    assert len(records) == TRIALS
    assert study.plan_finals(chosen, records) == []


def test_a_study_is_done_stage_by_stage_and_resumes_at_any_moment(tiny, records):
    outcome = study.run_study(tiny(), records, workers=0, progress=False)
    assert (outcome.done, outcome.failures) == (2 * TRIALS + 2 * 2, [])
    table = records.table()
    assert (table.variant == "trial").sum() == 2 * TRIALS
    assert (table.variant == "tuned_chosen").sum() == 2
    whole = {digest: records.get(digest)["logits_sha256"] for digest in records.digests()}
    for digest in records.digests()[::3]:
        shutil.rmtree(records.root / digest)
    again = study.run_study(tiny(), records, workers=0, progress=False)
    assert again.done == len(list(whole)[::3])
    assert {digest: records.get(digest)["logits_sha256"] for digest in records.digests()} == whole
    assert study.run_study(tiny(), records, workers=0, progress=False).done == 0


def test_a_trial_that_fails_is_tried_once_and_its_cell_is_left(tiny, records, monkeypatch):
    calls = []
    monkeypatch.setattr(runner, "attempt", lambda spec, *_: calls.append(spec.digest) or Reply(error="no"))
    outcome = study.run_study(tiny(methods=("linear",)), records, workers=0, progress=False)
    assert len(calls) == len(set(calls)) == len(outcome.failures) == 4


def test_a_task_is_finished_before_the_next_is_begun(tiny, records, monkeypatch):
    tasks = ("textures", "digits", "count")
    order = []

    def attempt(spec: RunSpec, variant: str, device: str) -> Reply:
        order.append((spec.task, spec.stage))
        return Reply(*as_record(spec, made_run(spec, invented(spec)), variant, {}))

    monkeypatch.setattr(runner, "attempt", attempt)
    study.run_study(tiny(tasks=tasks), records, workers=0, progress=False)
    assert list(dict.fromkeys(order)) == [(task, stage) for task in tasks for stage in ("trial", "final")]


def test_final_runs_show_no_accuracy_on_the_way(tiny, records, capsys):
    study.run_study(tiny(methods=("linear",)), records, workers=0)
    lines = capsys.readouterr().err.splitlines()
    finals = [line for line in lines if ", final: " in line]
    assert finals and not any("%" in line for line in finals)
    assert any("%" in line for line in lines if ", trial: " in line)


def test_equal_specs_give_equal_bits_and_are_run_once(tiny, records, tmp_path):
    plan = study.plan_trials(tiny(methods=("lora",)))[:1]
    other = Records(tmp_path / "other")
    outcome = study.run_plan([*plan, *plan], records, workers=0, progress=False)
    study.run_plan(plan, other, workers=0, progress=False)
    assert outcome.done == 1
    (digest,) = records.digests()
    assert records.get(digest)["logits_sha256"] == other.get(digest)["logits_sha256"]


def test_a_plan_counts_what_the_search_will_decide(tiny, tmp_path):
    plan = forecast(tiny(Part("tuned"), Part("longer", of="tuned_longer")), Records(tmp_path / "none"))
    assert plan.parts == [("tuned", 2 * TRIALS, 4), ("longer", 2 * 2, 4)]


def test_the_command_line_takes_tasks_and_refuses_unknown_ones(tmp_path, capsys):
    where = ["--results", str(tmp_path / "runs")]
    assert main(["study", "--profile", "laptop16", "--part", "tuned", "--task", "digits", "--plan", *where]) == 0
    assert f"{16 * TRIALS:,}" in capsys.readouterr().out
    assert main(["study", "--profile", "laptop16", "--task", "digit", "--plan", *where]) == 2
    assert "no task 'digit'" in capsys.readouterr().err


# The further parts


def test_repeats_have_other_seeds_and_other_halves_and_may_share_their_final_runs(tiny, records):
    chosen = tiny(Part("tuned"), Part("repeats"), max_train=None)
    trials = [p.spec for p in study.plan_trials(chosen, ["repeats"])]
    assert {(s.seed, s.train_on, s.evaluate_on, s.stage) for s in trials} == {
        (100 + r, f"train800#r{r}", f"val200#r{r}", "trial") for r in (1, 2)
    }
    finish_trials(chosen, records)
    variants = by_variant(chosen, records)
    for name in ("repeat_1", "repeat_2"):
        assert {(s.seed, s.train_on, s.evaluate_on) for s in variants[name]} == {
            (seed, "train1000", "test") for seed in (0, 1)
        }
        for repeated, tuned in itertools.product(variants[name], variants["tuned"]):
            same = all(getattr(repeated, field) == getattr(tuned, field) for field in ("method", "hyper", "seed"))
            assert (repeated == tuned) == (same and repeated.recipe.lr == tuned.recipe.lr)
    assert {"repeat_1_chosen", "repeat_2_chosen"} <= set(variants)


def test_a_repeat_runs_on_the_new_parts(tiny, records):
    outcome = study.run_study(tiny(Part("repeats"), methods=("linear",), repeats=1), records, workers=0, progress=False)
    assert (outcome.failures, outcome.done) == ([], TRIALS + 2)


def test_longer_is_tuned_again_at_the_chosen_rate_and_the_step_below(tiny, records):
    chosen = tiny(Part("longer", of="tuned_longer", seeds=1))
    rounds = finish_trials(chosen, records)
    assert rounds == [8, 2, 2, 4]
    variants = by_variant(chosen, records)
    longer = [p.spec for p in study.plan_trials(chosen, None, records) if p.variant == "longer_trial"]
    assert {s.recipe.epochs for s in [*longer, *variants["longer"]]} == {2 * FAST.epochs}
    assert {s.seed for s in variants["longer"]} == {0}
    for method in chosen.methods:
        tuned = Tuning(chosen, our_trials(chosen, "digits", method, records), {}).chosen(records)
        rates = [s.recipe.lr for s in longer if s.method == method]
        assert rates[0] == tuned.recipe.lr > rates[1]
        assert {str(s.hyper) for s in longer if s.method == method} == {str(tuned.hyper)}


@pytest.mark.parametrize(("images", "epochs"), [(10_000, 4), (4000, 4), (2000, 8), (500, 32), (200, 80), (100, 80)])
def test_epochs_follow_from_the_number_of_images(images, epochs):
    its = profile("laptop16").at_length(f"orientation@{images}")
    assert its.tune.epochs == its.final.epochs == epochs
    assert profile("laptop16").at_length("orientation") == profile("laptop16")


def test_fixed_sizes_are_tuned_over_the_first_rates(tiny, records):
    chosen = tiny(Part("few", ("linear", "lora", "fact_tk"), ("digits@100",), seeds=5, of="sized"), max_train=None)
    assert finish_trials(chosen, records) == [4 * (1 + 2 + 1)]
    variants = by_variant(chosen, records)
    assert {s.hyper["rank"] for s in variants["many_shot"] if s.method == "lora"} == {1, 8}
    assert {s.seed for s in variants["many_shot"]} == set(range(5))
    assert len(variants["many_shot"]) == 5 * 4
    assert len(variants["many_shot_chosen"]) == 4


def test_full_is_held_back_at_each_strength_at_the_rate_chosen_free_and_above(tiny, records):
    chosen = tiny(Part("held_back", ("full", "lora"), ("digits@100", "digits")), max_train=None)
    finish_trials(chosen, records)
    variants = by_variant(chosen, records)
    names = {f"held_back_{how}_{strength:g}" for how, some in HELD_BACK.items() for strength in some}
    assert {name for name in variants if not name.endswith("_chosen")} == {"mechanism", *names}
    assert {s.measure for name in ("mechanism", *names) for s in variants[name]} == {("displacement",)}
    for task, epochs in (("digits@100", 10), ("digits", 1)):
        free = next(s for s in variants["mechanism_chosen"] if (s.task, s.method) == (task, "full"))
        held = [p.spec for p in study.plan_trials(chosen, None, records) if p.variant == "held_back_trial"]
        assert {s.recipe.lr for s in held if s.task == task} == {free.recipe.lr, step(free.recipe.lr, 1)}
        assert len([s for s in held if s.task == task]) == 2 * len(names)
        assert {s.recipe.epochs for name in names for s in variants[name] if s.task == task} == {epochs}


def test_resolution_and_scratch(tiny, records):
    chosen = tiny(
        Part("resolution_64", ("linear",), image_size=64, of="resolution"), Part("scratch", of="scratch_fixed")
    )
    finish_trials(dataclasses.replace(chosen, parts=chosen.parts[1:]), records)
    scratch = by_variant(dataclasses.replace(chosen, parts=chosen.parts[1:]), records)["scratch"]
    assert {(s.method, s.weights, s.recipe.lr) for s in scratch} == {("full", "random", 1e-3)}
    with pytest.raises(UserError, match="part 'resolution_64'"):  # the embedded tasks have one size
        study.plan_trials(chosen)


# The profiles


def test_the_new_profiles_follow_the_protocol():
    for name in ("laptop16", "photographs"):
        its = profile(name)
        assert (its.trials, its.tune, its.final) == (6, RECIPE, RECIPE)
        assert (RECIPE.epochs, RECIPE.clip_norm, RECIPE.batch_size, PLAIN.clip_norm) == (16, 1.0, 32, None)
        assert len({part.name for part in its.parts}) == len(its.parts)
        assert {part.key for part in its.parts} <= set(study.PARTS)
    laptop = profile("laptop16")
    assert (len(laptop.tasks), len(laptop.methods), laptop.tasks[:3]) == (11, 16, profile("quick").tasks)


def test_tasks_of_a_profile_can_be_asked_for():
    its = profile("laptop16").of_tasks(["digits"])
    assert its.tasks == ("digits",)
    assert {part.name for part in its.parts} == {"tuned", "drop_path", "scratch"}
    with pytest.raises(UserError, match="no task 'digitz'; its tasks: azimuth"):
        profile("laptop16").of_tasks(["digits", "digitz"])


def test_later_fields_leave_older_digests_alone():
    spec = RunSpec("mini", "w", "lora", {}, "digits", "d", Recipe())
    assert "clip_norm" not in spec.to_dict()["recipe"]
    clipped = dataclasses.replace(spec, recipe=Recipe(clip_norm=1.0))
    assert clipped.to_dict()["recipe"]["clip_norm"] == 1.0
    assert clipped.digest != spec.digest
    assert RunSpec.from_dict(clipped.to_dict()) == clipped


# Parting train1000 anew


@pytest.mark.parametrize("name", ["digits", "science", "textures@150"])
def test_a_new_parting_is_stratified_whole_and_its_own(name):
    task = load_task(name)
    anew = [split_anew(task, number) for number in (1, 2, 1)]
    pool = set(task.splits["train1000"].tolist())
    for its, number in zip(anew, (1, 2, 1), strict=True):
        train, val = (its.splits[f"{split}#r{number}"] for split in ("train800", "val200"))
        assert (len(train), len(val)) == (len(task.splits["train800"]), len(task.splits["val200"]))
        assert {*train.tolist(), *val.tolist()} == pool
        for label in range(task.num_classes):
            share = (task.labels[list(pool)] == label).sum().item() * len(val) / len(pool)
            assert abs((task.labels[val] == label).sum().item() - share) < 1
        assert its.digest == task.digest
        assert torch.equal(its.splits["train800"], task.splits["train800"])
    vals = [its.splits[f"val200#r{number}"].tolist() for its, number in zip(anew, (1, 2, 1), strict=True)]
    assert vals[0] == vals[2] != vals[1]


def test_only_a_name_that_says_so_parts_anew():
    task = load_task("digits")
    assert with_split(task, "train800") is task
    assert "val200#r3" in with_split(task, "train800#r3").splits
    with pytest.raises(UserError, match="no split 'train800#x'"):
        execute(RunSpec("mini", "random", "linear", {}, "digits", task.digest, FAST, train_on="train800#x"))
