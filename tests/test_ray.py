"""A Ray cluster of real nodes on this machine, each with processes of its own."""

import json
import os
import re
import signal

import pytest
from helpers import ODD, ROOT, SLOW, ablation, finished, wait_for
from test_faults import EVERY_STEP, LONG, assert_as_undisturbed, start, undisturbed  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="Ray is not installed")


@pytest.fixture
def cluster(monkeypatch):
    """An owner's node without room for runs, and two nodes for one run each; none reached from elsewhere."""
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
    """Nothing is shared but the network; a run whose node is lost is run again on another."""
    folder = place(SLOW)
    process = start(folder, "--ray", cluster.address)
    wait_for(lambda: len(finished(folder)) >= 2)
    cluster.remove_node(cluster.two[0], allow_graceful=False)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    assert "8 runs to do on a Ray cluster of 3 nodes with room for 2 runs" in messages
    assert_as_undisturbed(folder, undisturbed(SLOW))
    assert "[8/8]" in messages
    assert not (folder / "results" / "checkpoints").exists()  # nobody else would see them


def test_a_lost_task_continues_from_a_shared_checkpoint(place, cluster, undisturbed):  # noqa: F811
    """A worker process is killed; what it had trained is not trained again."""
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
    """Trained once, though the task is tried again: what was handed over is the owner's."""
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
    assert "--ray must be the address of a cluster that runs, but '127.0.0.2:1' does not answer" in done.stderr
    done = ablation("run", "question.py", "--ray", cluster.address, "--gpus-per-run", "0.5", cwd=folder, check=2)
    assert "share of one of the cluster's 0 GPUs" in done.stderr
