"""Devices, costs, and stopping by a scheduler."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from helpers import (
    GRID,
    ROOT,
    SLOW,
    SMALL,
    SMALL_EXPERIMENT,
    ablation_here,
    command,
    environment,
    finished,
    small_training,
    wait_for,
)

from ablation.cli import main
from ablation.evaluate import KNN, FineTune
from ablation.execution import pool
from ablation.execution.estimate import estimate
from ablation.execution.executor import Job, JobOptions, Listener, Work
from ablation.execution.inline import InlineExecutor
from ablation.execution.plan import make_plan
from ablation.execution.pool import PoolExecutor, environment_of_a_worker, visible_as
from ablation.execution.store import Results, identified
from ablation.spec import Run, WorkerError
from ablation.study.experiment_file import load, read


@pytest.mark.parametrize(
    ("number", "visible", "expected"),
    [(1, None, "1"), (1, "4,7", "7"), (0, "GPU-8932f937, GPU-1", "GPU-8932f937")],
)
def test_a_worker_sees_one_gpu(number, visible, expected, monkeypatch):
    """Also if this process sees only some; changes nothing permanently."""
    assert visible_as(number, visible) == expected
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with environment_of_a_worker(f"cuda:{number}"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_worker_has_one_thread(device):
    """Also beside a GPU, where 16 threads slowed the host down."""
    code = (
        "import torch; from ablation.execution.worker import configure_worker; torch.set_num_threads(2); "
        f"configure_worker({device!r}); print(torch.get_num_threads())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == "1"


def test_workers_that_all_die_end_a_grid(tmp_path, monkeypatch):
    (tmp_path / "question.py").write_text(
        "import multiprocessing, os\nif multiprocessing.parent_process():\n    os._exit(3)\n" + GRID
    )
    monkeypatch.setattr(pool, "DEATHS", 2)
    source = read(str(tmp_path / "question.py"), "tiny")
    jobs = make_plan(identified(load(source)), Results(tmp_path)).jobs
    with pytest.raises(WorkerError, match=r"2 workers died.* exit code 3.*same command continues"):
        list(PoolExecutor(JobOptions("cpu"), source, ["cpu"], 1).run(jobs, Listener()))


def stopping(executor, source, results) -> set[str]:
    """Stops the first of three watched trainings after its second epoch; returns the processes that computed."""
    jobs = [replace(job, watched=True) for job in make_plan(identified(load(source)), Results(results)).jobs[:3]]
    rows, who = [], set()

    class Stopping(Listener):
        def progress(self, worker, job, fraction):
            who.add(worker)

        def epoch(self, job, row):
            rows.append((job.name, row["epoch"]))
            return job.name != jobs[0].name or row["epoch"] < 2

    outcomes = list(executor.run(jobs, Stopping()))
    stopped, others = [o for o in outcomes if o.part.failure], [o for o in outcomes if not o.part.failure]
    assert [(o.job.name, o.part.failure.kind) for o in stopped] == [(jobs[0].name, "stopped")]
    assert {o.job.name for o in others} == {job.name for job in jobs[1:]}
    for job in jobs[1:]:
        assert [epoch for name, epoch in rows if name == job.name] == [1, 2, 3, 4, 5, 6]
        assert [o.part.evaluation_id for o in others if o.job == job] == list(job.parts)
    return who


@pytest.mark.parametrize("workers", [1, 2])
def test_a_watched_training_is_stopped_where_the_listener_says(workers, place):
    """Inline and in workers, which continue with the next job."""
    source = read(str(place(SLOW.replace("0.05", "0.0")) / "question.py"), "tiny")
    options = JobOptions("cpu")
    executor = InlineExecutor(options) if workers == 1 else PoolExecutor(options, source, ["cpu"], workers)
    assert len(stopping(executor, source, Path(source.path).parent / "results")) == workers


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A dry run's estimate for a grid, and the grid."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "question.py").write_text(GRID)
    expected = ablation_here("run", "question.py", "--dry-run", "--workers", "2", cwd=folder).stdout
    ablation_here("run", "question.py", "--workers", "1", cwd=folder)
    return folder, expected


def test_a_dry_run_tells_what_it_will_cost(ran):
    """Bytes within a quarter; seconds only above 0, since these runs are too short to predict."""
    folder, said = ran
    pattern = r"estimate for 8 runs .*2 at once, ([\d.]+) device-hours, (.*) MiB"
    found = re.search(pattern, said)
    assert 0 <= float(found[1]) < 0.1
    results = folder / "results"
    written = [path for path in results.rglob("*") if path.suffix in (".safetensors", ".npz")]
    assert float(found[2]) == pytest.approx(sum(p.stat().st_size for p in written) / 2**20, rel=0.25, abs=0.06)


def test_the_points_of_the_learning_curve_are_foretold(monkeypatch):
    """Both classifiers of a point, as often as the training fits them."""
    monkeypatch.setattr("ablation.execution.estimate.curve_points", lambda *_: time.sleep(0.5))
    training = small_training()
    shapes = [training.optimization.replace(epochs=4, curve_every=every) for every in (0, 1)]
    works = [Work(training.replace(optimization=shape), ()) for shape in shapes]
    without, at_each = (estimate([Job("0" * 12, (), "cell=0", work)], ["cpu"], 1).seconds for work in works)
    assert at_each - without == pytest.approx(4 * 0.5, abs=0.8)


def test_fine_tuning_is_foretold(monkeypatch):
    """By its own steps, also if its batch is larger than the images of a probe. Twice the epochs take twice as long."""
    times = itertools.count()
    monkeypatch.setattr("ablation.execution.estimate.time.perf_counter", lambda: float(next(times)))  # a second each

    def seconds(*evaluations):
        job = Job.of(Run(training=small_training(), evaluations=evaluations))
        return estimate([replace(job, weights={})], ["cpu"], 1).seconds

    once, twice = (seconds(FineTune(epochs=epochs, batch=50)) - seconds() for epochs in (2, 4))
    assert 0 < once < twice == pytest.approx(2 * once)


def test_an_evaluation_of_other_images_is_foretold_by_their_number(monkeypatch):
    """A probe of 1,000 of 2,900 training images counts 2.9 times, one of all other images once."""
    monkeypatch.setattr("ablation.execution.estimate._timed", lambda call, device: call() and 1.0)
    training = small_training(dataset=SMALL.replace(train=3000, validation=100))

    def seconds(evaluation):
        job = Job.of(Run(training=training, evaluations=(evaluation,)))
        return estimate([replace(job, weights={})], ["cpu"], 1).seconds

    assert seconds(KNN(k=(5,))) == pytest.approx(2.9)
    assert seconds(KNN(k=(5,), dataset=SMALL)) == 1
    assert seconds(OnOthers(dataset=SMALL)) == 1


@dataclass(frozen=True, kw_only=True)
class OnOthers(KNN):
    """An evaluation that does not go without its own data set."""

    name: ClassVar[str] = "on_others"
    dataset: Any

    @property
    def label(self):
        return f"on_{self.dataset.label}"


def test_finished_evaluations_cost_nothing(monkeypatch):
    """Neither time nor bytes; and runs that lack the same parts are of one shape."""
    monkeypatch.setattr("ablation.execution.estimate._timed", lambda call, device: (call(), 1.0)[1])
    tuned, knn = FineTune(epochs=30, batch=50), KNN(k=(5,))
    alone, both = (Job.of(Run(training=small_training(), evaluations=each)) for each in ((knn,), (tuned, knn)))
    left = replace(both, evaluation_ids=alone.evaluation_ids)
    expected = estimate([replace(alone, weights={})], ["cpu"], 1)
    assert estimate([replace(left, weights={})], ["cpu"], 1) == expected
    assert estimate([replace(left, weights={}), replace(alone, weights={})], ["cpu"], 1).probes == 1


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
    whole = make_plan(identified(load(read(str(tmp_path / "question.py"), "tiny"))), Results(tmp_path))
    parts = [[job.training_id for job in whole.of_shard(i, 3).jobs] for i in range(3)]
    assert sorted(itertools.chain(*parts)) == sorted(job.training_id for job in whole.jobs)


@pytest.mark.slow
def test_the_job_array_puts_itself_back_into_the_queue(place):
    """docs/slurm.sh with a fake SLURM command, twice: first interrupted, then to the end."""
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


NEEDS_ITS_BATCH = SMALL_EXPERIMENT + textwrap.dedent(
    """
    from ablation import Learner, Method, mlp

    @dataclass(frozen=True, kw_only=True)
    class Grouped(Method):
        "Needs groups of 100 images."
        label = "grouped"

        def build(self, encoder, classes):
            return GroupedLearner(encoder, mlp(encoder.features, 8, 8))

    class GroupedLearner(Learner):
        def loss(self, views, labels):
            first, second = self.embed(views)
            return (first.view(-1, 100, 8) - second.view(-1, 100, 8)).square().mean(), {}

    def experiment(scale):
        scale = small(scale).replace(batch=100)
        return Experiment(cells=sweep(lambda: scale.run(Grouped(), views=((Crop(),), ())), seeds=[0]), figures={})
    """
)


def test_a_method_that_needs_its_batch_has_an_estimate(tmp_path):
    """The probe has at most 64 images on a CPU, but the run's batch if fewer fail."""
    (tmp_path / "question.py").write_text(NEEDS_ITS_BATCH)
    said = ablation_here("run", "question.py", "--dry-run", cwd=tmp_path)
    assert "estimate for 1 run" in said.stdout + said.stderr
