"""Faults of long jobs: no cell is lost, none counts twice, no result is wrong, and messages name the cause.

With real processes, real signals, a real full disk and a real lack of memory.
"""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pandas as pd
import pytest
from helpers import ODD, SLOW, ablation, alive, command, environment, finished, wait_for, workers_of

pytestmark = pytest.mark.slow

# Sixty cells of half a second, which differ only in seed and crop.
SIXTY = SLOW.replace("cell=range(1, 9), seeds=[0]", "cell=range(1, 21), seeds=range(3)").replace("epochs=6", "epochs=2")
LONG = SLOW.replace("epochs=6", "epochs=40").replace("cell=range(1, 9)", "cell=range(1, 3)")
EVERY_STEP = ("--checkpoint-every", "0.0001")


def start(folder: Path, *options: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        command("run", "question.py", *options), cwd=folder, env=environment(), stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True, **more,
    )  # fmt: skip


def measured(folder: Path) -> pd.DataFrame:
    """The table without measurements of cost."""
    table = pd.read_csv(folder / "figures" / "question-tiny.csv")
    return table[[c for c in table if "seconds" not in c and c not in ("peak_memory_bytes", "energy_joules", "commit")]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The table of an undisturbed experiment."""
    tables = {}

    def run(code: str) -> pd.DataFrame:
        if code not in tables:
            folder = tmp_path_factory.mktemp("undisturbed")
            (folder / "question.py").write_text(code)
            ablation("run", "question.py", "--workers", "2", cwd=folder)
            tables[code] = measured(folder)
        return tables[code]

    return run


def assert_as_undisturbed(folder: Path, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(measured(folder), expected)
    assert (expected["state"] == "finished").all()


def left_behind(folder: Path) -> list[str]:
    """Files that should be gone when everything is finished."""
    place = folder / "results"
    return [str(p.relative_to(place)) for p in place.rglob("*") if p.name.endswith((".part", ".checkpoint"))]


def test_a_killed_worker_costs_nothing_but_its_time(place, undisturbed):
    folder = place(SLOW)
    process = start(folder, "--workers", "2")
    wait_for(lambda: len(finished(folder)) >= 1)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, messages = process.communicate(timeout=200)
    assert process.returncode == 0, messages
    assert "the worker process was ended by SIGKILL" in messages
    assert "it will be retried alone at the end" in messages
    assert_as_undisturbed(folder, undisturbed(SLOW))
    assert not left_behind(folder)


def test_a_cell_that_always_kills_its_worker_is_recorded(place):
    code = SLOW.replace("time.sleep(self.seconds)", "os.kill(os.getpid(), 9) if images.mean() > 0 else None")
    folder = place(code.replace("import time", "import os, time").replace("range(1, 9)", "range(1, 3)"))
    process = start(folder, "--workers", "2")
    _, messages = process.communicate(timeout=200)
    assert process.returncode == 1
    assert messages.count("retried alone") == 2
    assert messages.count("FAILED (worker lost): the worker process was ended by SIGKILL") == 2
    assert "2 failed" in ablation("status", cwd=folder).stdout


def test_an_evaluation_that_fails_or_ends_its_process_costs_no_other(place):
    """In workers. Keeps the trainings and the other evaluations, also those after the failed one."""
    folder = place(ODD.replace("HOW", '("raise", "exit")'))
    done = ablation("run", "question.py", "--workers", "2", cwd=folder, check=1)
    assert done.stderr.count("odd how=raise FAILED (user code): RuntimeError") == 2
    assert done.stderr.count("odd how=exit FAILED (worker lost): the worker process ended with exit code 3") == 2
    assert "4 failed, 4 evaluations failed" in ablation("status", cwd=folder).stdout
    table = pd.read_csv(folder / "figures" / "question-tiny.csv")
    assert table[["knn_test_top1_recalibrated", "linear_test_top1_recalibrated"]].notna().all(axis=None)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("results/*/training.json")}
    assert len(before) == 2
    (folder / "mended").touch()
    ablation("run", "question.py", "--workers", "2", cwd=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("results/*/training.json")} == before
    assert ablation("status", cwd=folder).stdout.strip() == "question (tiny): 4 cells of 2 runs, 4 finished"


@pytest.mark.parametrize("victims", ["the owner", "all"])
def test_a_training_continues_after_everything_was_killed(place, undisturbed, victims):
    """From its last checkpoint, with the result of an uninterrupted training."""
    folder = place(LONG)
    process = start(folder, "--workers", "2", *EVERY_STEP)
    checkpoints = folder / "results" / "checkpoints"
    wait_for(lambda: len(list(checkpoints.glob("*.checkpoint"))) == 2)
    time.sleep(1)
    workers = workers_of(process)
    if victims == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    wait_for(lambda: not any(map(alive, workers)), seconds=30)
    said = ablation("status", cwd=folder).stdout
    assert "stopped: process" in said
    assert len(re.findall(r"  begun: cell=\d seed=0: epoch \d+ of \d+; the same command continues it", said)) == 2
    planned = ablation("run", "question.py", "--dry-run", cwd=folder).stdout
    assert len(re.findall(r"cell=\d: seed 0 missing but begun, epoch \d+ of \d+\n", planned)) == 2
    ablation("run", "question.py", "--workers", "2", cwd=folder)
    assert_as_undisturbed(folder, undisturbed(LONG))
    for path in (folder / "results").glob("*/training.json"):
        sittings = json.loads(path.read_text())["sittings"]
        assert len(sittings) == 2
        assert sittings[1]["from_step"] > 0
    assert not left_behind(folder)


def test_a_stopped_worker_that_continues_loses_nothing(place, undisturbed):
    folder = place(SLOW)
    process = start(folder, "--workers", "2")
    wait_for(lambda: len(finished(folder)) >= 1)
    worker = workers_of(process)[0]
    os.kill(worker, signal.SIGSTOP)
    time.sleep(8)
    status = ablation("status", cwd=folder).stdout
    os.kill(worker, signal.SIGCONT)
    _, messages = process.communicate(timeout=200)
    assert f"process {worker} on cpu" in status  # who holds a cell, and since when
    assert process.returncode == 0, messages
    assert_as_undisturbed(folder, undisturbed(SLOW))


def test_two_owners_on_one_folder(place, undisturbed):
    folder = place(SLOW)
    process = start(folder, "--workers", "2")
    wait_for(lambda: len(finished(folder)) >= 1)
    process.send_signal(signal.SIGSTOP)  # it keeps its lock on the folder
    try:
        (folder / "other.py").write_text(SLOW)
        for options in (["question.py"], ["question.py", "--shard", "0/1"], ["other.py"]):
            second = ablation("run", *options, cwd=folder, check=2)
            assert "--results allows one writing process at a time" in second.stderr
        assert "other (tiny)" not in ablation("status", cwd=folder).stdout  # it has not started
    finally:
        process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=200) == 0
    assert_as_undisturbed(folder, undisturbed(SLOW))


def test_shards_side_by_side(place, undisturbed):
    """Three at once on one folder; a shard's second process waits, then finds its work done."""
    folder = place(SLOW)
    processes = [start(folder, "--workers", "1", "--shard", shard) for shard in ("0/3", "1/3", "2/3", "0/3")]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], said
    assert len(finished(folder)) == 8
    before = finished(folder)
    ablation("run", "question.py", cwd=folder)
    assert finished(folder) == before  # computed once
    assert_as_undisturbed(folder, undisturbed(SLOW))


