"""Which device a worker takes."""

from petl_core.study.runner import shared_out


def test_workers_take_the_gpus_in_turn() -> None:
    assert [shared_out("cuda", i, gpus=2) for i in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [shared_out("cuda", i, gpus=1) for i in range(2)] == ["cuda", "cuda"]
    assert shared_out("cuda:1", 0, gpus=2) == "cuda:1"
    assert shared_out("cpu", 3, gpus=2) == "cpu"
