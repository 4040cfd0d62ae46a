"""Whether a user's classes still compute the numbers of the finished runs with their ids."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.execution.store import Identified, Results
from ablation.spec import InvalidSpec, Training

if TYPE_CHECKING:
    from ablation.contracts.trace import Difference, Trace


MOST = 20  # paths in a message


def check_traces(cells: Iterable[Identified], results: Results) -> None:
    """Raises InvalidSpec if a user's class computes other numbers on fixed input than in finished runs of the cells.
    Where runs agree, each class with its fields is computed once."""
    from ablation.contracts.base import parts_by_a_user
    from ablation.contracts.trace import changed, names_of
    from ablation.evaluate.trace import has_trace

    compared = _Compared({}, {})
    for item in cells:
        training, run = item.cell.run.training, results.folder(item.training_id)
        if parts_by_a_user(training):
            _compare_training(item, compared, results, run)
        for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
            if run not in compared.refused and has_trace(evaluation):
                path = run / "evaluations" / f"{evaluation_id}.json"
                _compare_evaluation(item, evaluation, evaluation_id, compared, results, path)
    if different := [each for each in compared.differs.values() if each]:
        who = list(dict.fromkeys(names_of(parts) for parts, _ in different))
        raise changed(*different[0], f"finished runs of {results.root}", _cure(list(compared.refused)), who[1:])


@dataclass(frozen=True)
class _Compared:
    """differs: for each comparison, the user's parts that may have changed and how they differ, or None if they
    agree. refused: the paths to remove, in order."""

    differs: dict[Any, tuple[list, Difference] | None]
    refused: dict[Path, None]

    def refuse(self, keys: Iterable[Any], path: Path) -> None:
        if any(self.differs.get(key) for key in keys):
            self.refused[path] = None


def _compare_training(item: Identified, compared: _Compared, results: Results, path: Path) -> None:
    from ablation.contracts.trace import comparable, differences_of_training, possible_causes, trace_of_training
    from ablation.data import loaded
    from ablation.training.loop import build_learner

    training = item.cell.run.training
    document = results.training(item.training_id)[0] or {}
    before = comparable(document.get("trace", {}))
    keys = {name: (name, training.dataset, _computing(training, name), str(rows)) for name, rows in before.items()}
    if new := {name: rows for name, rows in before.items() if keys[name] not in compared.differs}:
        compared.differs.update({keys[name]: None for name in new})
        with _warn_if_impossible(training.method):
            kinds = {name.split()[0] for name in new}
            now = comparable(trace_of_training(training, loaded(training.dataset, "cpu"), build_learner, kinds))
            for found in differences_of_training(new, now):
                compared.differs[keys[found.name]] = possible_causes(training, found), found
            _require(new, now)
    compared.refuse(keys.values(), path)


def _computing(training: Training, name: str) -> Any:
    """The parts that compute a number of a trace. An operator's name has its id."""
    optimization, kind = training.optimization, name.split()[0]
    learned = (training.encoder, training.method, optimization.optimizer)
    return {"schedule": optimization.schedule, "optimizer": learned, "loss": learned}.get(kind)


def _compare_evaluation(
    item: Identified, evaluation: Any, evaluation_id: str, compared: _Compared, results: Results, path: Path
) -> None:
    from ablation.contracts.trace import comparable, differences
    from ablation.data import loaded
    from ablation.evaluate.trace import trace_of_evaluation

    document = results.evaluation(item.training_id, evaluation_id)[0] or {}
    before = comparable(document.get("trace", {}))
    dataset = getattr(evaluation, "dataset", None) or item.cell.run.training.dataset
    key = (dataset, evaluation, str(before))
    if before and key not in compared.differs:
        compared.differs[key] = None
        with _warn_if_impossible(evaluation):
            now = comparable(trace_of_evaluation(evaluation, loaded(dataset, "cpu")))
            for found in differences(before, now):
                compared.differs[key] = [evaluation], found
                break
            _require(before, now)
    compared.refuse([key], path)


def _require(before: Trace, now: Trace) -> None:
    if lost := before.keys() - now.keys():
        raise RuntimeError(f"no numbers of {', '.join(sorted(lost))}")


def _cure(paths: list[Path]) -> str:
    rest = f" (and {len(paths) - MOST} more, named when you run again)" if len(paths) > MOST else ""
    return f"remove {' '.join(map(str, paths[:MOST]))}{rest} to compute them again; or name another folder (--results)"


@contextmanager
def _warn_if_impossible(part: Any) -> Iterator[None]:
    """Finished runs are tabulated also without the files and images that they once read."""
    try:
        yield
    except InvalidSpec:
        raise
    except Exception as error:
        print(
            f"ablation: {type(part).__name__} and your other classes could not be compared with the finished runs: "
            f"{type(error).__name__}: {error}",
            file=sys.stderr,
        )
