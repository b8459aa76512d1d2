"""Chapter 08: weight-space ensembles under shift, on curves with known answers and on a real small model."""

import dataclasses
import itertools
import json

import pandas as pd
import pytest

import petl_core as pc
from petl_core.data.embedded import SHIFTS
from petl_core.study import measures
from petl_core.study import plan as study
from petl_core.study.parts import rate_trials
from petl_core.study.profiles import profile
from petl_core.study.records import Records
from petl_core.training.train import predict, take
from petl_core.utils import UserError
from petl_guide import robust
from petl_guide.claims import table as claims
from petl_guide.interactive import explorer
from petl_guide.results import Results

ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


class Held:
    """Stands for ``Records``: the interpolation of each digest."""

    def __init__(self):
        self.of = {}

    def get(self, digest):
        return self.of[digest]


def world_results(curve, seeds=(0, 1, 2), lrs=(1e-3, 1e-4)) -> tuple[pd.DataFrame, Held]:
    """Runs whose accuracies at alpha are ``curve(method, lr, alpha) = (target, shift)``; seeds add nothing at alpha 0
    and their number times alpha elsewhere. Validation prefers the first rate."""
    rows, held = [], Held()
    for method, lr, seed in itertools.product(("linear", "full", "lora", "bitfit"), lrs, seeds):
        points = [(t + seed * a, s + seed * a) for a in ALPHAS for t, s in [curve(method, lr, a)]]
        both = {"test": [p[0] for p in points], **{name: [p[1] for p in points] for name in SHIFTS}}
        digest = f"{method}{lr}{seed}"
        measured = {"alphas": ALPHAS, "both": both, "head": dict.fromkeys(both, 1.0)}
        held.of[digest] = {"measures": {"interpolation": measured}}
        row = {
            "digest": digest,
            "task": "world",
            "stage": "final",
            "method": method,
            "lr": lr,
            "seed": seed,
            "params": 5,
        }
        for variant in ("robustness", "robustness_chosen") if lr == lrs[0] else ("robustness",):
            more = {"variant": variant, "diverged": False, "accuracy": both["test"][-1], "train_accuracy": 90.0}
            rows.append(row | more)
    return pd.DataFrame(rows), held


def bent(tops, start=(40, 60)):
    """Curves from ``start`` to the tuned end ``tops[method]``, bent upwards halfway by the third number."""

    def curve(method, lr, alpha):
        target, shift, bend = tops[method]
        on = {1e-3: 1.0, 3e-4: 0.75, 1e-4: 0.5}[lr] * alpha
        return start[0] + on * (target - start[0]), start[1] + on * (shift - start[1]) + bend * 4 * on * (1 - on)

    return curve


USUAL = {"linear": (42, 58, 0), "full": (60, 40, 8), "lora": (60, 50, 6), "bitfit": (52, 56, 6)}


def test_the_curves_and_what_is_read_off_them():
    table, held = world_results(bent(USUAL))
    found = robust.curves(table, held)
    assert len(found) == 4 * 2 * 3 * (5 + 1)
    assert robust.zero_shot(found).to_dict() == {"target": 40, "shift": 60, **dict.fromkeys(SHIFTS, 60)}
    ends = robust.tuned(found)
    assert len(ends) == 4 * 2 * 3
    one = ends[(ends["method"] == "full") & (ends["lr"] == 1e-3) & (ends["seed"] == 2)].iloc[0]
    assert (one["target"], one["shift"]) == (62, 42)
    chosen = robust.curves(table, held, "robustness_chosen")
    assert set(chosen["lr"]) == {1e-3}
    half = robust.halfway(chosen, ["lora"])  # 55 + 6 + seed / 2 against the start, 60
    assert half["shift"].tolist() == pytest.approx([1, 1.5, 2])
    assert half["target"].tolist() == pytest.approx([-10, -10.5, -11])
    assert len(robust.halfway(found, ["lora"])) == 2 * 3 and set(robust.halfway(found)["lr"]) == {1e-3, 1e-4}
    assert set(robust.front(chosen)["method"]) <= {"full", "lora", "bitfit", "linear"}


def test_pairs_of_like_target_accuracy():
    """LoRA's runs reach full's target at both rates, 10 points better under shift at the first and less at the second;
    BitFit's second rate is at 46, full's at 50, so that it has no partner."""
    found = robust.curves(*world_results(bent(USUAL)))
    pairs = robust.matched_to_full(found)
    assert set(zip(pairs["method"], pairs["lr"], pairs["full_lr"], strict=True)) == {
        ("lora", 1e-3, 1e-3),
        ("lora", 1e-4, 1e-4),
    }
    assert pairs.loc[pairs["lr"] == 1e-3, "shift"].tolist() == pytest.approx([10] * 3)
    assert pairs["target"].tolist() == pytest.approx([0] * 6)
    with pytest.raises(UserError, match="full fine-tuning, with which PEFT is compared"):
        robust.matched_to_full(found[found["method"] != "full"])


def test_the_balance_at_matched_levels():
    tops = {"linear": (42, 58, 0), "full": (60, 50, 0), "lora": (60, 56, 0), "bitfit": (50, 50, 0)}
    chosen = robust.curves(*world_results(bent(tops), seeds=(0, 1)), "robustness_chosen")
    table = robust.balance(chosen)
    first = table[table["seed"] == 0].set_index("share")
    assert first["level"].tolist() == pytest.approx([42, 44, 46, 48, 50, 52, 54, 56, 58])
    assert first["difference"].tolist() == pytest.approx([-0.6 * step for step in range(1, 10)])  # 4 and 10 points lost
    assert set(table["best"]) == {"lora"}


