"""The published numbers: whole, in range, and giving the headline figures that are known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from petl_core import methods
from petl_core.utils import UserError
from petl_core.vit import ViTConfig
from petl_guide import published
from petl_guide.accuracy import MEAN
from petl_guide.low_shot import ranks


def mean(which: str, group: str, method: str) -> float:
    table = published.by_group(which).set_index(["group", "method"])["mean"]
    return float(table[group, method])


def test_every_run_is_there() -> None:
    everything = published.read("final", everything=True)
    assert len(everything) == 607
    assert everything["reported"].sum() == 320
    chosen = published.read("final")
    assert len(chosen) == 304 == 16 * chosen["task"].nunique()
    assert dict(chosen.groupby("group")["task"].nunique()) == {"natural": 7, "specialised": 4, "structured": 8}
    assert set(chosen["method"]) <= set(methods.names())
    trials = published.read("tuning")
    assert len(trials) == 9804
    assert set(trials.groupby("task").size()) == {516}
    assert (
        trials.groupby(["task", "method"]).size().groupby("method").nunique().eq(1).all()
    )  # the same budget on each task
    assert trials.groupby(["task", "method"])["selected"].sum().eq(1).all()


def test_values_are_in_range() -> None:
    everything = published.read("final", everything=True)
    assert everything["accuracy"].between(0, 100).all()
    chosen = published.read("final")
    assert not chosen[["accuracy", "best_accuracy", "val_accuracy", "lr", "trials", "params"]].isna().to_numpy().any()
    assert (chosen["best_accuracy"] >= chosen["accuracy"] - 1e-9).all()
    assert set(published.read("tuning")["lr"]) == {1e-3, 1e-2}
    # 200 validation images: accuracies in steps of half a point
    assert np.allclose(published.read("tuning")["val_accuracy"] * 2 % 1, 0)


@pytest.mark.parametrize(
    ("which", "group", "method", "expected"),
    [
        ("accuracy", "mean of tasks", "full", 58.49),
        ("best_accuracy", "mean of tasks", "full", 65.92),
        ("accuracy", "mean of tasks", "linear", 55.86),
        ("accuracy", "mean of tasks", "convpass", 74.23),
        ("best_accuracy", MEAN, "convpass", 77.14),
        ("accuracy", "natural", "difffit", 81.75),
        ("accuracy", "specialised", "houlsby_adapter", 85.61),
        ("accuracy", "structured", "vpt_shallow", 41.17),
        ("best_accuracy", "structured", "bitfit", 58.52),
    ],
)
def test_headline_means(which: str, group: str, method: str, expected: float) -> None:
    assert mean(which, group, method) == pytest.approx(expected, abs=0.006)


def test_rank_test_of_the_published_table() -> None:
    table = published.scores().drop(columns=["full", "linear"])
    found = ranks.friedman(table)
    assert (found.tasks, found.df) == (19, 13)
    means = ranks.average_ranks(table)
    without_ties = 12 * 19 / (14 * 15) * ((means - 7.5) ** 2).sum()
    assert without_ties == pytest.approx(76.6, abs=0.06)
    assert without_ties < found.chi2 < 1.01 * without_ties  # scipy corrects for the few ties
    assert means.index[0] == "convpass"
    assert means["convpass"] == pytest.approx(4.68, abs=0.006)
    assert means["vpt_shallow"] == pytest.approx(13.18, abs=0.006)
    far = set(means[means - means.iloc[0] > ranks.critical_difference(14, 19)].index)
    assert far == {"layernorm", "vpt_deep", "vpt_shallow"}


def test_similarity_depends_on_who_is_counted() -> None:
    thirteen = published.counted(methods.names())
    assert len(thirteen) == 13
    assert "vpt_shallow" not in thirteen
    assert published.relative_spread("best_accuracy", thirteen) == pytest.approx(1.05, abs=0.011)
    assert published.relative_spread("best_accuracy") == pytest.approx(3.39, abs=0.12)


def test_beside() -> None:
    ours = pd.DataFrame({"group": ["natural", MEAN], "method": ["lora", "lora"], "mean": [1.0, 2.0]})
    assert published.beside(ours)["published"].tolist() == pytest.approx([80.45, 75.24], abs=0.006)
    with pytest.raises(UserError, match="none of these methods"):
        published.beside(ours.assign(method="vqt"))


def test_optimism_grows_with_the_number_of_trials() -> None:
    table = published.optimism().set_index("method")
    assert table.loc["bitfit", "trials"] == 4
    assert table.loc["pfeiffer_adapter", "trials"] == 80
    assert table.loc["pfeiffer_adapter", "gap"] == pytest.approx(2.5, abs=0.06)
    assert table.loc["bitfit", "gap"] == pytest.approx(-0.1, abs=0.06)
    assert published.optimism_correlation() == pytest.approx(0.77, abs=0.006)


def test_full_fine_tuning_collapses_at_the_high_rate() -> None:
    assert published.collapsed("full", 1e-2) == pytest.approx(89.5, abs=0.06)
    assert published.collapsed("bitfit", 1e-2) == 0
    with pytest.raises(UserError, match="1e-3 and 1e-2"):
        published.collapsed("full", 1e-5)


def test_reruns() -> None:
    cells = published.reruns()
    assert len(cells) == 266
    assert cells["change"].median() == pytest.approx(0.50, abs=0.006)
    assert cells.loc[cells["change"].idxmax(), ["task", "method"]].tolist() == ["dsprites_loc", "vpt_deep"]


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'vtab'.*final, tuning"):
        published.read("vtab")
    with pytest.raises(UserError, match="best epoch on test"):
        published.scores("best")
    with pytest.raises(UserError, match=r"vtab1k_final\.csv"):
        published.read("final", folder=tmp_path)


def test_a_caller_cannot_change_what_the_next_one_reads() -> None:
    frame = published.read("tuning")
    frame["val_accuracy"] = 0.0
    mine = published.read("final")
    mine["accuracy"] = 0.0
    assert published.read("tuning")["val_accuracy"].max() == pd.Series([100.0]).max()
    assert published.read("final")["accuracy"].mean() > 60


# many-shot and CLIP


def test_the_sweep_over_sizes_is_whole() -> None:
    everything, chosen = published.read("manyshot", everything=True), published.read("manyshot")
    assert (len(everything), len(chosen)) == (186, 155)
    cells = chosen.groupby(["task", "train_images"]).size()
    assert cells.to_dict() == {
        ("cifar100", 500): 31,
        ("cifar100", 50_000): 31,
        ("clevr_distance", 70_000): 31,
        ("resisc45", 225): 31,
        ("resisc45", 25_200): 31,
    }
    sizes = chosen[chosen["size"].notna()].groupby("method")["size"].unique()
    assert {m: sorted(s) for m, s in sizes.items()} == {
        m: [1, 2, 4, 8, 16, 32, 64, 128, 256] for m in ("fact_tk", "houlsby_adapter", "lora")
    }
    assert everything["accuracy"].between(0, 100).all()
    assert (chosen["best_accuracy"] >= chosen["accuracy"] - 1e-9).all()
    for method, size in (("lora", 8), ("fact_tk", 64)):
        counted = chosen[(chosen["method"] == method) & (chosen["size"] == size)]["params"].unique().tolist()
        assert counted == [methods.get(method, rank=size).count(ViTConfig())]
    trials = published.read("manyshot_tuning")
    assert len(trials) == 2414
    assert trials["selected"].sum() == 155 and trials["val_accuracy"].between(0, 100).all()


@pytest.mark.parametrize(
    ("task", "images", "method", "size", "accuracy"),
    [
        ("cifar100", 500, "lora", 256, 73.91),
        ("cifar100", 500, "full", None, 34.32),
        ("cifar100", 50_000, "houlsby_adapter", 128, 93.09),
        ("resisc45", 225, "ssf", None, 73.57),
        ("resisc45", 25_200, "fact_tk", 128, 97.60),
        ("clevr_distance", 70_000, "linear", None, 43.47),
    ],
)
def test_many_shot_headlines(task: str, images: int, method: str, size: int | None, accuracy: float) -> None:
    frame = published.read("manyshot")
    chosen = frame[(frame["task"] == task) & (frame["train_images"] == images) & (frame["method"] == method)]
    chosen = chosen[chosen["size"].isna() if size is None else chosen["size"] == size]
    assert chosen["accuracy"].tolist() == [accuracy]


def test_clip_and_its_shifts() -> None:
    table = published.read("clip").set_index("method")
    assert len(table) == 13 and set(table.index) - {"zero_shot"} <= set(methods.names())
    assert table.loc["zero_shot", ["imagenet", "shift"]].tolist() == pytest.approx([67.69, 58.67], abs=0.005)
    assert table.loc["full", ["imagenet", "shift"]].tolist() == pytest.approx([74.95, 42.50], abs=0.005)
    assert table["shift"].drop("zero_shot").idxmax() == "houlsby_adapter"
    tried = published.read("clip_tuning")
    assert len(tried) == 24
    assert all(sorted(rates) == [0, 0.1] for _, rates in tried.groupby("method")["drop_path"])
    assert (tried.loc[tried["selected"], "drop_path"] == 0).all()


def test_interpolations_end_at_both_models() -> None:
    table, ends = published.read("interpolation"), published.read("clip").set_index("method")
    assert len(table) == 132
    assert table.groupby(["method", "interpolated"])["alpha"].nunique().eq(11).all()
    both = table[table["interpolated"] == "backbone and head"]
    assert (both.loc[both["alpha"] == 0, "shift"] - ends.loc["zero_shot", "shift"]).abs().max() < 0.01
    tuned = both[both["alpha"] == 1].set_index("method")["shift"]
    assert (tuned - ends["shift"]).abs().max() < 0.01
    best = both.loc[both[both["method"] == "lora"]["shift"].idxmax()]
    assert (best["alpha"], round(best["shift"], 2)) == (0.4, 61.09)
