"""Records: written whole or not at all, read back exactly, damaged ones named, packs equal to their records."""

import dataclasses
import json
import math
import os
import shutil

import numpy as np
import pytest

from petl_core.study.records import COLUMNS, Records, RunSpec, StorageError, pack, unpack
from petl_core.training.train import Recipe, Run
from petl_core.utils import UserError


def make_spec(**changes) -> RunSpec:
    values = {"backbone": "mini", "weights": "w", "method": "lora", "hyper": {"rank": 4}, "task": "digits"}
    return RunSpec(**{**values, "task_digest": "d", "recipe": Recipe(lr=1e-3, epochs=2), **changes})


def make_run(seed: int = 0, count: int = 50, diverged: bool = False, **changes) -> Run:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 4)).astype(np.float16)
    labels = np.arange(count) % 4
    score = math.nan if diverged else 100 * float(np.mean(logits.argmax(1) == labels))
    history = [{"epoch": 1, "loss": 1.25, "train_accuracy": 40.0, "lr": 1e-3}]
    run = Run(score, "test", logits, labels, tuple(f"id{i}" for i in range(count)), 55.0, 1.5, diverged, history, 8, 99,
              "natural", 700.0)  # fmt: skip
    return dataclasses.replace(run, **changes)


@pytest.fixture
def records(tmp_path) -> Records:
    return Records(tmp_path / "runs")


def test_the_digest_names_everything_that_decides_a_result():
    base = make_spec()
    assert len(base.digest) == 16
    assert base.digest == make_spec().digest
    changes = [
        {"backbone": "mini_clip"}, {"weights": "v"}, {"hyper": {"rank": 8}},
        {"task": "glyphs"}, {"task_digest": "e"}, {"seed": 1}, {"train_on": "train800"}, {"evaluate_on": "val200"},
        {"track": True}, {"max_train": 10}, {"max_evaluate": 10}, {"image_size": 64},
        {"recipe": Recipe(lr=2e-3, epochs=2)}, {"recipe": Recipe(lr=1e-3, epochs=2, decay="all")},
    ]  # fmt: skip
    assert len({make_spec(**change).digest for change in changes} | {base.digest}) == len(changes) + 1


def test_defaults_written_out_or_left_out_give_the_same_digest():
    assert make_spec(hyper={}).digest == make_spec(hyper={"rank": 8, "dropout": 0.1}).digest


def test_fields_that_came_later_are_not_written_at_their_default_and_count_otherwise():
    """So that older records keep their digests."""
    base = make_spec()
    values = base.to_dict()
    assert not {"head", "measure"} & values.keys() and not {"l2_sp", "layer_decay"} & values["recipe"].keys()
    changed = [
        make_spec(head="zero_shot"),
        make_spec(measure=("displacement",)),
        make_spec(recipe=Recipe(lr=1e-3, epochs=2, l2_sp=1.0)),
        make_spec(recipe=Recipe(lr=1e-3, epochs=2, layer_decay=0.5)),
    ]
    assert len({spec.digest for spec in changed} | {base.digest}) == 5
    for spec in changed:
        assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_the_code_version_is_part_of_the_digest(monkeypatch):
    before = make_spec().digest
    monkeypatch.setattr("petl_core.study.records.CODE_VERSION", 999)
    assert make_spec().digest != before


def test_a_spec_survives_json():
    spec = make_spec(max_train=5)
    again = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.digest == spec.digest


def test_a_spec_with_an_unknown_method_or_hyper_parameter_is_refused():
    with pytest.raises(ValueError, match="unknown method"):
        make_spec(method="lorra")
    with pytest.raises(ValueError, match="it has: rank"):
        make_spec(hyper={"rnk": 4})


def test_what_is_saved_comes_back(records):
    spec, run = make_spec(), make_run(best_accuracy=61.0, best_epoch=1)
    assert not records.has(spec)
    records.save(spec, run, "tuned")
    assert records.has(spec)
    assert records.has(spec.digest)
    record = records.get(spec)
    assert RunSpec.from_dict(record["spec"]) == spec
    assert record["metrics"]["accuracy"] == run.accuracy
    assert record["best"] == {"on": "test", "accuracy": 61.0, "epoch": 1}
    assert record["environment"]["versions"]["torch"]
    assert record["variants"] == ["tuned"]
    logits, labels, ids = records.predictions(spec)
    assert logits.tobytes() == run.logits.tobytes()
    assert labels.dtype == np.int64
    assert (labels == run.labels).all()
    assert ids == run.ids
    assert 100 * np.mean(logits.argmax(1) == labels) == record["metrics"]["accuracy"]
    assert sorted(os.listdir(records.root)) == [spec.digest]


