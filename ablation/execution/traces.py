"""Whether a user's classes still compute the numbers of the finished runs with their ids."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
        name: (training.dataset, name, learned if name.startswith("losses") else str(rows))
        for name, rows in before.items()
    }
    new = {name for name, key in keys.items() if key not in compared}
    compared |= set(keys.values())
    if not any(name.startswith(("operator ", "schedule", "losses on cpu")) for name in new):
        return  # losses on a GPU are compared with none on a CPU
    with _said_if_impossible(training.method):
        data = loaded(training.dataset, "cpu")
        build = partial(build_learner, training, data)
        now = trace_of_training(training, data, build, losses="losses on cpu" in new)
        name = differing({name: before[name] for name in new}, now)
        if name:
            operators = [each for each in training.operators if name == f"operator {identity(each)}"]
            others = [optimization.schedule] if name == "schedule" else [each for each in learned if by_a_user(each)]
            raise _changed((operators or others)[0], results)
        if lost := {name for name in new if not name.startswith("losses on cuda")} - now.keys():
            raise RuntimeError(f"no numbers of {', '.join(sorted(lost))}")


def _check_evaluation(evaluation: Any, dataset: Any, before: dict, compared: set, results: Results) -> None:
    from ablation.contracts.trace import differing
    from ablation.data import loaded
    from ablation.evaluate.trace import trace_of_evaluation

    key = (dataset, evaluation, str(before))
    if before and key not in compared:
        compared.add(key)
        with _said_if_impossible(evaluation):
            if differing(before, trace_of_evaluation(evaluation, loaded(dataset, "cpu"))):
                raise _changed(evaluation, results)


@contextmanager
def _said_if_impossible(part: Any) -> Iterator[None]:
    """Finished runs are tabulated also without the files and images that they once read."""
    try:
        yield
    except InvalidSpec:
        raise
    except Exception as error:
        print(
            f"ablation: your classes beside {type(part).__name__} could not be compared with the finished runs: "
            f"{type(error).__name__}: {error}",
            file=sys.stderr,
        )


def _changed(part: Any, results: Results) -> InvalidSpec:
    return InvalidSpec(
        f"{type(part).__name__} computes other numbers than in the finished runs of {results.root}, but its id is the "
        "same. Something that an id does not count has changed: a value that code sets after the import, a file that "
        "the class reads, a variable of the environment. Make it a field of the class; or name another folder: "
        "--results."
    )