# --------------------------------------------------------------------------------------------------
# A full disk


@contextlib.contextmanager
def small_disk(path: Path, size: str):
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_while_a_result_is_written(place, undisturbed):
    folder = place(SLOW)
    with small_disk(folder / "results", "200k"):
        done = ablation("run", "question.py", "--workers", "2", cwd=folder, check=2)
        assert "is not: No space left on device" in done.stderr
        assert "Make room; the same command continues" in done.stderr
        assert "Traceback" not in done.stderr
        before = finished(folder)
        assert 0 < len(before) < 8
        assert not [name for name in left_behind(folder) if name.endswith(".part")]
        subprocess.run(["mount", "-o", "remount,size=50m", folder / "results"], check=True)
        ablation("run", "question.py", "--workers", "2", cwd=folder)
        after = finished(folder)
        assert {name: after[name] for name in before} == before
        assert_as_undisturbed(folder, undisturbed(SLOW))


def test_a_full_disk_while_a_checkpoint_is_written(place, undisturbed):
    """Trainings continue without them."""
    folder = place(SLOW)
    with small_disk(folder / "checkpoints", "16k"):
        done = ablation("run", "question.py", "--workers", "2", "--checkpoints", "checkpoints", *EVERY_STEP, cwd=folder)
        assert "cannot write" in done.stderr
        assert "([Errno 28] No space left on device" in done.stderr
        assert_as_undisturbed(folder, undisturbed(SLOW))
        assert list((folder / "checkpoints").iterdir()) == []


