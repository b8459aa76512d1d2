"""The protocol: equal trials, the choice and its ties, what each part runs, profiles in one another, and resuming."""

import dataclasses
import math

import numpy as np
import pytest

from petl_core import methods
from petl_core.data import embedded_names
from petl_core.study import parts
from petl_core.study import plan as study
from petl_core.study.estimate import Drawn
from petl_core.study.executor import Planned
from petl_core.study.profile import HELD_BACK, HIGH_LRS, LONGER, MORE_SEEDS, Part
from petl_core.study.profiles import profile, profile_names
from petl_core.study.records import Records, RunSpec
from petl_core.training.train import Recipe, Run
from petl_core.utils import UserError


def tiny(**changes) -> study.Profile:
    """Two methods, one task, a few images."""
    values = {"tasks": ("digits",), "methods": ("linear", "lora"), "parts": (Part("tuned"),), "max_train": 16}
    return dataclasses.replace(profile("smoke"), **{**values, "max_evaluate": 20, **changes})


def fake_run(accuracy: float = 50.0, params: int = 100, diverged: bool = False, on: str = "val200") -> Run:
    logits = np.zeros((4, 2), dtype=np.float16)
    accuracy = math.nan if diverged else accuracy
    return Run(accuracy, on, logits, np.zeros(4, dtype=np.int64), tuple("abcd"), 50.0, 1.0, diverged, [], 1, params,
               "natural", 1.0)  # fmt: skip


def trial_spec(lr: float = 1e-3, **hyper) -> RunSpec:
    recipe = Recipe(lr=lr, drop_path=hyper.pop("drop_path", 0.0))
    return RunSpec("mini", "w", "lora", hyper, "digits", "d", recipe, train_on="train800", evaluate_on="val200")


@pytest.fixture
def records(tmp_path) -> Records:
    return Records(tmp_path / "runs")


# Trials


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("k", [1, 3, 4, 5])
def test_every_method_gets_the_same_number_of_different_trials(method, k):
    points = study.trials(method, k)
    assert points == study.trials(method, k)
    assert len({repr(point) for point in points}) == len(points) == k
    assert study.trials(method, 5)[:k] == points  # more trials only add
    for point in points:
        methods.get(method, **point.hyper)


def test_learning_rates_come_first_then_one_change_at_a_time():
    lrs = methods.registry["lora"].lrs
    points = study.trials("lora", 2 * 2 * len(lrs), (0.0, 0.1))
    default = methods.get("lora").hyper()
    assert [p.lr for p in points[: len(lrs)]] == list(lrs)
    assert all(p.hyper == default and p.drop_path == 0.0 for p in points[: len(lrs)])
    other = points[len(lrs) : len(lrs) + 2]
    assert {p.lr for p in other} == {lrs[0]}
    assert sorted((p.hyper != default, p.drop_path) for p in other) == [(False, 0.1), (True, 0.0)]
    assert all(p.hyper != default and p.drop_path == 0.1 for p in points[-len(lrs) :])


def test_full_fine_tuning_is_tried_down_to_small_rates():
    assert min(p.lr for p in study.trials("full", 4)) == 1e-5


def test_asking_for_more_trials_than_a_grid_has_is_refused():
    count = len(methods.registry["bitfit"].lrs) * 2
    assert len(study.trials("bitfit", count)) == count
    with pytest.raises(UserError, match=f"'bitfit' has {count} points"):
        study.trials("bitfit", count + 1)


PUBLISHED_SIZES = [("bitfit", 4), ("lora", 16), ("vpt_shallow", 20), ("repadapter", 60), ("convpass", 80)]


@pytest.mark.parametrize(("method", "count"), PUBLISHED_SIZES)
def test_the_published_grids_have_their_published_sizes(method, count):
    points = study.published_trials(method)
    assert len(points) == count
    assert {p.lr for p in points} == {1e-3, 1e-2}
    assert {p.weight_decay for p in points} == {1e-4, 1e-3}
    assert {p.drop_path for p in points} == {0.1}


# The choice


def test_the_best_validation_accuracy_wins(records):
    specs = [trial_spec(1e-3), trial_spec(3e-3), trial_spec(1e-2)]
    for spec, accuracy in zip(specs, (60.0, 70.0, 65.0), strict=True):
        records.save(spec, fake_run(accuracy))
    assert study.choose(specs, records) == specs[1]


