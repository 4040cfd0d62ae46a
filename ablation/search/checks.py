"""Checks of a search's runs against their images, before anything of a run is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from optuna import TrialPruned
from optuna.study import Study
from optuna.trial import FixedTrial, TrialState

from ablation.execution.executor import Job
from ablation.execution.plan import DataChecks, check_top5
from ablation.execution.store import Identified, Results, identified
from ablation.execution.traces import check_traces
from ablation.search.spec import Search
from ablation.spec import AblationError, Cell, Experiment
from ablation.study.experiment_file import Source, explained


class SearchChecks:
    """Refuses jobs that do not fit their images, or whose images differ from those of the trials that have ended."""

    def __init__(
        self, source: Source, searches: Mapping[str, Search], studies: Mapping[str, Study], results: Results
    ):  # fmt: skip
        """searches, studies: by the name of the case."""
        self.source, self.data, self.earlier = source, DataChecks(results), _ended_runs(searches, studies)
        self.untraced = self.earlier

    def __call__(self, jobs: Sequence[Job], cells: Sequence[Identified] = (), metric: str = "") -> None:
        """cells: of the jobs. metric: the column that they must measure. Reads the data sets, perhaps by a user's
        class."""

        def check() -> None:
            self.data.check(jobs, [*self.earlier, *cells])
            check_traces([*self.untraced, *cells], self.data.results)
            self.untraced = []
            for job in jobs:
                check_top5("Search.metric", metric, [job.work])

        explained(self.source, check)


def _ended_runs(searches: Mapping[str, Search], studies: Mapping[str, Study]) -> list[Identified]:
    """The runs of the trials that have a value."""
    cells = []
    for number, (case, study) in enumerate(studies.items()):
        search = searches[case]
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            with contextlib.suppress(AblationError, TrialPruned, ValueError):  # a conditional space may have changed
                run = search.suggest(FixedTrial(trial.params))
                coords = {"case": number, "trial": trial.number}
                cells += [Cell(coords={**coords, "seed": seed}, run=run.with_seed(seed)) for seed in search.seeds]
    return identified(Experiment(cells=tuple(cells), figures={})) if cells else []
