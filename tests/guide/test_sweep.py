"""Chapters 06 and 07: the sweep over sizes and amounts, displacement, and verdicts, on tables with known answers."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

import petl_core as pc
from petl_core.study import measures
from petl_core.study.profiles import profile
from petl_core.utils import UserError
from petl_guide import mechanism, sweep
from petl_guide.claims import table as claims
from petl_guide.results import Results

PARAMS = {"full": 1000, "linear": 0, "bitfit": 20, ("lora", 1): 10, ("lora", 8): 80}
SETTING = {"drop_path": 0.0, "weight_decay": 1e-4, "l2_sp": 0.0, "layer_decay": 1.0}
SIZES = {"full": (None,), "linear": (None,), "bitfit": (None,), "lora": (1, 8)}


def sweep_table(
    accuracy, seeds=(0, 1, 2), counts=(100, 1000, 10_000), tasks=("orientation", "textures")
) -> pd.DataFrame:
    """Rows as ``Records.table`` gives them: the accuracy of a cell is ``accuracy(task, images, method, size)`` plus the
    seed's number; each cell has three trials whose best validation accuracy is the same, at the rate in the middle."""
    rows = []
    for task, images, (method, sizes) in itertools.product(tasks, counts, SIZES.items()):
        name = task if images == 1000 else f"{task}@{images}"
        for size in sizes:
            common = {"task": name, "method": method, "size": np.nan if size is None else float(size)}
            common |= {"group": "natural", "hyper": f"{{{size}}}", "classes": 4, "train_accuracy": 90.0, "lr": 1e-3}
            common |= {"params": PARAMS.get((method, size), PARAMS.get(method)), "diverged": False, "backbone": "mini"}
            common |= SETTING
            value = accuracy(task, images, method, size)
            trial = {**common, "variant": "many_shot_trial", "stage": "trial", "seed": 0}
            rows += [
                {**trial, "lr": lr, "accuracy": value - off} for lr, off in ((1e-4, 5.0), (1e-3, 0.0), (1e-2, 5.0))
            ]
            final = {**common, "variant": "many_shot", "stage": "final"}
            rows += [{**final, "seed": seed, "accuracy": value + seed} for seed in seeds]
    return pd.DataFrame(rows).assign(digest=lambda table: [f"{number:016x}" for number in range(len(table))])


def plain(task, images, method, size):
    """Full 60; linear 40; BitFit 50; LoRA 52 and 58 at sizes 1 and 8; one point more for a tenfold amount."""
    value = {"full": 60.0, "linear": 40.0, "bitfit": 50.0}.get(method, 52.0 if size == 1 else 58.0)
    return value + np.log10(images)


def test_cells_of_the_sweep():
    found = sweep.runs(sweep_table(plain))
    assert len(found) == 2 * 3 * 5 * 3
    assert set(found["images"]) == {100, 1000, 10_000} and set(found["task"]) == {"orientation", "textures"}
    cells = sweep.cells(found)
    row = cells[(cells["task"] == "textures") & (cells["images"] == 100) & (cells["size"] == 8)].iloc[0]
    assert (row["method"], row["percent"], row["n"], row["mean"], row["val"]) == ("lora", 8.0, 3, 61.0, 60.0)
    assert row["low"] == pytest.approx(61 - 4.302652729911275 / np.sqrt(3)) and row["train"] == 90


def test_the_small_method_is_chosen_on_validation_and_compared_by_seed():
    found = sweep.runs(sweep_table(plain))
    picks = sweep.chosen(found)
    assert set(zip(picks["method"], picks["size"], strict=True)) == {("lora", 1)}  # 8 is above 5 %
    assert set(sweep.chosen(found, most=10)["size"]) == {8}
    differences = sweep.against_full(found, picks)
    assert len(differences) == 2 * 3 * 3 and set(differences["difference"]) == {-8.0}
    parts = sweep.by_amount(found)
    gap = sweep.gap(parts["1,000"])
    assert (gap.mean, gap.low, gap.high, gap.n) == (-8.0, -8.0, -8.0, 3)
    assert sweep.gap(parts["100"], methods=["linear"]).mean == -20
    with pytest.raises(UserError, match=r"at most 0\.1 %"):
        sweep.chosen(found, most=0.1)


