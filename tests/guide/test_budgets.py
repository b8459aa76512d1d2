"""Equal budgets: the expected best of k trials on known cases, and on the published trials."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from petl_core.utils import UserError
from petl_guide import published
from petl_guide.low_shot import budgets
from petl_guide.low_shot.budgets import expected_best

GRIDS = np.array([4, 16, 36, 60, 64, 80])


@pytest.mark.parametrize(("n", "k"), [(80, 4), (80, 1), (80, 80), (16, 4), (4, 4), (5, 3)])
def test_the_best_of_one_to_n(n: int, k: int) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1, n + 1))
    assert expected_best(values, k) == pytest.approx(k * (n + 1) / (k + 1))


def test_one_is_the_mean_all_is_the_maximum_and_ties_need_nothing() -> None:
    values = np.array([70.5, 70.5, 62, 71, 71, 40])
    assert expected_best(values, 1) == pytest.approx(values.mean())
    assert expected_best(values, 6) == 71
    assert expected_best(values, 5) == pytest.approx(71)
    for k in (0, 7):
        with pytest.raises(UserError, match=str(k)):
            expected_best(values, k)


def test_it_is_the_mean_over_all_subsets_row_by_row() -> None:
    rows = np.array([[3.0, 1, 4, 1, 5], [2, 2, 2, 2, 9]])
    for k in range(1, 6):
        brute = [np.mean([max(subset) for subset in itertools.combinations(row, k)]) for row in rows]
        assert expected_best(rows, k) == pytest.approx(brute)


def test_it_agrees_with_subsets_drawn_at_random() -> None:
    random = np.random.default_rng(0)
    cells = [cell.to_numpy() for _, cell in published.read("tuning").groupby(["task", "method"])["val_accuracy"]]
    for i in random.choice([i for i, cell in enumerate(cells) if len(cell) > 4], 20, replace=False):
        drawn = np.array([random.choice(cells[i], 4, replace=False).max() for _ in range(2000)])
        error = max(drawn.std(ddof=1), 0.01) / np.sqrt(len(drawn))
        assert abs(drawn.mean() - expected_best(cells[i], 4)) < 3 * error


def test_equal_methods_with_unequal_grids_look_equal_at_equal_budgets() -> None:
    """Ten tasks, six invented methods of one true accuracy on a task: the best of all rises with the grid, that of
    four does not, and its interval covers 0 as often as it should."""
    random = np.random.default_rng(0)
    slopes: dict[int, list[float]] = {4: [], 0: []}
    covers = {4: 0, 0: 0}
    for _ in range(200):
        truth = random.uniform(0.4, 0.95, 10)
        tried = [random.binomial(200, truth[:, None], (10, n)) / 2 for n in GRIDS]  # percent of 200 images
        for k in slopes:
            best = np.array([expected_best(cells, k or cells.shape[1]) for cells in tried])
            by_task = np.polyfit(np.log(GRIDS), best, 1)[0]  # points for each e-fold of trials
            slopes[k].append(by_task.mean())
            covers[k] += abs(by_task.mean()) < 2.262 * by_task.std(ddof=1) / np.sqrt(10)
    assert np.mean(slopes[0]) > 1 and covers[0] <= 10
    assert abs(np.mean(slopes[4])) < 0.05 and 180 <= covers[4] <= 199


def test_the_published_trials_at_equal_budgets() -> None:
    table = budgets.table().set_index("method")
    quoted = {"bitfit": (4, 72.1, 72.1), "lora": (16, 72.2, 73.8), "adaptformer": (36, 73.3, 75.1)}
    quoted |= {"repadapter": (60, 70.9, 74.9), "convpass": (80, 73.0, 75.9), "full": (4, 57.9, 57.9)}
    for method, numbers in quoted.items():
        assert table.loc[method, ["trials", "four", "all"]].tolist() == pytest.approx(numbers, abs=0.051)
    assert table["sixteen"].notna().sum() == (table["trials"] >= 16).sum() == 10
    assert table.loc[["ssf", "pfeiffer_adapter"], "gap"].tolist() == pytest.approx([-0.6, 2.5], abs=0.051)


def test_curves_rise_and_end_at_the_choice() -> None:
    table = budgets.table().set_index("method")
    for method, curve in budgets.curves(["ssf", "lora", "convpass"]).items():
        assert curve.index.tolist() == list(range(1, int(table.loc[method, "trials"]) + 1))
        assert (np.diff(curve) >= -1e-9).all()
        assert curve.iloc[-1] == pytest.approx(table.loc[method, "all"])
        assert curve[4] == pytest.approx(table.loc[method, "four"])
