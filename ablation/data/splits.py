"""Assignment of a source's images to the splits of an image data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ablation.data.dataset import cut_validation, subset
from ablation.data.source import ImageSource
from ablation.data.survey import Survey, images_of
from ablation.spec import DataError

if TYPE_CHECKING:
    from ablation.data.images import ImageData

Labels = dict[str, Tensor]  # by role, each image's class number
Places = dict[str, tuple[str, Tensor]]  # by split, the role in the source and the split's row numbers there


def places_of(dataset: ImageData, labels: Labels, survey: Survey) -> Places:
    """The images of each split. Raises DataError if a split lacks a class, InvalidSpec for too few images."""
    train, test = ("train", torch.arange(len(labels["train"]))), None
    if "test" in labels:
        test = ("test", torch.arange(len(labels["test"])))
    else:
        rest, held_out = cut_validation(labels["train"], round(dataset.test * len(labels["train"])), seed=1)
        train, test = ("train", rest), ("train", held_out)
    train = _limited(dataset, train, labels, "train_images", 2)
    test = _limited(dataset, test, labels, "test_images", 3)
    role, numbers = train
    count = max(1, round(dataset.validation * len(numbers)))
    rest, held_out = cut_validation(labels[role][numbers], count, seed=0)
    places = {"train": (role, numbers[rest]), "validation": (role, numbers[held_out]), "test": test}
    for name, (role, numbers) in places.items():
        if survey.classes:
            _check_classes(dataset, labels[role][numbers], name, survey.classes)
    return places


def _limited(dataset: ImageData, place: tuple[str, Tensor], labels: Labels, field: str, seed: int):
    """The place, reduced to the number of images in the field."""
    role, numbers = place
    count = getattr(dataset, field)
    if count is None:
        return place
    where = f"in the split {getattr(dataset, role)!r}"
    if "test" not in labels:
        cut = "cuts from" if field == "test_images" else "leaves of"
        where = f"that test={dataset.test} {cut} the {len(labels[role]):,} in {dataset.path!r}"
    dataset.require(field, count <= len(numbers), f"be at most {len(numbers)}, the number of images {where}")
    return role, numbers[subset(labels[role][numbers], count, seed)]


def _check_classes(dataset: ImageData, labels: Tensor, split: str, classes: tuple[str, ...]) -> None:
    counts = torch.bincount(labels, minlength=len(classes))
    if (counts == 0).any():
        empty = classes[int(counts.argmin())]
        raise DataError(
            f"ImageData.path {dataset.path!r}: every class must have an image in every split, but {empty!r} has none "
            f"in {split} ({len(labels)} images). Remove the class, add images, or enlarge the split (validation=...)."
        )


def chosen(
    source: ImageSource, role: str, places: Places, count: int
) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """The used images of a role: location, slot in the cache's file (one split after the other), encoded bytes."""
    slots, start = np.full(count, -1), 0
    for each, numbers in places.values():
        if each == role:
            slots[numbers.numpy()] = np.arange(start, start + len(numbers))
        start += len(numbers)
    for slot, (where, encoded) in zip(slots.tolist(), images_of(source, role), strict=True):
        if slot >= 0:
            yield where, slot, encoded