def test_the_largest_numbers_of_images_of_the_tasks_are_compared_together():
    found = sweep.runs(sweep_table(plain))
    assert {n: set(part["images"]) for n, part in sweep.by_amount(found).items()} == {
        "100": {100},
        "1,000": {1000},
        "10,000": {10_000},
    }
    other = found["task"] == "textures"
    parts = sweep.by_amount(found[~other | (found["images"] == 1000)])
    assert list(parts) == ["100", "1,000", "1,000 or 10,000"]
    assert set(parts["1,000"]["task"]) == {"orientation"}
    assert set(parts["1,000 or 10,000"]["task"]) == {"orientation", "textures"}


def test_a_cell_that_wins_on_test_alone_is_not_chosen():
    table = sweep_table(plain)
    lucky = (table["method"] == "bitfit") & (table["stage"] == "final")
    table.loc[lucky, "accuracy"] += 30
    assert set(sweep.chosen(sweep.runs(table))["method"]) == {"lora"}


def test_the_cells_that_are_best_on_test():
    table = sweep_table(plain)
    lucky = (table["method"] == "bitfit") & (table["stage"] == "final")
    table.loc[lucky, "accuracy"] += 30
    assert sweep.best_on_test(sweep.by_amount(sweep.runs(table))["1,000"]).mean == 20


def test_a_cell_that_is_worse_with_more_images_has_collapsed():
    def accuracy(task, images, method, size):
        return 10.0 if (task, images, size) == ("textures", 10_000, 8) else plain(task, images, method, size)

    found = sweep.runs(sweep_table(accuracy))
    gone = sweep.collapsed(sweep.cells(found))
    assert gone[["task", "images", "method", "size"]].to_numpy().tolist() == [["textures", 10_000, "lora", 8]]
    assert gone["fewer"].tolist() == [62.0]
    assert len(found) - len(sweep.without(found, gone)) == 3
    assert sweep.collapsed(sweep.cells(sweep.runs(sweep_table(plain)))).empty


def test_points_for_a_tenfold_size():
    slopes = sweep.slope(sweep.by_amount(sweep.runs(sweep_table(plain)))["1,000"])
    assert set(slopes["method"]) == {"lora"}
    assert slopes["slope"].tolist() == pytest.approx([6 / np.log10(8)] * 2)
    assert slopes["low"].tolist() == pytest.approx(slopes["high"].tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["variant"] != "many_shot"], "no runs of the part 'many_shot'"),
        (lambda t: t[t["method"] != "full"], "full fine-tuning, with which all is compared"),
        (
            lambda t: t[~((t["method"] == "bitfit") & (t["seed"] == 2) & (t["task"] == "textures"))],
            r"task textures, images 1000, method bitfit, size 0: seeds \[0, 1\]",
        ),
        (lambda t: t[~((t["method"] == "bitfit") & (t["stage"] == "trial"))], "some trials of the sweep are missing"),
    ],
)
def test_what_is_missing_is_named(change, message):
    with pytest.raises(UserError, match=message):
        sweep.runs(change(sweep_table(plain)))


def test_a_diverged_run_counts_at_chance():
    table = sweep_table(plain)
    one = (table["method"] == "lora") & (table["stage"] == "final") & (table["seed"] == 0) & (table["size"] == 1)
    table.loc[one, ["diverged", "accuracy"]] = [True, np.nan]
    found = sweep.runs(table)
    assert set(found.loc[(found["method"] == "lora") & (found["seed"] == 0) & (found["size"] == 1), "accuracy"]) == {
        25.0
    }


def made_results(table: pd.DataFrame, records=None) -> Results:
    """Results with a table and records made here."""
    return Results(profile("laptop"), records, fresh=True, chosen=table)


class Kept:
    """Stands for ``Records``: the runs with a thousand images kept their predictions, on so many test images."""

    def __init__(self, table: pd.DataFrame, images: int = 100_000):
        self.kept = set(table.loc[~table["task"].str.contains("@"), "digest"])
        self.images = images

    def get(self, digest):
        return {"predictions": digest in self.kept}

    def predictions(self, digest):
        return None, np.zeros(self.images, dtype=int), ()


