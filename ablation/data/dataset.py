"""Data sets: three splits of uint8 images, on a device or in a mapped file, and how to cut splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ablation.data.prefetch import read_ahead
from ablation.spec import DataError, Spec
from ablation.spec.randomness import generator_at


@dataclass(frozen=True)
class Split:
    """images: (N, C, S, S) uint8. labels: (N,) int64, or None if the data set has none."""

    images: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Data:
    """The training images without the validation images, the validation images, and the test images.

    classes: names of the labels' numbers; () without labels. streams: whether the images stay in the host's memory or
    in a mapped file, and only batches go to the `device`; labels and statistics are always on the device. device: by
    default the images' own.

    counts: (C, 256), how often each value occurs in each channel of the training images; computed if not given. mean
    and std, (C,) on the [0, 1] scale, follow from them. Raises DataError if classes and labels contradict each other.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = ()
    streams: bool = False
    counts: Tensor | None = field(default=None, repr=False)
    device: torch.device | None = None
    mean: Tensor = field(init=False)
    std: Tensor = field(init=False)

    def __post_init__(self):
        self._check_labels()
        counts = count_values(self.train.images) if self.counts is None else self.counts
        device = self.train.images.device if self.device is None else self.device
        mean, std = channel_statistics(counts)
        derived = {"counts": counts, "device": device, "mean": mean.to(device), "std": std.to(device)}
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _check_labels(self) -> None:
        without = [name for name, split in self.splits().items() if split.labels is None]
        if len(self.classes) == 1 or (not self.classes and len(without) < 3):
            raise DataError(
                f"Data.classes must name at least two classes, but got {self.classes}. Label the images, or add "
                "another class; for data without labels, omit the classes and the labels of all splits."
            )
        if self.classes and without:
            raise DataError(
                f"Data.classes names classes, so every split needs Split.labels, but {without[0]} has none. "
                "Give its labels, or omit the classes and the labels of all splits."
            )

    @property
    def size(self) -> int:
        """The side of the images in pixels."""
        return self.train.images.shape[-1]

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def labelled(self) -> bool:
        return bool(self.classes)

    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def training(self, with_validation: bool) -> Split:
        """The training images, followed by the validation images if asked; mapped images are not copied."""
        if not with_validation:
            return self.train
        labels = torch.cat([self.train.labels, self.validation.labels]) if self.labelled else None
        return Split(_joined(self.train.images, self.validation.images), labels)

    def batches(self, images: Tensor, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """`images[r]` on the device for every r of `rows`, in order. images: all or some of a split's."""
        if self.streams:
            yield from read_ahead(images, rows, self.device)
        else:
            for each in rows:
                yield images.index_select(0, each)  # copies whole images, unlike images[each]

    def pieces(self, images: Tensor, count: int) -> Iterator[Tensor]:
        """All images of a split in order, `count` at a time, on the device."""
        if self.streams:
            yield from read_ahead(images, torch.arange(len(images)).split(count), self.device)
        else:
            yield from images.split(count)

    def normalized_as(self, other: Data) -> Data:
        """These data with the mean and deviation of another data set, on which an encoder was trained."""
        return replace(self, counts=other.counts)

    def per_class(self, fraction: float, number: int) -> Data:
        """These data with a fraction of the training images: the first ones of each class, at least one, in the random
        order `number`. For the same number, a smaller part is a subset of a larger one."""
        order = torch.randperm(len(self.train), generator=generator_at("per class", number))
        labels = self.train.labels.cpu()[order]
        rows = [order[labels == c] for c in range(len(self.classes))]
        chosen = torch.cat([r[: max(1, round(fraction * len(r)))] for r in rows]).sort().values
        images = self.train.images[chosen.to(self.train.images.device)]
        # Keeps the counts of all training images, which normalized the encoder's images.
        return replace(self, train=Split(images, self.train.labels[chosen.to(self.device)]))

    def to(self, device: torch.device) -> Data:
        """The same data on another device; images move only if they leave room for the computation."""
        if device == self.device:
            return self
        images = [split.images for split in self.splits().values()]
        stay = sum(each.nbytes for each in images) > room(device)
        if not stay:
            whole = torch.empty((sum(map(len, images)), *images[0].shape[1:]), dtype=torch.uint8, device=device)
            parts = whole.split([len(each) for each in images])  # consecutive in memory, as `training` needs them
            images = [part.copy_(each) for part, each in zip(parts, images, strict=True)]
        splits = {
            name: Split(each, None if split.labels is None else split.labels.to(device))
            for (name, split), each in zip(self.splits().items(), images, strict=True)
        }
        return replace(self, **splits, streams=stay, device=device)  # keeps the counts


def room(device: torch.device) -> float:
    """Bytes of images that may be on a device: half of a GPU's free memory; the rest is for the computation."""
    return torch.cuda.mem_get_info(device)[0] / 2 if device.type == "cuda" else float("inf")


def _joined(one: Tensor, other: Tensor) -> Tensor:
    """Both as one tensor; a view if the second follows the first in memory."""
    same = one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    if same and one.is_contiguous() and other.storage_offset() == one.storage_offset() + one.numel():
        return one.as_strided((len(one) + len(other), *one.shape[1:]), one.stride(), one.storage_offset())
    return torch.cat([one, other])


def count_values(images: Tensor) -> Tensor:
    """(C, 256) int64 on the CPU: how often each value occurs in each channel of (N, C, S, S) uint8 images."""
    counts = torch.zeros((images.shape[1], 256), dtype=torch.int64)
    for some in images.split(256):  # small pieces keep the channels' copies small
        counts += torch.stack([torch.bincount(c.flatten(), minlength=256) for c in some.cpu().unbind(1)])
    return counts


def channel_statistics(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (C,) float32, exact from the counts of the 256 values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = counts.double()
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    std = (weights @ values.square() - mean.square()).clamp(min=1e-12).sqrt()
    return mean.float(), std.float()


@dataclass(frozen=True, kw_only=True)
class DataSet(Spec):
    """A spec with `load() -> Data` and a `label`, its name on figures.

    If it states `channels` (a number) or `labels = False`, as a field or a class variable, building a run refuses
    operators, methods and evaluations that do not fit; otherwise the run refuses them before its first step.
    """

    def load(self) -> Data:
        raise NotImplementedError(f"{type(self).__name__} must define load(self)")


def cut_validation(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the remaining training images and of `count` validation images, stratified by class."""
    return _cut(labels, count, torch.Generator().manual_seed(seed))


def _cut(labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two index sets, rest and cut, in random order; each class keeps its share to within one image."""
    order = torch.randperm(len(labels), generator=generator)
    # Sorting by rank within the class spreads the classes evenly, so any prefix is balanced.
    rank = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = order[labels[order] == label]
        rank[members] = (torch.arange(len(members)).double() + 0.5) / len(members)
    dealt = order[rank[order].argsort(stable=True)]
    return dealt[count:].sort().values, dealt[:count].sort().values


def subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Indices of `count` images, stratified by class."""
    return _cut(labels, count, torch.Generator().manual_seed(seed))[1]
