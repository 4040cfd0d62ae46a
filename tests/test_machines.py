"""What runs where, what it costs, and how it is stopped by a scheduler."""

import itertools
import json
import os
import re
import signal
import subprocess
import time

import pytest
from helpers import GRID, ROOT, SLOW, ablation, command, environment, finished, small_training, wait_for

from ablation import machine
from ablation.cli import main
from ablation.cost import estimate
from ablation.engines import Job, Setup, Work, environment_of_a_worker, in_workers, processes, setup_of_a_worker
from ablation.engines.processes import visible_as
from ablation.loading import load, read
from ablation.results import Results, identified
from ablation.runner import plan
from ablation.specs import InvalidSpec


@pytest.mark.parametrize(
    ("number", "visible", "expected"),
    [(1, None, "1"), (1, "4,7", "7"), (0, "GPU-8932f937, GPU-1", "GPU-8932f937")],
)
def test_a_worker_sees_one_gpu(number, visible, expected, monkeypatch):
    """Also where this process sees only some; afterwards nothing is changed."""
    assert visible_as(number, visible) == expected
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with environment_of_a_worker(f"cuda:{number}"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_workers_that_all_die_end_a_grid(tmp_path, monkeypatch):
    (tmp_path / "question.py").write_text(
        "import multiprocessing, os\nif multiprocessing.parent_process():\n    os._exit(3)\n" + GRID
    )
    monkeypatch.setattr(processes, "DEATHS", 2)
    source = read(str(tmp_path / "question.py"), "tiny")
    jobs = plan(identified(load(source)), Results(tmp_path)).jobs
    with pytest.raises(InvalidSpec, match=r"workers.* 2 died.* exit code 3.*same command continues"):
        list(in_workers(jobs, lambda *_: None, 1, Setup("cpu"), source, ["cpu"]))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What a dry run expected of a grid, and the grid."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "question.py").write_text(GRID)
    expected = ablation("run", "question.py", "--dry-run", "--workers", "2", cwd=folder).stdout
    ablation("run", "question.py", "--workers", "2", cwd=folder)
    return folder, expected


def test_a_dry_run_tells_what_it_will_cost(ran):
    """Bytes to a quarter; of seconds only that there are some: these runs are too short to be foretold."""
    folder, said = ran
    pattern = r"expected of 8 runs, from .*with 2 at once, ([\d.]+) device-hours, (.*) MiB"
    found = re.search(pattern, said)
    assert 0 <= float(found[1]) < 0.1
    results = folder / "results"
    written = [path for path in results.rglob("*") if path.suffix in (".safetensors", ".npz")]
    assert float(found[2]) == pytest.approx(sum(p.stat().st_size for p in written) / 2**20, rel=0.25, abs=0.06)


def test_the_points_of_the_learning_curve_are_foretold(monkeypatch):
    """Both classifiers of a point, as often as the training will fit them."""
    monkeypatch.setattr("ablation.cost.validation_points", lambda *_: time.sleep(0.5))
    training = small_training()
    shapes = [training.optimization.replace(epochs=4, curve_every=every) for every in (0, 1)]
    works = [Work(training.replace(optimization=shape), ()) for shape in shapes]
    without, at_each = (estimate([Job("0" * 12, (), "cell=0", work)], ["cpu"], 1).seconds for work in works)
    assert at_each - without == pytest.approx(4 * 0.5, abs=0.8)


def test_status_tells_what_it_has_cost(ran, capsys):
    folder, _ = ran
    assert main(["status", "--cost", "--results", str(folder / "results")]) == 0
    documents = [json.loads(path.read_text()) for path in (folder / "results").glob("*/training.json")]
    hours = sum(document["seconds"] for document in documents) / 3600
    said = capsys.readouterr().out
    assert "8 runs, " in said
    assert f"(training {hours:.4f}, evaluation " in said
    assert f"at most {max(d['peak_memory_bytes'] for d in documents) / 2**20:.0f} MiB of memory" in said


@pytest.mark.parametrize("text", ["8/8", "1.5/8", "1", "a/b", "1/0"])
def test_a_shard_that_is_none(text, tmp_path, capsys):
    (tmp_path / "question.py").write_text(GRID)
    assert main(["run", str(tmp_path / "question.py"), "--shard", text, "--results", str(tmp_path / "r")]) == 2
    assert "--shard must be I/N with I from 0 to N - 1" in capsys.readouterr().err


def test_every_run_belongs_to_one_shard(tmp_path):
    (tmp_path / "question.py").write_text(GRID)
    whole = plan(identified(load(read(str(tmp_path / "question.py"), "tiny"))), Results(tmp_path))
    parts = [[job.training_id for job in whole.of_shard(i, 3).jobs] for i in range(3)]
    assert sorted(itertools.chain(*parts)) == sorted(job.training_id for job in whole.jobs)


@pytest.mark.slow
def test_the_job_array_puts_itself_back_into_the_queue(place):
    """docs/slurm.sh with a stand-in for SLURM's own command, twice: told to end, and to the end."""
    folder = place(SLOW)
    bin_ = folder / "bin"
    bin_.mkdir()
    for name, code in {"scontrol": 'echo "$@" >> requeued', "ablation": f'exec {" ".join(command())} "$@"'}.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{code}\n")
        (bin_ / name).chmod(0o755)
    slurm = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7"}
    variables = environment() | slurm | {"PATH": f"{bin_}:{os.environ['PATH']}"}

    def job():
        script = ["bash", str(ROOT / "docs" / "slurm.sh"), "1", "question.py", "--workers", "2"]
        return subprocess.Popen(script, cwd=folder, env=variables, stderr=subprocess.PIPE, text=True)

    first = job()
    wait_for(lambda: len(finished(folder)) >= 1)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert (folder / "requeued").read_text() == "requeue 7_0\n"
    assert first.returncode == 0
    before = finished(folder)
    assert 0 < len(before) < 8
    second = job()
    second.communicate(timeout=200)
    assert second.returncode == 0
    assert len(finished(folder)) == 8
    assert {name: finished(folder)[name] for name in before} == before


def test_energy_is_the_devices_divided_by_who_shares_it(tmp_path, monkeypatch):
    """Also where the counter starts again from zero; a package's parts are in it."""
    monkeypatch.setattr(machine, "POWERCAP", tmp_path)

    def counters(joules: float) -> None:
        for name, share in (("intel-rapl:0", 1.0), ("intel-rapl:0:0", 0.5), ("intel-rapl:1", 1.0)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "energy_uj").write_text(f"{round(1e6 * share * joules)}\n")
            (tmp_path / name / "max_energy_range_uj").write_text("1000000000\n")

    assert machine.Meter("cpu").joules() is None
    counters(900.0)
    alone, shared = machine.Meter("cpu"), machine.Meter("cpu", 1 / 4)
    counters(990.0)
    assert alone.joules() == pytest.approx(2 * 90)
    counters(30.0)  # 1,000 is 0
    assert alone.joules() == pytest.approx(2 * 130)
    assert shared.joules() == pytest.approx(2 * 130 / 4)
    assert machine.Meter("cpu").sitting(0)["energy_joules"] == 0


@pytest.mark.parametrize(("workers", "devices"), [(1, 1), (4, 1), (2, 2), (5, 2), (3, 4)])
def test_workers_share_a_devices_energy(workers, devices):
    """All of each device that has a worker is counted once, also of one that is named twice."""
    names = [f"cuda:{i}" for i in range(devices)]
    for named in (names, [*names, names[0]]):
        shares = [setup_of_a_worker(Setup("cuda"), i, workers, named).share for i in range(workers)]
        assert sum(shares) == pytest.approx(min(workers, devices))
