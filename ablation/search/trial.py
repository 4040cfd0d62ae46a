"""One trial: what it suggests, its runs with the search's seeds, their mean."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable

import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from ablation.checkpoints import forget
from ablation.engines import Setup, compute_job, every_half_second
from ablation.results import Results, identified, table
from ablation.runner import plan, write_result
from ablation.search.spec import Search
from ablation.specs import Cell, Experiment, InvalidSpec, Run

OnEpoch = Callable[[dict[str, float]], None]


class TakenOver(Exception):
    """The trial was given to another worker while this one was silent."""


class EvaluationFailed(Exception):
    """The training of a trial's run is kept, and the failure recorded beside it."""


def carry_out(
    search: Search,
    study: Study,
    trial: Trial,
    run: Run,
    results: Results,
    setup: Setup,
    progress: Callable[[float], None],
) -> float:
    """The trial's value, the mean of the metric over its seeds; each seed is an ordinary run, found if it exists.

    Raises TrialPruned (also where a loss stopped being a number: that is a bad setting and no fault), TakenOver, or
    what a run raised.
    """
    start = time.perf_counter()
    values: dict[int, float] = {}
    trainings = []
    for number, seed in enumerate(search.seeds):
        if study.get_trials(deepcopy=False)[trial.number].state != TrialState.RUNNING:
            raise TakenOver
        send = every_half_second(lambda fraction, number=number: progress((number + fraction) / len(search.seeds)))
        on_epoch = _pruning(trial) if number == 0 and search.pruner != "none" else lambda row: None
        try:
            values[seed], training = _measure(search.metric, run.with_seed(seed), results, setup, send, on_epoch)
        except FloatingPointError as error:
            trial.set_user_attr("note", str(error))
            raise optuna.TrialPruned(str(error)) from error
        trainings.append(training)
        trial.set_user_attr("seeds", json.dumps(values))
        trial.set_user_attr("trainings", " ".join(trainings))
    trial.set_user_attr("seconds", round(time.perf_counter() - start, 1))
    return sum(values.values()) / len(values)


def _measure(
    metric: str, run: Run, results: Results, setup: Setup, progress: Callable[[float], None], on_epoch: OnEpoch
) -> tuple[float, str]:
    """The metric of one run, computed and written unless it lies there, and its training id."""
    experiment = Experiment(cells=(Cell(coords={"seed": run.training.seed}, run=run),), figures={})
    [item] = identified(experiment)
    with results.alone(item.training_id):  # another trial may ask for the same run
        for job in plan([item], results).jobs:
            try:
                for part in compute_job(job, setup, progress, on_epoch):
                    if part.failure:
                        label = job.label(part.evaluation_id)
                        results.write_failure(job.training_id, part.failure, job.name, part.evaluation_id, label)
                        raise EvaluationFailed(f"{label}: {part.failure}")
                    write_result(results, job.training_id, part.files, setup)
            except (optuna.TrialPruned, FloatingPointError):  # it is not continued
                if setup.checkpoints:
                    forget(setup.checkpoints, job.training_id)
                raise
    row = table(experiment, results).iloc[0]
    value = float(row.get(metric, math.nan))
    if not math.isfinite(value):
        known = ", ".join(name for name in row.index if "_validation_" in name)
        raise InvalidSpec(f"Search.metric must be a column of the table, but {metric!r} is none of {known}.")
    return value, item.training_id


def _pruning(trial: Trial) -> OnEpoch:
    """Reports the points of the learning curve, and stops the run where the pruner says so."""

    def on_epoch(row: dict[str, float]) -> None:
        if "validation_knn" in row:
            trial.report(row["validation_knn"], int(row["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned(f"pruned after epoch {int(row['epoch'])}")

    return on_epoch
