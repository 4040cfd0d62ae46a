"""Loads the searches of a file, and builds the run of a trial, in the owner and in every worker."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablation.search.spec import Search
from ablation.spec import InvalidSpec, Run
from ablation.study.experiment_file import BOTH, Source, asked, check_data_is_used, explained, is_experiment, is_search

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class Suggestion:
    """The description of a run for a worker. params: those of a trial, None for the default."""

    case: str
    params: dict[str, Any] | None
    seed: int

    def run(self, source: Source) -> Run:
        """The run, from the file of the search."""
        from optuna.trial import FixedTrial

        search = _searches(source)[self.case]
        run = search.default if self.params is None else search.suggest(FixedTrial(self.params))
        return run.with_seed(self.seed)


def load_searches(source: Source) -> dict[str, Search]:
    """Runs the file and calls its `search(scale)`: one search, under the name "", or several by name."""
    if is_experiment(source):
        if not is_search(source):
            raise InvalidSpec(f"{source.path} holds an experiment, not a search. Type: ablation run {source.asked}.")
        raise InvalidSpec(BOTH.format(source.path))
    returned = asked(source, "search", "Search(suggest=..., default=...)")
    searches = {"": returned} if isinstance(returned, Search) else returned
    if not isinstance(searches, dict) or not searches or not all(isinstance(s, Search) for s in searches.values()):
        raise InvalidSpec(
            f"{source.path}: search(scale) must return a Search, or several as a dict by name, but returned "
            f"{returned!r}. Write: return Search(suggest=..., default=...)"
        )
    check_data_is_used(source, (search.default for search in searches.values()))
    return {case: search.replace(suggest=_explaining(source, search.suggest)) for case, search in searches.items()}


_searches = functools.lru_cache(maxsize=1)(load_searches)  # a worker process serves one search


def _explaining(source: Source, suggest: Callable[[Trial], Run]) -> Callable[[Trial], Run]:
    """Reports errors in `suggest` with file and line; not a pruned trial or a lost storage."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    return lambda trial: explained(source, lambda: suggest(trial), passing=(OptunaError, SQLAlchemyError))
