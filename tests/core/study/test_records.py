"""Records: written whole or not at all, read back exactly, damaged ones named and set aside."""

import json
import math
import os
import shutil

import numpy as np
import pytest
from made_records import make_run, make_spec

from petl_core.study.leases import HOST
from petl_core.study.records import COLUMNS, DamagedRecord, Records, RunSpec, StorageError
from petl_core.training.recipe import Recipe
from petl_core.utils import UserError


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
    monkeypatch.setattr("petl_core.study.spec.CODE_VERSION", 999)
    assert make_spec().digest != before


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
def test_a_damaged_file_is_named_and_set_aside(records, name, damage):
    spec, other = make_spec(), make_spec(seed=1)
    records.save(spec, make_run())
    records.save(other, make_run(1))
    path = records.root / spec.digest / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": b"\x00\xff" * 100}[damage])
    if (name, damage) == ("record.json", "gone"):
        assert not records.has(spec)  # never finished: it will be run again
    else:
        with pytest.raises(DamagedRecord, match=str(path)):
            (records.get if name == "record.json" else records.predictions)(spec)
    (message,) = records.clean()
    (aside,) = records.root.glob("set-aside-*")
    assert spec.digest in message and aside.name in message
    assert records.digests() == [other.digest] and records.clean() == []
    records.save(spec, make_run())
    assert records.predictions(spec)[0].tobytes() == make_run().logits.tobytes()


def test_an_accuracy_that_was_edited_is_refused(records):
    records.save(make_spec(), make_run(accuracy=32.0), "tuned")
    records.add_variant(make_spec(), "default")
    path = records.root / make_spec().digest / "record.json"
    path.write_text(path.read_text().replace("32.0", "92.0"))
    readers = [records.get, records.predictions, lambda spec: records.add_variant(spec, "x")]
    for read in (*readers, lambda _: records.table()):
        with pytest.raises(DamagedRecord, match="changed"):
            read(make_spec())


def test_a_record_of_an_older_version_without_checksums_is_refused(records):
    records.save(make_spec(), make_run())
    path = records.root / make_spec().digest / "record.json"
    path.write_text(json.dumps(records.get(make_spec())))
    with pytest.raises(DamagedRecord, match="older version"):
        records.get(make_spec())


def test_a_record_in_the_wrong_folder_is_damaged(records):
    records.save(make_spec(), make_run())
    shutil.copytree(records.root / make_spec().digest, records.root / make_spec(seed=1).digest)
    for read in (lambda: records.get(make_spec(seed=1)), records.table):
        with pytest.raises(UserError, match="another run"):
            read()


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """One to three bytes changed."""
    changed = bytearray(content)
    for place in random.integers(0, len(content), random.integers(1, 4)):
        changed[place] = random.choice([changed[place] ^ 1, random.integers(256), 0x31])
    return bytes(changed)


def test_no_changed_byte_is_read_as_a_number(records):
    """Of many random changes, each is refused with a clear error or leaves what is read as it was."""
    spec, random = make_spec(), np.random.default_rng(0)
    records.save(spec, make_run(), "tuned")
    record, answers = records.get(spec), records.predictions(spec)
    refused = 0
    for name, count in (("record.json", 300), ("predictions.npz", 100)):
        path = records.root / spec.digest / name
        content = path.read_bytes()
        for _ in range(count):
            path.write_bytes(mutated(content, random))
            try:
                assert records.get(spec) == record
                assert all(np.array_equal(a, b) for a, b in zip(records.predictions(spec), answers, strict=True))
            except DamagedRecord:
                refused += 1
        path.write_bytes(content)
    assert refused > 350


def test_a_full_disk_leaves_nothing_behind(records, monkeypatch):
    records.save(make_spec(seed=9), make_run())

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(StorageError, match=r"space.*--results"):
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
    places = [(HOST, 999999999), (HOST, os.getpid()), ("another machine", 999999999)]
    folders = [records.root / f".tmp-0123456789abcdef@{host}@{pid}" for host, pid in places]
    for folder in folders:
        folder.mkdir()
        (folder / "record.json").write_text("{")
    assert len(records) == len(records.table()) == 1
    records.clean()
    assert [folder.exists() for folder in folders] == [False, True, True]