def test_ties_go_to_the_smaller_model_then_to_the_smaller_learning_rate(records):
    big, small, small_fast = trial_spec(1e-4, rank=32), trial_spec(1e-3, rank=4), trial_spec(1e-2, rank=4)
    stochastic = trial_spec(1e-3, rank=4, drop_path=0.1)
    for spec in (big, small, small_fast, stochastic):
        records.save(spec, fake_run(70.0, params=spec.hyper["rank"]))
    assert study.choose([big, small_fast, small], records) == small
    assert study.choose([big, small_fast], records) == small_fast
    assert study.choose([stochastic, small], records) == small
    assert study.choose([small, big], records, ties="latest") == big  # as the released code breaks them


def test_a_diverged_trial_never_wins(records):
    good, bad = trial_spec(1e-3), trial_spec(1.0)
    records.save(good, fake_run(1.0))
    records.save(bad, fake_run(diverged=True))
    assert study.choose([bad, good], records) == good
    assert study.choose([bad], records) is None


def test_nothing_is_chosen_while_a_trial_is_missing(records):
    records.save(trial_spec(1e-3), fake_run(99.0))
    assert study.choose([trial_spec(1e-3), trial_spec(1e-2)], records) is None


# Plans


def finish_trials(chosen: study.Profile, records: Records) -> None:
    """Invent trial records: the accuracy depends on the spec alone."""
    for planned in study.plan_trials(chosen):
        if not records.has(planned.spec):
            records.save(planned.spec, fake_run(int(planned.spec.digest[:4], 16) % 101), planned.variant)


def test_a_plan_keeps_trials_off_the_test_images_and_seeds_apart(records):
    chosen = tiny(trials=3, seeds=(0, 1, 2))
    trials = [p.spec for p in study.plan_trials(chosen)]
    assert len(trials) == 2 * 3
    assert {(s.train_on, s.evaluate_on, s.seed, s.stage) for s in trials} == {("train800", "val200", 0, "trial")}
    assert study.plan_finals(chosen, records) == []
    finish_trials(chosen, records)
    finals = [p.spec for p in study.plan_finals(chosen, records)]
    assert {(s.train_on, s.evaluate_on, s.stage) for s in finals} == {("train1000", "test", "final")}
    assert sorted((s.method, s.seed) for s in finals) == [(m, s) for m in ("linear", "lora") for s in (0, 1, 2)]
    best = study.choose([s for s in trials if s.method == "lora"], records)
    lora = [s for s in finals if s.method == "lora"]
    assert {(s.recipe.lr, s.recipe.drop_path, s.hyper["rank"]) for s in lora} == {
        (best.recipe.lr, best.recipe.drop_path, best.hyper["rank"])
    }


def plan_variants(chosen: study.Profile, records: Records) -> dict[str, list[RunSpec]]:
    variants: dict[str, list[RunSpec]] = {}
    for planned in study.plan_finals(chosen, records):
        variants.setdefault(planned.variant, []).append(planned.spec)
    return variants


