"""Grids through the command line, with real processes and real signals."""

import json
import os
import re
import signal
import subprocess
import time

import pandas as pd
import pytest
from helpers import (
    GRID,
    ODD,
    SLOW,
    SMALL_EXPERIMENT,
    ablation,
    ablation_here,
    alive,
    command,
    environment,
    finished,
    wait_for,
    workers_of,
)

from ablation.cli import main
from ablation.commands import run

GAMMA = (
    SMALL_EXPERIMENT
    + '''
@dataclass(frozen=True, kw_only=True)
class Gamma(Operator):
    """Gamma correction."""
    label = "gamma"

    def sample(self, batch, size, generator):
        return {"exponent": torch.rand(batch, generator=generator) + 0.5}

    def apply(self, images, params):
        return images ** params["exponent"][:, None, None, None]

def experiment(scale):
    scale = small(scale)
    cells = pairwise((Crop(), Gamma()), lambda view: scale.run(scale.method(SimCLR), views=(view, ())), seeds=[0])
    return Experiment(cells=cells, figures={"heatmap": Heatmap(rows="first", columns="second")})
'''
)


def test_from_a_file_to_a_picture(place):
    folder = place(GRID)
    run = command("run", "question.py", "--workers", "2")
    done = subprocess.run(run, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "8 cells, 8 missing; 8 runs to do on cpu with 2 workers" in done.stderr
    assert "[8/8]" in done.stderr
    assert "linear accuracy (%); rows: first, columns: second" in done.stdout
    table = pd.read_csv(folder / "figures" / "question-tiny.csv")
    assert len(table) == 8
    assert table["linear_test_top1_recalibrated"].between(0, 100).all()
    assert (folder / "figures" / "question-tiny-heatmap.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figures" / "question-tiny-heatmap.pdf").read_bytes().startswith(b"%PDF")

    before = finished(folder)
    again = ablation_here("run", "question.py", cwd=folder)
    assert "all 8 cells are finished" in again.stderr
    assert finished(folder) == before
    assert ablation_here("status", cwd=folder).stdout.strip() == "question (tiny): 8 cells, 8 finished"

    # One worker or two, the same numbers.
    alone = ablation_here(
        "run", "question.py", "--workers", "1", "--results", "alone", "--figures", "other", cwd=folder
    )
    assert alone.returncode == 0
    other = pd.read_csv(folder / "other" / "question-tiny.csv")
    measured = [c for c in table if "top" in c or c in ("loss", "alignment")]
    pd.testing.assert_frame_equal(table[measured], other[measured])

    # The figure is drawn from the CSV alone.
    png = folder / "figures" / "question-tiny-heatmap.png"
    picture = png.read_bytes()
    png.unlink()
    ablation_here("figures", "question.py", cwd=folder)
    assert png.read_bytes() == picture


@pytest.mark.slow
def test_a_users_operator_through_workers(place):
    folder = place(GAMMA)
    ablation("run", "question.py", "--workers", "2", cwd=folder)
    table = pd.read_csv(folder / "figures" / "question-tiny.csv")
    assert set(table["first"]) == {"crop", "gamma"}
    assert (table["state"] == "finished").all()
    # Edited, its cells run again, and the others do not.
    edited = GAMMA.replace("+ 0.5", "+ 0.6")
    assert edited != GAMMA
    again = ablation("run", "question.py", "--dry-run", cwd=place(edited))
    assert "4 cells, 1 finished, 3 missing; 3 runs to do" in again.stdout
    # A comment changes nothing.
    again = ablation("run", "question.py", "--dry-run", cwd=place(GAMMA + "\n# a comment\n"))
    assert "4 cells, 4 finished; 0 runs to do" in again.stdout


def test_cells_of_one_training_through_workers(place):
    """It is trained once, with the file's own operator, and its evaluations may share a label, since they belong to
    different cells."""
    code = """
from ablation.evaluate import KNN

def experiment(scale):
    scale = small(scale)
    make = lambda k: scale.run(scale.method(SimCLR), views=((Gamma(),), ())).replace(evaluations=(KNN(k=(k,)),))
    return Experiment(cells=sweep(make, k=(3, 50), seeds=[0]), figures={})
"""
    folder = place(GAMMA.partition("def experiment")[0] + code)
    ablation_here("run", "question.py", "--workers", "2", cwd=folder)
    table = pd.read_csv(folder / "figures" / "question-tiny.csv")
    assert (table["state"] == "finished").all()
    assert len(finished(folder)) == 1
    assert table["knn_test_top1_running"].nunique() == 2


def test_bfloat16_is_suggested_once_for_each_folder(place, monkeypatch):
    monkeypatch.setattr(run, "multiplies_bfloat16", lambda: True)
    folder, said = place(GRID), []
    for second in ("crop", "sobel"):
        cells = ("--only", f"first=crop,second={second}", "--workers", "1")
        said.append(ablation_here("run", "question.py", *cells, cwd=folder).stderr)
    assert [run.BFLOAT16_PAYS in each for each in said] == [True, False]


def test_finished_runs_in_another_precision_are_named(place):
    folder = place(GRID.replace(', precision="float32"', ""))
    run_one = ("run", "question.py", "--only", "first=crop,second=crop", "--workers", "1", "--precision")
    ablation_here(*run_one, "bfloat16", cwd=folder)
    named = r"results holds finished runs .*bfloat16.*float32.*: --precision bfloat16\."
    for precision, found in (("bfloat16", 0), ("float32", 1)):
        said = ablation_here(*run_one, precision, "--dry-run", cwd=folder).stderr
        assert len(re.findall(named, said)) == found
    assert re.search(named, ablation_here(*run_one, "float32", cwd=folder).stderr)
    assert not re.search(named, ablation_here(*run_one, "float32", cwd=folder).stderr)  # they are finished, too
    changed = place(GRID.replace(', precision="float32"', "").replace("epochs=1", "epochs=2"))
    assert "--precision" not in ablation_here(*run_one, "float32", "--dry-run", cwd=changed).stderr


def test_only_and_dry_run(place):
    folder = place(GRID)
    shown = ablation_here("run", "question.py", "--dry-run", cwd=folder).stdout
    assert shown.count(": seed 0, 1 missing\n") == 4
    assert '"temperature": 0.5' not in shown
    found = json.loads(ablation("run", "question.py", "--dry-run", "--in-full", cwd=folder).stdout)
    assert len(found) == 8
    assert found[0]["cell"] == {"first": "crop", "second": "crop", "seed": 0}
    assert found[0]["run"]["training"]["method"]["objective"]["temperature"] == 0.5
    assert not (folder / "results").exists()
    shown = ablation_here("run", "question.py", "--only", "first=crop,second=sobel", "--workers", "1", cwd=folder)
    assert "no figure drawn; `ablation figures` needs all cells, too" in shown.stderr
    assert "linear_test_top1_recalibrated" in shown.stdout
    assert "did you mean the file question.py?" in ablation_here("run", "question", cwd=folder, check=2).stderr
    assert len(finished(folder)) == 2
    assert not (folder / "figures").exists()
    assert "2 finished, 6 missing" in ablation_here("status", cwd=folder).stdout


@pytest.mark.slow
def test_a_failing_cell_is_recorded_and_the_grid_goes_on(place):
    broken = GAMMA.replace("return images **", "raise RuntimeError('no such exponent')\n        return images **")
    folder = place(broken)
    for workers in ("1", "2"):
        done = ablation("run", "question.py", "--workers", workers, cwd=folder, check=1)
        assert "3 of 3 runs failed" in done.stderr if workers == "2" else "3 of 4 runs failed" in done.stderr
        assert re.search(r"FAILED \(user code\): RuntimeError: no such exponent \(question.py:\d+\)", done.stderr)
        assert "Traceback" not in done.stderr
        assert "the views are not shown: " in done.stderr
        assert (folder / "figures" / "question-tiny-heatmap.png").exists()  # of the finished cells
    for what in (("run", "question.py", "--dry-run"), ("preview", "question.py")):
        said = ablation(*what, cwd=folder, check=2).stderr
        assert re.search(r"^ablation: \S+question.py:\d+: RuntimeError: no such exponent", said.splitlines()[-1])
        assert "Traceback" not in said
    failure = json.loads(next((folder / "results").glob("*/failure.json")).read_text())
    assert "in apply" in failure["traceback"]
    status = ablation("status", cwd=folder).stdout
    assert "3 failed, 1 finished" in status
    assert status.count("RuntimeError: no such exponent") == 3
    table = pd.read_csv(folder / "figures" / "question-tiny.csv")
    assert sorted(table["state"]) == ["failed"] * 3 + ["finished"]
    # After the fix, only the failed ones run, and nothing of the failure remains.
    ablation("run", "question.py", "--workers", "2", cwd=place(GAMMA))
    assert "4 cells, 4 finished" in ablation("status", cwd=folder).stdout


def test_a_failing_evaluation_costs_neither_its_training_nor_the_others(place, monkeypatch, capsys):
    folder = place(ODD.replace("HOW", '("raise",)'))
    monkeypatch.chdir(folder)
    assert main(["run", "question.py", "--workers", "1", "--only", "seed=0"]) == 1
    said = capsys.readouterr()
    assert re.search(r"knn \d+\.\d, linear \d+\.\d; odd FAILED \(user code\): RuntimeError: no", said.err)
    assert re.search(r"\(question.py:\d+\)", said.err)
    assert "Traceback" not in said.err
    assert "\x1b" not in said.out + said.err
    assert "failed" in said.out  # the cell's state, beside its accuracies
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "question (tiny): 2 cells, 1 failed, 1 missing, 1 evaluation failed" in shown
    assert "how=raise seed=0: odd: user code: RuntimeError: no" in shown
    (training,) = folder.glob("results/*/training.json")
    before = training.stat().st_mtime_ns
    (folder / "mended").touch()
    assert main(["run", "question.py", "--workers", "1", "--only", "seed=0"]) == 0
    capsys.readouterr()
    assert training.stat().st_mtime_ns == before
    assert not list(folder.glob("results/**/*failure*"))
    assert main(["status"]) == 0
    assert "2 cells, 1 finished, 1 missing" in capsys.readouterr().out


def test_not_a_number_is_a_failed_cell(place):
    code = GRID.replace("epochs=1,", "epochs=4, optimizer=SGD(learning_rate=1e30), warmup=0.0,")
    code = code.replace("import torch", "import torch\nfrom ablation.training.optimizers import SGD")
    only = ("--only", "first=crop,second=crop,seed=0", "--workers", "1")
    done = ablation_here("run", "question.py", *only, cwd=place(code), check=1)
    assert "FAILED (diverged): FloatingPointError: the loss of SimCLR became" in done.stderr


@pytest.mark.slow
def test_a_killed_grid_resumes_and_runs_only_what_is_missing(place):
    folder = place(SLOW)
    process = subprocess.Popen(
        command("run", "question.py", "--workers", "2"), cwd=folder, env=environment(), stderr=subprocess.DEVNULL
    )
    wait_for(lambda: len(finished(folder)) >= 2)
    workers = workers_of(process)
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    # Workers stop by themselves after their owner's end.
    wait_for(lambda: not any(map(alive, workers)), seconds=30)
    before = finished(folder)
    assert 2 <= len(before) < 8
    done = ablation("run", "question.py", "--workers", "2", cwd=folder)
    assert f"8 cells, {len(before)} finished" in done.stderr
    after = finished(folder)
    assert len(after) == 8
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("by", ["Ctrl-C", "a scheduler"])
def test_a_stopped_command_ends_within_seconds_and_the_next_call_continues(by, place):
    folder = place(SLOW)
    process = subprocess.Popen(
        command("run", "question.py", "--workers", "2"),
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(finished(folder)) >= 1)
    workers = workers_of(process)
    if by == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)  # like a terminal, to the owner and its workers
    else:
        process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    _, messages = process.communicate(timeout=60)
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    assert "stopped; the same command continues" in messages
    assert "Traceback" not in messages
    assert not any(map(alive, workers))
    assert not list((folder / "results" / "running").glob("*.json"))
    before = finished(folder)
    ablation("run", "question.py", "--workers", "2", cwd=folder)
    after = finished(folder)
    assert len(after) == 8
    assert {name: after[name] for name in before} == before


