"""Packs: equal to their records, small, and verified by checksums."""

import os

import numpy as np
import pytest
from made_records import make_run, make_spec

from petl_core.study.packs import pack
from petl_core.study.records import Records, StorageError
from petl_core.utils import UserError


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
    tasks = ["predictions_digits.npz", "predictions_vtab_some_where.npz"]
    assert sorted(os.listdir(shipped.root)) == ["checksums.json", "environments.json", *tasks, "records.jsonl"]
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
    wanted = [make_spec(seed=0).digest, make_spec(seed=0, task="vtab:some/where").digest]
    keep = lambda record: record["spec"]["task"] != "digits"  # noqa: E731
    shipped = packed(records, tmp_path, digests=wanted, keep_logits=keep)
    assert shipped.digests() == sorted(wanted)
    assert len(shipped.predictions(wanted[1])[0]) == 50
    with pytest.raises(UserError, match=wanted[0]):
        shipped.predictions(wanted[0])
    with pytest.raises(UserError, match="no record"):
        shipped.get(make_spec(seed=1))


def test_packs_are_small(records, tmp_path):
    for seed in range(30):  # logits as a trained head gives them: 1,000 images, 10 classes
        random = np.random.default_rng(seed)
        logits = (random.normal(size=(1000, 10)) * 3).astype(np.float16)
        records.save(make_spec(seed=seed), make_run(seed, 1000, logits=logits), "tuned")
    shipped = packed(records, tmp_path)
    size = sum(path.stat().st_size for path in shipped.root.iterdir())
    assert size / 30 < 20_000  # 600 final runs in 12 MB


FILES = ["records.jsonl", "environments.json", "predictions_digits.npz", "checksums.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_pack_is_named(records, tmp_path, name, damage):
    fill(records)
    path = packed(records, tmp_path).root / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if (name, damage) == ("records.jsonl", "gone"):
        assert Records(path.parent).pack is None
        return
    with pytest.raises(UserError, match=f"{name}.*damaged"):
        Records(path.parent).predictions(make_spec())


def test_no_changed_byte_of_a_pack_is_read_as_a_number(records, tmp_path):
    fill(records)
    whole, random, refused = packed(records, tmp_path), np.random.default_rng(0), 0
    root, (logits, *_) = whole.root, whole.predictions(make_spec())
    for name in FILES:
        path = root / name
        content = path.read_bytes()
        for _ in range(100):
            changed = bytearray(content)
            changed[random.integers(len(content))] ^= int(random.integers(1, 256))
            path.write_bytes(changed)
            try:  # a space in the list of checksums, or the checksum of a file that is not read, does no harm
                assert Records(root).table().equals(whole.table())
                assert np.array_equal(Records(root).predictions(make_spec())[0], logits)
            except UserError as error:
                refused += str(root) in str(error)
        path.write_bytes(content)
    assert refused > 350


def test_nothing_to_pack_is_said(records, tmp_path):
    with pytest.raises(UserError, match="no records to pack"):
        pack(records, tmp_path / "pack")
