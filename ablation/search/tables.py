"""A search as tidy tables: its trials, and the importance of its parameters."""

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

from ablation.execution.store import Results
from ablation.search.study import counted, seeds_of
from ablation.spec import FORMAT
from ablation.spec.metric import BEST_TRIALS, LOG_PARAMETER, PARAMETER

RESAMPLED = 100
FEWEST = 5  # trials needed to report the rank correlation of early with final accuracy


def trials(studies: dict[tuple[str, str], Study]) -> pd.DataFrame:
    """A row per counted and ended trial, by (case, sampler), in the order of their start. trial: its number in the
    storage, from 0 on, as in the log and in Optuna's own tools.

    value: mean of the metric over seeds; sd and n over seeds; seconds of its runs; note: the reason of an
    early end.
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
    text = trial.user_attrs.get("note") or trial.user_attrs.get("error", "")
    return text.strip().splitlines()[-1] if text else ""


def curves(studies: dict[tuple[str, str], Study], results: Results) -> pd.DataFrame:
    """Learning curves of the trials with runs in `results`: validation kNN by epoch and seed, and the trial's value."""
    frames = []
    for (case, sampler), study in studies.items():
        ended = [t for t in counted(study.get_trials(deepcopy=False)) if t.state.is_finished()]
        for trial in ended:
            if trial.state != TrialState.COMPLETE:
                continue
            for seed, training in zip(seeds_of(trial), trial.user_attrs["trainings"].split(), strict=True):
                content, _ = results.content(training, "history.csv")
                curve = pd.read_csv(io.BytesIO(content)) if content and content.strip() else pd.DataFrame()
                if "validation_knn" in curve:
                    facts = {"sampler": sampler, "trial": trial.number, "seed": seed, "value": trial.value}
                    facts = ({"case": case} if case else {}) | facts
                    frames.append(curve.dropna(subset=["validation_knn"])[["epoch", "validation_knn"]].assign(**facts))
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return whole if len(whole) and whole.groupby("epoch")["trial"].nunique().max() >= FEWEST else pd.DataFrame()


def importances(studies: dict[tuple[str, str], Study]) -> pd.DataFrame:
    """A row per (case, sampler) and parameter: its PED-ANOVA importance for the best fifth, as a share, and the sd of
    that share over RESAMPLED bootstrap samples of the trials.

    Source: Watanabe et al. 2023 (arXiv:2304.10255). Studies with one parameter or fewer than ten trials have none.
    """
    rows = []
    for (case, sampler), study in studies.items():
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        names = {name for trial in complete for name in trial.params}
        if len(names) < 2 or len(complete) < 10:
            continue
        shares = _shares(complete, study)
        generator = np.random.default_rng(0)
        resampled = [
            _shares([complete[i] for i in generator.integers(0, len(complete), len(complete))], study)
            for _ in range(RESAMPLED)
        ]
        for name, share in shares.items():
            spread = float(np.std([each.get(name, 0.0) for each in resampled], ddof=1))
            place = {"case": case} if case else {}
            rows.append(
                {**place, "sampler": sampler, "parameter": name, "importance": share, "sd": spread, "n": len(complete)}
            )
    return pd.DataFrame(rows)


def _shares(complete: list[FrozenTrial], of: Study) -> dict[str, float]:
    study = optuna.create_study(direction=of.direction)
    for trial in complete:
        study.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions, value=trial.value))
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST_TRIALS))
