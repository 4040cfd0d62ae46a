"""What is said of the time left."""

import pytest
from helpers import small_training

from ablation import progress
from ablation.engines import Job, Work
from ablation.progress import Clock, Lines, last_words

START, TRAINING, EVALUATION = 8.0, 30.0, 6.0  # seconds


class Grid:
    """So many jobs by workers of constant speed, and a clock that is told what they are told. begun: what part of
    each worker's first job was done before."""

    def __init__(self, monkeypatch, jobs: int, workers: int, begun: float = 0.0):
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        self.clock, self.workers, self.begun = Clock(jobs), workers, begun
        self.jobs = [Job(f"{i:012x}", (), f"cell={i}", Work(small_training(), ())) for i in range(jobs)]
        self.rounds = jobs // workers
        self.each = TRAINING + EVALUATION
        self.told = set()

    def at(self, now: float) -> float:
        """Seconds that are truly left, when the clock has been told everything up to now."""
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
    """Before a run has ended, without evaluations (a third less at the most, here); then within a tenth, as the
    start of workers does not come again."""
    grid = Grid(monkeypatch, 24, workers, begun)
    assert grid.at(START) > 0
    assert grid.clock.left() is None
    true = grid.at(START + 0.3 * (1 - begun) * TRAINING)
    assert 0.6 < grid.clock.left() / true <= 1.1
    for share in (2.2, 3.5, 4.5):
        true = grid.at(START + share * grid.each)
        assert grid.clock.left() == pytest.approx(true, rel=0.1)


class Hand:
    """A clock whose time is set by hand."""

    def __init__(self, monkeypatch, jobs: int):
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        self.clock = Clock(jobs)
        self.jobs = [Job(f"{i:012x}", (), f"cell={i}", Work(small_training(), ())) for i in range(jobs)]

    def hears(self, number: int, *fractions: float) -> None:
        for fraction in fractions:
            self.clock.progress(self.jobs[number], fraction)


def test_what_was_done_before_counts_as_no_work(monkeypatch):
    """Of four runs, one continued, one given up and continued, which then fails: every number by hand."""
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
    assert hand.clock.left() is None  # they are evaluated, and there is nothing else


def test_lines_say_early_that_work_is_under_way(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines = Lines(1)
    job = Job("0" * 12, (), "cell=0", Work(small_training(), ()))
    lines.progress("worker", job, 0.0)
    for second in range(10):
        now = float(second)
        lines.progress("worker", job, second / 64)
    assert capsys.readouterr().err.splitlines() == ["[0/1] under way; 1 min 02 s left"]


def test_the_last_line_tells_of_no_time_left(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines = Lines(2)
    for number in range(2):
        job = Job(f"{number:012x}", (), f"cell={number}", Work(small_training(), ()))
        for fraction in (0.0, 0.0, 1.0):
            lines.progress("worker", job, fraction)
        now += 3.0
        lines.finished(job, 3.0, {})
    assert capsys.readouterr().err.splitlines()[-2:] == ["[1/2] cell=0: ; 3 s; 3 s left", "[2/2] cell=1: ; 3 s"]
    assert lines.clock.left() == 0


def test_the_place_in_the_users_own_file_is_told():
    """Wherever library and suite are installed, also where another machine wrote the traceback."""

    def trace(*files: str) -> str:
        places = (f'  File "{file}", line {number}, in f\n    call()\n' for number, file in enumerate(files, 10))
        return f"Traceback (most recent call last):\n{''.join(places)}ValueError: no\n"

    libraries = "/opt/suite/ablation/compute.py", "/home/me/.local/lib/python3.11/site-packages/torch/functional.py"
    assert last_words(trace("/opt/suite/ablation/views.py", "/home/me/q.py", *libraries)) == "ValueError: no (q.py:11)"
    assert last_words(trace("/home/me/ablation/q.py", *libraries)) == "ValueError: no (q.py:10)"
    assert last_words(trace(*libraries)) == "ValueError: no"
