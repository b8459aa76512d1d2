"""``pc.compare``: budgets, the paired comparison, and the whole way on a real small folder of images."""

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
from petl_core.compare import METHODS, contest, models
from petl_core.compare import standing as paired
from petl_core.compare.look import task_name
from petl_core.compare.metrics import ece, quality, temperature
from petl_core.compare.page import page
from petl_core.models.weights import save_backbone
from petl_core.study import budget, execute
from petl_core.study import runner as workers
from petl_core.study.budget import seconds_of
from petl_core.study.execute import Reply, task_of
from petl_core.study.predictions import Predictions, softmax
from petl_core.study.records import Records
from petl_core.study.search import Tried
from petl_core.training.train import predict, train
from petl_core.utils import UserError
from petl_core.vit import ViT, ViTConfig
from petl_guide.figures.own_images import comparison_table

THREE = ["linear", "bitfit", "lora"]


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
        place = folder / f"<b>{label}</b>".replace("/", "-")
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
    asked = {"backbone": backbone, "methods": THREE, "trials": 2, "epochs": 8, "seeds": 2, "workers": 1}
    return {**asked, "budget": "2h", "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def report(images: Path, short: dict, records: Path):
    return pc.compare(images, results=records, **short)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("1h 30min", 5400), (42, 42), (0.5, 0.5)],
)
def test_budgets(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["1 parsec", "", "h", "10", "-5m", "0s", 0, math.nan, math.inf, None, True, "5m later"]
)
def test_what_is_no_budget_is_an_error_that_shows_one(text):
    with pytest.raises(UserError, match='"1h30m"'):
        seconds_of(text)


def test_durations_are_written_as_they_are_read():
    for seconds in (1, 42, 119, 121, 600, 3599, 3600, 5400, 90000):
        assert 0 <= seconds_of(budget.clock(seconds)) - seconds < 60


# Who can still win


def entrant(method: str, *accuracies: float | None) -> contest.Entrant:
    """An entrant whose trials gave these accuracies, at the rates that it wanted."""
    one = contest.Entrant(method, "mini")
    for accuracy in accuracies:
        setting = one.next()
        assert setting is not None
        one.tried.append(Tried(setting, accuracy, 100))
    return one


def test_the_first_look_is_two_rates_and_then_the_search_goes_outward():
    one = entrant("lora", 50.0, 60.0)
    first, second = (tried.setting.lr for tried in one.tried)
    outward = one.next()
    assert first < second < outward.lr
    one.tried.append(Tried(outward, 55.0, 100))  # the best lies inside now: other sizes at its rate
    size = one.next()
    assert size.lr == second and size.hyper["rank"] != outward.hyper["rank"]
    while (setting := one.next()) is not None:
        one.tried.append(Tried(setting, 50.0, 100))
    assert len(one.tried) == contest.MOST_TRIALS


def test_one_that_is_far_behind_is_out_and_noise_alone_puts_nobody_out():
    lead, near, far = entrant("lora", 80.0), entrant("ssf", 75.0), entrant("linear", 60.0)
    failed = entrant("full", None)
    assert [one.method for one in contest.still_in([far, failed, near, lead], 200)] == ["lora", "ssf"]
    assert contest.still_in([lead, far], 10) == [lead, far]  # ten images cannot tell 80 from 60
    lead.out = "a run failed"
    assert contest.still_in([lead, far], 200) == [far]


def test_runs_are_as_long_as_the_images_need():
    assert contest.lengths(1000)[0] == 16 and contest.lengths(100)[0] == 80 and contest.lengths(10**6)[0] == 4
    assert contest.lengths(1000)[0] == 16 and contest.lengths(1000)[-1] == 1
    assert contest.climbing([10, 30, 50, 62]) and not contest.climbing([60, 90, 92, 93]) and not contest.climbing([5])


# What is said of the answers


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
    assert row["may_lose"] == pytest.approx(-row["low"])
    assert found.table.set_index("method").loc["b", "may_lose"] == 0
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


def test_measures_of_quality_by_hand_and_within_their_bounds():
    labels = np.array([0] * 8 + [1] * 2)
    answers = np.eye(3, dtype=np.float32)[np.array([0] * 8 + [0, 1])] * 9  # one of the two rare images is missed
    found = quality(answers[None], labels)
    assert found.accuracy.mean == pytest.approx(90) and found.balanced.mean == pytest.approx(75)
    assert found.macro_f1.mean == pytest.approx(100 * (16 / 17 + 2 / 3) / 2)
    assert found.confusion[1].tolist() == [1, 1, 0]
    assert found.recall[0].high == pytest.approx(100) and math.isnan(found.recall[2].mean)
    for one in (found.accuracy, found.balanced, found.macro_f1):
        assert 0 <= one.low <= one.mean <= one.high <= 100