def test_the_parts_of_chapter_04(records):
    names = ("tuned", "default", "drop_path", "trials", "full_low_lr", "bitfit", "best_on_test", "longer", "more_seeds")
    names += ("published", "scratch")
    chosen = tiny(trials=2, seeds=(0, 1), parts=tuple(Part(n, ("lora",) if n == "published" else None) for n in names))
    finish_trials(chosen, records)
    variants = plan_variants(chosen, records)
    tuned = {s.digest for s in variants["tuned"]}
    assert {s.recipe.drop_path for s in variants["drop_path_0"]} == {0.0}
    assert {s.recipe.drop_path for s in variants["drop_path_0.1"]} == {0.1}
    assert tuned < {s.digest for v in ("drop_path_0", "drop_path_0.1") for s in variants[v]}
    assert {s.digest for s in variants["trials_2"]} == tuned
    assert {(s.recipe.lr, s.recipe.drop_path) for s in variants["default"]} == {(1e-3, 0.0)}
    assert {s.seed for s in variants["more_seeds"]} == set(MORE_SEEDS)
    assert tuned < {s.digest for s in variants["more_seeds"]}
    assert {s.recipe.epochs for s in variants["longer"]} == {LONGER * chosen.final.epochs}
    recipes = [dataclasses.replace(s.recipe, epochs=chosen.final.epochs) for s in variants["longer"]]
    pairs = zip(variants["longer"], recipes, strict=True)
    assert {dataclasses.replace(s, recipe=recipe).digest for s, recipe in pairs} == tuned
    assert {s.method for v in ("full_low_lr", "full_high_lr") for s in variants[v]} == {"full"}
    assert {s.recipe.lr for s in variants["full_high_lr"]} <= set(HIGH_LRS)
    assert all(s.track for s in variants["best_on_test"])
    assert {dataclasses.replace(s, track=False).digest for s in variants["best_on_test"]} == tuned
    (published,) = variants["published"]
    assert (published.seed, published.recipe.decay, published.recipe.drop_path) == (42, "all", 0.1)
    assert {(s.weights, s.method) for s in variants["scratch"]} == {("random", "full")}
    base = variants["bitfit_base"][0].recipe
    for name in ("lr", "drop_path", "normalise"):  # one ingredient each
        recipe = variants[f"bitfit_{name}"][0].recipe
        assert [f for f in ("lr", "drop_path", "normalise") if getattr(recipe, f) != getattr(base, f)] == [name]


def test_the_sweep_over_sizes_and_amounts(records):
    tasks, some = ("orientation@100", "orientation"), ("linear", "lora", "full")
    part = Part("many_shot", some, tasks)
    chosen = tiny(trials=4, seeds=(0, 1), parts=(part,), max_train=None, sizes=(1, 8))
    trials = [p.spec for p in study.plan_trials(chosen)]
    assert len(trials) == len({s.digest for s in trials}) == len(tasks) * (1 + 2 + 1) * 4
    for spec in trials:
        other = dataclasses.replace(spec, recipe=Recipe(), hyper={"rank": 1} if spec.method == "lora" else {})
        assert spec.hyper == {**other.hyper, **({"rank": spec.hyper["rank"]} if spec.method == "lora" else {})}
    finish_trials(chosen, records)
    finals = plan_variants(chosen, records)["many_shot"]
    cells = {(s.task, s.method, s.hyper.get("rank"), s.seed) for s in finals}
    sized = [("linear", None), ("full", None), ("lora", 1), ("lora", 8)]
    assert cells == {(task, *pair, seed) for task in tasks for pair in sized for seed in (0, 1)}
    assert len(finals) == len(cells)
    epochs = {s.task: s.recipe.epochs for s in finals}
    assert epochs == {"orientation@100": 20, "orientation": 6}


def test_all_methods_have_as_many_trials_with_an_amount_of_images():
    for name in ("laptop", "gpu", "full"):
        for amount in profile(name).amounts:
            most = min(profile(name).trials, len(amount.lrs))
            assert most >= 3
            assert len(amount.full_lrs) >= most
            assert min(amount.full_lrs[:most]) == 1e-5


def test_the_photographs_of_the_large_profiles_are_augmented_as_in_the_study():
    for task, how in (
        ("cifar100@500", "crop_flip"),
        ("resisc45@9000", "crop_flip_vertical"),
        ("clevr_dist@10000", "none"),
    ):
        recipes = profile("gpu").at_amount(f"real/{task}")
        assert recipes.tune.augment == recipes.final.augment == how
    assert profile("laptop").at_amount("textures@10000").final.augment == "none"


def test_a_trial_with_many_images_is_as_long_as_the_final_run():
    chosen = tiny(trials=2, max_train=None)
    for task, epochs in (("orientation@100", 20), ("orientation", chosen.tune.epochs), ("orientation@10000", 2)):
        for spec in parts.sweep_trials(chosen, task, "linear", {}):
            assert (spec.max_train, spec.train_on, spec.recipe.epochs) == (None, "train800", epochs)
    final = chosen.at_amount("orientation@10000").final
    assert final.epochs == 2


