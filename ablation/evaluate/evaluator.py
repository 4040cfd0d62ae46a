"""Runs the evaluations of an encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from ablation.contracts.base import broken, by_a_user
from ablation.contracts.evaluations import (
    check_evaluated,
    check_evaluation,
    check_repeated,
    check_test_labels,
    with_other_test_labels,
)
from ablation.data import Data, loaded
from ablation.data.cache import lent
from ablation.evaluate.base import STATISTICS, Features, Subject
from ablation.evaluate.features import extract
from ablation.spec import identity, is_ours
from ablation.spec.randomness import global_draws_at


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation. Names of metrics end in the batch-norm statistics, "test_top1_running"; percent.

    predictions: {"test_running": (N,) integers, ...}. labels: {"test_labels": ...}, the true ones. classes: the names
    of both. images: their number by split. seconds: include a share of the features' time.
    """

    metrics: dict[str, float]
    predictions: dict[str, np.ndarray]
    notes: list[str]
    seconds: float
    labels: dict[str, np.ndarray]
    classes: list[str]
    images: dict[str, int]


REPEATED = 60  # seconds; a user's evaluation that takes less is called twice more by each process, as a check
_repeated: set = set()  # evaluations that this process has repeated


def images_of(dataset: Any, data: Data) -> Data:
    """An evaluation's own images, normalized as the training's, `data`; those if it has none."""
    return data if dataset is None else loaded(dataset, str(data.device)).normalized_as(data)


def evaluate(
    evaluations: Sequence, encoder: nn.Module, data: Data, precision: str, head: nn.Module | None = None, seed: int = 0,
    subject: Subject | None = None, images: Callable[[Any, Data], Data] = images_of,
) -> list[Evaluated]:  # fmt: skip
    """The results of `evaluate_each`; raises the first error."""
    results = list(evaluate_each(evaluations, encoder, data, precision, head, seed, subject, images))
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def evaluate_each(
    evaluations: Sequence,
    encoder: nn.Module,
    data: Data,
    precision: str,
    head: nn.Module | None = None,
    seed: int = 0,
    subject: Subject | None = None,
    images: Callable[[Any, Data], Data] = images_of,
) -> Iterator[Evaluated | Exception]:
    """The result of each evaluation, or its exception. Evaluations on the same representation and images share
    features.

    seed: the run's; evaluations draw with `features.seed`, and from torch's global generators, which are seeded for
    each evaluation and then restored. subject: for evaluations that train. images: returns the images of an
    evaluation's own data set (None: the training's); an estimate returns only a part of them.
    """
    places = [_place(evaluation) for evaluation in evaluations]
    known: dict[tuple, tuple[dict[str, Features], float]] = {}
    for number, (evaluation, place) in enumerate(zip(evaluations, places, strict=True)):
        try:
            if place not in known:
                start = time.perf_counter()
                own = images(getattr(evaluation, "dataset", None), data)
                features = _features(evaluation, encoder, own, precision, head, seed)
                known[place] = features, (time.perf_counter() - start) / places.count(place)
            features, share = known[place]
            features = {name: features[name] for name in _statistics(evaluation)}
            yield _evaluated(evaluation, features, seed, share, subject)
        except Exception as error:
            yield error
        if place not in places[number + 1 :]:
            known.pop(place, None)  # feature maps of a large data set take gigabytes


def _place(evaluation) -> tuple:
    """The key of an evaluation's features; evaluations with equal keys share them."""
    trained = tuple(each for each in _statistics(evaluation) if each not in STATISTICS)
    return getattr(evaluation, "on", "h"), getattr(evaluation, "dataset", None), trained


def _statistics(evaluation) -> tuple[str, ...]:
    return tuple(getattr(evaluation, "statistics", STATISTICS))


def _features(evaluation, encoder, data: Data, precision: str, head, seed: int) -> dict[str, Features]:
    """Features of the evaluation's images. Evaluations that train get no representation."""
    on, _, trained = _place(evaluation)
    if not trained:
        return extract(encoder, data, precision, head, seed, on)
    labels = {split: part.labels for split, part in data.splits().items()} if data.labelled else {}
    return dict.fromkeys(trained, Features({}, labels, len(data.classes), data=data, seed=seed))


def _evaluate(evaluation, features: Features) -> tuple:
    """Gives a user's class, which may work in place, its own features and data; refuses changed images."""
    if is_ours(type(evaluation)):
        return evaluation.evaluate(features)
    own = {split: h.clone() for split, h in features.h.items()}
    labels = {split: each.clone() for split, each in features.labels.items()}
    with lent(features.data) as own_data:
        images = [split.images for split in own_data.splits().values()]
        before = [each._version for each in images]
        returned = evaluation.evaluate(replace(features, h=own, labels=labels, data=own_data))
        changed = [each._version for each in images] != before
    if changed:
        raise broken(evaluation, "evaluate must leave the images alone", "it changes them in place", "Work on a copy.")
    return returned


def _collapsed(features: Features) -> bool:
    """Whether the test images' representations, (N, D), differ only by rounding."""
    h = features.h.get("test")
    return h is not None and len(h) > 1 and bool((h - h.mean(0)).abs().max() <= 1e-5 * h.abs().max())


def _evaluated(
    evaluation, features: dict[str, Features], seed: int, share: float, subject: Subject | None
) -> Evaluated:
    """share: this evaluation's share of the features' seconds."""
    start = time.perf_counter()
    first = next(iter(features.values()))
    data = first.data
    check_evaluation(evaluation, data)
    metrics: dict[str, float] = {}
    predictions: dict[str, np.ndarray] = {}
    notes = [f"{evaluation.on} is the same for all test images: it has collapsed"] if _collapsed(first) else []

    def called(given: Features) -> tuple:
        with global_draws_at(data.device, seed, "evaluation", identity(evaluation)):
            return _evaluate(evaluation, given)

    for number, (statistics, own) in enumerate(features.items()):
        if number == 0 or own is not first:  # the same object where the encoder has no batch norm
            given = replace(own, subject=subject)
            returned, called_at = called(given), time.perf_counter()
            check_evaluated(evaluation, returned, data)
        if by_a_user(evaluation) and evaluation not in _repeated and called_at - start < REPEATED:
            check_repeated(evaluation, returned, called(given), data.device)
            if data.labelled:
                check_test_labels(evaluation, returned, called(with_other_test_labels(given)), data.test.labels)
            _repeated.add(evaluation)
            start += time.perf_counter() - called_at  # repetitions are not part of the evaluation's cost
        measured, predicted, new_notes = returned
        metrics |= {f"{name}_{statistics}": float(value) for name, value in measured.items()}
        for split, labels in predicted.items():
            predictions[f"{split}_{statistics}"] = labels.cpu().numpy().astype(np.int16)
        notes += [note for note in new_notes if note not in notes]
    labels = {f"{split}_labels": each.cpu().numpy().astype(np.int16) for split, each in first.labels.items()}
    seconds, images = share + time.perf_counter() - start, {split: len(part) for split, part in data.splits().items()}
    return Evaluated(metrics, predictions, notes, seconds, labels, list(data.classes), images)