def test_curves_that_do_not_rise_have_no_balance():
    tops = {"linear": (39, 58, 0), "full": (40, 50, 0), "lora": (38, 56, 0), "bitfit": (38, 50, 0)}
    flat = robust.curves(*world_results(bent(tops), seeds=(0,)), "robustness_chosen")
    assert robust.balance(flat).empty


PEFT_AHEAD = {"linear": (64, 68, 0), "full": (70, 45, 8), "lora": (70, 62, 6), "bitfit": (66, 64, 6)}
FULL_AHEAD = {**PEFT_AHEAD, "full": (70, 61, 8), "lora": (70, 50, -6), "bitfit": (66, 50, -6)}
RATES = (1e-3, 3e-4, 1e-4)


@pytest.mark.parametrize(
    ("tops", "start", "lrs", "words"),
    [
        (PEFT_AHEAD, (50, 70), RATES, ("supported", "supported", "contradicted")),
        (FULL_AHEAD, (50, 70), RATES, ("contradicted", "contradicted", "supported")),
        (PEFT_AHEAD, (50, 70), RATES[::2], ("undecided", "supported", "undecided")),  # two rates of full are too few
        (PEFT_AHEAD, (50, 80), RATES, ("undecided", "contradicted", "undecided")),  # nothing to gain under shift
    ],
)
def test_the_verdicts(tops, start, lrs, words):
    """PEFT ahead everywhere, the other way round, and two studies that cannot tell; and no false case is supported."""
    table, held = world_results(bent(tops, start), lrs=lrs)
    results = Results(profile("laptop"), held, fresh=True, chosen=table)
    for number, word in zip(("C11", "C12", "C13"), words, strict=True):
        claim = claims.get(number)
        verdict = claims.on_ours(claim, results)
        assert verdict.verdict == word, f"{number}: {verdict}"
        if number != "C12":
            assert verdict.reason.startswith("control") == (word == "undecided")
        assert claims.on_false(claim, results).verdict != "supported"


def test_an_end_of_a_curve_that_is_another_model_fails_the_control():
    table, held = world_results(bent(PEFT_AHEAD, (50, 70)), lrs=RATES)
    results = Results(profile("laptop"), held, fresh=True, chosen=table.assign(accuracy=table["accuracy"] + 0.5))
    assert "from alpha 1 to the tuned model 0.5" in claims.on_ours(claims.get("C12"), results).reason


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, h: (t.iloc[:0], h), "part 'robustness'"),
        (lambda t, h: (t[~((t["method"] == "lora") & (t["seed"] == 1))], h), r"method lora, lr .*: seeds \[0, 2\]"),
        (lambda t, h: (t.assign(diverged=t["method"] == "full"), h), "runs of full diverged"),
        (lambda t, h: (h.of["lora0.0010"].update(measures={}), (t, h))[1], "has no interpolation"),
        (lambda t, h: (h.of["lora0.0010"]["measures"]["interpolation"]["both"]["test"].__setitem__(0, 41.0), (t, h))[1],
         "the ends alpha = 0 differ"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_named(spoil, message):
    with pytest.raises(UserError, match=message):
        robust.curves(*spoil(*world_results(bent(USUAL))))


def test_the_alpha_slider_shows_what_was_measured():
    curves = robust.summary(robust.curves(*world_results(bent(USUAL)), "robustness_chosen"))
    slider = explorer.alpha_slider(curves, ["lora", "full"], ("target", *SHIFTS, "shift"))
    for alpha in ALPHAS:
        shown = slider.answer(method="lora", alpha=alpha).values
        row = curves[(curves["method"] == "lora") & (curves["alpha"] == alpha)].iloc[0]
        assert shown["target"] == row["target"] and shown["shift"] == row["shift"]
    with pytest.raises(UserError, match="vpt_deep has no point at alpha 0"):
        explorer.alpha_slider(curves, ["vpt_deep"], ("target",))


def test_the_plan_of_the_part(tmp_path):
    chosen = profile("laptop")
    specs = rate_trials(chosen, "world", "full")
    assert [s.recipe.lr for s in specs] == list(profile("laptop").robust.full_lrs)
    assert {(s.backbone, s.head, s.evaluate_on) for s in specs} == {("mini_clip", "zero_shot", "val200")}
    assert len(rate_trials(profile("quick"), "world", "full")) == 1


def test_a_run_of_the_part_has_its_interpolation(tmp_path):
    smoke = profile("smoke")
    small = dataclasses.replace(smoke, parts=tuple(p for p in smoke.parts if p.name == "robustness"), seeds=(0,))
    small = dataclasses.replace(small, max_evaluate=40, max_train=32)
    records = Records(tmp_path / "runs")
    assert not study.run_study(small, records, workers=0, progress=False).failures
    table = records.table()
    table = table[table["variant"] == "robustness_chosen"]
    assert set(table["method"]) == {"linear", "full", "lora"}
    for row in table.itertuples():
        record = records.get(row.digest)
        found = json.loads(json.dumps(record["measures"]["interpolation"]))
        assert found["alphas"] == list(measures.ALPHAS) and set(found["both"]) == {"test", *SHIFTS}
        assert found["both"]["test"][-1] == pytest.approx(row.accuracy, abs=2.51)  # the record's logits are rounded
    zero = {tuple(v[0] for v in records.get(d)["measures"]["interpolation"]["both"].values()) for d in table["digest"]}
    assert len(zero) == 1
    model = pc.create_model("mini_clip", "linear", head="zero_shot")
    task = pc.load_task("world")
    images, labels, _ = take(task, "test", 40)
    assert next(iter(zero))[0] == pytest.approx(100 * float(predict(model, images).argmax(1).eq(labels).float().mean()))
