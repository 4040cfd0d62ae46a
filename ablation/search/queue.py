"""The trials of a search as jobs: asks Optuna for the next trial when a worker is free, and reports each value to it.

The queue is both ends of an executor: the iterator of its jobs, and the reporter of their results. A trial has one job
per seed. Every job is an ordinary run, and finished runs are reused.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from ablation.execution.clock import Clock
from ablation.execution.console import Failed, retry_of
from ablation.execution.executor import Executor, Job
from ablation.execution.plan import make_plan
from ablation.execution.store import Files, Identified, Results, identified
from ablation.search.console import TrialConsole
from ablation.search.load import Suggestion
from ablation.search.spec import Search
from ablation.search.study import check_space, is_spent
from ablation.spec import Cell, Experiment, InvalidSpec
from ablation.system.failures import ERRORS, Failure


@dataclass
class _OpenTrial:
    """A trial without a value so far. runs: by seed; pending: seeds without a job or a value."""

    case: str
    search: Search
    study: Study
    trial: Trial
    runs: dict[int, Identified]
    pending: list[int]
    values: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
    reported: set[int] = field(default_factory=set)  # epochs
    told: bool = False


class TrialQueue:
    """Gives trials to an executor as jobs, case by case. searches, studies: by the name of the case. check: of each
    job, with the runs of its trial and the metric, before it is given (`checks.SearchChecks`)."""

    def __init__(
        self, searches: dict[str, Search], studies: dict[str, Study], results: Results, executor: Executor,
        check: Callable[[list[Job], list[Identified], str], None] = lambda jobs, cells, metric: None,
    ):  # fmt: skip
        self.searches, self.studies, self.results, self.executor = searches, studies, results, executor
        self.check = check
        self.console = TrialConsole(searches, studies)
        self.clock = Clock(sum(self.console.left(case) * len(search.seeds) for case, search in searches.items()))
        self.open: list[_OpenTrial] = []
        self.running: dict[str, tuple[_OpenTrial, int]] = {}  # trial and seed by training id
        self.parked: set[str] = set()  # training ids of jobs that will be retried at the end

    # ----------------------------------------------------------------------------------------------
    # Jobs

    def __iter__(self) -> TrialQueue:
        return self

    def __next__(self) -> Job | None:
        while len(self.running) - len(self.parked) < self.executor.capacity:
            for trial in list(self.open):
                if job := self._next_job(trial):
                    return job
            if not self._ask():
                return None
        return None

    def _ask(self) -> bool:
        """Opens the next trial; False if every budget is spent."""
        left = (case for case, search in self.searches.items() if not is_spent(self.studies[case], search.trials))
        if (case := next(left, None)) is None:
            return False
        search, study = self.searches[case], self.studies[case]
        trial = study.ask()
        try:
            run = search.check_run(search.suggest(trial))
            check_space(study, trial)
        except optuna.TrialPruned:  # a combination that the search excludes
            self.clock.jobs -= len(search.seeds)
            self.console.ended(case, study.tell(trial, state=TrialState.PRUNED), self.clock)
            return True
        except Exception:
            study.tell(trial, state=TrialState.FAIL)  # without an error, so it does not count
            raise
        cells = tuple(Cell(coords={"seed": seed}, run=run.with_seed(seed)) for seed in search.seeds)
        runs = {item.cell.coords["seed"]: item for item in identified(Experiment(cells=cells, figures={}))}
        self.open.append(_OpenTrial(case, search, study, trial, runs, list(search.seeds)))
        self.console.started(case, trial)
        return True

    def _next_job(self, trial: _OpenTrial) -> Job | None:
        first = trial.search.seeds[0]
        for seed in list(trial.pending):
            if seed != first and first not in trial.values and trial.search.pruner != "none":
                return None  # the first seed's learning curve decides whether the others run
            item = trial.runs[seed]
            if item.training_id in self.running:
                continue  # another trial is computing the same run
            trial.pending.remove(seed)
            jobs = make_plan([item], self.results).jobs
            if jobs:
                self.check(jobs, list(trial.runs.values()), trial.search.metric)
                self.running[item.training_id] = (trial, seed)
                return self._job(jobs[0], trial, seed)
            self.clock.jobs -= 1
            self._measure(trial, seed)
            if trial.told:  # its metric was not a number
                return None
        return None

    def _job(self, job: Job, trial: _OpenTrial, seed: int) -> Job:
        name = f"{trial.case} trial {trial.trial.number} seed {seed}".strip()
        origins = (Suggestion(trial.case, trial.trial.params, seed),)
        watched = trial.search.pruner != "none" and seed == trial.search.seeds[0]
        return replace(job, name=name, origins=origins, watched=watched)

    # ----------------------------------------------------------------------------------------------
    # Results

    def progress(self, worker: str, job: Job, fraction: float) -> None:
        self.clock.progress(job, fraction)

    def epoch(self, job: Job, row: dict[str, float]) -> bool:
        """False if the pruner ends the trial, at a point of its first seed's learning curve."""
        trial, _ = self.running[job.training_id]
        epoch = int(row["epoch"])
        if "validation_knn" in row and epoch not in trial.reported:  # a resumed training repeats its rows
            trial.reported.add(epoch)
            sign = -1 if trial.search.objective.lowest_is_best else 1  # a pruner keeps what is best for the study
            trial.trial.report(sign * row["validation_knn"], epoch)
            if trial.trial.should_prune():
                trial.note = f"pruned after epoch {epoch}"
        return not trial.note

    def again(self, job: Job, failure: Failure) -> None:
        self.parked.add(job.training_id)
        self.clock.given_up(job)
        print(retry_of(job, failure), file=sys.stderr, flush=True)

    def ended(self, job: Job, seconds: float, documents: Files, failed: Sequence[Failed]) -> None:
        trial, seed = self.running.pop(job.training_id)
        self.parked.discard(job.training_id)
        self.clock.ended(job, failed=any(each.label is None for each in failed))
        trial.seconds += seconds
        if trial.told:  # another of its seeds has failed
            return
        if failed:
            self._fail(trial, failed[0])
        else:
            self._measure(trial, seed)

    def close(self) -> None:
        pass

    def _fail(self, trial: _OpenTrial, failed: Failed) -> None:
        """Prunes the trial of a bad setting, fails it for other failures of a run; an error of the search ends it."""
        failure = failed.failure
        if failure.kind in ("spec", "data", "storage"):
            raise ERRORS[failure.kind](str(failure))
        if failure.kind in ("diverged", "stopped"):
            self._tell(trial, TrialState.PRUNED, note=trial.note or failure.message)
        else:
            sentence = f"{failed.label}: {failure}" if failed.label else str(failure)
            self._tell(trial, TrialState.FAIL, error=f"{failure.traceback[-2000:]}\n{sentence}".strip())

    def _measure(self, trial: _OpenTrial, seed: int) -> None:
        """Records the metric of a finished run; after the last seed the trial has its value."""
        item, metric = trial.runs[seed], trial.search.metric
        documents = self.results.look(item.training_id, item.evaluation_ids).evaluations.values()
        measured = {f"{each['label']}_{name}": value for each in documents for name, value in each["metrics"].items()}
        if metric not in measured:
            known = ", ".join(name for name in measured if "_validation_" in name)
            raise InvalidSpec(f"Search.metric must be a column of the table, but {metric!r} is not one of {known}.")
        if not math.isfinite(measured[metric]):
            self._tell(trial, TrialState.PRUNED, note=f"{metric} of seed {seed} is not a number")
            return
        trial.values[seed] = measured[metric]
        if len(trial.values) == len(trial.runs):
            self._tell(trial, TrialState.COMPLETE)

    def _tell(self, trial: _OpenTrial, state: TrialState, **facts: str) -> None:
        """Reports a trial to Optuna. Its attributes come first, so that every reported trial has them."""
        self.open.remove(trial)
        trial.told = True
        self.clock.jobs -= len(trial.pending)
        seeds = [seed for seed in trial.runs if seed in trial.values]  # in the order of the search
        facts["seeds"] = json.dumps({seed: trial.values[seed] for seed in seeds})
        facts["trainings"] = " ".join(trial.runs[seed].training_id for seed in seeds)
        for name, value in facts.items():
            trial.trial.set_user_attr(name, value)
        trial.trial.set_user_attr("seconds", round(trial.seconds, 1))
        value = sum(trial.values.values()) / len(trial.runs) if state == TrialState.COMPLETE else None
        self.console.ended(trial.case, trial.study.tell(trial.trial, value, state=state), self.clock)
