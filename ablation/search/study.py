"""The study of a search in its storage: what it asks, which trials count, and the next one."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ablation.randomness import address_seed
from ablation.search.spec import Search
from ablation.search.storage import RETRIES, Storage
from ablation.specs import InvalidSpec, identity, identity_of_description

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}
PROBES = 30  # draws from a space, to know its names and ranges
PUT_BACK = "ablation:put_back"  # of a trial: the number under which it was tried before

optuna.logging.set_verbosity(logging.ERROR)  # what is to be said, the search says itself


class Addressed(BaseSampler):
    """A sampler whose random numbers have an address, study and trial number, and no state.

    So a search that was stopped draws what it would have drawn, and workers do not draw the same.
    """

    def __init__(self, make: Callable[[int], BaseSampler]):
        self.make = make

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.sampler = self.make(address_seed(trial.number, study.study_name) % 2**32)
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, space: dict[str, BaseDistribution]) -> dict[str, Any]:
        return self.sampler.sample_relative(study, trial, space)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        return self.sampler.sample_independent(study, trial, name, distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values) -> None:
        self.sampler.after_trial(study, trial, state, values)


def definition(search: Search) -> dict[str, Any]:
    """What a study's trials must agree in: metric, seeds, space, and the runs that some draws from it mean.

    Draws from the space at random, in memory; raises what `suggest` raises, and InvalidSpec where it gives no Run.
    """
    space: dict[str, BaseDistribution] = {}
    runs = []
    for trial in draws():
        try:
            run = search.check_run(search.suggest(trial))
        except optuna.TrialPruned:  # a combination that the search leaves out
            continue
        runs.append(identity(run.with_seed(0)))
        space |= trial.distributions
    if not space:
        raise InvalidSpec("Search.suggest must ask its trial for something, but suggests nothing. Vary a setting.")
    return {
        "metric": search.metric,
        "seeds": list(search.seeds),
        "pruner": search.pruner,
        "runs": identity_of_description(runs),
        "space": _described(space),
    }


def draws() -> Iterator[Trial]:
    """Trials whose settings are drawn at random, in memory; always the same ones."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for _ in range(PROBES):
        yield study.ask()


def _described(space: dict[str, BaseDistribution]) -> dict[str, str]:
    return {name: distribution_to_json(found) for name, found in sorted(space.items())}


def open_study(storage: Storage, name: str, sampler: str, search: Search) -> Study:
    """The study of this name, new or continued. Raises InvalidSpec where it was begun with another question."""
    asked = definition(search)
    with storage.gate():
        study = optuna.create_study(
            storage=storage.optuna,
            study_name=name,
            direction="maximize",
            sampler=Addressed(SAMPLERS[sampler]),
            pruner=_pruner(search),
            load_if_exists=True,
        )
        if "definition" not in study.user_attrs:
            study.set_user_attr("definition", asked)
        check_question(study, asked)
    return study


def check_question(study: Study, asked: dict[str, Any]) -> None:
    """asked: the search's `definition`. Raises InvalidSpec where the study was begun with another question."""
    _check(study.study_name, study.user_attrs.get("definition", asked), asked)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        values = seeds_of(trial).values()
        if values and not math.isclose(trial.value, sum(values) / len(values), rel_tol=1e-6, abs_tol=1e-6):
            raise InvalidSpec(
                f"the study {study.study_name!r} must hold what its trials gave, but trial {trial.number} has the "
                f"value {trial.value:g} and its seeds have {', '.join(f'{value:g}' for value in values)}: somebody "
                "changed the storage. Take it back, or begin another with --study NAME."
            )


def _pruner(search: Search) -> BasePruner:
    if search.pruner == "median":
        return MedianPruner()
    if search.pruner == "hyperband":
        optimization = search.default.training.optimization
        return HyperbandPruner(min_resource=optimization.curve_every, max_resource=optimization.epochs)
    return NopPruner()


def _check(name: str, begun: dict, asked: dict) -> None:
    """Trials of two questions must not stand in one study."""
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
            f"the study {name!r} must ask what it was begun with, but {'; '.join(differ)}. "
            "Take the change back, or begin another with --study NAME; the old trials stay."
        )


def counted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials of the budget: those that ended, or failed, are under way, or wait.

    A trial whose worker died or was stopped does not count where it is tried again under another number.
    """
    again = {t.system_attrs.get(PUT_BACK) for t in trials}
    again |= {number for t in trials for number in t.system_attrs.get("retry_history", ())}
    failed = [t for t in trials if t.state == TrialState.FAIL]
    gone = {t.number for t in failed if t.number in again or not ("error" in t.user_attrs or deaths(t) > RETRIES)}
    return [t for t in trials if t.number not in gone]


def earlier_tries(trial: FrozenTrial, trials: list[FrozenTrial]) -> list[int]:
    """The numbers under which a trial was begun before this one, and not ended."""
    found = set(trial.system_attrs.get("retry_history", ()))
    while (before := trial.system_attrs.get(PUT_BACK)) is not None and before not in found:
        trial = trials[before]
        found |= {before, *trial.system_attrs.get("retry_history", ())}
    return sorted(found)


def names_of_studies(study: str, searches: Mapping[str, Search], sampler: str) -> dict[str, str]:
    """By case; every sampler has studies of its own."""
    return {case: " ".join(filter(None, (study, case, "" if sampler == "tpe" else sampler))) for case in searches}


def ended(study: Study) -> int:
    """How many trials of the budget have ended."""
    return sum(trial.state.is_finished() for trial in counted(study.get_trials(deepcopy=False)))


def deaths(trial: FrozenTrial) -> int:
    """How many workers have died of a trial that failed and left no error, with its earlier tries."""
    return len(trial.system_attrs.get("retry_history", ())) + 1


def rescue(study: Study) -> None:
    """Behind the gate: puts back the trials whose workers fell silent, or died before they said a word."""
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "worker" not in trial.user_attrs:  # its starter did not leave the gate alive
            study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                put_back(study, trial)


def put_back(study: Study, trial: FrozenTrial) -> None:
    """Lets a trial that was stopped, for no fault of its own, wait for another try with the same settings."""
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            system_attrs=trial.system_attrs | {PUT_BACK: trial.number},
        )
    )


def to_start(study: Study, budget: int) -> bool | None:
    """Behind the gate: True where a trial is to be started, None where others may yet leave one, False at the end."""
    trials = study.get_trials(deepcopy=False)
    if sum(t.state != TrialState.WAITING for t in counted(trials)) < budget:
        return True  # one that waits, or a new one
    return None if any(t.state == TrialState.RUNNING for t in trials) else False


def check_space(study: Study, trial: optuna.Trial) -> None:
    """What a trial asked for must be as it was; parts of a conditional space that no trial had yet are added."""
    begun = study.user_attrs["definition"]
    seen = begun["space"] | study.user_attrs.get("seen", {})
    asked = seen | _described(trial.distributions)
    _check(study.study_name, begun | {"space": seen}, begun | {"space": {key: asked[key] for key in seen}})
    if asked != seen:
        study.set_user_attr("seen", asked)


def best(study: Study) -> FrozenTrial | None:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(done, key=lambda t: (t.value, -t.number)) if done else None


def settings(trial: FrozenTrial) -> str:
    """ "hue 0.12, p 0.8", as people read it."""
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in trial.params.items())


def seeds_of(trial: FrozenTrial) -> dict[int, float]:
    """The metric of each seed."""
    return {int(seed): value for seed, value in json.loads(trial.user_attrs.get("seeds", "{}")).items()}
