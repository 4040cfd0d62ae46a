"""After a search: the best settings against the default, with fresh seeds, on test images.

The best value of a search is the largest of many noisy ones, so it is too high. These runs share no seed with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import FixedTrial

from ablation.loading import Source
from ablation.search.load import load_searches
from ablation.search.study import best
from ablation.specs import Cell


@dataclass(frozen=True)
class Confirmation(Source):
    """What a worker needs to build these runs again.

    settings: for each case, what the settings are called, and the parameters as JSON; "" for the default.
    """

    settings: tuple[tuple[str, str, str], ...] = ()

    def cells(self) -> tuple[Cell, ...]:
        searches = load_searches(self)
        cells = []
        for case, label, parameters in self.settings:
            search = searches[case]
            run = search.suggest(FixedTrial(json.loads(parameters))) if parameters else search.default
            of = {"case": case} if case else {}
            cells += [
                Cell(coords={**of, "settings": label, "seed": seed}, run=run.with_seed(seed)) for seed in search.fresh
            ]
        return tuple(cells)


def confirmation(source: Source, cases: Iterable[str], studies: dict[tuple[str, str], Study]) -> Confirmation:
    """The default of each case, and what is best in each study, by (case, sampler), that has a finished trial."""
    settings = []
    for case in cases:
        settings.append((case, "default", ""))
        for (of, sampler), study in studies.items():
            trial = best(study) if of == case else None
            if trial is not None:
                settings.append((case, NAMES[sampler], json.dumps(trial.params)))
    return Confirmation(**vars(source), settings=tuple(settings))


NAMES = {"tpe": "best of TPE", "random": "best of random search"}
