"""The shipped records: each gives its digest again, and each file is as it was written."""

import pytest

from petl_core.study.packs import predictions_name
from petl_core.study.records import Records, RunSpec


@pytest.mark.parametrize(("folder", "count"), [("data/results", 2528), ("data/results/real", 452)])
def test_every_shipped_record_gives_its_digest_again(repository, folder, count):
    shipped = Records(repository / folder)
    assert len(shipped) == count
    by_task = {}
    for digest in shipped.digests():
        record = shipped.get(digest)
        assert RunSpec.from_dict(record["spec"]).digest == digest
        if record["predictions"]:
            by_task[predictions_name(record["spec"]["task"])] = digest
    for digest in by_task.values():
        assert len(shipped.predictions(digest)[0]) > 0
