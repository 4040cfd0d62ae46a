"""A search as tidy tables: its trials, and what its parameters matter."""

from __future__ import annotations

import io
import statistics

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ablation.plots.trials import BEST, LOG_PARAMETER, PARAMETER
from ablation.results import Results
from ablation.search.study import counted, deaths, seeds_of
from ablation.specs import FORMAT

RESAMPLED = 100
FEWEST = 5  # trials of which an agreement of early with final accuracy is told


def trials(studies: dict[tuple[str, str], Study]) -> pd.DataFrame:
    """A row per trial that counts and has ended, by (case, sampler), in the order of their start. trial: its number in
    the storage, from 0 on, as in what is printed and in Optuna's own tools.

    value: mean of the metric over seeds, percent; sd and n over them; seconds of its runs; note: why it ended early.
    """
    rows = []
    for (case, sampler), study in studies.items():
        ended = [t for t in counted(study.get_trials(deepcopy=False)) if t.state.is_finished()]
        for trial in ended:
            values = list(seeds_of(trial).values())
            complete = trial.state == TrialState.COMPLETE
            rows.append(
                {
                    **({"case": case} if case else {}),
                    "sampler": sampler,
                    "trial": trial.number,
                    "format": FORMAT,
                    "state": trial.state.name.lower(),
                    "metric": study.user_attrs["definition"]["metric"],
                    "value": trial.value if complete else None,
                    "sd": statistics.stdev(values) if complete and len(values) > 1 else None,
                    "n": len(values),
                    "seconds": trial.user_attrs.get("seconds"),
                    "trainings": trial.user_attrs.get("trainings", ""),
                    "note": _note(trial),
                    **{_column(name, trial.distributions[name]): value for name, value in trial.params.items()},
                }
            )
    return pd.DataFrame(rows)


def _column(name: str, distribution: BaseDistribution) -> str:
    return (LOG_PARAMETER if getattr(distribution, "log", False) else PARAMETER) + name


def _note(trial: FrozenTrial) -> str:
    said = trial.user_attrs.get("note") or trial.user_attrs.get("error", "")
    if trial.state == TrialState.FAIL and not said:
        said = f"{deaths(trial)} workers died of it"
    return said.strip().splitlines()[-1] if said else ""


def curves(studies: dict[tuple[str, str], Study], results: Results) -> pd.DataFrame:
    """Learning curves of the trials whose runs lie here: validation kNN by epoch and seed, and the trial's value."""
    frames = []
    for (case, sampler), study in studies.items():
        ended = [t for t in counted(study.get_trials(deepcopy=False)) if t.state.is_finished()]
        for trial in ended:
            if trial.state != TrialState.COMPLETE:
                continue
            for seed, training in zip(seeds_of(trial), trial.user_attrs["trainings"].split(), strict=True):
                content, _ = results.content(training, "history.csv")
                found = pd.read_csv(io.BytesIO(content)) if content and content.strip() else pd.DataFrame()
                if "validation_knn" in found:
                    of = {"case": case} if case else {}
                    facts = of | {"sampler": sampler, "trial": trial.number, "seed": seed, "value": trial.value}
                    frames.append(found.dropna(subset=["validation_knn"])[["epoch", "validation_knn"]].assign(**facts))
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return found if len(found) and found.groupby("epoch")["trial"].nunique().max() >= FEWEST else pd.DataFrame()


def importances(studies: dict[tuple[str, str], Study]) -> pd.DataFrame:
    """A row per (case, sampler) and parameter: its PED-ANOVA importance for the best fifth, as a share, and how far
    resampling the trials with replacement moves it (sd of RESAMPLED).

    Source: Watanabe et al. 2023 (arXiv:2304.10255). Studies of one parameter or few trials have none.
    """
    rows = []
    for (case, sampler), study in studies.items():
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        names = {name for trial in complete for name in trial.params}
        if len(names) < 2 or len(complete) < 10:
            continue
        found = _shares(complete)
        generator = np.random.default_rng(0)
        again = [
            _shares([complete[i] for i in generator.integers(0, len(complete), len(complete))])
            for _ in range(RESAMPLED)
        ]
        for name, share in found.items():
            spread = float(np.std([each.get(name, 0.0) for each in again], ddof=1))
            of = {"case": case} if case else {}
            rows.append(
                {**of, "sampler": sampler, "parameter": name, "importance": share, "sd": spread, "n": len(complete)}
            )
    return pd.DataFrame(rows)


def _shares(complete: list[FrozenTrial]) -> dict[str, float]:
    study = optuna.create_study(direction="maximize")
    for trial in complete:
        study.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions, value=trial.value))
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST))