def test_an_experiment_that_changes_by_itself_is_refused(place):
    code = SMALL_EXPERIMENT + (
        "import os\n"
        "def experiment(scale):\n"
        "    scale = small(scale)\n"
        "    crops = [Crop(area=(1 / (2 + os.getpid() + i), 1.0)) for i in range(1)]\n"
        "    return Experiment(cells=sweep(lambda i: scale.run(scale.method(SimCLR), views=((crops[i],), ())),"
        " i=range(1), seeds=[0]), figures={})\n"
    )
    done = ablation_here("run", "question.py", "--workers", "2", cwd=place(code), check=1)
    assert "It must not depend on time, environment or random numbers" in done.stderr


FEW = (
    GRID.replace('def experiment', """@dataclass(frozen=True, kw_only=True)
class Few(Shapes):
    def load(self):
        from ablation.data import Data, Split

        data = super().load()
        return Data(*(Split(each.images, each.labels % 5) for each in data.splits().values()), data.classes[:5])


def experiment""")
    .replace("dataset=Shapes", "dataset=Few")
    .replace('columns="second"', 'columns="second", values=("knn_test_top5_running",)')
)  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_figure_of_top5_of_few_classes_is_refused_before_the_first_training(options, place):
    """Only the images tell how many there are."""
    folder = place(FEW)
    done = ablation_here("run", "question.py", "--workers", "1", *options, cwd=folder, check=2)
    assert re.search(r"figures\['heatmap'\] .*shapes has 5 classes, .*'knn_test_top1_running'", done.stderr), (
        done.stderr
    )
    assert not list(folder.glob("results/*/training.json"))


def test_the_classes_that_were_found_are_named(tmp_path, capsys):
    """Folders that are not classes look like classes to a program."""
    from helpers import small_training
    from test_folder import put

    from ablation import ImageData, Shapes
    from ablation.execution.executor import Job, Work
    from ablation.execution.plan import DataChecks
    from ablation.execution.store import Results

    put(tmp_path / "sites", *(f"{site}/{name}" for site in ("north", "south") for name in ("cat", "dog")), count=20)
    jobs = [
        Job("0" * 12, (), "cell=0", Work(small_training(dataset=dataset, optimization=optimization), ()))
        for dataset in (ImageData(path=str(tmp_path / "sites"), test=0.2), Shapes(train=140, validation=40, test=60))
        for optimization in (small_training().optimization, small_training().optimization.replace(epochs=2))
    ]
    capsys.readouterr()
    DataChecks(Results(tmp_path)).check(jobs, [])
    said = capsys.readouterr().err
    words = r"sites: \d+ train, \d+ validation, 16 test images of 2 classes: north, south$"
    assert re.search(words, said, re.MULTILINE)
    assert said.count("classes:") == 1
