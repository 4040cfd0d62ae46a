"""Checks that the parts of a run fit its images: number of channels, and labels or none.

Runs when a run is built, as far as its data set states both, and again before the first step with the images
themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from ablation.spec.base import InvalidSpec


def stated_channels(dataset: Any) -> int | None:
    """The number of channels that a data set states; None if it states none."""
    channels = getattr(dataset, "channels", None)
    return channels if isinstance(channels, int) and not isinstance(channels, bool) else None


def stated_labels(dataset: Any) -> bool | None:
    """Whether a data set states that it has labels; None if it does not state it."""
    labels = getattr(dataset, "labels", None)
    return labels if isinstance(labels, bool) else None


Facts = tuple[int | None, bool | None]  # channels, and whether there are labels; None: unknown


def stated(dataset: Any) -> Facts:
    """What a data set states of its images without loading them."""
    return stated_channels(dataset), stated_labels(dataset)


def check_fit(training: Any, evaluations: tuple, facts: Callable[[Any], Facts] = stated) -> None:
    """Raises InvalidSpec for the first operator that cannot work on the data set's channels, and the first method or
    evaluation that needs labels when its data set has none. An evaluation may have its own data set.

    facts: the channels and labels of a data set; by default those that it states.
    """
    channels, labels = facts(training.dataset)
    for where, part in ("Training.shared", training.shared), *_numbered("Training.views", training.views):
        _check_channels(where, part, training.dataset, channels)
    if labels is False and getattr(training.method, "needs_labels", False):
        raise InvalidSpec(
            f"Training.method: {training.method.label!r} needs labels, but the data set {training.dataset.label!r} has "
            "none. Take a method that needs none, such as SimCLR(), or images with labels."
        )
    for where, evaluation in _numbered("Run.evaluations", evaluations):
        own = getattr(evaluation, "dataset", None)
        dataset = training.dataset if own is None else own
        of_images, labelled = facts(dataset)
        if None not in (of_images, channels) and of_images != channels:
            raise InvalidSpec(
                f"{where}: the encoder is trained on {channels} channels, but the images of {dataset.label!r} have "
                f"{of_images}. Write ImageData(channels={channels})."
            )
        _check_channels(where, evaluation, dataset, of_images)
        if labelled is False and getattr(evaluation, "needs_labels", True):
            raise InvalidSpec(
                f"{where}: {evaluation.label!r} needs labels, but the data set {dataset.label!r} has none. Remove it: "
                "scale.replace(evaluations=(Probe(...),)), say, or evaluations=(); every table has alignment and "
                "uniformity. In an evaluation of your own that needs none, write needs_labels = False."
            )


def _numbered(where: str, parts: tuple) -> Iterator[tuple[str, Any]]:
    return ((f"{where}[{number}]", part) for number, part in enumerate(parts))


def _check_channels(where: str, part: Any, dataset: Any, channels: int | None) -> None:
    for operator in operators_in(part):
        needed = getattr(operator, "channels", None)
        needed = (needed,) if isinstance(needed, int) else needed
        if channels is not None and isinstance(needed, tuple) and channels not in needed:
            numbers = " or ".join(map(str, needed))
            raise InvalidSpec(
                f"{where}: {type(operator).__name__} ({operator.label!r}) needs images of {numbers} channels, but "
                f"the data set {dataset.label!r} has {channels}. Remove the operator, or use {numbers} channels: "
                f"Shapes(channels={needed[0]}), ImageData(channels={needed[0]})."
            )


def operators_in(part: Any) -> Iterator[Any]:
    """The operators in a view or an evaluation, outer before inner."""
    if isinstance(part, (tuple, list)):
        for item in part:
            yield from operators_in(item)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        if hasattr(part, "apply"):
            yield part
        for item in dataclasses.fields(part):
            yield from operators_in(getattr(part, item.name))
