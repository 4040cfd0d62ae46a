"""The estimate of the remaining time."""

import pytest
import torch
from helpers import small_training

from ablation.evaluate import KNN, FineTune, Invariance, Linear, Probe
from ablation.execution import clock, console
from ablation.execution.clock import Clock
from ablation.execution.console import Failed, LineConsole, accuracies_of, end_of
from ablation.execution.executor import Job, Work
from ablation.execution.store import evaluation_files
from ablation.operators import Sobel
from ablation.spec import DataError, InvalidSpec, StorageError, UserCodeError, WorkerError, identity
from ablation.system.failures import Failure, failure_of

START, TRAINING, EVALUATION = 8.0, 30.0, 6.0  # seconds


class Grid:
    """Simulates jobs by workers of constant speed, and a clock that gets their events. begun: the fraction of
    each worker's first job done before."""

    def __init__(self, monkeypatch, jobs: int, workers: int, begun: float = 0.0):
        self.now = 0.0
        monkeypatch.setattr(clock.time, "monotonic", lambda: self.now)
        self.clock, self.workers, self.begun = Clock(jobs), workers, begun
        self.jobs = [Job(f"{i:012x}", (), f"cell={i}", Work(small_training(), ())) for i in range(jobs)]
        self.rounds = jobs // workers
        self.each = TRAINING + EVALUATION
        self.told = set()

    def at(self, now: float) -> float:
        """The true remaining seconds, once the clock has all events up to now."""
        while self.now < now:
            self.now += 0.5
            for i, job in enumerate(self.jobs):
                since = self.now - START - (i // self.workers) * self.each + self.begun * TRAINING
                since = since if i >= self.workers or since >= self.begun * TRAINING else -1.0
                if since >= self.each and job.training_id not in self.told:
                    self.told.add(job.training_id)
                    self.clock.ended(job)
                elif 0 <= since < self.each:
                    self.clock.progress(job, min(1.0, since / TRAINING))
        return START + self.rounds * self.each - self.begun * TRAINING - self.now


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("begun", [0.0, 0.5])
def test_the_time_left_is_near_the_truth(workers, begun, monkeypatch):
    """Before a run has ended, without evaluations (here at most a third less); then within a tenth, since the
    workers' start does not recur."""
    grid = Grid(monkeypatch, 24, workers, begun)
    assert grid.at(START) > 0
    assert grid.clock.left() is None
    true = grid.at(START + 0.3 * (1 - begun) * TRAINING)
    assert 0.6 < grid.clock.left() / true <= 1.1
    for share in (2.2, 3.5, 4.5):
        true = grid.at(START + share * grid.each)
        assert grid.clock.left() == pytest.approx(true, rel=0.1)


class Hand:
    """A clock with a manual time."""

    def __init__(self, monkeypatch, jobs: int):
        self.now = 0.0
        monkeypatch.setattr(clock.time, "monotonic", lambda: self.now)
        self.clock = Clock(jobs)
        self.jobs = [Job(f"{i:012x}", (), f"cell={i}", Work(small_training(), ())) for i in range(jobs)]

    def hears(self, number: int, *fractions: float) -> None:
        for fraction in fractions:
            self.clock.progress(self.jobs[number], fraction)


def test_what_was_done_before_counts_as_no_work(monkeypatch):
    """Four runs: one resumed, one given up and resumed, which then fails; every number by hand."""
    hand = Hand(monkeypatch, 4)
    hand.hears(0, 0.0, 0.5)  # handed out, then continued from its middle
    hand.now = 10.0
    hand.clock.ended(hand.jobs[0])
    assert hand.clock.left() == pytest.approx(60)  # half a run in 10 s, three to do
    hand.hears(1, 0.0, 0.0)
    hand.now = 20.0
    hand.hears(1, 0.5)
    assert hand.clock.left() == pytest.approx(50)  # one run in 20 s, two and a half to do
    hand.clock.given_up(hand.jobs[1])
    assert hand.clock.left() == pytest.approx(120)  # half a run in 20 s, three to do
    hand.hears(1, 0.0, 0.4)
    hand.now = 30.0
    hand.hears(1, 0.9)
    assert hand.clock.left() == pytest.approx(63)  # one run in 30 s, 2.1 to do
    assert hand.clock.left_of(hand.jobs[1]) == pytest.approx(2)
    hand.clock.ended(hand.jobs[1], failed=True)
    assert hand.clock.left() == pytest.approx(60)  # one run in 30 s, two to do


def test_workers_that_are_not_seen_yet_will_be_as_fast(monkeypatch):
    hand = Hand(monkeypatch, 40)
    hand.hears(0, 0.0)
    hand.hears(1, 0.0)
    assert hand.clock.left() is None
    hand.now = 5.0
    hand.hears(0, 0.0)
    hand.now = 15.0
    hand.hears(0, 0.1)
    assert hand.clock.left() == pytest.approx((40 - 0.1) * 100 / 2)


def test_runs_that_fail_at_once_say_nothing_of_the_others(monkeypatch):
    hand = Hand(monkeypatch, 20)
    for number in range(10):
        hand.hears(number, 0.0)
        hand.now += 3.0
        hand.clock.ended(hand.jobs[number], failed=True)
    assert hand.clock.left() is None


def test_runs_of_one_step(monkeypatch):
    hand = Hand(monkeypatch, 3)
    hand.hears(0, 0.0, 0.0)
    hand.now = 10.0
    hand.hears(0, 1.0)
    assert hand.clock.left() == pytest.approx(20)
    hand.clock.ended(hand.jobs[0])
    hand.hears(1, 0.0, 0.0, 1.0)
    hand.hears(2, 0.0, 0.0, 1.0)
    assert hand.clock.left() is None  # only evaluations remain


def test_lines_say_early_that_work_is_under_way(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    lines = LineConsole(1)
    job = Job("0" * 12, (), "cell=0", Work(small_training(), ()))
    lines.progress("worker", job, 0.0)
    for second in range(10):
        now = float(second)
        lines.progress("worker", job, second / 64)
    assert capsys.readouterr().err.splitlines() == ["[0/1] under way; 1 min 02 s left"]


def test_the_last_line_tells_of_no_time_left(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    lines = LineConsole(2)
    for number in range(2):
        job = Job(f"{number:012x}", (), f"cell={number}", Work(small_training(), ()))
        for fraction in (0.0, 0.0, 1.0):
            lines.progress("worker", job, fraction)
        now += 3.0
        lines.ended(job, 3.0, {}, [])
    assert capsys.readouterr().err.splitlines()[-2:] == ["[1/2] cell=0: 3 s; 3 s left", "[2/2] cell=1: 3 s"]
    assert lines.clock.left() == 0


def document(evaluation, value: float, notes=(), metric: str = "test_top1_recalibrated") -> dict[str, bytes]:
    files = evaluation_files(
        evaluation, "0" * 12, b"", metrics={metric: value, "test_top1_running": 1.0}, notes=list(notes), seconds=1.0,
        provenance=dict.fromkeys(("device", "torch", "kornia", "commit"), "-"),
    )  # fmt: skip
    return {name: content for name, content in files.items() if name.endswith(".json")}


class Own(KNN):
    name = "nearest_class"


def test_a_line_names_every_evaluation_by_its_label():
    """Two linear evaluations, two probes and one with a user's name have different labels."""

    probes = [Probe(task=task, versions=((), (Sobel(),))) for task in ("color", "edges")]
    values = {Linear(): 41.2, Linear(on="z"): 43.8, KNN(k=(10,)): 39.0, probes[0]: 85.5, probes[1]: 60.1, Own(): 50.0}
    documents = {name: c for each, value in values.items() for name, c in document(each, value).items()}
    job = Job("0" * 12, (), "cell=0", Work(small_training(), tuple(values)))
    assert accuracies_of(job, documents).split(", ") == [
        "linear 41.2", "linear_z 43.8", "knn 39.0", "probe_color 85.5", "probe_edges 60.1", "nearest_class 50.0",
    ]  # fmt: skip


def test_evaluations_of_one_label_are_told_apart():
    """For two cells that share a training."""
    few, many = KNN(k=(3,)), KNN(k=(50,))
    job = Job("0" * 12, (), "cell=0", Work(small_training(), (few, many, Linear())))
    assert accuracies_of(job, document(few, 1.0) | document(many, 2.0)) == "knn k=[3] 1.0, knn k=[50] 2.0"
    assert job.label(identity(Linear())) == "linear"


@pytest.mark.parametrize(
    ("documents", "line"),
    [
        (document(FineTune(), 60.34, metric="test_top1_tuned"), "cell=0: fine_tune 60.3; 3 s"),
        (document(Invariance(operators=(Sobel(),)), 0.5, metric="test_sobel_recalibrated"), "cell=0: 3 s"),
        (document(KNN(), 39.0) | document(FineTune(), 60.34, ["n"], "test_top1_tuned"),
         "cell=0: knn 39.0, fine_tune 60.3 (n); 3 s"),
    ],
)  # fmt: skip
def test_a_line_of_evaluations_of_other_statistics(documents, line):
    """An evaluation that trains has "tuned" ones; one without an accuracy is not mentioned."""
    job = Job("0" * 12, (), "cell=0", Work(small_training(), (KNN(), FineTune(), Invariance(operators=(Sobel(),)))))
    assert end_of(job, 3.0, documents, []) == line


def test_a_line_of_a_run_of_which_one_evaluation_failed(tmp_path, capsys):
    lines = LineConsole(1)
    failure = Failure("user code", "RuntimeError: no\nsuch\x1b[31m \u202ething", "/home/me/q.py:12")
    job = Job("0" * 12, (), "cell=0 of=\x1b]0;title\x07", Work(small_training(), (KNN(),)))
    failed = [Failed("linear_z", failure, tmp_path / "f.json")]
    lines.ended(job, 3.0, document(KNN(), 39.0, ["k was capped"]), failed)
    (line,) = capsys.readouterr().err.splitlines()
    assert "knn 39.0 (k was capped)" in line
    assert "linear_z FAILED (user code): RuntimeError: no such" in line
    assert "(q.py:12)" in line
    assert str(tmp_path / "f.json") in line
    assert line.isprintable()


def raised_by(code: str, file: str) -> BaseException:
    try:
        exec(compile(code, file, "exec"), {"torch": torch})
    except BaseException as error:
        return error.with_traceback(error.__traceback__.tb_next)
    raise AssertionError("it raised nothing")


def test_a_failure_names_the_place_in_the_users_own_file():
    """The file's innermost line, also below a library's, and of the cause of an error."""
    inside = "def f():\n    torch.ones(2, 2) @ torch.ones(3)\nf()"
    failure = failure_of(raised_by(inside, "/home/me/ablation/q.py"))
    assert (failure.kind, failure.place) == ("user code", "/home/me/ablation/q.py:2")
    assert failure.message.startswith("RuntimeError: ")
    assert "in f" in failure.traceback
    library = torch.nn.functional.__file__
    error = RuntimeError("no")
    error.__cause__ = raised_by("1 / 0", "/home/me/q.py")
    assert failure_of(error).place == "/home/me/q.py:1"
    assert failure_of(raised_by("1 / 0", library)).place is None
    assert failure_of(raised_by("1 / 0", console.__file__)).kind == "error"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FloatingPointError("the loss"), "diverged"),
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (DataError("no images"), "data"),
        (InvalidSpec("Crop.p"), "spec"),
        (StorageError("disk"), "storage"),
        (WorkerError("lost"), "worker"),
        (UserCodeError("q.py:1"), "user code"),
        (RuntimeError("FloatingPointError: can't allocate memory"), "error"),
    ],
)
def test_the_kind_of_a_failure_is_that_of_its_type(error, kind):
    assert failure_of(error).kind == kind


def test_a_lack_of_memory_on_a_cpu_is_one():
    failure = failure_of(raised_by("torch.ones(2**50)", "/home/me/q.py"))
    assert (failure.kind, failure.may_succeed_alone) == ("memory", True)


def test_an_error_that_cannot_be_printed_is_a_failure_too():
    class Odd(Exception):
        def __str__(self):
            raise ValueError

    assert "Odd" in failure_of(Odd()).message
