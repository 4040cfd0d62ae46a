"""The state of the searches in a storage, for `ablation status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from ablation.search.storage import Storage
from ablation.search.study import best, counted, settings
from ablation.spec import Metric
from ablation.system.terminal import many


def states(storage: Storage) -> list[str]:
    """A line for each study and for each running trial."""
    names = optuna.get_all_study_names(storage.optuna)
    studies = [optuna.load_study(study_name=name, storage=storage.optuna) for name in names]
    return [line for study in studies for line in _lines(study)]


def _lines(study: Study) -> Iterator[str]:
    trials = counted(study.get_trials(deepcopy=False))
    count = Counter(trial.state.name.lower() for trial in trials)
    budget, begun = study.user_attrs.get("budget", len(trials)), len(trials)
    parts = [f"{begun} of {budget} trials" if budget > begun else many(begun, "trial")]
    parts += [f"{number} {state}" for state, number in sorted(count.items())]
    line = f"{study.study_name} (search): {', '.join(parts)}"
    if trial := best(study):
        digits = Metric.of(study.user_attrs["definition"]["metric"]).digits
        line += f"; best {trial.value:.{digits}f}, trial {trial.number}: {settings(trial)}"
    if sum(trial.state.is_finished() for trial in trials) < budget:
        line += "; unless it is running, the same command continues"
    yield line
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            yield f"  begun: trial {trial.number} at {trial.datetime_start:%Y-%m-%d %H:%M}: {settings(trial)}"