def test_a_temperature_mends_a_model_that_is_too_sure():
    random = np.random.default_rng(0)
    honest = random.normal(0, 2, (1, 4000, 3))
    labels = np.array([random.choice(3, p=p) for p in softmax(honest)[0]])
    assert ece(honest, labels) < 4 < ece(4 * honest, labels)
    assert temperature(4 * honest, labels) == pytest.approx(4, rel=0.1)


# The whole way


def test_the_whole_way(report, records: Path):
    table = report.table
    assert set(table["method"]) == set(THREE)
    assert report.standing.seeds == 2 and report.sizes == {"train800": 48, "val200": 12, "train1000": 60, "test": 60}
    assert table.set_index("method").loc["linear", "params"] == 0
    assert report.better_than_constant and report.recommended in THREE
    kept = Records(records)
    runs = kept.table()
    assert set(runs[runs["stage"] == "trial"].groupby("method").size()) == {2}
    for method, specs in report.finals.items():  # chosen on validation alone
        tried = [kept.get(d) for d in runs.loc[(runs["method"] == method) & (runs["stage"] == "trial"), "digest"]]
        best = max(one["metrics"]["accuracy"] for one in tried)
        chosen = [one for one in tried if one["spec"]["recipe"]["lr"] == specs[0].recipe.lr]
        assert any(one["metrics"]["accuracy"] == best for one in chosen)
        assert all(spec.train_on == "train1000" and spec.evaluate_on == "test" for spec in specs)


def test_the_same_call_again_runs_nothing(report, images: Path, short: dict, records: Path, monkeypatch):
    monkeypatch.setattr(workers, "attempt", None)  # to call it is an error
    again = pc.compare(images, results=records, **short)
    pd.testing.assert_frame_equal(again.table, report.table)


def test_worker_processes_find_the_folder_and_give_the_same(report, images: Path, short: dict):
    parallel = pc.compare(images, **{**short, "workers": 2})
    columns = ["method", "accuracy", "setting", "verdict"]
    pd.testing.assert_frame_equal(parallel.table[columns], report.table[columns])


def test_the_saved_models(report, tmp_path: Path):
    path = report.save_best(tmp_path / "model.safetensors")
    model, of_all = pc.load_adapter(path), pc.load_adapter(tmp_path / "model-all.safetensors")
    assert model.notes["classes"] == of_all.notes["classes"] == list(report.task.classes)
    assert model.notes["same_predictions_as_record"] is True
    assert of_all.notes["trained_on"] == "all images" and of_all.notes["test_accuracy"] is None
    spec = report.finals[report.recommended][0]
    pictures, labels, _ = task_of(spec).split("test")
    accuracy = 100 * float((predict(model, pictures).argmax(1) == labels).float().mean())
    assert accuracy == pytest.approx(report.records.get(spec)["metrics"]["accuracy"])
    assert not torch.equal(model.head.weight, of_all.head.weight)
    other = report.save_best(tmp_path / "lora.safetensors", "lora")
    assert pc.load_adapter(other).spec.methods[0].name == "lora"
    for name, method, word in (("model.pt", None, "safetensors"), ("x.safetensors", "ssf", "not tested")):
        with pytest.raises(UserError, match=word):
            report.save_best(tmp_path / name, method)


def test_the_report_is_one_file_in_which_every_name_is_escaped(report, tmp_path: Path):
    names = {path.name for path in report.write(tmp_path / "out")}
    assert names == {"report.html", "table.csv", "figure.png"}
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>0" not in text and "&lt;b&gt;0" in text
    assert "120 pictures in 3 classes" in text
    assert "http" not in text.replace("http-equiv", "") and "--budget 2h" in text
    assert page(report) == text
    assert "seconds" not in comparison_table(report).data.columns


def test_labels_that_mean_nothing_give_no_recommendation(short: dict, tmp_path: Path):
    found = pc.compare(write_images(tmp_path / "noise", learnable=False), **short)
    assert found.recommended is None and "No method" in found.recommendation
    with pytest.raises(UserError, match="name its method"):
        found.save_best(tmp_path / "x.safetensors")
    assert found.save_best(tmp_path / "x.safetensors", "linear").exists()


