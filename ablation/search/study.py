"""The study of a search: its question, and the trials of its budget."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from ablation.search.spec import Search
from ablation.search.storage import Storage
from ablation.spec import InvalidSpec, StorageError, identity, identity_of_description
from ablation.spec.randomness import address_seed

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}
PROBES = 30  # draws from a space, to learn its names and ranges
REPEATS = "ablation:repeats"  # attribute of a trial: the number of the lost trial that it repeats

optuna.logging.set_verbosity(logging.ERROR)  # the search prints its own lines


class Addressed(BaseSampler):
    """A sampler without state, whose random numbers have an address: the study and the trial's position in the budget.

    So a stopped search continues with the same draws, and no two trials draw the same numbers. TPE also uses the
    values of the trials that have ended, so with several jobs at once its suggestions depend on their timing.
    """

    def __init__(self, make: Callable[[int], BaseSampler]):
        self.make = make

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.sampler = self.make(address_seed(place(trial, study.get_trials(deepcopy=False)), study.study_name) % 2**32)
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, space: dict[str, BaseDistribution]) -> dict[str, Any]:
        return self.sampler.sample_relative(study, trial, space)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        return self.sampler.sample_independent(study, trial, name, distribution)


def definition(search: Search) -> dict[str, Any]:
    """The question shared by all trials of a study: metric, seeds, space, and the runs of some draws from it.

    Draws from the space at random, in memory. Raises the errors of `suggest`, and InvalidSpec if it returns no Run.
    """
    space: dict[str, BaseDistribution] = {}
    runs = []
    for trial in draws():
        try:
            run = search.check_run(search.suggest(trial))
        except optuna.TrialPruned:  # a combination that the search excludes
            continue
        runs.append(identity(run.with_seed(0)))
        space |= trial.distributions
    if not space:
        raise InvalidSpec("Search.suggest must ask its trial for a setting, but asks for none. Vary a setting.")
    return {
        "metric": search.metric,
        "seeds": list(search.seeds),
        "pruner": search.pruner,
        "runs": identity_of_description(runs),
        "space": _described(space),
    }


def draws() -> Iterator[Trial]:
    """Trials with random settings, in memory; always the same ones."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for _ in range(PROBES):
        yield study.ask()


def _described(space: dict[str, BaseDistribution]) -> dict[str, str]:
    return {name: distribution_to_json(distribution) for name, distribution in sorted(space.items())}


def open_study(storage: Storage, name: str, sampler: str, search: Search) -> Study:
    """The study of this name, new or continued. Raises InvalidSpec if it was begun with another question.

    Only the owner of the studies may call it: it queues the running trials of a stopped search again.
    """
    asked = definition(search)
    study = optuna.create_study(
        storage=storage.optuna,
        study_name=name,
        direction="minimize" if search.objective.lowest_is_best else "maximize",
        sampler=Addressed(SAMPLERS[sampler]),
        pruner=_pruner(search),
        load_if_exists=True,
    )
    if "definition" not in study.user_attrs:
        study.set_user_attr("definition", asked)
    check_question(study, asked)
    repeat_lost(study)
    return study


def check_question(study: Study, asked: dict[str, Any]) -> None:
    """asked: the search's `definition`. Raises InvalidSpec if the study was begun with another
    question, StorageError if its values were changed."""
    _check(study.study_name, study.user_attrs.get("definition", asked), asked)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        values = seeds_of(trial).values()
        if values and not math.isclose(trial.value, sum(values) / len(values), rel_tol=1e-6, abs_tol=1e-6):
            raise StorageError(
                f"the study {study.study_name!r} must hold the mean over seeds, but trial {trial.number} has the "
                f"value {trial.value:g} and its seeds have {', '.join(f'{value:g}' for value in values)}: the storage "
                "was changed. Restore it, or begin another study with --study NAME."
            )


def _pruner(search: Search) -> BasePruner:
    if search.pruner == "median":
        return MedianPruner()
    if search.pruner == "hyperband":
        optimization = search.default.training.optimization
        return HyperbandPruner(min_resource=optimization.curve_every, max_resource=optimization.epochs)
    return NopPruner()


