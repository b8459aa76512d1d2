"""The guide's rows, picks and chooser: on made-up runs with known answers, and on the shipped records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import petl_core as pc
from petl_core.compare.contest import needed
from petl_core.data import load_task
from petl_core.study.profiles import profile
from petl_core.study.records import COLUMNS, Records
from petl_core.utils import UserError
from petl_guide import guide, picks
from petl_guide.chooser import agreement_figure, method_chooser
from petl_guide.figures import own_images
from petl_guide.results import Results, open_results
from petl_guide.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    HETEROGENEOUS,
    NOT_RUN,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    Verdict,
)

PARAMS = {"linear": 0, "bitfit": 100, "ssf": 200, "lora": 3000, "adaptformer": 5000, "full": 90_000}


def made_up(accuracy: dict[str, list[float]], noise: float = 0.02) -> pd.DataFrame:
    """Tuned final runs: ``accuracy`` of each method on each task, two seeds."""
    random, rows = np.random.default_rng(0), []
    for method, values in accuracy.items():
        for task, value in enumerate(values):
            for seed in (0, 1):
                rows.append(
                    {
                        "digest": f"{method}{task}{seed}",
                        "backbone": "mini",
                        "method": method,
                        "task": f"t{task}",
                        "group": "natural" if task < len(values) / 2 else "structured",
                        "seed": seed,
                        "stage": "final",
                        "accuracy": value + noise * random.standard_normal(),
                        "diverged": False,
                        "variant": "tuned",
                        "classes": 10,
                        "params": PARAMS[method],
                    }
                )
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


@pytest.fixture
def runs() -> pd.DataFrame:
    """Two near and two far tasks; large methods pay on the far ones only; SSF is level with the best on the near."""
    return made_up(
        {
            "linear": [80, 81, 40, 41],
            "bitfit": [83, 84, 55, 56],
            "ssf": [84, 85, 60, 61],
            "lora": [84, 85, 70, 71],
            "adaptformer": [84.5, 85.5, 72, 73],
            "full": [84, 85, 75, 76],
        }
    )


def made_results(table: pd.DataFrame, folder: Path) -> Results:
    """Results with a table of one's own."""
    return Results(profile("quick"), Records(folder), fresh=True, chosen=table)


def test_near_and_far_are_measured(runs: pd.DataFrame):
    kinds = picks.kind_of_task(runs)
    assert kinds["near"] == ["t0", "t1"] or sorted(kinds["near"]) == ["t0", "t1"]
    assert sorted(kinds["far"]) == ["t2", "t3"]
    assert kinds["natural"] == ["t0", "t1"] and kinds["all"] == ["t0", "t1", "t2", "t3"]
    without = runs[runs["method"] != "full"]
    assert sorted(picks.kind_of_task(without)["far"]) == ["t2", "t3"]
    with pytest.raises(UserError, match="linear probing"):
        picks.distances(runs[runs["method"] != "linear"])


def test_picks(runs: pd.DataFrame):
    assert picks.pick(runs).method == "full"
    assert picks.pick(runs, most=10_000).method == "adaptformer"
    assert picks.pick(runs, mergeable=True, most=10_000).method == "lora"  # an adapter with ReLU does not merge
    near = runs[runs["task"].isin(["t0", "t1"])]
    assert picks.pick(near, "parameters").method == "bitfit"
    assert picks.pick(near, "parameters", loss=0.8).method == "ssf"
    far = picks.pick(runs[runs["task"].isin(["t2", "t3"])], "parameters", loss=4)
    assert far.method == "adaptformer" and far.best == "full"
    assert far.difference.mean == pytest.approx(-3, abs=0.6)
    assert far.digests == {f"{m}{t}{s}" for m in ("adaptformer", "full") for t in (2, 3) for s in (0, 1)}
    with pytest.raises(UserError, match="allow more parameters"):
        picks.pick(runs, most=-1)
    with pytest.raises(UserError, match="accuracy or parameters"):
        picks.pick(runs, "speed")


def test_a_task_that_decides_a_recommendation_alone_is_named() -> None:
    runs = made_up({"ssf": [60, 60, 60], "lora": [55, 58, 90]})  # LoRA leads because of t2
    assert picks.recommended(runs, picks.FAR).method == "lora"
    assert picks.without_one(runs, picks.FAR) == {"lora": ["t0", "t1"], "ssf": ["t2"]}


def test_rows_of_near_and_far(runs: pd.DataFrame, tmp_path: Path):
    found = guide.findings(made_results(runs, tmp_path))
    near, far = (found[f"few labels, {kind} the pre-training"] for kind in ("near", "far from"))
    assert far.verdict.verdict == SUPPORTED and far.agreement == "agrees" and "Full" in far.recommendation
    assert near.agreement == "agrees" and "BitFit" in near.recommendation
    assert len(far.digests) == 2 * 2 * len(PARAMS)
    turned = runs.copy()
    small = turned["method"].isin(["bitfit", "ssf"])
    turned.loc[small, "accuracy"] += 30
    assert (
        guide.findings(made_results(turned, tmp_path))["few labels, far from the pre-training"].agreement == "disagrees"
    )


def test_merging_costs_what_the_records_say(runs: pd.DataFrame, tmp_path: Path):
    finding = guide.findings(made_results(runs, tmp_path))["must merge into a plain ViT"]
    assert "LoRA" in finding.recommendation and "AdaptFormer" in finding.recommendation
    assert finding.agreement == "no advice" and finding.verdict.effect == pytest.approx(-1.25, abs=0.5)


