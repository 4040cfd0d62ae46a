"""From a file to its searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ablation.loading import BOTH, Source, asked, check_data_is_used, explained, is_experiment, is_search
from ablation.search.spec import Search
from ablation.specs import InvalidSpec, Run

if TYPE_CHECKING:
    from optuna import Trial


def load_searches(source: Source) -> dict[str, Search]:
    """Runs the file and asks its `search(scale)`: one search, under the name "", or several by name."""
    if is_experiment(source):
        if not is_search(source):
            raise InvalidSpec(f"{source.path} holds an experiment and no search. Type: ablation run {source.asked}.")
        raise InvalidSpec(BOTH.format(source.path))
    found = asked(source, "search", "Search(suggest=..., default=...)")
    searches = {"": found} if isinstance(found, Search) else found
    if not isinstance(searches, dict) or not searches or not all(isinstance(s, Search) for s in searches.values()):
        raise InvalidSpec(
            f"{source.path}: search(scale) must return a Search, or several as a dict by name, but returned {found!r}. "
            "Write: return Search(suggest=..., default=...)"
        )
    check_data_is_used(source, (search.default.training.dataset for search in searches.values()))
    return {case: search.replace(suggest=_explaining(source, search.suggest)) for case, search in searches.items()}


def _explaining(source: Source, suggest: Callable[[Trial], Run]) -> Callable[[Trial], Run]:
    """Mistakes in `suggest` are told with file and line."""
    return lambda trial: explained(source, lambda: suggest(trial))