def test_full_fine_tuning_is_held_back_in_each_way_with_equal_trials(records):
    part = Part("mechanism", ("full", "lora"), ("orientation",))
    chosen = tiny(trials=4, seeds=(0, 1), parts=(part,), max_train=None)
    for how, strengths in HELD_BACK.items():
        specs = parts.held_trials(chosen, "orientation", "full", how)
        assert len({s.digest for s in specs}) == 4
        assert {getattr(s.recipe, how) for s in specs} == set(strengths)
        assert {s.recipe.drop_path for s in specs} == {0.0}
    finish_trials(chosen, records)
    variants = plan_variants(chosen, records)
    assert set(variants) == {"mechanism", "mechanism_l2_sp", "mechanism_layer_decay"}
    assert {s.measure for specs in variants.values() for s in specs} == {("displacement",)}
    for how in HELD_BACK:
        assert {s.method for s in variants[f"mechanism_{how}"]} == {"full"}
        assert all(getattr(s.recipe, how) in HELD_BACK[how] for s in variants[f"mechanism_{how}"])


def test_what_a_spec_asks_to_measure_is_in_the_record(backbone, records):
    (plan,) = study.plan_trials(tiny(trials=1, methods=("lora",), backbone=backbone))
    spec = dataclasses.replace(plan.spec, evaluate_on="test", train_on="train1000", measure=("displacement",))
    plain = dataclasses.replace(spec, measure=())
    assert study.run_plan([Planned(s, "x") for s in (spec, plain)], records, 1, progress=False).done == 2
    got = records.get(spec)["measures"]["displacement"]
    assert len(got["features"]) == 3 and len(got["weights"]) == 2
    assert all(0 < value < 10 for value in [*got["features"], *got["weights"]])
    assert "measures" not in records.get(plain)
    assert records.get(spec)["logits_sha256"] == records.get(plain)["logits_sha256"]  # measuring changes nothing


def test_a_part_of_a_plan_can_be_asked_for(records):
    chosen = tiny(parts=(Part("tuned"), Part("bitfit")))
    assert {p.spec.method for p in study.plan_trials(chosen, ["bitfit"])} == {"bitfit"}
    assert {p.spec.method for p in study.plan_trials(chosen, ["tuned"])} == {"linear", "lora"}
    with pytest.raises(UserError, match="no part 'tund'; it has: tuned, bitfit"):
        study.plan_trials(chosen, ["tund"])


def test_images_that_are_not_drawn_yet_end_a_study_before_its_first_run(records, monkeypatch, tmp_path):
    monkeypatch.setenv("PETL_CACHE", str(tmp_path))
    chosen = tiny(parts=(Part("tuned"), Part("many_shot", ("linear",), ("orientation@10000",))))
    with pytest.raises(UserError, match="petl_make suite --more orientation@10000"):
        study.run_study(chosen, records, workers=0, progress=False)
    assert not records.digests()


def test_quick_is_inside_laptop(tmp_path):
    quick, laptop = profile("quick"), profile("laptop")
    assert {p.spec.digest for p in study.plan_trials(quick)} < {p.spec.digest for p in study.plan_trials(laptop)}
    records = Drawn(tmp_path)
    ours = {(p.spec.digest, p.variant) for p in study.plan_finals(quick, records)}
    theirs = {(p.spec.digest, p.variant) for p in study.plan_finals(laptop, records)}
    fewer = {(digest, variant) for digest, variant in ours if variant == "robustness_chosen"}  # of fewer rates
    assert len(ours) > 100
    assert ours - fewer < theirs
    assert {digest for digest, _ in fewer} <= {digest for digest, _ in theirs}


def test_profiles():
    assert profile_names() == ["smoke", "quick", "laptop", "real", "laptop16", "photographs", "gpu", "full"]
    assert profile("laptop").methods == tuple(methods.names())
    assert profile("laptop").tasks == tuple(embedded_names())
    assert len(profile("quick").tasks) == 3
    assert len(profile("quick").methods) == 8
    for name in profile_names():
        chosen = profile(name)
        assert len(chosen.seeds) >= (2 if name == "smoke" else 3)
        assert {part.key for part in chosen.parts} <= set(study.PARTS)
    with pytest.raises(UserError, match="unknown profile 'huge'; the profiles are: smoke, quick, laptop, real, "):
        profile("huge")