def test_without_runs_every_row_says_so(tmp_path: Path):
    found = guide.findings(Results(profile("quick"), Records(tmp_path), fresh=True))
    assert set(found) == {situation.name for situation in guide.SITUATIONS}
    rows = guide.decision_table(found)
    for _, row in rows[rows["chapter"] != "09"].iterrows():
        assert row["ours"] == "not run" and row["evidence"].startswith("not run: "), row
        assert row["recommended here"] == "–" and np.isnan(row["runs"])


def test_rows_of_claims_fill_in_when_their_runs_come(
    monkeypatch: pytest.MonkeyPatch, runs: pd.DataFrame, tmp_path: Path
):
    fake = made_results(runs.assign(variant="many_shot_1"), tmp_path)
    for word, agreement in (
        (SUPPORTED, "agrees"),
        (CONTRADICTED, "disagrees"),
        (EQUIVALENT, "disagrees"),
        (HETEROGENEOUS, "depends on the task"),
        (UNDECIDED, "open"),
        (NOT_RUN, "not run"),
    ):
        made = Verdict(word, 1.0, 0.5, 1.5, 3, "points")
        monkeypatch.setattr("petl_guide.claims.table.on_ours", lambda claim, results, made=made: made)
        finding = guide.findings(fake)["many labels"]
        assert finding.agreement == agreement
        assert bool(finding.recommendation) == (word != NOT_RUN)
        assert len(finding.digests) == (0 if word == NOT_RUN else len(runs))


def test_memory_fills_in_when_costs_come(tmp_path: Path, runs: pd.DataFrame):
    with pytest.raises(UserError, match="no file of costs"):
        guide.memory(made_results(runs, tmp_path), tmp_path)
    rows = [{"method": m, "memory": v} for m, v in (("full", 1000), ("linear", 90), ("lora", 700), ("bitfit", 600))]
    (tmp_path / "vit-cpu.json").write_text(json.dumps({"format": 1, "methods": rows}), encoding="utf-8")
    finding = guide.memory(made_results(runs, tmp_path), tmp_path)
    assert finding.recommendation == "BitFit: 60 % of full fine-tuning's memory (vit-cpu)"
    assert "60 to 70 %" in finding.verdict.told and finding.verdict.verdict == NOT_TESTABLE


def test_the_chooser_names_its_records(runs: pd.DataFrame, tmp_path: Path):
    chooser = method_chooser(made_results(runs, tmp_path))
    answer = chooser.answer(task="near", matters="size", give_up=2.0)
    assert answer.values["method"] == "BitFit" and answer.values["runs"] == 8
    assert "8 records" in answer.text and "adaptformer00" in answer.text
    assert chooser.answer(task="far", matters="accuracy").values["method"] == "Full"
    assert chooser.answer(matters="merging", parameters="10,000").values["method"] == "LoRA"
    assert answer.figure is not None and answer.figure().axes
    frame = chooser.static({"task": "far"}, {"matters": "merging"})
    assert len(frame) == 3 and {"method", "runs", "from", "to"} <= set(frame)
    few = made_results(runs[runs["method"] == "full"].copy(), tmp_path)
    with pytest.raises(UserError, match="linear probing"):
        method_chooser(few)
    only = made_results(runs[runs["method"].isin(["linear", "full"])].copy(), tmp_path)
    assert method_chooser(only).answer(parameters="3,000", matters="accuracy").values["method"] == "Linear"


def test_the_guide_on_the_shipped_records():
    shipped = open_results("laptop")
    found = guide.findings(shipped)
    for name in ("few labels, near the pre-training", "few labels, far from the pre-training"):
        finding = found[name]
        assert finding.verdict.n == 5 and finding.recommendation
        assert all(shipped.records.has(digest) for digest in finding.digests)
    rows = guide.decision_table(found)
    assert len(rows) == len(guide.SITUATIONS) and set(rows["ours"]) <= {
        "agrees",
        "disagrees",
        "open",
        "not run",
        "no advice",
        "depends on the task",
    }
    assert agreement_figure(found, "a title").axes
    assert set(guide.parts_of(profile("laptop"))) >= {"tuned", "default", "drop_path", "longer"}


def test_speeds_of_records_plan_like_measured_ones():
    shipped = open_results("laptop")
    tuned = picks.tuned_runs(shipped)
    pace = guide.speeds(tuned, shipped.profile.final.epochs)
    seconds = pace["lora"].seconds(1000, shipped.profile.final.epochs, 1000)
    assert seconds == pytest.approx(tuned.query("method == 'lora'")["seconds"].mean())
    assert pace["linear"].head_only and not pace["lora"].head_only
    sizes = {"train800": 800, "val200": 200, "train1000": 1000, "test": 1000}
    both = {m: pace[m] for m in ("linear", "lora")}
    assert needed(1, both, sizes, 1) < needed(16, both, sizes, 1) < 3600


def test_a_folder_of_ones_own(tmp_path: Path):
    source = load_task("photo_scenes")
    assert own_images.write_folder(source, tmp_path / "a", each=5, classes=2) == 10
    own_images.write_folder(source, tmp_path / "b", each=5, classes=2, shuffle=True)
    tasks = [pc.load_task(f"folder:{tmp_path / name}", size=32) for name in "ab"]
    pixels = [
        {image.numpy().tobytes(): int(label) for image, label in zip(t.images, t.labels, strict=True)} for t in tasks
    ]
    assert pixels[0].keys() == pixels[1].keys() and pixels[0] != pixels[1]
    for image, label in zip(source.images, source.labels, strict=True):
        key = image.numpy().tobytes()
        if key in pixels[0]:
            assert tasks[0].classes[pixels[0][key]] == source.classes[label].replace(" ", "_")
    figure = own_images.answers(tasks[0].images[:2], ["x", "y"], ["x", "z"], "a title")
    assert [ax.get_title() for ax in figure.axes] == ["x", "y\n(is z)"]
