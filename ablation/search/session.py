"""One call of a search: its file, its cases with their budgets, its studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.study import Study

from ablation.data import loaded
from ablation.execution.store import Results
from ablation.search.load import load_searches
from ablation.search.spec import Search
from ablation.search.storage import Storage
from ablation.search.study import SAMPLERS, open_study
from ablation.spec import InvalidSpec
from ablation.study.experiment_file import Source


@dataclass(frozen=True)
class Session:
    """searches: by case, each with its budget; prefix: of the studies' names."""

    source: Source
    searches: Mapping[str, Search]
    prefix: str
    sampler: str
    storage: Storage
    results: Results

    @classmethod
    def of(
        cls, source: Source, storage: Storage, results: Results, *,
        study: str | None = None, sampler: str = "tpe", trials: int | None = None,
    ) -> Session:  # fmt: skip
        searches = load_searches(source)
        if trials:
            searches = {case: search.replace(trials=trials) for case, search in searches.items()}
        return cls(source, searches, study or f"{source.name}-{source.scale}", sampler, storage, results)

    @property
    def title(self) -> str:
        return f"{self.prefix} ({self.sampler})"

    def name(self, case: str, sampler: str) -> str:
        """The name of a study; every sampler has its own studies."""
        return " ".join(filter(None, (self.prefix, case, "" if sampler == "tpe" else sampler)))

    def open(self) -> dict[str, Study]:
        """The studies of this sampler by case, new or continued. Only the owning process may call it."""
        studies = {}
        for case, search in self.searches.items():
            study = open_study(self.storage, self.name(case, self.sampler), self.sampler, search)
            study.set_user_attr("budget", search.trials)  # for `ablation status`
            studies[case] = study
        return studies

    def studies(self) -> dict[tuple[str, str], Study]:
        """The existing studies of all samplers, by (case, sampler), unchanged."""
        if not self.storage.is_there:
            return {}
        known = set(optuna.get_all_study_names(self.storage.optuna))
        names = {(case, sampler): self.name(case, sampler) for sampler in SAMPLERS for case in self.searches}
        return {
            key: optuna.load_study(study_name=name, storage=self.storage.optuna)
            for key, name in names.items()
            if name in known
        }


def check_classes(search: Search) -> None:
    """Raises InvalidSpec for top-5 with at most five classes."""
    default = search.default
    measuring = [each for each in default.evaluations if each.label == search.objective.evaluation]
    own = [each.dataset for each in measuring if getattr(each, "dataset", None) is not None]
    dataset = own[0] if own else default.training.dataset
    count = len(loaded(dataset, "cpu").classes)
    if count <= 5 and "_top5_" in search.metric:
        raise InvalidSpec(
            f"Search.metric must be a column of the runs, but got {search.metric!r}, and {dataset.label} has {count} "
            f"classes, too few for top-5. Write {search.metric.replace('_top5_', '_top1_')!r}."
        )
