"""What a search is: a space of runs, and by what they are judged."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablation.evaluate import KNN, STATISTICS, Invariance
from ablation.specs import InvalidSpec, Run, Spec, is_ours

if TYPE_CHECKING:
    from optuna import Trial

OF_A_USER = r"(?:.+_)?validation_(?:.+_)?top[15]_(?:running|recalibrated)"


def validation_metrics(evaluation: Any) -> list[str]:
    """The columns of accuracies on validation images that one of our evaluations gives."""
    if not is_ours(type(evaluation)) or isinstance(evaluation, Invariance):
        return []
    settings = [""]
    if isinstance(evaluation, KNN):  # every pair but the first names itself
        pairs = [(k, t) for k in evaluation.k for t in evaluation.temperature]
        settings += [f"k{k}_t{t:g}_" for k, t in pairs[1:]]
    label = evaluation.label
    tops = ("top1", "top5")
    return [f"{label}_{one}validation_{top}_{of}" for one in settings for top in tops for of in reversed(STATISTICS)]


@dataclass(frozen=True, kw_only=True)
class Search(Spec):
    """The settings with the best metric on validation images, of a space of runs.

    suggest: from an Optuna trial (`trial.suggest_float` and its kin, https://optuna.readthedocs.io) to a run, whose
    seed is set here. default: the run that the best one must beat. metric: a column of the table, measured on
    validation images. seeds: of every trial, whose value is their mean, since one seed would be fitted. trials: the
    budget, of all workers together. fresh: the seeds with which the best trial and the default are compared on test
    images, by the metric's column there (`plots.trials.on_test_images`).

    pruner: "none", "median" or "hyperband" on the validation kNN of the first seed's learning curve (every
    `Optimization.curve_every` epochs). Strong augmentations start slowly, so early kNN is biased against them:
    look at the agreement of early with final accuracy before you prune.
    """

    suggest: Callable[[Trial], Run]
    default: Run
    metric: str = "linear_validation_top1_recalibrated"
    seeds: tuple[int, ...] = (0, 1)
    trials: int = 40
    fresh: tuple[int, ...] = tuple(range(100, 110))
    pruner: str = "none"
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        self.require("suggest", callable(self.suggest), "be a function of an Optuna trial that returns a Run")
        self.require("default", isinstance(self.default, Run), "be a Run", "Write scale.run(...).")
        self.require_count("trials")
        self.require_choice("pruner", ("none", "median", "hyperband"))
        self.require_numbers("seeds", 0, "Write seeds=(0, 1).", kind=int)
        self.require_numbers("fresh", 0, "Write fresh=tuple(range(100, 110)).", kind=int)
        shared = sorted(set(self.seeds) & set(self.fresh))
        self.require("fresh", not shared, f"hold none of the seeds searched with ({shared})", "Give others.")
        self.check_run(self.default)

    def check_run(self, run: Any) -> Run:
        """Of `suggest`: a Run that measures the metric. Raises InvalidSpec."""
        if not isinstance(run, Run):
            raise InvalidSpec(
                f"Search.suggest must return a Run, but returned {run!r}. Write return scale.run(method, views=...)."
            )
        known = [name for evaluation in run.evaluations for name in validation_metrics(evaluation)]
        free = [e.label for e in run.evaluations if not is_ours(type(e))]  # columns that its class alone knows
        others = [label for label in free if re.fullmatch(rf"{re.escape(label)}_{OF_A_USER}", str(self.metric))]
        if self.metric not in known and not others:
            near = difflib.get_close_matches(str(self.metric), known, n=1, cutoff=0.8)
            raise InvalidSpec(
                "Search.metric must be an accuracy on validation images that the run's evaluations measure, but got "
                f"{self.metric!r}; {f'did you mean {near[0]!r}? ' if near else ''}they measure "
                f"{', '.join(known) or 'none'}. Write one of these, or evaluate otherwise: "
                "scale.replace(evaluations=(KNN(), Linear()))."
            )
        self.require(
            "pruner",
            self.pruner == "none" or run.training.optimization.curve_every > 0,
            "have a learning curve to look at",
            "Give the runs an Optimization.curve_every of at least 1.",
        )
        if run.training.optimization.with_validation:
            raise InvalidSpec(
                "Search.suggest must not train on validation images, which the metric is measured on, but got "
                "Optimization.with_validation=True. Remove it."
            )
        return run
