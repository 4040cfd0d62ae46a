"""Loads a data set once per process; checks a user's data set and compares it with a second call of `load`."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import reprlib
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from ablation.data.dataset import Data, DataSet
from ablation.spec import DataError, content_of, is_ours, stated_channels, stated_labels

DARK = 64  # of 255: the maximum of 14 bits stored in 16


def loaded(dataset: DataSet, device: str) -> Data:
    """The data set on the device, or streaming to it; loaded once per process and content."""
    return _loaded(dataset, device, content_of(dataset))


@functools.lru_cache(maxsize=4)
def _loaded(dataset: DataSet, device: str, content: str) -> Data:
    data = dataset.load()
    if not is_ours(type(dataset)):
        _check(dataset, data)
        if multiprocessing.parent_process() is None:  # a worker's parent has already checked it
            data = _checked_again(dataset, data, content)
    return data.to(torch.device(device))


loaded.cache_clear = _loaded.cache_clear


def _check(dataset: DataSet, data: Data) -> None:
    """Raises DataError if a user's `load` returned an invalid `Data`."""

    def need(holds: bool, rule: str, seen: str, cure: str = "See `Data` and `Split`.") -> None:
        if not holds:
            raise DataError(f"{_called(dataset)}: load() must return {rule}, but {seen}. {cure}")

    need(isinstance(data, Data), "a Data", f"returned a {type(data).__name__}")
    named = all(isinstance(name, str) for name in data.classes) and len(set(data.classes)) == len(data.classes)
    seen = f"classes is {reprlib.repr(data.classes)}"
    need(named, "a name for each class, as different strings", seen, "Write ('cat', 'dog').")
    size, channels = data.size, data.channels
    for name, split in data.splits().items():
        images, labels = split.images, split.labels
        shape = f"{name}.images is {tuple(images.shape)} of {images.dtype}"
        fits = images.dtype == torch.uint8 and images.shape[1:] == (channels, size, size) and len(images) > 0
        need(fits, f"images (N, {channels}, {size}, {size}) uint8, at least one in each split", shape)
        if labels is None:
            continue
        whole = labels.dtype == torch.int64 and labels.shape == (len(images),)
        need(whole, "a label (N,) int64 for each image", f"{name}.labels is {tuple(labels.shape)} of {labels.dtype}")
        low, high = labels.min().item(), labels.max().item()
        rule = f"labels from 0 to {len(data.classes) - 1}, for {len(data.classes)} classes"
        need(low >= 0 and high < len(data.classes), rule, f"those of {name} are {low} to {high}")
        counts = torch.bincount(labels, minlength=len(data.classes))
        lacking = data.classes[int(counts.argmin())]
        cure = "Add images, or remove the class from the images of the other splits and from `classes`."
        need(counts.min().item() > 0, "images of every class in every split", f"{name} has none of {lacking!r}", cure)
    stated = stated_channels(dataset)
    cure = f"Write channels = {channels} in the class, or return such images."
    need(stated in (None, channels), f"images of {stated} channels, as it states", f"they have {channels}", cure)
    rule = "labels" if stated_labels(dataset) else "no labels"
    fits = stated_labels(dataset) in (None, data.labelled)
    need(fits, f"{rule}, as it states", f"labels is {stated_labels(dataset)}", "Change the one or the other.")


_seen: dict[tuple[DataSet, str], str] = {}  # digest of the first result of load()


def _checked_again(dataset: DataSet, data: Data, content: str) -> Data:
    """The result of a second call of a user's `load`, which must equal the first. Counts images in several splits.
    Memory holds one of the two at a time."""
    images, digest = _digests(data)
    if (dataset, content) not in _seen:
        _seen[dataset, content] = digest
        _warn_of_copies(dataset, data, images)
        brightest = int(max(each.max() for each in data.train.images.split(256)))
        if brightest < DARK:
            cause = "stored values in [0, 1] as bytes" if brightest <= 1 else "did not scale a smaller range"
            factor = "255" if brightest <= 1 else f"255 / {brightest}"
            cause = f"as if load() {cause}. Multiply them by {factor} before converting to bytes"
            _tell(dataset, f"the brightest value of its training images is {brightest} of 255, {cause}.")
        if _is_scrambled(data.train.images[:256]):
            cause = "as if arrays (H, W, C) were reshaped. Write images.permute(0, 3, 1, 2)"
            _tell(dataset, f"pixels of its images at distance 3 are more alike than neighbours, {cause}.")
        del data
        data = dataset.load()
        digest = _digests(data)[1]
    if digest != _seen[dataset, content]:
        raise DataError(
            f"{_called(dataset)}: load() must return the same images and labels in the same order at every call, but "
            "a second call returned others. Draw from a torch.Generator with a fixed seed, sort file names, and do "
            "not change what load() has returned."
        )
    return data


def _digests(data: Data) -> tuple[dict[str, list[bytes]], str]:
    """Digests of every image, by split, and of the whole."""
    images = {
        name: [
            hashlib.blake2b(image, digest_size=16).digest() for some in split.images.split(256) for image in _rows(some)
        ]
        for name, split in data.splits().items()
    }
    whole = hashlib.blake2b(repr(data.classes).encode())
    for name, split in data.splits().items():
        labels = b"" if split.labels is None else split.labels.cpu().numpy().tobytes()
        whole.update(b"".join([name.encode(), *images[name], labels]))
    return images, whole.hexdigest()


def _rows(images: Tensor) -> Iterator[bytes]:
    return (row.tobytes() for row in images.cpu().numpy())


def _warn_of_copies(dataset: DataSet, data: Data, images: dict[str, list[bytes]]) -> None:
    """Prints a line for each split that repeats training or validation images, since its accuracy is then too high;
    for each that repeats its own; and if equal images have several labels."""
    for name, others in ("test", ("train", "validation")), ("validation", ("train",)):
        for other in others:
            known = set(images[other])
            if count := sum(each in known for each in images[name]):
                _tell(
                    dataset,
                    f"{count:,} of the {len(images[name]):,} images of {name} are also in {other} (equal pixels), so "
                    "accuracies are too high. Remove them.",
                )
    for name, each in images.items():
        if count := len(each) - len(set(each)):
            _tell(dataset, f"{count:,} of the {len(each):,} images of {name} are copies of others (equal pixels).")
    labels: dict[bytes, set[int]] = {}
    for name, split in data.splits().items() if data.labelled else ():
        for image, label in zip(images[name], split.labels.tolist(), strict=True):
            labels.setdefault(image, set()).add(label)
    if count := sum(len(each) > 1 for each in labels.values()):
        _tell(
            dataset, f"{count:,} of its {len(labels):,} different images have several labels. Correct or remove them."
        )


def _is_scrambled(images: Tensor) -> bool:
    """Whether pixels are more similar at distance 3 than at distance 1; images (N, C, S, S)."""
    if images.shape[-1] < 8:
        return False
    wide = images.float()
    next_one, third = ((wide[..., gap:] - wide[..., :-gap]).abs().mean().item() for gap in (1, 3))
    return third < 0.7 * next_one


def _tell(dataset: DataSet, sentence: str) -> None:
    print(f"ablation: {_called(dataset)}: {sentence}", file=sys.stderr, flush=True)


def _called(dataset: DataSet) -> str:
    return f"{type(dataset).__name__} ({dataset.label!r})"