# --------------------------------------------------------------------------------------------------
# Too little memory

HUNGRY = SLOW.replace(
    "time.sleep(self.seconds)",
    "held = torch.ones(MEGABYTES * 2**18); time.sleep(self.seconds); del held",
).replace("cell=range(1, 9)", "cell=range(1, 5)")


@contextlib.contextmanager
def limited_memory(megabytes: int):
    """The files of a control group with a memory limit."""
    group = Path("/sys/fs/cgroup/memory") / f"ablation-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(megabytes * 2**20))
    except OSError as error:
        pytest.skip(f"memory cannot be limited here: {error}")
    try:
        yield group
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text().split(), seconds=30)
        group.rmdir()


def test_cells_that_lack_memory_together_succeed_alone(place, undisturbed):
    """Each of two cells takes 700 MB, and the kernel kills a process if the group exceeds 1,900."""
    code = HUNGRY.replace("MEGABYTES", "700")
    folder = place(code)
    with limited_memory(1900) as group:
        inside = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        done = subprocess.run(
            [*inside, *command("run", "question.py", "--workers", "2")], cwd=folder, env=environment(),
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert "(often the system's answer to a lack of memory)" in done.stderr
    assert "retried alone" in done.stderr
    assert done.returncode == 0, done.stderr
    expected = undisturbed(code)
    assert_as_undisturbed(folder, expected)


def test_a_cell_that_is_too_large_alone_too_is_recorded(place):
    folder = place(SLOW.replace("time.sleep(self.seconds)", "torch.ones(2**50)").replace("range(1, 9)", "range(1, 3)"))
    done = ablation("run", "question.py", "--workers", "2", cwd=folder, check=1)
    assert done.stderr.count("retried alone") == 2
    assert "2 of 2 runs failed" in done.stderr


# --------------------------------------------------------------------------------------------------
# Anything at any time


def test_kills_at_random_times(place, undisturbed):
    """Kills workers and owners at random times until sixty cells are finished; the table equals the undisturbed one.

    After each kill one more cell must end before the next kill, or a slow machine would only start processes.
    """
    folder, rng = place(SIXTY), random.Random(0)
    kills, owners, before = 0, 0, {}
    while len(before) < 60 and owners < 30:
        process = start(folder, "--workers", "2", *EVERY_STEP)
        owners += 1
        for _ in range(rng.randint(1, 5)):
            done = len(finished(folder))
            wait_for(lambda done=done, process=process: len(finished(folder)) > done or process.poll() is not None)
            time.sleep(rng.uniform(0, 1.5))
            with contextlib.suppress(OSError, IndexError):  # it has just ended
                os.kill(rng.choice(workers_of(process)), signal.SIGKILL)
                kills += 1
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL) if rng.random() < 0.5 else process.kill()
        process.communicate()
        now = finished(folder)
        assert {name: now[name] for name in before} == before  # finished runs stay and are not computed again
        before = now
    assert len(before) == 60
    assert kills >= 5
    assert owners >= 2  # each kills at most five workers
    ablation("run", "question.py", cwd=folder)
    assert finished(folder) == before
    assert_as_undisturbed(folder, undisturbed(SIXTY))
    assert not left_behind(folder)
