"""What a data set is: three splits of uint8 images in memory, cut with a fixed seed."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ablation.specs import InvalidSpec, Spec


class DataError(InvalidSpec):
    """A data set that is missing, unreadable or not what its spec says."""


@dataclass(frozen=True)
class Split:
    """images (N, 3, S, S) uint8, labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Data:
    """The training images without the validation images, the validation images, the test images.

    mean and std, (3,) on the [0, 1] scale, are those of the training images.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: Tensor = field(init=False)
    std: Tensor = field(init=False)

    def __post_init__(self):
        if len(self.classes) < 2:
            raise DataError(
                f"Data.classes must name at least two classes to be told apart, but got {self.classes}. "
                "Label the images, or add another class."
            )
        std, mean = _channel_statistics(self.train.images)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    @property
    def size(self) -> int:
        return self.train.images.shape[-1]

    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def to(self, device: torch.device) -> Data:
        moved = copy.copy(self)  # with its statistics, which are not counted again
        for name in ("train", "validation", "test", "mean", "std"):
            object.__setattr__(moved, name, getattr(self, name).to(device))
        return moved


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of each channel, exact from the counts of the 256 values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.cpu().unbind(1)]).double()
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    std = (weights @ values.square() - mean.square()).clamp(min=1e-12).sqrt()
    return std.float().to(images.device), mean.float().to(images.device)


@dataclass(frozen=True, kw_only=True)
class DataSet(Spec):
    """A spec with `load() -> Data` and a `label`, its name on figures."""

    def load(self) -> Data:
        raise NotImplementedError(f"{type(self).__name__} must define load(self)")


def cut_validation(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the remaining training images and of `count` validation images, classes in proportion."""
    return _cut(labels, count, torch.Generator().manual_seed(seed))


def _cut(labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two index sets, rest and cut, in a random order that keeps the classes' shares to within one image."""
    order = torch.randperm(len(labels), generator=generator)
    # Sorting by rank within the class deals the classes out evenly, so any prefix is balanced.
    rank = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = order[labels[order] == label]
        rank[members] = (torch.arange(len(members)).double() + 0.5) / len(members)
    dealt = order[rank[order].argsort(stable=True)]
    return dealt[count:].sort().values, dealt[:count].sort().values


def subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Indices of `count` images, classes in proportion."""
    return _cut(labels, count, torch.Generator().manual_seed(seed))[1]


@functools.lru_cache(maxsize=4)
def loaded(dataset: DataSet, device: str) -> Data:
    """The data set on the device, read once per process."""
    return dataset.load().to(torch.device(device))