def test_the_table_has_the_agreed_columns_and_a_row_for_each_variant(records):
    spec = make_spec()
    records.save(spec, make_run(), "tuned")
    records.add_variant(spec, "drop_path_0")
    records.add_variant(spec, "tuned")
    trial = make_spec(evaluate_on="val200", train_on="train800")
    records.save(trial, make_run(diverged=True, evaluated_on="val200"), "trial")
    table = records.table()
    assert list(table.columns) == COLUMNS
    assert sorted(table.variant) == ["drop_path_0", "trial", "tuned"]
    row = table[table.variant == "tuned"].iloc[0]
    assert (row.digest, row.method, row["size"], row.task, row.group) == (spec.digest, "lora", 4, "digits", "natural")
    assert (row.lr, row.epochs, row.seed, row.stage, row.params) == (1e-3, 2, 0, "final", 99)
    assert json.loads(row.hyper)["rank"] == 4
    row = table[table.variant == "trial"].iloc[0]
    assert row.stage == "trial"
    assert row.diverged
    assert math.isnan(row.accuracy)
    assert records.get(spec)["variants"] == ["drop_path_0", "tuned"]


def test_an_empty_folder_gives_an_empty_table(records):
    assert len(records) == 0
    assert list(records.table().columns) == COLUMNS
    with pytest.raises(UserError, match="no record"):
        records.get(make_spec())


def test_trials_keep_no_predictions(records):
    trial = make_spec(evaluate_on="val200")
    records.save(trial, make_run(evaluated_on="val200"))
    assert os.listdir(records.root / trial.digest) == ["record.json"]
    with pytest.raises(UserError, match="is a trial"):
        records.predictions(trial)


def test_saving_again_keeps_the_first(records):
    records.save(make_spec(), make_run(0))
    records.save(make_spec(), make_run(1))
    assert records.predictions(make_spec())[0].tobytes() == make_run(0).logits.tobytes()
    assert sorted(os.listdir(records.root)) == [make_spec().digest]


@pytest.mark.parametrize("name", ["record.json", "predictions.npz"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "gone"])
def test_a_damaged_file_is_named(records, name, damage):
    spec = make_spec()
    records.save(spec, make_run())
    path = records.root / spec.digest / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": b"\x00\xff" * 100}[damage])
    if (name, damage) == ("record.json", "gone"):
        assert not records.has(spec)  # never finished: it will be run again
        return
    read = records.get if name == "record.json" else records.predictions
    with pytest.raises(UserError, match=name.replace(".", r"\.") + ".*damaged.*run it again"):
        read(spec)


def test_a_record_in_the_wrong_folder_is_damaged(records):
    records.save(make_spec(), make_run())
    shutil.copytree(records.root / make_spec().digest, records.root / make_spec(seed=1).digest)
    with pytest.raises(UserError, match="belongs to another run"):
        records.get(make_spec(seed=1))
    with pytest.raises(UserError, match="belongs to another run"):
        records.table()


def test_a_full_disk_leaves_nothing_behind(records, monkeypatch):
    records.save(make_spec(seed=9), make_run())

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(StorageError, match=r"No space left on device.*--results"):
        records.save(make_spec(), make_run())
    assert os.listdir(records.root) == [make_spec(seed=9).digest]


def test_unwritable_places_are_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        Records(tmp_path / "file")
    with pytest.raises(StorageError, match="cannot write records"):
        Records(tmp_path / "file" / "below").check_writable()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="allow writing"):
        Records(tmp_path).check_writable()


def test_what_a_killed_process_left_is_ignored_and_cleaned(records):
    records.save(make_spec(), make_run())
    dead, alive = (records.root / f".tmp-0123456789abcdef-{pid}" for pid in (999999999, os.getpid()))
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "record.json").write_text("{")
    assert len(records) == len(records.table()) == 1
    records.clean()
    assert not dead.exists()
    assert alive.exists()


def packed(records: Records, tmp_path, **options) -> Records:
    return Records(pack(records, tmp_path / "pack", **options))


def fill(records: Records, seeds=(0, 1, 2)) -> None:
    for task in ("digits", "vtab:some/where"):
        for seed in seeds:
            records.save(make_spec(task=task, seed=seed), make_run(seed), "tuned")
    records.save(make_spec(evaluate_on="val200", train_on="train800"), make_run(7, evaluated_on="val200"), "trial")
    records.save(make_spec(seed=9), make_run(diverged=True), "default")


