"""Records against shipped ones: one judgement over all, which lets chance pass and nothing beyond it."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from petl_core import cli
from petl_core.study import agreement
from petl_core.study.agreement import ANSWERS, BITS, OUTSIDE, PAIR, TOLERANCE, WITHIN, Agreement, agreement_of
from petl_core.study.records import Records, RunSpec
from petl_core.training.train import Recipe, Run

METHODS = ("linear", "full", "bitfit", "ssf", "lora", "adaptformer", "repadapter", "vpt_deep")
TASKS = ("photo_scenes", "land_cover", "count")


def spec(**changes) -> RunSpec:
    values = {"backbone": "mini", "weights": "w", "method": "lora", "hyper": {}, "task": "digits", "task_digest": "d"}
    return RunSpec(**{**values, "recipe": Recipe(lr=1e-3, epochs=2), **changes})


def run(accuracy: float = 80.0, logits: np.ndarray | None = None, bits: int = 0) -> Run:
    """A run of this accuracy; other ``bits`` mean other outputs and other classes."""
    if logits is None:
        logits = np.random.default_rng(bits).normal(size=(50, 4)).astype(np.float16)
    labels, ids = np.arange(50) % 4, tuple(map(str, range(50)))
    diverged = not math.isfinite(accuracy)
    return Run(accuracy, "test", logits, labels, ids, 55.0, 1.5, diverged, [], 8, 99, "natural", 700.0)


@pytest.fixture
def folders(tmp_path) -> tuple[Records, Records]:
    """An empty folder, and one with three seeds of standard deviation 2: intervals are 1.96 sqrt(2) 2 = 5.54 points."""
    shipped = Records(tmp_path / "shipped")
    for seed, value in enumerate((80.0, 82.0, 84.0)):
        shipped.save(spec(seed=seed), run(value, bits=seed))
    return Records(tmp_path / "fresh"), shipped


def kinds(found: Agreement) -> dict[int, str]:
    return dict(zip(found.pairs["seed"], found.pairs["kind"], strict=True))


def agreement_by(rows: list[tuple]) -> Agreement:
    return Agreement(pd.DataFrame(rows, columns=PAIR))


def test_runs_are_sorted_by_how_well_they_agree(folders):
    fresh, shipped = folders
    fresh.save(spec(seed=0), run(80.0, bits=0))
    fresh.save(spec(seed=1), run(87.5, bits=8))
    fresh.save(spec(seed=2), run(78.4, bits=9))
    fresh.save(spec(seed=3), run(80.0))
    found = agreement_of(fresh, shipped)
    assert kinds(found) == {0: BITS, 1: WITHIN, 2: OUTSIDE}
    assert found.alone == (spec(seed=3).digest,)
    assert found.of_kind(OUTSIDE)["half"].item() == pytest.approx(1.96 * math.sqrt(2) * 2, rel=1e-3)
    assert "-5.60 points" in found.report()


@pytest.mark.parametrize(("nearer", "kind"), [(True, ANSWERS), (False, WITHIN)])
def test_nearly_equal_outputs_are_equal_answers(folders, nearer, kind):
    """Two classes are so close that the answer changes: outputs within the tolerance are still taken for equal."""
    fresh, shipped = folders
    logits = np.zeros((50, 4), dtype=np.float16)
    logits[0, 1] = TOLERANCE / 4
    shipped.save(spec(seed=5), run(80.0, logits))
    other = logits.copy()
    other[0, 2] = TOLERANCE * (0.9 if nearer else 1.1)
    fresh.save(spec(seed=5), run(80.0, other))
    assert kinds(agreement_of(fresh, shipped)) == {5: kind}


def test_equal_classes_are_equal_answers_whatever_the_outputs(folders):
    fresh, shipped = folders
    logits = np.eye(4, dtype=np.float16)[np.arange(50) % 4]
    shipped.save(spec(seed=5), run(80.0, logits))
    fresh.save(spec(seed=5), run(80.0, 3 * logits))
    assert kinds(agreement_of(fresh, shipped)) == {5: ANSWERS}
    shipped.save(spec(seed=6), run(80.0, logits))
    fresh.save(spec(seed=6), run(77.0, 3 * logits))  # an accuracy that its outputs do not give
    assert kinds(agreement_of(fresh, shipped)) == {5: ANSWERS, 6: WITHIN}


def test_where_outputs_are_not_kept_as_many_right_are_equal_answers(folders):
    fresh, shipped = folders
    trial = {"evaluate_on": "val200", "train_on": "train800"}
    for seed, value in enumerate((80.0, 80.5)):
        shipped.save(spec(**trial, seed=seed), run(80.0))
        fresh.save(spec(**trial, seed=seed), run(value, bits=1))
    assert kinds(agreement_of(fresh, shipped)) == {0: ANSWERS, 1: WITHIN}


def test_diverging_here_and_not_there_is_outside(folders):
    fresh, shipped = folders
    fresh.save(spec(), run(math.nan))
    found = agreement_of(fresh, shipped)
    assert kinds(found) == {0: OUTSIDE} and "diverged in one of them only" in found.report()


def test_nothing_in_common_and_missing_runs_are_faults(folders):
    fresh, shipped = folders
    fresh.save(spec(task="glyphs"), run())
    assert ["no run is in both" in fault for fault in agreement_of(fresh, shipped).faults] == [True]
    fresh.save(spec(), run(bits=0))
    assert agreement_of(fresh, shipped).faults == []
    (fault,) = agreement_of(fresh, shipped, [spec().digest, spec(seed=1).digest]).faults
    assert spec(seed=1).digest in fault


def test_equal_bits_are_promised_on_equal_processors_only(folders):
    fresh, shipped = folders
    fresh.save(spec(seed=0), run(80.0, bits=0))
    fresh.save(spec(seed=1), run(82.2, bits=7))
    assert "of 2 of these, and 1 have OTHER bits" in agreement_of(fresh, shipped).report()
    record, answers = fresh.get(spec(seed=1)), fresh.predictions(spec(seed=1))
    record["environment"]["limits"] = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    shutil.rmtree(fresh.root / spec(seed=1).digest)
    fresh.add(record, answers)
    assert "of 1 of these" in (text := agreement_of(fresh, shipped).report()) and "OTHER" not in text


def made_up(scatter: float, shift: float = 0.0, method: str = "", seed: int = 0, half: float = 4.8) -> Agreement:
    """As many runs as a method has in the quick profile, differing by normal noise (points), one method by more."""
    random, pairs = np.random.default_rng(seed), []
    for name in METHODS:
        for stage, number in [("final", i) for i in range(9)] + [("trial", i) for i in range(12)]:
            noise = scatter * (2 if stage == "trial" else 1)  # 200 images instead of 1,000
            difference = round(float(random.normal(0, noise)) + shift * (name == method), 1)
            width = half * (2 if stage == "trial" else 1)
            kind = BITS if difference == 0 else WITHIN if abs(difference) <= width else OUTSIDE
            there = 70.0 + METHODS.index(name)
            cell = (f"{name}{stage}{number}", name, TASKS[number % 3], number // 3, stage)
            pairs.append((*cell, kind, difference, width, False, there + difference, there))
    return agreement_by(pairs)


@pytest.mark.parametrize("scatter", [0.0, 0.1, 0.5, 1.0, 2.4])  # points; 2.4: as another seed would give
def test_chance_passes(scatter):
    for seed in range(50):
        assert made_up(scatter, seed=seed).faults == []


@pytest.mark.parametrize("scatter", [0.0, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("method", METHODS)
def test_a_shift_of_three_points_in_one_method_is_caught(scatter, method):
    """Though no run of it need lie outside its interval."""
    found = made_up(scatter, 3.0, method)
    assert found.chance > 0.01
    assert found.faults and all(f"shift beyond chance: {method}" in fault for fault in found.faults)
    assert found.shifts[0].mean == pytest.approx(3.0, abs=0.9)
    assert "they do NOT agree" in found.report()


def test_a_few_runs_that_agree_by_accident_are_no_shift():
    """Two runs, both an image better: their scatter of zero says nothing."""
    pairs = [(str(i), "lora", "digits", i, "final", WITHIN, 0.1, 2.0, False, 80.1, 80.0) for i in range(2)]
    assert agreement_by(pairs).faults == []


def test_one_run_that_went_astray_is_no_shift_and_more_than_chance_gives_are_a_fault():
    def outside(count: int) -> Agreement:
        differences = [-30.0 if i < count else 0.3 * (-1) ** i for i in range(200)]
        kind = [OUTSIDE if i < count else WITHIN for i in range(200)]
        names = [METHODS[i % 8] for i in range(200)]
        cells = [(str(i), names[i], "digits", i, "final", kind[i], differences[i]) for i in range(200)]
        return agreement_by([(*cell, 4.8, False, 50.0, 50.0) for cell in cells])

    assert outside(1).faults == [] and outside(15).faults == []
    assert outside(15).chance == pytest.approx(0.078, abs=0.002)  # of 200, with 5 % each
    assert any("more than chance gives" in fault for fault in outside(25).faults)


def test_the_order_of_methods_is_compared():
    assert made_up(0.0).order == (pytest.approx(1.0), 8)
    assert 0.5 < made_up(0.0, 2.5, "bitfit").order[0] < 1.0
    assert math.isnan(agreement_by([]).order[0])


def test_another_processor_gives_equal_answers(capsys, backbone, tmp_path):
    """Tried by a process whose instruction set is limited: other bits, and the command ends well."""
    study = ["study", "--profile", "smoke", "--part", "default", "--backbone", backbone, "--workers", "0"]
    packed = str(tmp_path / "packed")
    assert cli.main([*study, "--results", str(tmp_path / "here"), "--pack", packed]) == 0
    capsys.readouterr()
    limits = dict.fromkeys(("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"), "AVX2") | {"ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-m", "petl_core", *study, "--results", str(tmp_path / "there"), "--compare", packed]
    root = str(Path(agreement.__file__).parent.parent)
    environment = {**os.environ, **limits, "PYTHONPATH": root}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = agreement_of(Records(tmp_path / "there"), Records(packed))
    assert len(found.pairs) == len(found.of_kind(BITS, ANSWERS)) == 12
    assert not found.pairs["promised"].any()
    assert found.report() in done.stdout
