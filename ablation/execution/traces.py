"""Whether a user's classes still compute the numbers of the finished runs with their ids."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ablation.execution.store import Identified, Results
from ablation.spec import InvalidSpec


def check_traces(cells: Iterable[Identified], results: Results) -> None:
    """Raises InvalidSpec if a user's class computes other numbers on fixed input than in finished runs of the cells.
    Each class with its fields is computed once, also where many cells use it."""
    from ablation.contracts.base import parts_by_a_user
    from ablation.evaluate.trace import has_trace

    compared: set[Any] = set()
    for item in cells:
        training = item.cell.run.training
        if parts_by_a_user(training):
            _check_training(item, compared, results)
        for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
            if has_trace(evaluation):
                _check_evaluation(item, evaluation, evaluation_id, compared, results)


def _check_training(item: Identified, compared: set, results: Results) -> None:
    from ablation.contracts.trace import KINDS, check_trace, trace_of_training
    from ablation.data import loaded
    from ablation.training.loop import build_learner

    training = item.cell.run.training
    optimization = training.optimization
    learned = (training.encoder, training.method, optimization.optimizer)
    parts = {"schedule": optimization.schedule, "optimizer": learned, "loss": learned}  # an operator's name has its id
    document = results.training(item.training_id)[0] or {}
    before = {name: rows for name, rows in document.get("trace", {}).items() if name.split()[0] in KINDS}
    keys = {
        name: (name, training.dataset, parts.get(name.split()[0]), "" if name.startswith("loss") else str(rows))
        for name, rows in before.items()
    }
    new = {name for name, key in keys.items() if key not in compared}
    compared |= set(keys.values())
    if not new:
        return
    with _warn_if_impossible(training.method):
        kinds = {name.split()[0] for name in new}
        now = trace_of_training(training, loaded(training.dataset, "cpu"), build_learner, kinds)
        check_trace(training, {name: before[name] for name in new}, now, *_where(item, results))
        if lost := new - now.keys():
            raise RuntimeError(f"no numbers of {', '.join(sorted(lost))}")


def _check_evaluation(item: Identified, evaluation: Any, evaluation_id: str, compared: set, results: Results) -> None:
    from ablation.contracts.trace import changed, differences
    from ablation.data import loaded
    from ablation.evaluate.trace import trace_of_evaluation

    document = results.evaluation(item.training_id, evaluation_id)[0] or {}
    before, dataset = document.get("trace", {}), getattr(evaluation, "dataset", None) or item.cell.run.training.dataset
    key = (dataset, evaluation, str(before))
    if before and key not in compared:
        compared.add(key)
        with _warn_if_impossible(evaluation):
            now = trace_of_evaluation(evaluation, loaded(dataset, "cpu"))
            if found := next(differences(before, now), None):
                raise changed([evaluation], found, *_where(item, results))
            if lost := before.keys() - now.keys():
                raise RuntimeError(f"no numbers of {', '.join(sorted(lost))}")


def _where(item: Identified, results: Results) -> tuple[str, str]:
    """Where the earlier numbers were computed, and the cure beside a field."""
    cure = (
        f"remove {results.folder(item.training_id)}, and then the other runs that this message names, to compute them "
        "again; or name another folder (--results)"
    )
    return f"the finished runs of {results.root}", cure


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