def test_a_pack_holds_the_same(records, tmp_path):
    fill(records)
    shipped = packed(records, tmp_path)
    assert sorted(os.listdir(shipped.root)) == [
        "environments.json", "predictions_digits.npz", "predictions_vtab_some_where.npz", "records.jsonl"
    ]  # fmt: skip
    assert shipped.digests() == records.digests()
    assert shipped.table().equals(records.table())
    for digest in records.digests():
        assert shipped.has(digest)
        ours, theirs = shipped.get(digest), records.get(digest)
        assert {**ours, "history": 0} == {**theirs, "history": 0}
        if theirs["predictions"]:
            for a, b in zip(shipped.predictions(digest), records.predictions(digest), strict=True):
                assert np.array_equal(a, b)
            assert shipped.predictions(digest)[0].dtype == np.float16
    with pytest.raises(StorageError, match="read-only"):
        shipped.save(make_spec(seed=77), make_run())
    with pytest.raises(StorageError, match="read-only"):
        shipped.check_writable()


def test_a_pack_can_be_packed_again(records, tmp_path):
    fill(records)
    shipped = packed(records, tmp_path)
    again = Records(pack(shipped, tmp_path / "again"))
    for name in os.listdir(shipped.root):
        assert (again.root / name).read_bytes() == (shipped.root / name).read_bytes()


def test_a_pack_keeps_only_the_predictions_and_records_asked_for(records, tmp_path):
    fill(records)
    records.save(make_spec(seed=5), make_run(5), "default")
    wanted = [make_spec(seed=0).digest, make_spec(seed=5).digest]
    shipped = packed(records, tmp_path, digests=wanted, predictions_of=["tuned"])
    assert shipped.digests() == sorted(wanted)
    assert len(shipped.predictions(wanted[0])[0]) == 50
    with pytest.raises(UserError, match="holds no predictions"):
        shipped.predictions(wanted[1])
    with pytest.raises(UserError, match="no record"):
        shipped.get(make_spec(seed=1))


def test_a_pack_leaves_out_the_logits_of_a_task(records, tmp_path):
    fill(records)
    shipped = packed(records, tmp_path, predictions_of=["tuned"], without=["digits"])
    assert shipped.digests() == records.digests()
    with pytest.raises(UserError, match="holds no predictions"):
        shipped.predictions(make_spec())
    assert len(shipped.predictions(make_spec(task="vtab:some/where"))[0]) == 50


def test_packs_are_small(records, tmp_path):
    for seed in range(30):  # logits as a trained head gives them: 1,000 images, 10 classes
        random = np.random.default_rng(seed)
        logits = (random.normal(size=(1000, 10)) * 3).astype(np.float16)
        records.save(make_spec(seed=seed), make_run(seed, 1000, logits=logits), "tuned")
    shipped = packed(records, tmp_path)
    size = sum(path.stat().st_size for path in shipped.root.iterdir())
    assert size / 30 < 20_000  # 600 final runs in 12 MB


@pytest.mark.parametrize("name", ["records.jsonl", "environments.json", "predictions_digits.npz"])
def test_a_damaged_pack_is_named(records, tmp_path, name):
    fill(records)
    path = packed(records, tmp_path).root / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"damaged.*fresh copy"):
        Records(path.parent).predictions(make_spec())


def test_nothing_to_pack_is_said(records, tmp_path):
    with pytest.raises(UserError, match="no records to pack"):
        pack(records, tmp_path / "pack")


def test_packed_records_can_be_taken_over_and_added_to(records, tmp_path):
    trial, final, bare = make_spec(evaluate_on="val200"), make_spec(), make_spec(seed=1)
    records.save(trial, make_run(evaluated_on="val200"), "trial")
    records.save(final, make_run(), "tuned")
    records.save(bare, make_run(1), "default")
    shipped = Records(pack(records, tmp_path / "shipped", predictions_of=["tuned"]))
    again = Records(tmp_path / "again")
    again.save(trial, make_run(2, evaluated_on="val200"), "mine")
    assert unpack(shipped, again, [trial.digest, final.digest, bare.digest, "not shipped"]) == 2
    assert again.get(trial)["variants"] == ["mine"]
    assert again.get(final) == {**records.get(final), "variants": []}  # the study that wants it says which
    assert again.predictions(final)[0].tobytes() == records.predictions(final)[0].tobytes()
    assert again.get(bare)["metrics"] == records.get(bare)["metrics"]
    with pytest.raises(UserError, match="keeps no predictions"):
        again.predictions(bare)
    again.save(make_spec(seed=2), make_run(3), "mine")
    with pytest.raises(StorageError, match="read-only"):
        unpack(again, shipped, again.digests())