@pytest.mark.parametrize(
    ("small", "linear", "on_textures", "word"),
    [
        (60.0, 40.0, 0.0, "supported"),
        (50.0, 40.0, 0.0, "contradicted"),
        (60.0, 40.0, -10.0, "heterogeneous"),
        (60.0, 60.0, 0.0, "undecided"),
    ],
)
def test_the_verdict_on_many_images(small, linear, on_textures, word):
    """Level with full supports, ten points below contradicts; a linear probe that is level too spoils the control."""

    def accuracy(task, images, method, size):
        here = small + on_textures * (task == "textures")
        return {"full": 60.0, "linear": linear}.get(method, here)

    table = sweep_table(accuracy)
    results, claim = made_results(table, Kept(table)), claims.get("C9")
    verdict = claims.on_ours(claim, results)
    assert verdict.verdict == word and set(verdict.parts) == {"orientation", "textures"}
    assert not claims.on_false(claim, results).speaks_for
    assert verdict.parts["orientation"].effect == small - 60
    few = claims.on_ours(claim, made_results(table, Kept(table, images=100)))
    assert few.verdict == "undecided" or word == "contradicted"  # so few test images tell less


def test_a_full_fine_tuning_at_the_end_of_its_rates_carries_a_handicap():
    table = sweep_table(lambda task, images, method, size: {"full": 60.0, "linear": 40.0}.get(method, 63.0))
    table = table[~((table["method"] == "full") & (table["lr"] == 1e-2))]  # the highest rate is now the chosen one
    part = claims.on_ours(claims.get("C9"), made_results(table, Kept(table))).parts["textures"]
    assert part.effect == 3.0 and "handicap 5.00" in part.told
    assert part.verdict == "undecided" and "full's rate at an end" in part.reason  # 3 - 5 is below -1


def test_few_images_do_not_decide_the_claim_about_many():
    verdict = claims.on_ours(claims.get("C9"), made_results(sweep_table(plain, counts=(100, 1000))))
    assert verdict.verdict == "not run" and "more than 1,000 images" in verdict.reason


def test_the_published_sweep_chosen_on_test_and_on_validation():
    gaps = sweep.published_gaps()
    assert len(gaps) == 5 and (gaps["gap_best"] >= gaps["gap_chosen"]).all()
    cifar = gaps[(gaps["task"] == "cifar100") & (gaps["images"] > 40_000)].iloc[0]
    assert (cifar["full"], cifar["best"], cifar["chosen"]) == (87.48, 92.95, 92.81)


# The mechanism


class Held:
    """Stands for ``Records``: the displacement of each digest."""

    def __init__(self, moved):
        self.moved = moved

    def get(self, digest):
        return self.moved[digest]


def mechanism_results(test, *, seeds=(0, 1, 2), train=90.0):
    """Rows and records of the part "mechanism": test accuracy ``test(task, kind)`` plus the seed's number; what is held
    back moves less."""
    rows, moved = [], {}
    for task, (variant, kind), seed in itertools.product(
        ("orientation@100", "textures"), mechanism.KINDS.items(), seeds
    ):
        for method in ("full",) if kind else ("linear", "full", "lora", "bitfit"):
            digest = f"{task}{variant}{method}{seed}"
            still = 0.0 if method == "linear" else 0.5 - 0.1 * bool(kind)
            weights = None if method == "bitfit" else [still, 3 * still]
            moved[digest] = {"measures": {"displacement": {"features": [still, still, 2 * still], "weights": weights}}}
            setting = {**SETTING, "hyper": "{}", "lr": 1e-3, "l2_sp": float(list(mechanism.KINDS).index(variant))}
            row = {"digest": digest, "task": task, "group": "natural", "variant": variant, "stage": "final",
                   "method": method, "seed": seed, "accuracy": test(task, kind or method) + seed, "classes": 4,
                   "train_accuracy": train, "diverged": False, "backbone": "mini", **setting}  # fmt: skip
            rows += [row, {**row, "variant": "mechanism_trial", "stage": "trial"}]
    return pd.DataFrame(rows), Held(moved)


def with_held(full, held, peft=60.0):
    return lambda task, kind: {"linear": 40.0, "full": full, "lora": peft, "bitfit": peft}.get(kind, held)


