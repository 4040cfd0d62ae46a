"""The next trial of a study, by one worker: started behind the gate, carried out in front of it."""

from __future__ import annotations

import contextlib
import os
import platform
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import optuna
import sqlalchemy
from optuna.study import Study
from optuna.trial import Trial, TrialState

from ablation.engines import Setup
from ablation.results import Results
from ablation.search.spec import Search
from ablation.search.storage import Storage
from ablation.search.study import check_space, put_back, rescue, settings, to_start
from ablation.search.trial import TakenOver, carry_out
from ablation.specs import InvalidSpec

STORAGE_FAULTS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)
Report = Callable[[str, Any], None]  # "started", "progress", "ended", "taken over" or "waiting", and its content


def next_trial(search: Search, study: Study, storage: Storage, results: Results, setup: Setup, report: Report) -> bool:
    """Starts the next trial and carries it out, or waits a while; False when there is none and none can come.

    Raises InvalidSpec where the search itself is wrong, and what the storage raises; a trial that a run's own
    failure ended is told as failed and counts.
    """
    with ExitStack() as gate:
        gate.enter_context(storage.gate())
        rescue(study)
        start = to_start(study, search.trials)
        if start:
            _Attempt(search, study, storage, results, setup, report, gate).make()
    if start is None:
        time.sleep(1)
        report("waiting", None)  # raises where the owner is gone
    return start is not False


class _Attempt:
    """gate: open behind this process, which lets the next one in as soon as the trial is known as this worker's."""

    def __init__(
        self, search: Search, study: Study, storage: Storage, results: Results, setup: Setup, report: Report,
        gate: ExitStack,
    ):  # fmt: skip
        self.search, self.study, self.storage, self.results = search, study, storage, results
        self.setup, self.report, self.gate = setup, report, gate
        self.number: int | None = None  # of the trial

    def make(self) -> None:
        """What became of it stands in the storage, and is reported."""
        try:
            self.study.optimize(self._objective, n_trials=1)
        except (KeyboardInterrupt, ConnectionError):
            self._give_back()
            raise
        except (InvalidSpec, *STORAGE_FAULTS):
            raise
        except Exception:  # told apart by what stands in the storage
            if "error" not in self._trial().user_attrs:
                self.report("taken over", (self.study.study_name, self.number))
                return
        self.gate.close()  # of a trial that `suggest` pruned
        self.report("ended", (self.study.study_name, self._trial()))

    def _objective(self, trial: Trial) -> float:
        self.number = trial.number
        run = self.search.check_run(self.search.suggest(trial))
        check_space(self.study, trial)
        self.storage.optuna.record_heartbeat(trial._trial_id)
        trial.set_user_attr("worker", f"{platform.node()} {os.getpid()}")
        self.gate.close()
        try:
            self.report("started", (self.study.study_name, self.number, settings(trial)))
            return carry_out(self.search, self.study, trial, run, self.results, self.setup, self._progress)
        except (KeyboardInterrupt, ConnectionError):
            self.gate.enter_context(self.storage.gate())  # until it is put back: another would be started in its place
            raise
        except (optuna.TrialPruned, InvalidSpec, TakenOver, *STORAGE_FAULTS):
            raise
        except Exception:
            trial.set_user_attr("error", traceback.format_exc()[-2000:])
            raise

    def _progress(self, fraction: float) -> None:
        self.report("progress", (self.study.study_name, self.number, fraction))

    def _trial(self) -> optuna.trial.FrozenTrial:
        return self.study.get_trials(deepcopy=False)[self.number]

    def _give_back(self) -> None:
        """Behind the gate: a trial that is stopped with its worker waits for another try."""
        with contextlib.suppress(*STORAGE_FAULTS):
            trial = self._trial() if self.number is not None else None
            if trial is not None and trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
                put_back(self.study, trial)
