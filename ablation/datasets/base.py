"""What a data set is: three splits of uint8 images, on the device or in a mapped file, cut with a fixed seed."""

from __future__ import annotations

import copy
import functools
import hashlib
import multiprocessing
import reprlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass, field

import torch
from torch import Tensor

from ablation.datasets.ahead import read_ahead
from ablation.specs import InvalidSpec, Spec, content_of, is_ours


class DataError(InvalidSpec):
    """A data set that is missing, unreadable or not what its spec says."""


@dataclass(frozen=True)
class Split:
    """images (N, 3, S, S) uint8, labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """The training images without the validation images, the validation images, the test images.

    Labels and statistics lie on the `device`, and so do the images, unless the data set `streams`: then they stay
    where they are, in the host's memory or in a file that is mapped there, and only batches come to the device.
    mean and std, (3,) on the [0, 1] scale, are those of the training images; counts, (3, 256): how often each value
    occurs in them, counted where it is not given.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    streams: bool = False
    counts: InitVar[Tensor | None] = None
    mean: Tensor = field(init=False)
    std: Tensor = field(init=False)

    def __post_init__(self, counts: Tensor | None):
        if len(self.classes) < 2:
            raise DataError(
                f"Data.classes must name at least two classes to be told apart, but got {self.classes}. "
                "Label the images, or add another class."
            )
        std, mean = _channel_statistics(count_values(self.train.images) if counts is None else counts)
        object.__setattr__(self, "mean", mean.to(self.device))
        object.__setattr__(self, "std", std.to(self.device))

    @property
    def size(self) -> int:
        return self.train.images.shape[-1]

    @property
    def device(self) -> torch.device:
        return self.train.labels.device

    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def training(self, with_validation: bool) -> Split:
        """The training images, or those and then the validation images; mapped ones are not copied."""
        if not with_validation:
            return self.train
        labels = torch.cat([self.train.labels, self.validation.labels])
        return Split(_joined(self.train.images, self.validation.images), labels)

    def batches(self, images: Tensor, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """`images[r]` on the device for every r of `rows`, in order; images: a split's, or some of them."""
        if self.streams:
            yield from read_ahead(images, rows, self.device)
        else:
            for each in rows:
                yield images.index_select(0, each)  # copies whole images, which images[each] does not

    def pieces(self, images: Tensor, count: int) -> Iterator[Tensor]:
        """All images of a split in order, `count` at a time, on the device."""
        if self.streams:
            yield from read_ahead(images, torch.arange(len(images)).split(count), self.device)
        else:
            yield from images.split(count)

    def to(self, device: torch.device) -> Data:
        """On another device; the images only where they leave room for what is computed with them."""
        if device == self.device:
            return self
        moved = copy.copy(self)  # with its statistics, which are not counted again
        images = [split.images for split in self.splits().values()]
        stay = sum(each.nbytes for each in images) > room(device)
        if not stay:
            whole = torch.empty((sum(map(len, images)), *images[0].shape[1:]), dtype=torch.uint8, device=device)
            parts = whole.split([len(each) for each in images])  # one after the other, as `training` needs them
            images = [part.copy_(each) for part, each in zip(parts, images, strict=True)]
        for (name, split), each in zip(self.splits().items(), images, strict=True):
            object.__setattr__(moved, name, Split(each, split.labels.to(device)))
        for name, value in (("mean", self.mean.to(device)), ("std", self.std.to(device)), ("streams", stay)):
            object.__setattr__(moved, name, value)
        return moved


def room(device: torch.device) -> float:
    """Bytes of images that may lie on a device: half of what is free on a GPU; the rest is for what is computed."""
    return torch.cuda.mem_get_info(device)[0] / 2 if device.type == "cuda" else float("inf")


def _joined(one: Tensor, other: Tensor) -> Tensor:
    """One tensor of both: a view where the second follows the first in memory."""
    same = one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    if same and one.is_contiguous() and other.storage_offset() == one.storage_offset() + one.numel():
        return one.as_strided((len(one) + len(other), *one.shape[1:]), one.stride(), one.storage_offset())
    return torch.cat([one, other])


def count_values(images: Tensor) -> Tensor:
    """(C, 256) int64: how often each value occurs in each channel of (N, C, S, S) uint8 images."""
    counts = torch.zeros((images.shape[1], 256), dtype=torch.int64)
    for some in images.split(256):  # few at a time, so that the channels' copies stay small
        counts += torch.stack([torch.bincount(c.flatten(), minlength=256) for c in some.cpu().unbind(1)])
    return counts


def _channel_statistics(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of each channel, exact from the counts of the 256 values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = counts.double()
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    std = (weights @ values.square() - mean.square()).clamp(min=1e-12).sqrt()
    return std.float(), mean.float()


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


def loaded(dataset: DataSet, device: str) -> Data:
    """The data set on the device, or streaming to it, read once per process and content."""
    return _loaded(dataset, device, content_of(dataset))


@functools.lru_cache(maxsize=4)
def _loaded(dataset: DataSet, device: str, content: str) -> Data:
    data = dataset.load()
    if not is_ours(type(dataset)):
        _check(dataset, data)
        if multiprocessing.parent_process() is None:  # a worker loads what was checked before it was started
            data = _checked_again(dataset, data, content)
    return data.to(torch.device(device))


loaded.cache_clear = _loaded.cache_clear


def _check(dataset: DataSet, data: Data) -> None:
    """What a data set of a user gave. Raises DataError."""

    def need(holds: bool, rule: str, seen: str, cure: str = "See `Data` and `Split`.") -> None:
        if not holds:
            raise DataError(f"{_called(dataset)}: load() must return {rule}, but {seen}. {cure}")

    need(isinstance(data, Data), "a Data", f"returned a {type(data).__name__}")
    named = all(isinstance(name, str) for name in data.classes) and len(set(data.classes)) == len(data.classes)
    seen = f"classes is {reprlib.repr(data.classes)}"
    need(named, "a name for each class, as different strings", seen, "Write ('cat', 'dog').")
    size = data.size
    for name, split in data.splits().items():
        images, labels = split.images, split.labels
        shape = f"{name}.images is {tuple(images.shape)} of {images.dtype}"
        fits = images.dtype == torch.uint8 and images.shape[1:] == (3, size, size) and len(images) > 0
        need(fits, f"images (N, 3, {size}, {size}) uint8, at least one in each split", shape)
        whole = labels.dtype == torch.int64 and labels.shape == (len(images),)
        need(whole, "a label (N,) int64 for each image", f"{name}.labels is {tuple(labels.shape)} of {labels.dtype}")
        low, high = labels.min().item(), labels.max().item()
        rule = f"labels from 0 to {len(data.classes) - 1}, the places of {len(data.classes)} classes"
        need(low >= 0 and high < len(data.classes), rule, f"those of {name} are {low} to {high}")
        counts = torch.bincount(labels, minlength=len(data.classes))
        lacking = data.classes[int(counts.argmin())]
        cure = "Add images, or remove the class from the images of the other splits and from `classes`."
        need(counts.min().item() > 0, "images of every class in every split", f"{name} has none of {lacking!r}", cure)


_seen: dict[tuple[DataSet, str], str] = {}  # a digest of what load() returned first


def _checked_again(dataset: DataSet, data: Data, content: str) -> Data:
    """What a data set of a user returns when it is loaded again: the same, or DataError. Tells of images that are in
    several splits. Memory holds one of the two at a time."""
    images, digest = _digests(data)
    if (dataset, content) not in _seen:
        _seen[dataset, content] = digest
        _tell_of_copies(dataset, data, images)
        brightest = int(max(each.max() for each in data.train.images.split(256)))
        if brightest < DARK:
            cause = "shares of one are stored as bytes" if brightest <= 1 else "a smaller range was not scaled"
            factor = "255" if brightest <= 1 else f"255 / {brightest}"
            what = f"as where {cause}. Multiply them by {factor} before they become bytes"
            _tell(dataset, f"the brightest value of its training images is {brightest} of 255, {what}.")
        if _is_scrambled(data.train.images[:256]):
            what = "as where arrays (H, W, 3) were reshaped. Write images.permute(0, 3, 1, 2)"
            _tell(dataset, f"pixels of its images that lie 3 apart are more alike than neighbours, {what}.")
        del data
        data = dataset.load()
        digest = _digests(data)[1]
    if digest != _seen[dataset, content]:
        raise DataError(
            f"{_called(dataset)}: load() must return the same images and labels in the same order whenever it is "
            "called, but another call returned others. Draw from a torch.Generator with a fixed seed, sort names of "
            "files, and change nothing that was returned."
        )
    return data


def _digests(data: Data) -> tuple[dict[str, list[bytes]], str]:
    """Of every image, by split; and of the whole."""
    images = {
        name: [
            hashlib.blake2b(image, digest_size=16).digest() for some in split.images.split(256) for image in _rows(some)
        ]
        for name, split in data.splits().items()
    }
    whole = hashlib.blake2b(repr(data.classes).encode())
    for name, split in data.splits().items():
        whole.update(b"".join([name.encode(), *images[name], split.labels.cpu().numpy().tobytes()]))
    return images, whole.hexdigest()


def _rows(images: Tensor) -> Iterator[bytes]:
    return (row.tobytes() for row in images.cpu().numpy())


def _tell_of_copies(dataset: DataSet, data: Data, images: dict[str, list[bytes]]) -> None:
    """Prints a line for each split that repeats training or validation images, since its accuracy is then too high,
    for each that repeats its own, and where equal images have several labels."""
    for name, others in ("test", ("train", "validation")), ("validation", ("train",)):
        for other in others:
            known = set(images[other])
            if count := sum(each in known for each in images[name]):
                _tell(
                    dataset,
                    f"{count:,} of the {len(images[name]):,} images of {name} are in {other} too (equal pixels), so "
                    "accuracies are too high. Remove them.",
                )
    for name, each in images.items():
        if count := len(each) - len(set(each)):
            _tell(dataset, f"{count:,} of the {len(each):,} images of {name} repeat another of them (equal pixels).")
    labels: dict[bytes, set[int]] = {}
    for name, split in data.splits().items():
        for image, label in zip(images[name], split.labels.tolist(), strict=True):
            labels.setdefault(image, set()).add(label)
    if count := sum(len(each) > 1 for each in labels.values()):
        _tell(
            dataset, f"{count:,} of its {len(labels):,} different images have several labels. Correct or remove them."
        )


DARK = 64  # of 255: 14 bits in a file of 16 reach that


def _is_scrambled(images: Tensor) -> bool:
    """Whether a pixel is closer to the third one beside it than to the next; images (N, 3, S, S)."""
    if images.shape[-1] < 8:
        return False
    wide = images.float()
    next_one, third = ((wide[..., gap:] - wide[..., :-gap]).abs().mean().item() for gap in (1, 3))
    return third < 0.7 * next_one


def _tell(dataset: DataSet, sentence: str) -> None:
    print(f"ablation: {_called(dataset)}: {sentence}", file=sys.stderr, flush=True)


def _called(dataset: DataSet) -> str:
    return f"{type(dataset).__name__} ({dataset.label!r})"
