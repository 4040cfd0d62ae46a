"""Images of one's own: a folder of class folders, parquet files, or a data set of the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ablation.datasets import cache, decode, lists
from ablation.datasets.base import DARK, Data, DataError, DataSet, Split, cut_validation, subset
from ablation.datasets.source import Faults, Source, check_unchanged, everything, images_of, surveyed, tell
from ablation.specs import canonical_json, describe, outside_identity

Places = dict[str, tuple[str, Tensor]]  # for each split, the role in the source and the numbers of its images there


@dataclass(frozen=True, kw_only=True)
class ImageData(DataSet):
    """Images and class labels, resized and stored once as uint8.

    path: a Hub name ("uoft-cs/cifar10"), a folder of class folders, a folder of parquet files, one parquet file, or
    what `save_to_disk` wrote. train, test: names of the splits; a fraction such as test=0.2 cuts the test images from
    the training split (classes in proportion, fixed seed) where there is no other. validation: the fraction of
    the training images that is kept for validation. size: images are resized to size x size (bilinear,
    antialiased; the shorter side first, then the centre); None if all are square and of one size.
    train_images, test_images: use only so many (classes in proportion, fixed seed). Images are turned as their
    orientation tag says; grey becomes three equal channels, transparency is dropped, of an animation the first frame
    is used. config, image_column, label_column: needed only where a data set has several configurations, several image
    columns, or not exactly one column of class labels.

    The identity is the content: a digest over all encoded images and labels, or `revision`, a commit of the
    Hub's repository (with the configuration and columns that are named, and whether an image is stored turned). The
    path and the name on figures do not count.

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
        path = isinstance(self.path, (str, os.PathLike)) and isinstance(os.fspath(self.path), str)
        self.require("path", path and bool(str(self.path).strip()), "name a folder, a file or a data set of the Hub")
        object.__setattr__(self, "path", os.fspath(self.path))
        self.require("name", isinstance(self.name, str), "be text")
        self.require("train", isinstance(self.train, str) and bool(self.train), "name a split")
        self.require_number("validation", 0, 0.9, above=True)
        if isinstance(self.test, str):
            self.require("test", self.test not in ("", self.train), "name another split than train")
        else:
            self.require_number("test", 0, 0.9, above=True)
        for name in ("config", "image_column", "label_column"):
            value = getattr(self, name)
            self.require(name, value is None or (isinstance(value, str) and bool(value)), "be a name or None")
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
        return self.name or self.images or Path(os.path.normpath(self.path)).name.removesuffix(".parquet") or self.path

    @property
    def warning(self) -> str:
        """What a table of its runs must say of it; "" of most."""
        if self.images is not None:
            return ""
        stored = cache.open_images(self._key())
        said = surveyed(self._source()).warning, "" if stored is None else _unusual(self.path, stored)
        return "; ".join(filter(None, said))

    def fingerprint(self) -> str:
        if self.images is not None:
            return lists.read(self.images).fingerprint()
        if self.revision and not self._source().place:  # here, a revision says nothing
            named = [self.config, self.image_column, self.label_column]
            content = [self.revision] + [canonical_json(named)] * any(named)
            # A tag that turns an image changes what is learned; before version 2 of the survey it did not.
            return ":".join(content + ["turned"] * surveyed(self._source()).turned)
        return surveyed(self._source()).fingerprint

    def _source(self) -> Source:
        test = self.test if self.images is None else None
        return Source(self.path, self.config, self.revision, self.train, test, self.image_column, self.label_column)

    def load(self) -> Data:
        """The images, mapped from the cache's file; decoded into it if they are not there, by one process only."""
        key = self._key()
        stored = cache.open_images(key)
        if stored is None:
            with cache.locked(key):
                stored = cache.open_images(key, tell=True) or self._decoded(key)
        if self.images is None:
            tell(_unusual(self.path, stored))
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
        faults = Faults(source)
        with cache.Writer(key, sum(lengths.values()), self.label) as writer:
            blank = frames = cut = 0
            seen: dict[int, tuple[bytes, bytes]] = {}  # by slot, digests of the pixels and of the file
            for role in labels:
                for where, slot, encoded in _chosen(source, role, places, len(labels[role])):
                    with faults.noted(where):
                        content = encoded()
                        picture = decode.color(content)
                        frames += decode.several(content)
                        cut += max(picture.size) >= 2 * min(picture.size)
                        image = _pixels(picture, self.size)
                        self._check_size(image, writer.shape[1:] or list(image.shape), places, labels)
                        writer.put(slot, image)
                        blank += bool((image == image[:, :1, :1]).all())
                        seen[slot] = _digest(image.tobytes()), _digest(content)
            faults.refuse()
            check_unchanged(source, survey)
            flat = [label for role, numbers in places.values() for label in labels[role][numbers].tolist()]
            facts = {
                "classes": survey.classes,
                "lengths": lengths,
                "labels": flat,
                "blank": blank,
                **{f"copies of {name}": count for name, count in _copies(seen, lengths, flat).items()},
                "frames": frames,
                "cut": cut,
            }
            return cache.write_images(key, writer, facts, counted=lengths["train"])

    def _found(self, key: str) -> cache.Stored:
        """The images of the list, found by their pixels, in the list's order."""
        named = lists.read(self.images)
        missing: dict[str, dict[str, list[int]]] = {}  # by digest and class, the slots
        for slot, (_, name, digest) in enumerate(named.images):
            missing.setdefault(digest, {}).setdefault(name, []).append(slot)
        others: dict[str, str] = {}  # by digest, images that were met with another class only
        source = self._source()
        faults = Faults(source)
        with cache.Writer(key, len(named.images), self.label) as writer:
            for where, name, encoded in everything(source):
                with faults.noted(where):
                    image = decode.color(encoded())
                    wanted = missing.get(digest := lists.digest(np.asarray(image)))
                    if not wanted:
                        continue
                    if (slots := wanted.pop(name(), None)) is None:
                        others[digest] = f"{name()!r} instead of {next(iter(wanted))!r} ({where})"
                        continue
                    for slot in slots:
                        writer.put(slot, _pixels(image, self.size))
                if not any(missing.values()):
                    break
            else:
                faults.refuse()  # one of them may be an image of the list
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
        what = f"in the split {getattr(self, role)!r}"
        if "test" not in labels:
            cut = "cuts from" if field == "test_images" else "leaves of"
            what = f"that test={self.test} {cut} the {len(labels[role]):,} in {self.path!r}"
        self.require(field, count <= len(numbers), f"be at most {len(numbers)}, the number of images {what}")
        return role, numbers[subset(labels[role][numbers], count, seed)]

    def _check_classes(self, labels: Tensor, split: str, classes: tuple[str, ...]) -> None:
        counts = torch.bincount(labels, minlength=len(classes))
        if (counts == 0).any():
            empty = classes[int(counts.argmin())]
            raise DataError(
                f"ImageData.path {self.path!r}: every class must have an image in every split, but {empty!r} has none "
                f"in {split} ({len(labels)} images). Remove the class, add images, or use more (validation=...)."
            )

    def _check_size(self, image: np.ndarray, first: list[int], places: Places, labels: dict[str, Tensor]) -> None:
        if self.size is not None or (list(image.shape) == first and image.shape[1] == image.shape[2]):
            return
        sizes = set()
        for role in labels:
            for _, _, encoded in _chosen(self._source(), role, places, len(labels[role])):
                sizes.add(decode.size(encoded()))
        shown = ", ".join(f"{w} x {h}" for w, h in sorted(sizes, key=lambda size: size[::-1])[:3])
        raise DataError(
            f"ImageData.size must be stated where images are not all square and of one size, but {self.path!r} has "
            f"{len(sizes)} sizes ({shown}{', ...' if len(sizes) > 3 else ''}). Add size=64, say."
        )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _copies(seen: dict[int, tuple[bytes, bytes]], lengths: dict[str, int], labels: list[int]) -> dict[str, int]:
    """How many test images, and how many validation images, have the pixels of an image before them in another file;
    and how many images have those of one of another class. seen: by slot, in the order of the splits, digests of the
    pixels and of the file; equal files are counted with the labels. labels: by slot."""
    files: dict[bytes, bytes] = {}  # by digest of the pixels, of the first file
    classes: dict[bytes, set[int]] = {}
    found, first_of_test = {"train": 0, "test": 0, "another class": 0}, lengths["train"] + lengths["validation"]
    for slot in sorted(seen):
        pixels, file = seen[slot]
        if files.setdefault(pixels, file) != file:
            found["test" if slot >= first_of_test else "train"] += 1
            found["another class"] += bool(classes[pixels] - {labels[slot]})
        classes.setdefault(pixels, set()).add(labels[slot])
    return found


