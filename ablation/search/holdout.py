"""After a search: the best settings against the default, with fresh seeds, on test images.

The best value of a search is too high, as the largest of many noisy ones. These runs share no seed with the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.study import Study
from optuna.trial import FixedTrial

from ablation.execution.executor import Job
from ablation.search.load import Suggestion
from ablation.search.spec import Search
from ablation.search.study import best
from ablation.spec import Cell, Experiment, identity

NAMES = {"tpe": "best of TPE", "random": "best of random search"}


class Holdout:
    """The runs of the comparison: the default of each case, and the best trial of each study, by (case, sampler)."""

    def __init__(self, searches: Mapping[str, Search], studies: Mapping[tuple[str, str], Study]):
        self.cells: list[Cell] = []
        self.suggestions: dict[str, tuple[Suggestion, ...]] = {}  # by training id
        for case, search in searches.items():
            self._add(search, case, "default", None)
            for (name, sampler), study in studies.items():
                trial = best(study) if name == case else None
                if trial is not None:
                    self._add(search, case, NAMES[sampler], trial.params)

    def _add(self, search: Search, case: str, label: str, params: dict[str, Any] | None) -> None:
        run = search.default if params is None else search.suggest(FixedTrial(params))
        for seed in search.fresh:
            coords = {**({"case": case} if case else {}), "settings": label, "seed": seed}
            self.cells.append(Cell(coords=coords, run=run.with_seed(seed)))
            training_id = identity(self.cells[-1].run.training)
            known = self.suggestions.get(training_id, ())
            self.suggestions[training_id] = (*known, Suggestion(case, params, seed))

    @property
    def experiment(self) -> Experiment:
        return Experiment(cells=tuple(self.cells), figures={})

    def jobs(self, jobs: list[Job]) -> list[Job]:
        """The jobs of a plan, with the suggestions from which a worker builds them."""
        return [replace(job, origins=self.suggestions[job.training_id]) for job in jobs]
