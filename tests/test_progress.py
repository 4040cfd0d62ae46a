"""What is said of the time left."""

import pytest
from helpers import small_training

from ablation import progress
from ablation.engines import Job, Work
from ablation.progress import Clock, Lines

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
                    self.clock.one_done(job)
                elif 0 <= since < self.each:
                    self.clock.progress(job, min(1.0, since / TRAINING))
        return START + self.rounds * self.each - self.begun * TRAINING - self.now


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("begun", [0.0, 0.5])
def test_the_time_left_is_near_the_truth(workers, begun, monkeypatch):
    """Before a run has ended, without evaluations (a third less at the most, here); then within a fifth, though the
    time of the start is counted as if it came again."""
    grid = Grid(monkeypatch, 24, workers, begun)
    assert grid.at(START) > 0
    assert grid.clock.left() is None
    true = grid.at(START + 0.3 * (1 - begun) * TRAINING)
    assert 0.6 < grid.clock.left() / true <= 1.1
    for share in (2.2, 3.5, 4.5):
        true = grid.at(START + share * grid.each)
        assert grid.clock.left() == pytest.approx(true, rel=0.2)


def test_a_run_that_is_tried_again_is_counted_once(monkeypatch):
    grid = Grid(monkeypatch, 4, 2)
    grid.at(START + 0.9 * grid.each)
    grid.clock.given_up(grid.jobs[0])
    alone = grid.clock.left()
    assert alone == pytest.approx((4 - grid.clock.running[grid.jobs[1].training_id]) * TRAINING, rel=0.1)


def test_lines_say_early_that_work_is_under_way(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines = Lines(1)
    job = Job("0" * 12, (), "cell=0", Work(small_training(), ()))
    for second in range(10):
        now = float(second)
        lines.progress("worker", job, second / 64)
    assert capsys.readouterr().err.splitlines() == ["[0/1] under way; 1 min 01 s left"]
