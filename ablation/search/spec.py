"""Search space and objective."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablation.spec import InvalidSpec, Measures, Metric, Run, Spec, is_ours, measures_of

if TYPE_CHECKING:
    from optuna import Trial


def is_objective(column: str, measures: Measures) -> bool:
    """Whether a column is measured on validation images and has a best value: an accuracy, also a user's, such as
    "robust_top1", or a metric whose best value its evaluation states."""
    metric = Metric.of(column, measures)
    best = metric.stated[1] != "" if metric.stated else metric.quantity.endswith(("top1", "top5"))
    return metric.split == "validation" and best


def validation_metrics(evaluation: Any) -> list[str]:
    """The possible objectives of an evaluation whose columns are known, recalibrated ones first."""
    measures = measures_of((evaluation,))
    columns = evaluation.columns() if is_ours(type(evaluation)) or measures[evaluation.label] else []
    objectives = [column for column in columns if is_objective(column, measures)]
    return sorted(objectives, key=lambda column: Metric.of(column).statistics)


@dataclass(frozen=True, kw_only=True)
class Search(Spec):
    """A search in a space of runs for the settings with the best metric on validation images.

    suggest: maps an Optuna trial (`trial.suggest_float` and the like, https://optuna.readthedocs.io) to a run; the
    search sets its seed. default: the run to beat. metric: a column of the table, measured on validation images: an
    accuracy, or a metric whose best value its evaluation states. seeds: of every trial; its value is their mean, since
    a search would overfit a single seed. trials: the budget of all workers together. fresh: the seeds of the comparison
    of the best trial with the default on test images, by the metric's test column (`plots.trials.on_test_images`).

    pruner: "none", "median" or "hyperband" on the validation kNN of the first seed's learning curve (every
    `Optimization.curve_every` epochs). Strong augmentations start slowly, so early kNN is biased against them: look at
    the agreement of early with final accuracy before you prune.
    """

    suggest: Callable[[Trial], Run]
    default: Run
    metric: str = "linear_validation_top1_recalibrated"
    seeds: tuple[int, ...] = (0, 1)
    trials: int = 40
    fresh: tuple[int, ...] = tuple(range(100, 110))
    pruner: str = "none"

    def __post_init__(self):
        self.require("suggest", callable(self.suggest), "be a function of an Optuna trial that returns a Run")
        self.require("default", isinstance(self.default, Run), "be a Run", "Write scale.run(...).")
        self.require_count("trials")
        self.require_choice("pruner", ("none", "median", "hyperband"))
        self.require_numbers("seeds", 0, "Write seeds=(0, 1).", kind=int)
        self.require_numbers("fresh", 0, "Write fresh=tuple(range(100, 110)).", kind=int)
        shared = sorted(set(self.seeds) & set(self.fresh))
        self.require("fresh", not shared, f"hold none of the search's seeds ({shared})", "Give others.")
        self.check_run(self.default)

    @property
    def objective(self) -> Metric:
        """The metric, with what its evaluation states."""
        return Metric.of(self.metric, measures_of(self.default.evaluations))

    def check_run(self, run: Any) -> Run:
        """Returns the run of `suggest`. Raises InvalidSpec unless it is a Run with the metric."""
        if not isinstance(run, Run):
            raise InvalidSpec(
                f"Search.suggest must return a Run, but returned {run!r}. Write return scale.run(method, views=...)."
            )
        known = [name for evaluation in run.evaluations for name in validation_metrics(evaluation)]
        free = [e.label for e in run.evaluations if not is_ours(type(e))]  # a user's, with unknown columns
        metric = str(self.metric)
        stated = measures_of(run.evaluations)
        others = [label for label in free if metric.startswith(f"{label}_") and is_objective(metric, stated)]
        if self.metric not in known and not others:
            near = difflib.get_close_matches(str(self.metric), known, n=1, cutoff=0.8)
            raise InvalidSpec(
                "Search.metric must be an accuracy on validation images that the run's evaluations measure, but got "
                f"{self.metric!r}; {f'did you mean {near[0]!r}? ' if near else ''}they measure "
                f"{', '.join(known) or 'none'}. Write one of these, change the evaluations: "
                "scale.replace(evaluations=(KNN(), Linear())), or state in yours which value is the best."
            )
        self.require(
            "pruner",
            self.pruner == "none" or run.training.optimization.curve_every > 0,
            "have a learning curve to watch",
            "Give the runs an Optimization.curve_every of at least 1.",
        )
        if run.training.optimization.with_validation:
            raise InvalidSpec(
                "Search.suggest must not train on validation images, since the metric is measured on them, but got "
                "Optimization.with_validation=True. Remove it."
            )
        return run
