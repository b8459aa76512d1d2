"""Runs on a real Ray cluster of two nodes on this machine, one of which is killed; and what is refused without one."""

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch

from petl_core import cli
from petl_core.study import plan as study
from petl_core.study.execute import order_of
from petl_core.study.executor import Planned
from petl_core.study.profile import Part
from petl_core.study.profiles import profile
from petl_core.study.ray_executor import RayExecutor, do_run
from petl_core.study.records import Records
from petl_core.utils import UserError

STORE = 80 * 2**20  # bytes of each node's object store, about the least that Ray takes
HERE = {"object_store_memory": STORE, "include_dashboard": False, "num_cpus": 1}
CONNECT = socket.socket.connect  # before a test may only reach 127.0.0.1: Ray's processes meet at the machine's address


@pytest.fixture
def plan(backbone) -> list[Planned]:
    """Six runs of about a second each, final ones among them."""
    values = {"tasks": ("digits",), "methods": ("lora",), "parts": (Part("tuned"),), "backbone": backbone, "trials": 3}
    chosen = dataclasses.replace(profile("smoke"), max_train=None, max_evaluate=50, **values)
    longer = [dataclasses.replace(p.spec.recipe, epochs=6) for p in study.plan_trials(chosen)]
    trials = [dataclasses.replace(p.spec, recipe=r) for p, r in zip(study.plan_trials(chosen), longer, strict=True)]
    finals = [dataclasses.replace(spec, train_on="train1000", evaluate_on="test") for spec in trials]
    return [Planned(spec, "x") for spec in (*trials, *finals)]


@pytest.fixture
def ray_folder(monkeypatch):
    """A folder for all that Ray keeps, so that nothing which another run or cluster left in /tmp/ray counts."""
    folder = Path(tempfile.mkdtemp(prefix="petl", dir="/tmp"))  # short: a socket's name is at most 107 bytes
    (folder / "ray").mkdir()  # Ray writes a cluster's address there without making it
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder / "ray"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(monkeypatch, ray_folder):
    """A head node and another one, of one CPU each, which notice within two seconds that the other is gone."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(socket.socket, "connect", CONNECT)
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    made = Cluster(shutdown_at_exit=False)
    try:
        made.add_node(**HERE, _system_config=quick, temp_dir=str(ray_folder))
        made.other = made.add_node(**HERE)
        yield made
    finally:
        with contextlib.suppress(Exception):
            ray.shutdown()
        made.shutdown()


def does_a_run(node) -> bool:
    """Is a worker process of this node of the cluster in the middle of a run?"""
    raylet = node.all_processes["raylet"][0].process.pid
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == raylet and b"do_run" in (path.parent / "cmdline").read_bytes():
                return True
    return False


@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_record_and_no_bit(cluster, plan, tmp_path, wait_for):
    def kill() -> None:
        wait_for(lambda: does_a_run(cluster.other))
        cluster.remove_node(cluster.other, allow_graceful=False)

    thread = threading.Thread(target=kill)
    thread.start()
    wrong = dataclasses.replace(plan[0].spec, task_digest="other data")
    there = Records(tmp_path / "ray")
    with RayExecutor(there, cluster.address) as executor:
        assert executor.capacity() == 2
        outcome = executor.run([*plan, Planned(wrong, "x")])
        thread.join()
        assert executor.capacity() == 1
        again = executor.run(plan)
    assert outcome.done == len(plan) and outcome.again >= 1
    assert f"{outcome.again} runs were begun again" in outcome.report()
    ((spec, reason),) = outcome.failures
    assert spec == wrong
    assert f"on {os.uname().nodename}: task 'digits' has data" in reason
    assert (again.done, again.skipped) == (0, len(plan))

    here = Records(tmp_path / "local")
    assert study.run_plan(plan, here, workers=0, progress=False).done == len(plan)
    assert there.digests() == here.digests()
    for digest in here.digests():
        one, other = there.get(digest), here.get(digest)
        assert one["logits_sha256"] == other["logits_sha256"] and one["metrics"] == other["metrics"]
        assert one["variants"] == ["x"] and one["environment"]["threads"] == 1
        if one["predictions"]:
            assert (there.predictions(digest)[0] == here.predictions(digest)[0]).all()


def test_a_worker_gives_back_the_record_that_a_folder_would_have(plan, tmp_path, repository):
    spec = plan[-1].spec
    order = order_of(spec, "x")
    threads = torch.get_num_threads()
    try:
        reply = do_run(order, "cpu", str(tmp_path))
        older = do_run({**order, "digest": "0" * 16}, "cpu", "/no/such/folder")
    finally:
        torch.set_num_threads(threads)
        os.chdir(repository)
    records = Records(tmp_path / "runs")
    records.add(reply.record, reply.predictions)
    assert records.get(spec)["variants"] == ["x"]
    assert records.predictions(spec)[0].shape == (50, 10)
    assert older.record is None and "another version" in older.error and os.uname().nodename in older.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "nonsense"}, "it must be auto, local, HOST:PORT or ray://HOST:PORT"),
        ({"address": "127.0.0.1:1"}, "no Ray cluster could be joined at address '127.0.0.1:1'.*ray start --head"),
        ({"address": "ray://127.0.0.1:1"}, "no Ray cluster could be joined at address 'ray://127.0.0.1:1'"),
        ({"address": "auto"}, "no Ray cluster could be joined at address 'auto'"),
        ({"device": "mps"}, "device is 'mps'; runs on a Ray cluster are on cpu or cuda"),
        ({"device": "cuda", "gpus_per_run": 1.5}, "gpus_per_run is 1.5; it must be more than 0 and at most 1"),
        ({"gpus_per_run": 0.5}, "gpus_per_run is 0.5; it must be 0 on cpu"),
        ({"workers": 0}, "workers is 0; with Ray it must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, monkeypatch, ray_folder, options, message):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=message):
        RayExecutor(Records(tmp_path), **options)


def test_without_ray_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=re.escape("pip install 'ray>=2.40,<3'")):
        RayExecutor(Records(tmp_path), "local")


@pytest.mark.parametrize("options", [["--gpus-per-run", "0.5"], ["--address", "local"]])
def test_options_of_ray_are_refused_without_it(capsys, tmp_path, options):
    assert cli.main(["study", "--profile", "smoke", "--results", str(tmp_path), *options]) == 2
    assert f"{options[0]} is for --executor ray" in capsys.readouterr().err


SCRIPT = Path(study.__file__).with_name("ray_on_slurm.sbatch")
FAKES = {  # two machines that are both this one
    "scontrol": 'printf "one\\ntwo\\n"',
    "srun": 'while [[ "$1" == --* ]]; do shift; done\nexec "$@"',
}


def test_the_slurm_script_is_well_formed():
    assert subprocess.run(["bash", "-n", SCRIPT], capture_output=True, text=True).stderr == ""


@pytest.mark.slow
def test_the_slurm_script_runs_a_study_and_leaves_nothing_running(backbone, tmp_path, ray_folder, repository):
    pytest.importorskip("ray")
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "x", "SLURM_JOB_NUM_NODES": "2"}
    environment |= {"SLURM_CPUS_PER_TASK": "1", "PYTHONPATH": str(repository)}
    runs = tmp_path / "runs"
    command = ["bash", str(SCRIPT), "--profile", "smoke", "--part", "default", "--backbone", backbone]
    done = subprocess.run(
        [*command, "--results", str(runs)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 runs done, 0 were there already, 0 failed" in done.stdout
    assert len(Records(runs)) == 12
    port = str(20000 + os.getpid() % 20000)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert f":{port}" not in path.read_text(), "a process of the cluster is still there"