def _unusual(path: str, stored: cache.Stored) -> str:
    """What is wrong where images show little or nothing; "" where they do not."""
    said, lengths = [], stored.facts["lengths"]
    brightest = int(stored.counts.sum(0).nonzero().max())
    if brightest < DARK:
        said.append(
            f"the brightest value of the {lengths['train']:,} training images is {brightest} of 255, as where a "
            "picture of 10 or 12 bits is stored in 16 without being scaled"
        )
    of = sum(lengths.values())
    for fact, what in (
        ("blank", "of one color (transparency is dropped)"),
        ("copies of test", "test images with the pixels of another image, so accuracies may be too high"),
        ("copies of train", "training or validation images with the pixels of another, which may be chosen on"),
        ("copies of another class", "labelled otherwise than an image with the same pixels. Correct or remove them"),
        ("cut", "at least twice as long as wide: only the square in the middle is kept"),
        ("frames", "of several frames or pages: only the first is used"),
    ):
        if count := stored.facts[fact]:
            said.append(f"{count:,} of the {of:,} images are {what}")
    return f"{path}: {'; '.join(said)}" if said else ""


def _chosen(source: Source, role: str, places: Places, count: int) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """The images of a role that are used: where each is, slot in the file (one split after the other), its bytes."""
    slots, start = np.full(count, -1), 0
    for each, numbers in places.values():
        if each == role:
            slots[numbers.numpy()] = np.arange(start, start + len(numbers))
        start += len(numbers)
    for slot, (where, encoded) in zip(slots.tolist(), images_of(source, role), strict=True):
        if slot >= 0:
            yield where, slot, encoded


def _pixels(image: Image.Image, size: int | None) -> np.ndarray:
    """(3, S, S) uint8."""
    return np.asarray(decode.square(image, size)).transpose(2, 0, 1)