def test_the_runs_of_the_mechanism():
    found = mechanism.runs(*mechanism_results(with_held(50.0, 55.0)))
    assert set(found["kind"]) == {"linear", "full", "lora", "bitfit", *mechanism.HELD}
    assert set(found["images"]) == {100, 1000}
    means = mechanism.means(found).set_index(["task", "kind"])
    row = means.loc[("textures", "lora")]
    assert (row["test"], row["train"], row["gap"], row["features"], row["weights"]) == (61, 90, 29, 1.0, 1.0)
    assert np.isnan(means.loc[("textures", "bitfit"), "weights"])
    assert mechanism.lead(found).tolist() == [10, 10]
    assert mechanism.train_gap(found).mean == -10
    held = mechanism.held_back(found)
    assert len(held) == 2 * len(mechanism.HELD) and set(held["difference"]) == {5.0}
    assert held["features"].tolist() == pytest.approx([-0.2] * len(held))


@pytest.mark.parametrize(
    ("full", "held", "word"),
    [(50.0, 60.0, "equivalent"), (50.0, 51.0, "contradicted"), (60.0, 60.0, "undecided"), (70.0, 75.0, "undecided")],
)
def test_the_verdict_on_the_regulariser(full, held, word):
    results, claim = made_results(*mechanism_results(with_held(full, held))), claims.get("C10")
    verdict = claims.on_ours(claim, results)
    assert verdict.verdict == word and verdict.speaks_for == (word == "equivalent")
    assert ("settings where PEFT is ahead" in verdict.reason) == (full >= 60)
    assert not claims.on_false(claim, results).speaks_for


def test_a_way_of_holding_back_that_holds_nothing_back_decides_nothing():
    table, records = mechanism_results(with_held(50.0, 60.0))
    for found in records.moved.values():
        found["measures"]["displacement"]["weights"] = [0.5, 1.5]
    verdict = claims.on_ours(claims.get("C10"), made_results(table, records))
    assert verdict.verdict == "undecided" and "displacement lowered" in verdict.reason


def test_a_mechanism_without_displacement_or_a_seed_is_named():
    table, held = mechanism_results(with_held(50.0, 55.0))
    held.moved[table["digest"][0]] = {}
    with pytest.raises(UserError, match="has no displacement"):
        mechanism.runs(table, held)
    table, held = mechanism_results(with_held(50.0, 55.0))
    with pytest.raises(UserError, match=r"task .*, images .*, kind .*: seeds"):
        mechanism.runs(table.drop(index=table.index[4]), held)
    with pytest.raises(UserError, match="no runs of the part 'mechanism'"):
        mechanism.runs(table[table["variant"] == "x"], held)


# Displacement of real models


@pytest.mark.parametrize("method", ["linear", "full", "lora", "adaptformer"])
def test_displacement_is_zero_at_the_start_and_what_was_changed_afterwards(method):
    task = pc.load_task("digits")
    model = pc.create_model("mini", method, num_classes=10)
    still = measures.displacement(model, task, pc.Recipe(), 20)
    assert still["features"] == [0.0] * 5
    assert still["weights"] == (None if method == "adaptformer" else [0.0] * 4)
    with torch.no_grad():
        model.head.weight.add_(1.0)  # the head does not count
        if method == "full":
            model.blocks[2].mlp.fc1.weight.mul_(1.5)
        elif method == "lora":
            model.methods["lora"][2].up.weight.fill_(0.1)
    moved = measures.displacement(model, task, pc.Recipe(), 20)
    if method in ("full", "lora"):
        assert moved["features"][:2] == [0.0, 0.0] and min(moved["features"][2:]) > 0
        assert moved["weights"][2] > 0 and [w for i, w in enumerate(moved["weights"]) if i != 2] == [0.0] * 3
    else:
        assert moved == still
    if method == "full":
        block = {n: p.detach() for n, p in pc.create_model("mini", "full", num_classes=10).blocks[2].named_parameters()}
        size = sum(p.square().sum() for p in block.values()).sqrt()
        assert moved["weights"][2] == pytest.approx(float(0.5 * block["mlp.fc1.weight"].norm() / size), abs=1e-5)


def test_an_unknown_measurement_is_refused():
    with pytest.raises(UserError, match="unknown measurement 'speed'; there are: displacement"):
        measures.get("speed")
