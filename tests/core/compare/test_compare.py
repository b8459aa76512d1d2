"""``pc.compare``: budgets, plans, the paired comparison, and the whole way on a real small folder of images."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import petl_core as pc
from petl_core import cli
from petl_core.compare import METHODS
from petl_core.compare import standing as paired
from petl_core.compare.search import task_name
from petl_core.models.weights import save_backbone
from petl_core.study import budget
from petl_core.study import plan as study
from petl_core.study import runner as workers
from petl_core.study.budget import LADDER, make_plan, seconds_of
from petl_core.study.execute import Reply, task_of
from petl_core.study.predictions import Predictions
from petl_core.study.records import Records
from petl_core.study.time import HEAD, Speed
from petl_core.training.train import predict
from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig
from petl_guide.figures.own_images import comparison_table

SIZES = {"train800": 800, "val200": 200, "train1000": 1000, "test": 1000}
SHORT = {"backbone": "", "methods": ["linear", "bitfit", "lora"], "trials": 2, "steps": 20, "seeds": 2, "workers": 1}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random ViT of two blocks, 16 px, as a backbone file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbone") / "tiny.safetensors"
    save_backbone(ViT(ViTConfig(16, 8, 16, 2, 2), 3), path)
    return str(path)


def write_images(folder: Path, classes: int = 3, each: int = 40, learnable: bool = True) -> Path:
    """PNG files in class folders; the class is the colour, or nothing at all."""
    random = np.random.default_rng(0)
    for label in range(classes):
        place = folder / f"class_{label}"
        place.mkdir(parents=True)
        for i in range(each):
            pixels = random.integers(0, 150, (16, 16, 3))
            pixels[..., label % 3] += 90 if learnable else 0
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("pictures") / "colours")


@pytest.fixture(scope="module")
def short(backbone: str) -> dict:
    return {**SHORT, "backbone": backbone, "budget": "2h", "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def report(images: Path, short: dict, records: Path):
    return pc.compare(images, results=records, **short)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h", 3600),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30min", 5400),
        (42, 42),
        (0.5, 0.5),
    ],
)
def test_budgets(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["1 parsec", "", "h", "10", "-5m", "0s", 0, -1, math.nan, math.inf, None, True, "5m later"]
)
def test_what_is_no_budget_is_an_error_that_shows_one(text):
    with pytest.raises(UserError, match='"1h30m"'):
        seconds_of(text)


def test_durations_are_written_as_they_are_read():
    for seconds in (1, 42, 119, 121, 600, 3599, 3600, 5400, 90000):
        assert 0 <= seconds_of(budget.clock(seconds)) - seconds < 60
    assert budget.clock(200) == "3m20s"


def speeds(each: float) -> dict[str, Speed]:
    return {"linear": Speed(0.1, HEAD * each / 3, each / 3, True), "lora": Speed(0.1, each, each / 3)}


def test_a_larger_budget_buys_more_and_is_never_overdrawn():
    plans = [make_plan(speeds(0.002), SIZES, seconds, 1, 6) for seconds in (30, 120, 600, 3600, 36000)]
    assert [plan.seconds for plan in plans] == sorted(plan.seconds for plan in plans)
    assert all(plan.seconds <= 0.85 * seconds for plan, seconds in zip(plans, (30, 120, 600, 3600, 36000), strict=True))
    assert plans[-1].trials == 6 and plans[-1].seeds == 5  # never more trials than the smallest grid has
    by_hand = sum(
        p.trials * s.seconds(800, p.trial_epochs, 200) + p.seeds * s.seconds(1000, p.final_epochs, 1000)
        for p in plans[:1]
        for s in speeds(0.002).values()
    )
    assert plans[0].seconds == pytest.approx(by_hand)


def test_too_small_a_budget_names_the_least_and_that_is_enough():
    with pytest.raises(UserError, match="too small") as error:
        make_plan(speeds(0.01), SIZES, 1, 1, 6)
    least = str(error.value).split('budget="')[1].split('"')[0]
    assert make_plan(speeds(0.01), SIZES, seconds_of(least), 1, 6).trials == LADDER[0][0]


def test_more_processes_are_started_only_where_that_pays():
    assert make_plan(speeds(0.002), SIZES, 12, 2, 6).workers == 1
    long = make_plan(speeds(0.02), SIZES, 3600, 2, 6)
    assert long.workers == 2
    assert long.seconds <= 3600


def test_what_the_user_fixes_is_kept():
    plan = make_plan(speeds(0.002), SIZES, 600, 1, 6, {"seeds": 4, "steps": 64})
    assert (plan.seeds, plan.steps, plan.final_epochs) == (4, 64, 2)


def made_up(right: dict[str, list[np.ndarray]], labels: np.ndarray) -> Predictions:
    """Predictions of two classes in which ``right`` says which images each run of each method has right."""
    runs = [(m, i, f"{m}{i}") for m, its in right.items() for i in range(len(its))]
    classes = np.stack([np.where(r, labels, 1 - labels) for its in right.values() for r in its])
    frame = pd.DataFrame(runs, columns=["method", "seed", "digest"])
    return Predictions("x", frame, np.eye(2, dtype=np.float32)[classes], labels, tuple(map(str, range(len(labels)))))


def test_one_image_paired_tells_more_than_two_rates_apart():
    labels = np.arange(1000) % 2
    base = np.random.default_rng(0).random(1000) < 0.7
    better = base | (np.random.default_rng(1).random(1000) < 0.06)  # right wherever the other is, and a few more
    found = paired.standing(made_up({"a": [base], "b": [better]}, labels), 0)
    row = found.table.set_index("method").loc["a"]
    assert found.table["method"].iloc[0] == "b" and row["high"] < 0
    assert row["difference"] == pytest.approx(100 * (base.mean() - better.mean()))
    unpaired = 1.96 * 100 * math.sqrt(2 * 0.7 * 0.3 / 1000)
    assert row["high"] - row["difference"] < unpaired
    shuffled = np.random.default_rng(2).permutation(better)  # the same rates on other images: no longer clear
    other = paired.standing(made_up({"a": [base], "b": [shuffled]}, labels), 0).table.set_index("method").loc["a"]
    assert other["high"] > 0


def test_methods_that_are_noise_are_rarely_told_apart():
    """Six methods of chance, 40 times: the intervals hold for all pairs, so about one comparison in twenty names a
    loser; intervals for single pairs would do it in every third."""
    labels = np.arange(300) % 2
    named = 0
    for number in range(40):
        random = np.random.default_rng(number)
        part = made_up({m: [random.random(300) < 0.5 for _ in range(2)] for m in "abcdef"}, labels)
        found = paired.standing(part, 0, draws=400)
        named += bool((found.table["high"] < 0).any()) or found.over_constant[1] > 0
    assert named <= 6


def test_the_luck_of_seeds_widens_the_interval():
    labels = np.arange(400) % 2
    random = np.random.default_rng(0)
    steady = [random.random(400) < 0.8] * 3
    jumping = [random.random(400) < p for p in (0.55, 0.65, 0.8)]
    wide, narrow = (
        paired.standing(made_up({"a": steady, "b": its}, labels), 0).table.set_index("method").loc["b"]
        for its in (jumping, [jumping[1]] * 3)
    )
    assert wide["high"] - wide["low"] > 1.3 * (narrow["high"] - narrow["low"])


def test_the_whole_way(report, records: Path, short: dict):
    table = report.table
    assert set(table["method"]) == set(short["methods"]) and report.left_out == {}
    assert list(table["accuracy"]) == sorted(table["accuracy"], reverse=True)
    assert report.trials == 2 and report.seeds == 2
    assert table.set_index("method").loc["linear", "params"] == 0
    smallest = table[table["verdict"] != "clearly worse"].sort_values("params")["method"].iloc[0]
    assert report.better_than_constant and report.recommended == smallest
    assert report.sizes == {"train800": 48, "val200": 12, "train1000": 60, "test": 60}
    kept = Records(records)
    runs = kept.table()
    assert dict(runs.groupby(["method", "stage"]).size()) == {
        (m, stage): 2 for m in short["methods"] for stage in ("trial", "final")
    }
    for method, specs in report.finals.items():  # the choice is the protocol's, and the test images were not asked
        tried = [kept.get(d) for d in runs.loc[(runs["method"] == method) & (runs["stage"] == "trial"), "digest"]]
        best = max(one["metrics"]["accuracy"] for one in tried)
        chosen = [one for one in tried if one["spec"]["recipe"]["lr"] == specs[0].recipe.lr]
        assert any(one["metrics"]["accuracy"] == best for one in chosen)
        assert all(spec.train_on == "train1000" and spec.evaluate_on == "test" for spec in specs)


def test_the_same_call_again_runs_nothing(report, images: Path, short: dict, records: Path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("a run that has a record was run again")

    monkeypatch.setattr(workers, "attempt", never)
    again = pc.compare(images, results=records, **short)
    pd.testing.assert_frame_equal(again.table, report.table)


def test_worker_processes_find_the_folder(report, images: Path, short: dict, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(budget, "WORKERS_START", -1e6)  # as if starting them cost nothing
    parallel = pc.compare(images, results=tmp_path, **{**short, "workers": 2})
    assert parallel.plan.workers == 2
    columns = ["method", "accuracy", "setting", "verdict"]
    pd.testing.assert_frame_equal(parallel.table[columns], report.table[columns])


def test_the_saved_model_is_the_one_that_was_measured(report, tmp_path: Path):
    path = report.save_best(tmp_path / "model.safetensors")
    model = pc.load_adapter(path)
    assert model.notes["classes"] == ["class_0", "class_1", "class_2"]
    assert model.notes["same_predictions_as_record"] is True
    spec = report.finals[report.recommended][0]
    task = task_of(spec)
    pictures, labels, _ = task.split("test")
    accuracy = 100 * float((predict(model, pictures).argmax(1) == labels).float().mean())
    assert accuracy == pytest.approx(report.records.get(spec)["metrics"]["accuracy"])
    assert model.notes["test_accuracy"] == pytest.approx(accuracy)
    other = report.save_best(tmp_path / "lora.safetensors", "lora")
    assert pc.load_adapter(other).spec.methods[0].name == "lora"
    with pytest.raises(UserError, match=r"end in \.safetensors"):
        report.save_best(tmp_path / "model.pt")
    with pytest.raises(UserError, match="'ssf' is not in the table"):
        report.save_best(tmp_path / "x.safetensors", "ssf")


def test_the_report_is_written_and_shown(report, tmp_path: Path):
    names = {path.name for path in report.write(tmp_path / "out")}
    assert names == {"report.md", "table.csv", "figure.png"}
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert report.recommendation in text and text.count("\n| ") >= 3
    assert "Always answering 'class_0'" in str(report) and str(records := report.records.root) not in text, records
    assert "seconds" not in comparison_table(report).data.columns


def test_names_of_the_user_are_escaped_in_the_report_and_the_data_card_stands_in_it(report):
    bad = "<script>alert(1)</script>"
    changed = dataclasses.replace(report, task=bad, classes=(bad, *report.classes[1:]), constant=0, card=f"a: {bad}")
    plain = "\n".join(line for line in changed.markdown().splitlines() if not line.startswith("    "))
    assert "<script>" not in plain and "&lt;script&gt;" in plain and f"    a: {bad}" in changed.markdown()
    assert "120 pictures in 3 classes" in report.card and report.card.splitlines()[0] in report.markdown()


def test_labels_that_mean_nothing_give_no_recommendation(short: dict, tmp_path: Path):
    noise = write_images(tmp_path / "noise", learnable=False)
    found = pc.compare(noise, **short)
    assert found.recommended is None and len(found.level) == len(found.table)
    assert "No method is recommended" in found.recommendation and "check the labels" in found.recommendation
    with pytest.raises(UserError, match="name its method"):
        found.save_best(tmp_path / "x.safetensors")
    assert found.save_best(tmp_path / "x.safetensors", "linear").exists()


def test_when_time_runs_out_trials_stay_equal(images: Path, short: dict, monkeypatch, tmp_path: Path):
    """Every run takes ten times as long as timed: fewer trials for all, and one seed at least."""
    real, clock = workers.attempt, [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def slow(spec, *rest):
        clock[0] += 40.0
        return real(spec, *rest)

    monkeypatch.setattr(workers, "attempt", slow)
    found = pc.compare(images, results=tmp_path, **{**short, "trials": 5, "seeds": 3, "budget": "8m"})
    assert found.trials == 1 and found.seeds < 3 and not found.left_out
    trials = Records(tmp_path).table().query("stage == 'trial'").groupby("method").size()
    assert set(trials) == {found.trials}
    assert clock[0] <= 480 + 40
    assert "slower than planned: 1 of 5 trials" in str(found)


def test_a_stop_between_seeds_says_who_was_left_out(images: Path, short: dict, monkeypatch, tmp_path: Path):
    real, clock = workers.attempt, [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def slow(spec, *rest):
        clock[0] += 50.0 if spec.stage == "final" else 1.0
        return real(spec, *rest)

    monkeypatch.setattr(workers, "attempt", slow)
    four = {**short, "methods": ["linear", "bitfit", "ssf", "lora"], "budget": "2m", "seeds": 1}
    found = pc.compare(images, results=tmp_path, **four)
    assert len(found.table) == 3 and len(found.left_out) == 1
    assert "no time was left" in str(found)
    assert clock[0] <= 120 + 50
    monkeypatch.setattr(workers, "attempt", real)
    clock[0] = 0.0
    assert not pc.compare(images, results=tmp_path, **four).left_out  # the same call goes on and has all of them


def test_a_method_that_fails_is_left_out_and_named(images: Path, short: dict, monkeypatch):
    real = workers.attempt

    def broken(spec, *rest):
        if spec.method == "lora":
            return Reply(error="Traceback ...\nMemoryError: too large")
        return real(spec, *rest)

    monkeypatch.setattr(workers, "attempt", broken)
    found = pc.compare(images, **short)
    assert set(found.table["method"]) == {"linear", "bitfit"}
    assert found.left_out == {"lora": "a run failed: MemoryError: too large"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["linear", "lorra"]}, "did you mean 'lora'"),
        ({"methods": ["linear", "lora+ssf"]}, "single methods"),
        ({"methods": ["lora"]}, "two or more"),
        ({"methods": ["lora", "lora"]}, "each once"),
        ({"methods": "lora"}, r"a list of names"),
        ({"budget": "1 parsec"}, "1 parsec"),
        ({"budget": "1s", "trials": None, "steps": 5000}, "too small.*takes about"),
        ({"trials": 0}, "trials is 0"),
        ({"seeds": 1.5}, "seeds is 1.5"),
        ({"trials": 7}, "'linear' has 6 settings"),
        ({"device": "tpu"}, "available: cpu"),
        ({"backbone": "minni"}, "minni"),
        ({"image_size": 17}, "multiples of its patch size"),
        ({"results": "/dev/null"}, "is a file"),
    ],
)
def test_bad_input(change: dict, message: str, images: Path, short: dict):
    with pytest.raises(UserError, match=message):
        pc.compare(images, **{**short, **change})


def test_bad_folders(tmp_path: Path, short: dict, monkeypatch):
    with pytest.raises(UserError, match="does not exist"):
        pc.compare(tmp_path / "nothing", **short)
    write_images(tmp_path / "one", classes=1)
    with pytest.raises(UserError, match="one class"):
        pc.compare(tmp_path / "one", **short)
    write_images(tmp_path / "few", each=2)
    with pytest.raises(UserError, match="at least 3"):
        pc.compare(tmp_path / "few", **short)
    with pytest.raises(UserError, match="does not exist"):
        pc.compare("digit", **short)
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"write '\./digits'"):
        pc.compare("digits", **short)


def test_names_under_which_workers_find_the_task(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = tmp_path.resolve()
    assert task_name("pictures") == task_name("folder:pictures") == f"folder:{there / 'pictures'}"
    assert task_name("vtab:x/cifar") == f"vtab:{there / 'x' / 'cifar'}"
    assert task_name("vtab1k/cifar") == "vtab1k/cifar" and task_name("real/cifar100@500") == "real/cifar100@500"
    assert task_name("digits") == "digits" and task_name("orientation@5000") == "orientation@5000"
    with pytest.raises(UserError, match="no folder is named"):
        task_name(" ")


def test_changed_images_are_noticed(short: dict, tmp_path: Path):
    folder = write_images(tmp_path / "images")
    first = pc.compare(folder, results=tmp_path / "records", **short)
    write_images(folder / "..", classes=0)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "class_0" / "more.png")
    second = pc.compare(folder, results=tmp_path / "records", **short)
    assert sum(second.sizes[s] for s in ("train1000", "test")) == sum(first.sizes[s] for s in ("train1000", "test")) + 1
    digests = [{spec.digest for spec in found.finals["linear"]} for found in (first, second)]
    assert digests[0].isdisjoint(digests[1])


def test_the_default_methods_have_both_baselines_and_equal_grids():
    assert {"linear", "full"} < set(METHODS)
    assert all(len(study.trials(method, 6)) == 6 for method in METHODS)
    plan = make_plan({m: Speed(0.1, 0.001, 0.0003) for m in METHODS}, SIZES, 36000, 1, 6)
    assert dataclasses.asdict(plan)["trials"] == 6


def test_the_command(images: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    options = ["--methods", "linear", "bitfit", "--backbone", backbone, "--budget", "5m", "--out", str(out)]
    options += ["--trials", "1", "--steps", "20", "--seeds", "2", "--workers", "1", "--device", "cpu"]
    assert cli.main(["compare", str(images), *options]) == 0
    shown = capsys.readouterr()
    assert "plan: 1 trial of 5 epochs for each of 2 methods" in shown.err and "of the 5m00s given" in shown.err
    assert "linear" in shown.out and "wrote report.md" in shown.out
    assert {p.name for p in out.iterdir()} == {"records", "report.md", "table.csv", "figure.png", "model.safetensors"}
    assert pc.load_adapter(out / "model.safetensors").notes["classes"][0] == "class_0"
    assert cli.main(["compare", str(images), "--budget", "1 parsec"]) == 2
    assert "1 parsec" in capsys.readouterr().err
    assert cli.main(["compare", str(images), "--out", str(out / "report.md")]) == 2
