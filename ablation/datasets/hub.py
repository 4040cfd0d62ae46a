"""Any Hugging Face image data set: a Hub name, local parquet files, or a folder of class folders."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ablation.datasets import cache, lists
from ablation.datasets.base import Data, DataError, DataSet, Split, cut_validation, subset
from ablation.datasets.source import Source, check_unchanged, everything, images_of, surveyed
from ablation.specs import canonical_json, describe, outside_identity

Places = dict[str, tuple[str, Tensor]]  # for each split, the role in the source and the numbers of its images there


@dataclass(frozen=True, kw_only=True)
class ImageData(DataSet):
    """Images and class labels, read through `datasets`, resized and stored once as uint8.

    path: a Hub name ("uoft-cs/cifar10"), a folder of class folders, a folder of parquet files, or one
    parquet file. train, test: names of the splits; a fraction such as test=0.2 cuts the test images from the
    training split (classes in proportion, fixed seed) where there is no other. validation: the fraction of
    the training images that is kept for validation. size: images are resized to size x size (bilinear,
    antialiased; the shorter side first, then the centre); None if all are square and of one size.
    train_images, test_images: use only so many (classes in proportion, fixed seed). Grey images become
    three equal channels. config, image_column, label_column: needed only where a data set has several
    configurations, several image columns, or not exactly one column of class labels.

    The identity is the content: a digest over all encoded images and labels, or `revision`, a commit of the
    Hub's repository (with the configuration and columns that are named). The path and the name on figures do not count.

    images: the name of a list of this package, which names images by their pixels. The path then says only where they
    are found, in whatever order, splits and lossless encoding, among whatever others. The list says which are in which
    split, so train, test, validation, train_images, test_images and revision keep their defaults; it is the identity,
    and needs no images.
    """

    path: str = outside_identity()
    name: str = outside_identity(default="")
    train: str = "train"
    test: str | float = "test"
    validation: float = 0.1
    size: int | None = None
    train_images: int | None = None
    test_images: int | None = None
    revision: str | None = None
    config: str | None = outside_identity(default=None)
    image_column: str | None = outside_identity(default=None)
    label_column: str | None = outside_identity(default=None)
    images: str | None = outside_identity(default=None)  # its content is the identity, not its name

    def __post_init__(self):
        self.require("path", isinstance(self.path, (str, os.PathLike)) and str(self.path), "name a data set")
        object.__setattr__(self, "path", str(self.path))
        self.require_number("validation", 0, 0.9, above=True)
        if not isinstance(self.test, str):
            self.require_number("test", 0, 0.9, above=True)
        for name in ("size", "train_images", "test_images"):
            if getattr(self, name) is not None:
                self.require_count(name)
        commit = self.revision is None or re.fullmatch("[0-9a-f]{40}", str(self.revision))
        self.require("revision", bool(commit), "be a commit of 40 hexadecimal digits", "A branch or tag can move.")
        if self.images is not None:
            self.require("images", self.images in lists.known(), f"be one of {lists.known()}")
            for item in fields(self):
                if item.name in ("train", "test", "validation", "train_images", "test_images", "revision"):
                    self.require(
                        item.name,
                        getattr(self, item.name) == item.default,
                        f"be left out beside images={self.images!r}, a list that says which images are in each split",
                        "Leave one of the two out.",
                    )

    @property
    def label(self) -> str:
        """Its name on figures: `name`, else that of the list, else the last part of the path."""
        return self.name or self.images or Path(self.path).name.removesuffix(".parquet")

    def fingerprint(self) -> str:
        if self.images is not None:
            return lists.read(self.images).fingerprint()
        if self.revision and not self._source().place:  # here, a revision says nothing
            return ":".join(filter(None, [self.revision, self.config, self.image_column, self.label_column]))
        return surveyed(self._source()).fingerprint

    def _source(self) -> Source:
        return Source(
            self.path, self.config, self.revision, self.train, self.test, self.image_column, self.label_column
        )

    def load(self) -> Data:
        """The images, mapped from the cache's file; decoded into it if they are not there, by one process only."""
        key = self._key()
        stored = cache.open_images(key)
        if stored is None:
            with cache.locked(key):
                stored = cache.open_images(key, tell=True) or self._decoded(key)
        return self.of(stored)

    @staticmethod
    def of(stored: cache.Stored) -> Data:
        """What was written by `_decoded`."""
        lengths = stored.facts["lengths"]
        images = stored.images.split(list(lengths.values()))
        labels = torch.tensor(stored.facts["labels"]).split(list(lengths.values()))
        splits = {name: Split(*part) for name, *part in zip(lengths, images, labels, strict=True)}
        return Data(**splits, classes=tuple(stored.facts["classes"]), streams=True, counts=stored.counts)

    def _key(self) -> str:
        """What determines the decoded images and their order in the file."""
        import PIL

        content = ["images", cache.LAYOUT, PIL.__version__, describe(self)]
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]

    def _decoded(self, key: str) -> cache.Stored:
        """Decodes the images that are used into the cache: those of training, of validation, of test."""
        if self.images is not None:
            return self._found(key)
        source = self._source()
        survey = surveyed(source)
        labels = {role: torch.tensor(each) for role, each in survey.labels.items()}
        places = self._places(labels)
        for name, (role, numbers) in places.items():
            self._check_classes(labels[role][numbers], name, survey.classes)
        lengths = {name: len(numbers) for name, (_, numbers) in places.items()}
        with cache.Writer(key, sum(lengths.values()), self.label) as writer:
            for role in labels:
                for number, slot, encoded in _chosen(source, role, places, len(labels[role])):
                    image = self._decode(encoded, number, role)
                    self._check_size(image, writer.shape[1:] or list(image.shape), places, labels)
                    writer.put(slot, image)
            check_unchanged(source, survey)
            facts = {
                "classes": survey.classes,
                "lengths": lengths,
                "labels": [label for role, numbers in places.values() for label in labels[role][numbers].tolist()],
            }
            return cache.write_images(key, writer, facts, counted=lengths["train"])

    def _found(self, key: str) -> cache.Stored:
        """The images of the list, found by their pixels, in the list's order."""
        named = lists.read(self.images)
        missing: dict[str, dict[str, list[int]]] = {}  # by digest and class, the slots
        for slot, (_, name, digest) in enumerate(named.images):
            missing.setdefault(digest, {}).setdefault(name, []).append(slot)
        others: dict[str, str] = {}  # by digest, images that were met with another class only
        with cache.Writer(key, len(named.images), self.label) as writer:
            for split, number, encoded, name in everything(self._source()):
                with self._opened(encoded, number, split) as opened:
                    image = _in_color(opened)
                wanted = missing.get(digest := lists.digest(np.asarray(image)))
                if not wanted:
                    continue
                if (slots := wanted.pop(name(), None)) is None:
                    others[digest] = f"{name()!r} instead of {next(iter(wanted))!r} (image {number} of {split})"
                    continue
                for slot in slots:
                    writer.put(slot, np.asarray(_square(image, self.size)).transpose(2, 0, 1))
                if not any(missing.values()):
                    break
            self._check_found(named, missing, others)
            facts = {
                "classes": named.classes,
                "lengths": named.lengths,
                "labels": [named.classes.index(name) for _, name, _ in named.images],
            }
            return cache.write_images(key, writer, facts, counted=named.lengths["train"])

    def _check_found(self, named: lists.ImageList, missing: dict[str, dict], others: dict[str, str]) -> None:
        """Refuses a source that gives images of the list other classes, or lacks some."""
        where = f"ImageData.images {self.images!r}"
        others = {digest: found for digest, found in others.items() if missing[digest]}
        if others:
            raise DataError(
                f"{where}: images must have the classes of the list, but {self.path!r} gives {len(others)} of them "
                f"another, the first {next(iter(others.values()))}. Name the column with the classes "
                f"{', '.join(named.classes)}: label_column=..., or say where they are named so: --data PLACE."
            )
        lacking = [named.images[slot][0] for each in missing.values() for slots in each.values() for slot in slots]
        if lacking:
            counts = ", ".join(
                f"{lacking.count(split):,} of {count:,} in {split}" for split, count in named.lengths.items()
            )
            raise DataError(
                f"{where}: its {len(named.images):,} images must all be found in {self.path!r} by their pixels, but "
                f"{len(lacking):,} are missing ({counts}). Say where they lie, stored without loss: --data PLACE; or "
                "use images of your own: scale.replace(dataset=ImageData(path=...))."
            )

    def _places(self, labels: dict[str, Tensor]) -> Places:
        train, test = ("train", torch.arange(len(labels["train"]))), None
        if "test" in labels:
            test = ("test", torch.arange(len(labels["test"])))
        else:
            rest, held_out = cut_validation(labels["train"], round(self.test * len(labels["train"])), seed=1)
            train, test = ("train", rest), ("train", held_out)
        train = self._limit(train, labels, "train_images", 2)
        test = self._limit(test, labels, "test_images", 3)
        role, numbers = train
        count = max(1, round(self.validation * len(numbers)))
        rest, held_out = cut_validation(labels[role][numbers], count, seed=0)
        return {"train": (role, numbers[rest]), "validation": (role, numbers[held_out]), "test": test}

    def _limit(self, place: tuple[str, Tensor], labels: dict[str, Tensor], field: str, seed: int):
        role, numbers = place
        count = getattr(self, field)
        if count is None:
            return place
        self.require(field, count <= len(numbers), f"be at most {len(numbers)}, the number of images in {self.path}")
        return role, numbers[subset(labels[role][numbers], count, seed)]

    def _check_classes(self, labels: Tensor, split: str, classes: tuple[str, ...]) -> None:
        counts = torch.bincount(labels, minlength=len(classes))
        if (counts == 0).any():
            empty = classes[int(counts.argmin())]
            raise DataError(
                f"ImageData.path {self.path!r}: every class must have an image in every split, but {empty!r} has none "
                f"in {split} ({len(labels)} images). Remove the class, add images, or use more of them."
            )

    def _decode(self, encoded: bytes, number: int, role: str) -> np.ndarray:
        """(3, S, S) uint8."""
        with self._opened(encoded, number, role) as opened:
            return np.asarray(_square(_in_color(opened), self.size)).transpose(2, 0, 1)

    @contextmanager
    def _opened(self, encoded: bytes, number: int, role: str) -> Iterator:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(encoded)) as opened:
                yield opened
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(
                f"ImageData.path {self.path!r}: image {number} of {role} must be readable, but: {error}. "
                "Remove or replace it."
            ) from error

    def _check_size(self, image: np.ndarray, first: list[int], places: Places, labels: dict[str, Tensor]) -> None:
        if self.size is not None or (list(image.shape) == first and image.shape[1] == image.shape[2]):
            return
        sizes = set()
        for role in labels:
            for number, _, encoded in _chosen(self._source(), role, places, len(labels[role])):
                with self._opened(encoded, number, role) as opened:
                    sizes.add(opened.size)
        shown = ", ".join(f"{w} x {h}" for w, h in sorted(sizes, key=lambda size: size[::-1])[:3])
        raise DataError(
            f"ImageData.size must be stated where images are not all square and of one size, but {self.path!r} has "
            f"{len(sizes)} sizes ({shown}{', ...' if len(sizes) > 3 else ''}). Add size=64, say."
        )


def _chosen(source: Source, role: str, places: Places, count: int) -> Iterator[tuple[int, int, bytes]]:
    """The images of a role that are used: number, slot in the file (one split after the other), encoded bytes."""
    slots, start = np.full(count, -1), 0
    for each, numbers in places.values():
        if each == role:
            slots[numbers.numpy()] = np.arange(start, start + len(numbers))
        start += len(numbers)
    for number, encoded in enumerate(images_of(source, role)):
        if slots[number] >= 0:
            yield number, int(slots[number]), encoded


def _in_color(image):
    """RGB; 16-bit grey is scaled, where PIL's own conversion would clip it."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image, dtype=np.float32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its mode {image.mode} has no known range of values; store it with 8 or 16 bits")
    return image.convert("RGB")


def _square(image, size: int | None):
    from PIL import Image, ImageOps

    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return image
