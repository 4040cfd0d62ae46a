"""Lines on the trials of a search, for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ablation.execution.clock import Clock
from ablation.search.spec import Search
from ablation.search.study import best, earlier_numbers, ended, settings
from ablation.system.terminal import printable, time_left


class TrialConsole:
    """Prints a line when a trial ends. searches (with their budgets) and studies: by case."""

    def __init__(self, searches: Mapping[str, Search], studies: Mapping[str, Study]):
        self.searches, self.studies, self.silent = searches, studies, True

    def left(self, case: str) -> int:
        """The number of trials of the budget that have not ended."""
        return max(0, self.searches[case].trials - ended(self.studies[case]))

    def started(self, case: str, trial: Trial) -> None:
        if self.silent:  # nothing printed yet, and the first trial may take long
            self.silent = False
            self._line(case, f"under way: {self._name(case)} trial {trial.number}: {settings(trial)}")

    def ended(self, case: str, trial: FrozenTrial, clock: Clock) -> None:
        self.silent = False
        study, value = self.studies[case], trial.state.name.lower()
        if trial.state == TrialState.COMPLETE:
            digits = self.searches[case].objective.digits
            value = f"{trial.value:.{digits}f} (best {best(study).value:.{digits}f})"
        earlier = earlier_numbers(trial, study.get_trials(deepcopy=False))
        number = f"{trial.number}, begun as {', '.join(map(str, earlier))}" if earlier else str(trial.number)
        left = f"; {time_left(clock.left())}" if any(map(self.left, self.searches)) else ""
        self._line(case, f"{self._name(case)} trial {number}: {value}; {settings(trial)}{left}")

    def _name(self, case: str) -> str:
        return self.studies[case].study_name

    def _line(self, case: str, text: str) -> None:
        done = f"[{ended(self.studies[case])}/{self.searches[case].trials}]"
        print(printable(f"{done} {text}"), file=sys.stderr, flush=True)
