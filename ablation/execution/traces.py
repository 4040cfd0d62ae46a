"""Whether a user's classes still compute the numbers of the finished runs with their ids."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from ablation.execution.store import Identified, Results
from ablation.spec import InvalidSpec, Training, identity


def check_traces(cells: Iterable[Identified], results: Results) -> None:
    """Raises InvalidSpec if a user's class computes other numbers on fixed input than in finished runs of the cells.
    Each class with its fields is computed once, also where many cells use it."""
    from ablation.contracts.base import parts_by_a_user
    from ablation.evaluate.trace import has_trace

    compared: set[Any] = set()
    for item in cells:
        training = item.cell.run.training
        if parts_by_a_user(training):
            document = results.training(item.training_id)[0]
            _check_training(training, (document or {}).get("trace", {}), compared, results)
        for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
            if has_trace(evaluation):
                document = results.evaluation(item.training_id, evaluation_id)[0]
                dataset = getattr(evaluation, "dataset", None) or training.dataset
                _check_evaluation(evaluation, dataset, (document or {}).get("trace", {}), compared, results)


def _check_training(training: Training, before: dict, compared: set, results: Results) -> None:
    from ablation.contracts.base import by_a_user
    from ablation.contracts.trace import differing, trace_of_training
    from ablation.data import loaded
    from ablation.training.loop import build_learner

    optimization = training.optimization
    learned = (training.encoder, training.method, optimization.optimizer)
    keys = {
        (training.dataset, name, str(rows) if name.startswith("operator") else learned) for name, rows in before.items()
    }
    if keys <= compared:
        return
    compared |= keys
    data = loaded(training.dataset, "cpu")
    name = differing(before, trace_of_training(training, data, partial(build_learner, training, data)))
    if name:
        operators = [each for each in training.operators if name == f"operator {identity(each)}"]
        others = [optimization.schedule] if name == "schedule" else [each for each in learned if by_a_user(each)]
        raise _changed((operators or others)[0], results)


def _check_evaluation(evaluation: Any, dataset: Any, before: dict, compared: set, results: Results) -> None:
    from ablation.contracts.trace import differing
    from ablation.data import loaded
    from ablation.evaluate.trace import trace_of_evaluation

    key = (dataset, evaluation, str(before))
    if before and key not in compared:
        compared.add(key)
        if differing(before, trace_of_evaluation(evaluation, loaded(dataset, "cpu"))):
            raise _changed(evaluation, results)


def _changed(part: Any, results: Results) -> InvalidSpec:
    return InvalidSpec(
        f"{type(part).__name__} computes other numbers than in the finished runs of {results.root}, but its id is the "
        "same. Something that an id does not count has changed: a value that code sets after the import, a file that "
        "the class reads, a variable of the environment. Make it a field of the class; or name another folder: "
        "--results."
    )