def _check(name: str, begun: dict, asked: dict) -> None:
    """Raises InvalidSpec with the differences if a study was begun with another question."""
    differ = [
        f"{key} was {begun['space'][key]} and is {asked['space'][key]}"
        for key in begun["space"]
        if asked["space"].get(key, begun["space"][key]) != begun["space"][key]
    ]
    differ += [f"{key} is gone" for key in begun["space"] if key not in asked["space"]]
    differ += [f"{key} is new" for key in asked["space"] if key not in begun["space"]]
    differ += [
        f"{key} was {begun[key]} and is {asked[key]}"
        for key in ("metric", "seeds", "pruner")
        if begun[key] != asked[key]
    ]
    if not differ and begun.get("runs") != asked["runs"]:
        differ = ["the same settings gave another run (data, epochs, method, evaluation, version of the suite, ...)"]
    if differ:
        raise InvalidSpec(
            f"the study {name!r} was started with other settings: {'; '.join(differ)}. "
            "Undo the change, or begin another study with --study NAME; the old trials stay."
        )


def counted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials of the budget: finished, failed with an error, running or waiting.

    A trial that was stopped with its search failed without an error and does not count; the trial that repeats it does.
    """
    return [t for t in trials if t.state != TrialState.FAIL or "error" in t.user_attrs]


def ended(study: Study) -> int:
    """The number of trials of the budget that have ended."""
    return sum(trial.state.is_finished() for trial in counted(study.get_trials(deepcopy=False)))


def is_spent(study: Study, budget: int) -> bool:
    """Whether all trials of the budget have started; a waiting trial has not."""
    return sum(t.state != TrialState.WAITING for t in counted(study.get_trials(deepcopy=False))) >= budget


def repeat_lost(study: Study) -> None:
    """Fails the trials that run without an owner, and queues others with the same settings. If killed in between, the
    next call completes it."""
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            if trial.params and "error" not in trial.user_attrs and trial.number not in repeated:
                study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
            study.tell(trial.number, state=TrialState.FAIL)


def earlier_numbers(trial: FrozenTrial, trials: list[FrozenTrial]) -> list[int]:
    """The numbers of the lost trials that a trial repeats, oldest first."""
    numbers = []
    while (before := trial.user_attrs.get(REPEATS)) is not None:
        numbers.insert(0, before)
        trial = trials[before]
    return numbers


def place(trial: FrozenTrial, trials: list[FrozenTrial]) -> int:
    """The number of trials begun before this one; a repeated trial counts once, a lost one not at all."""
    first = [*earlier_numbers(trial, trials), trial.number][0]
    repeated = {each.user_attrs[REPEATS] for each in trials if REPEATS in each.user_attrs}
    known = {each.number for each in counted(trials)} | repeated
    return sum(REPEATS not in each.user_attrs and each.number in known for each in trials[:first])


def check_space(study: Study, trial: optuna.Trial) -> None:
    """Raises InvalidSpec if a trial changed the space; records new parts of a conditional space."""
    begun = study.user_attrs["definition"]
    seen = begun["space"] | study.user_attrs.get("seen", {})
    asked = seen | _described(trial.distributions)
    _check(study.study_name, begun | {"space": seen}, begun | {"space": {key: asked[key] for key in seen}})
    if asked != seen:
        study.set_user_attr("seen", asked)


def best(study: Study) -> FrozenTrial | None:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == StudyDirection.MINIMIZE else 1
    return max(done, key=lambda t: (sign * t.value, -t.number)) if done else None


def settings(trial: FrozenTrial) -> str:
    """The settings of a trial as text: "hue 0.12, p 0.8"."""
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in trial.params.items())


def seeds_of(trial: FrozenTrial) -> dict[int, float]:
    """The metric of each seed."""
    return {int(seed): value for seed, value in json.loads(trial.user_attrs.get("seeds", "{}")).items()}
