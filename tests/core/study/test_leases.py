"""Leases: which are void, and that one of many that want a run gets it."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from petl_core.study import leases


@pytest.mark.parametrize(
    ("holder", "age", "free"),
    [
        ({"host": leases.HOST, "pid": 999999999}, 0, True),
        ({"host": leases.HOST, "pid": os.getpid()}, 0, False),
        ({"host": leases.HOST, "pid": os.getpid()}, leases.EXPIRES + 1, True),
        ({"host": "another machine", "pid": 999999999}, 0, False),
        ({"host": "another machine", "pid": 1}, leases.EXPIRES + 1, True),
        ("cut", 0, False),
        ("cut", leases.EXPIRES + 1, True),
    ],
)
def test_a_lease_is_void_when_its_holder_is_gone_or_it_expired(tmp_path, holder, age, free):
    path = tmp_path / ".lease-0123456789abcdef"
    path.write_text('{"ho' if holder == "cut" else json.dumps(holder))
    os.utime(path, (time.time() - age, time.time() - age))
    with leases.Leases(tmp_path) as mine, leases.Leases(tmp_path) as other:
        assert mine.take("0123456789abcdef") == free
        assert not other.take("0123456789abcdef")
    assert path.exists() != free
    assert not list(tmp_path.glob(".tmp*"))


def test_a_lease_is_renewed_while_it_is_held(tmp_path, monkeypatch, wait_for):
    monkeypatch.setattr(leases, "RENEWED", 0.02)
    with leases.Leases(tmp_path) as mine:
        mine.take("d")
        path = tmp_path / ".lease-d"
        os.utime(path, (0, 0))
        wait_for(lambda: path.stat().st_mtime > 1, 5)


def test_of_many_that_want_a_void_lease_one_gets_it(tmp_path):
    path = tmp_path / ".lease-d"
    for _ in range(20):
        path.write_text(json.dumps({"host": leases.HOST, "pid": 999999999}))
        holders = [leases.Leases(tmp_path) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda holder: holder.take("d"), holders)) == 1
        path.unlink()
