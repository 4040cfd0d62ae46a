"""A Ray cluster of real nodes on this machine, each with its own processes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ODD, ROOT, SLOW, ablation, alive, environment, finished, wait_for
from test_faults import EVERY_STEP, LONG, assert_as_undisturbed, start, undisturbed  # noqa: F401 (a fixture)
from test_search import SearchProcess, ended_once, kill_at_random

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="Ray is not installed")


@pytest.fixture
def cluster(monkeypatch):
    """An owner's node without capacity, and two nodes for one run each; unreachable from outside."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "node_ip_address": "127.0.0.2", "include_dashboard": False}
    )
    made.two = [made.add_node(num_cpus=1, node_ip_address=f"127.0.0.{3 + i}") for i in range(2)]
    made.wait_for_nodes()
    try:
        yield made
    finally:
        made.shutdown()


def test_a_grid_on_a_cluster_that_loses_a_node(place, cluster, undisturbed):  # noqa: F811
    """Nodes share only the network; a run of a lost node runs again on another."""
    folder = place(SLOW)
    process = start(folder, "--ray", cluster.address)
    wait_for(lambda: len(finished(folder)) >= 2)
    cluster.remove_node(cluster.two[0], allow_graceful=False)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    assert "8 runs to do on a Ray cluster of 3 nodes with room for 2 runs" in messages
    assert_as_undisturbed(folder, undisturbed(SLOW))
    assert "[8/8]" in messages
    assert not (folder / "results" / "checkpoints").exists()  # no other node would see them


def test_a_lost_task_continues_from_a_shared_checkpoint(place, cluster, undisturbed):  # noqa: F811
    """Kills a worker process; its finished training is not repeated."""
    folder = place(LONG)
    process = start(folder, "--ray", cluster.address, "--checkpoints", "shared", *EVERY_STEP)
    wait_for(lambda: len(list((folder / "shared").glob("*.checkpoint"))) == 2)
    wait_for(lambda: " on node" in ablation("status", cwd=folder).stdout)
    status = ablation("status", cwd=folder).stdout
    worker = int(status.partition("process ")[2].partition(" on node")[0].split("process ")[-1])
    os.kill(worker, signal.SIGKILL)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    assert_as_undisturbed(folder, undisturbed(LONG))
    documents = [json.loads(path.read_text()) for path in (folder / "results").glob("*/training.json")]
    assert sorted(len(document["sittings"]) for document in documents) == [1, 2]


def test_a_training_is_kept_though_an_evaluation_ends_its_task(place, cluster):
    """Trained once, although the task is retried: the owner has the delivered training."""
    folder = place(ODD.replace("HOW", '("raise", "exit")'))
    done = ablation("run", "question.py", "--ray", cluster.address, "--only", "seed=0", cwd=folder, check=1)
    assert re.search(r"odd how=raise FAILED \(user code\): RuntimeError: .* \(question.py:\d+\)", done.stderr)
    assert "odd how=exit FAILED (worker lost): " in done.stderr
    assert re.search(r"knn \d+\.\d, linear \d+\.\d; ", done.stderr)
    (training,) = folder.glob("results/*/training.json")
    assert len(json.loads(training.read_text())["sittings"]) == 1
    assert "2 evaluations failed" in ablation("status", cwd=folder).stdout


def test_a_failing_run_and_a_wrong_address(place, cluster):
    folder = place(SLOW.replace("time.sleep(self.seconds)", "raise RuntimeError('no such image')"))
    done = ablation("run", "question.py", "--ray", cluster.address, "--workers", "1", cwd=folder, check=1)
    assert "8 of 8 runs failed" in done.stderr
    assert "RuntimeError: no such image" in done.stderr
    done = ablation("run", "question.py", "--ray", "127.0.0.2:1", cwd=folder, check=2)
    assert "--ray must be the address of a running cluster, but '127.0.0.2:1' does not answer" in done.stderr
    done = ablation("run", "question.py", "--ray", cluster.address, "--gpus-per-run", "0.5", cwd=folder, check=2)
    assert "share of one of the cluster's 0 GPUs" in done.stderr


def tasks_in(folder: Path) -> list[int]:
    """The cluster's computing processes, as in `ablation status`."""
    documents = [json.loads(path.read_text()) for path in (folder / "results" / "running").glob("*.json")]
    workers = [run["worker"] for document in documents for run in document["running"]]
    return [pid for worker in workers if alive(pid := int(worker.split()[1]))]


def test_a_search_on_a_cluster_counts_every_trial_once(tmp_path, cluster):
    """Kills tasks and owners at random times; then loses a node."""
    address = f"sqlite:///{tmp_path}/s.sqlite3"
    search = SearchProcess(tmp_path, address, "on-ray", "--ray", cluster.address, trials=8)
    kills, _ = kill_at_random(search, 8, lambda process: tasks_in(tmp_path))
    assert kills >= 1
    ended_once(search.study(), 8)
    more = SearchProcess(tmp_path, address, "on-ray", "--ray", cluster.address, trials=12)
    more.start()
    wait_for(lambda: more.complete() >= 9)
    cluster.remove_node(cluster.two[0], allow_graceful=False)
    assert "on a Ray cluster of 3 nodes with room for 2 runs" in more.finish()
    ended_once(more.study(), 12)


def test_a_watched_training_on_a_cluster_is_stopped(place, cluster):
    """The others are computed; it returns nothing."""
    code = """
import sys
sys.path.insert(0, sys.argv[3])
from test_machines import stopping
from ablation.execution.executor import JobOptions
from ablation.execution.ray import RayExecutor
from ablation.study.experiment_file import read

source = read("question.py", "tiny")
stopping(RayExecutor(JobOptions("cpu"), source, sys.argv[1], None, None), source, sys.argv[2])
"""
    folder = place(SLOW)
    tests = str(ROOT / "tests")
    arguments = [sys.executable, "-c", code, cluster.address, str(folder / "results"), tests]
    done = subprocess.run(arguments, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