class Slow:
    """A clock that only runs move: so many seconds for each, whatever its length, of which one epoch is trained."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now, self.real = 0.0, workers.attempt
        monkeypatch.setattr("time.monotonic", lambda: self.now)

        def attempt(spec, *rest):
            self.now += seconds
            reply = self.real(spec, *rest)
            reply.record["seconds"] = seconds
            return reply

        def once(model, task, recipe, **how):
            return train(model, task, dataclasses.replace(recipe, epochs=1), **how)

        def kept(model, task, recipe, **how):
            self.now += seconds
            return once(model, task, recipe, **how)

        monkeypatch.setattr(workers, "attempt", attempt)
        monkeypatch.setattr(execute, "train", once)
        monkeypatch.setattr(models, "train", kept)


@pytest.mark.parametrize(("seconds", "budget"), [(2.0, 60), (5.0, 150), (1.0, 40)])
def test_the_time_is_used_and_not_overdrawn(images: Path, short: dict, monkeypatch, seconds: float, budget: float):
    slow = Slow(monkeypatch, seconds)
    found = pc.compare(images, **{**short, "trials": None, "seeds": None, "epochs": None, "budget": budget})
    assert 0.8 * budget <= slow.now <= 1.05 * budget
    assert found.standing.seeds >= 1


def test_a_stopped_comparison_goes_on_with_the_time_that_is_left(
    images: Path, short: dict, monkeypatch, tmp_path: Path
):
    open_end = {**short, "trials": None, "seeds": None, "budget": 60}
    slow, real = Slow(monkeypatch, 2.0), workers.attempt

    def stopped(spec, *rest):
        if slow.now >= 20:
            raise KeyboardInterrupt
        return real(spec, *rest)

    monkeypatch.setattr(workers, "attempt", stopped)
    with pytest.raises(KeyboardInterrupt):
        pc.compare(images, results=tmp_path, **open_end)
    monkeypatch.setattr(workers, "attempt", real)
    pc.compare(images, results=tmp_path, **open_end)
    assert slow.now <= 1.05 * 60 + 20


def test_a_method_that_fails_is_out_and_named(images: Path, short: dict, monkeypatch):
    real = workers.attempt

    def broken(spec, *rest):
        if spec.method == "lora":
            return Reply(error="Traceback ...\nMemoryError: too large")
        return real(spec, *rest)

    monkeypatch.setattr(workers, "attempt", broken)
    found = pc.compare(images, **short)
    assert set(found.finals) == {"linear", "bitfit"}
    assert "MemoryError" in found.row("lora")["verdict"] and "MemoryError" in page(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["linear", "lorra"]}, "did you mean 'lora'"),
        ({"methods": ["linear", "lora+ssf"]}, "single methods"),
        ({"methods": ["lora"]}, "two or more"),
        ({"methods": ["lora", "lora"]}, "each once"),
        ({"methods": "lora"}, "list of names"),
        ({"budget": "1 parsec"}, "1 parsec"),
        ({"budget": 0.01, "epochs": None}, "too small.*takes about"),
        ({"trials": 0}, "trials is 0"),
        ({"seeds": 1.5}, "seeds is 1.5"),
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
    write_images(tmp_path / "one", classes=1)
    write_images(tmp_path / "few", each=2)
    for folder, word in (("nothing", "does not exist"), ("one", "one class"), ("few", "at least 3")):
        with pytest.raises(UserError, match=word):
            pc.compare(tmp_path / folder, **short)
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"write '\./digits'"):
        pc.compare("digits", **short)


def test_names_under_which_workers_find_the_task(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = tmp_path.resolve()
    assert task_name("pictures") == task_name("folder:pictures") == f"folder:{there / 'pictures'}"
    assert task_name("vtab:x/cifar") == f"vtab:{there / 'x' / 'cifar'}"
    for name in ("vtab1k/cifar", "real/cifar100@500", "digits", "orientation@5000"):
        assert task_name(name) == name
    with pytest.raises(UserError, match="no folder is named"):
        task_name(" ")


def test_changed_images_are_noticed(short: dict, tmp_path: Path):
    folder = write_images(tmp_path / "images")
    first = pc.compare(folder, results=tmp_path / "records", **short)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(next(folder.iterdir()) / "more.png")
    second = pc.compare(folder, results=tmp_path / "records", **short)
    digests = [{spec.digest for spec in found.finals["linear"]} for found in (first, second)]
    assert digests[0].isdisjoint(digests[1])


def test_the_default_methods_have_both_baselines():
    assert {"linear", "full"} < set(METHODS)


def test_the_command(images: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    options = ["--methods", "linear", "bitfit", "--backbone", backbone, "--budget", "5m", "--out", str(out)]
    options += ["--trials", "1", "--epochs", "8", "--seeds", "2", "--workers", "1", "--device", "cpu"]
    assert cli.main(["compare", str(images), *options]) == 0
    shown = capsys.readouterr()
    assert "plan: runs of 8 epochs" in shown.err and "of 5m00s left" in shown.err
    assert "linear" in shown.out and "wrote report.html" in shown.out
    files = {"records", "report.html", "table.csv", "figure.png", "model.safetensors", "model-all.safetensors"}
    assert {p.name for p in out.iterdir()} == files
    assert cli.main(["compare", str(images), "--budget", "1 parsec"]) == 2
    assert "1 parsec" in capsys.readouterr().err
    assert cli.main(["compare", str(images), "--out", str(out / "report.html")]) == 2
