"""A user's images: a folder of class folders, parquet files, or a data set of the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ablation.data import cache, image_lists
from ablation.data.dataset import Data, DataSet, Split
from ablation.data.decode import SQUARES
from ablation.data.odd_images import warning_of
from ablation.data.source import ImageSource
from ablation.data.storage import decoded, found_by_pixels
from ablation.data.survey import surveyed, tell
from ablation.spec import DataError, added_later, canonical_json, describe, outside_identity

# A list of the package determines these, so the fields must keep their defaults.
STATED_BY_A_LIST = (
    "train", "test", "validation", "train_images", "test_images", "revision", "square", "labels",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImageData(DataSet):
    """Images and class labels, resized and stored once as uint8.

    path: a Hub name ("uoft-cs/cifar10"), a folder of class folders, a folder of parquet files, one parquet file, or
    a folder written by `save_to_disk`. train, test: names of the splits; a fraction such as test=0.2 cuts the test
    images from the training split (stratified, fixed seed) if there is no test split. validation: the fraction of the
    training images kept for validation. train_images, test_images: use only this many (stratified, fixed seed).
    config, image_column, label_column: needed only if a data set has several configurations, several image columns,
    or not exactly one column of class labels.

    size: images become size x size pixels (bilinear, antialiased); None if all are square and of one size. square: how
    to treat oblong images: "crop" keeps the central square of the shorter side; "squash" keeps the whole image and
    changes its proportions; "pad" keeps both, between black bars. channels: 3, RGB, with grey as three equal channels
    and transparency dropped; 1, the luma 0.299 R + 0.587 G + 0.114 B; 4, RGB and transparency as in the file (255 if
    it has none), each resized separately. Orientation tags are applied; animations give their first frame.

    labels: False reads no labels; a folder then needs no class folders, and images may be at any depth of a split.
    Evaluations and methods that need labels are then refused.

    The identity is the content: a digest over all encoded images and labels, or `revision`, a commit of the
    Hub's repository (with the named configuration and columns, and whether an image is stored turned). The path and
    the name on figures do not count.

    images: the name of a list of this package, which identifies images by their pixels. The path is then only where to
    find them, in any order, splits and lossless encoding, among any other images. The list assigns the splits, so
    train, test, validation, train_images, test_images and revision keep their defaults. The list is the identity,
    which needs no images. All images of a list are square and have labels.
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
    images: str | None = outside_identity(default=None)  # the list's content is the identity, not its name
    channels: int = added_later(default=3)
    square: str = added_later(default="crop")
    labels: bool = added_later(default=True)

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
        self.require("channels", self.channels in (1, 3, 4), "be 3 (RGB), 1 (grey) or 4 (RGB and transparency)")
        self.require_choice("square", SQUARES)
        sized = self.square == "crop" or self.size is not None
        self.require("square", sized, "be omitted without a size: images must then be square", "Add size=64, say.")
        self.require("labels", isinstance(self.labels, bool), "be True or False")
        if not self.labels:
            self.require("label_column", self.label_column is None, "be omitted with labels=False", "Remove it.")
        commit = self.revision is None or re.fullmatch("[0-9a-f]{40}", str(self.revision))
        self.require("revision", bool(commit), "be a commit of 40 hexadecimal digits", "A branch or tag can move.")
        if self.images is not None:
            self.require("images", self.images in image_lists.known(), f"be one of {image_lists.known()}")
            for item in fields(self):
                if item.name in STATED_BY_A_LIST:
                    self.require(
                        item.name,
                        getattr(self, item.name) == item.default,
                        f"be left out beside images={self.images!r}, a list of square images with their splits and "
                        "classes",
                        "Remove one of the two.",
                    )

    @property
    def label(self) -> str:
        """The name on figures: `name`, else the list's, else the last part of the path."""
        return self.name or self.images or Path(os.path.normpath(self.path)).name.removesuffix(".parquet") or self.path

    @property
    def warning(self) -> str:
        """A sentence for the tables about odd images; usually ""."""
        if self.images is not None:
            return ""
        stored = cache.open_images(self._key())
        remarks = surveyed(self.source).warning, "" if stored is None else warning_of(self.path, stored)
        return "; ".join(filter(None, remarks))

    def fingerprint(self) -> str:
        if self.images is not None:
            return image_lists.read(self.images).fingerprint()
        if self.revision and not self.source.place:  # a folder has no revision
            named = [self.config, self.image_column, self.label_column]
            content = [self.revision]
            content += [canonical_json(named)] if any(named) else []
            # A tag that turns an image changes the result; before version 2 of the survey it did not.
            content += ["turned"] if surveyed(self.source).turned else []
            return ":".join(content)
        return surveyed(self.source).fingerprint

    @property
    def source(self) -> ImageSource:
        test = self.test if self.images is None else None
        columns = self.image_column, self.label_column
        return ImageSource(self.path, self.config, self.revision, self.train, test, *columns, self.labels)

    def load(self) -> Data:
        """The images, mapped from the cache's file; one process decodes them into it if they are missing."""
        key = self._key()
        stored = cache.open_images(key)
        if stored is None:
            with cache.locked(key):
                decode = decoded if self.images is None else found_by_pixels
                stored = cache.open_images(key, tell=True) or decode(self, key)
        self._check_fourth(stored.counts)
        if self.images is None:
            tell(warning_of(self.path, stored))
        return self.of(stored)

    @staticmethod
    def of(stored: cache.Stored) -> Data:
        """The data of cached images."""
        lengths, classes = stored.facts["lengths"], tuple(stored.facts["classes"])
        counts = list(lengths.values())
        images = stored.images.split(counts)
        labels = torch.tensor(stored.facts["labels"]).split(counts) if classes else [None] * len(counts)
        splits = {name: Split(*part) for name, *part in zip(lengths, images, labels, strict=True)}
        return Data(**splits, classes=classes, streams=True, counts=stored.counts)

    def _key(self) -> str:
        """A digest of everything that determines the decoded images and their order in the file."""
        import PIL

        content = ["images", cache.LAYOUT, PIL.__version__, describe(self)]
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]

    def _check_fourth(self, counts: Tensor) -> None:
        """Refuses a constant fourth channel: its deviation is 0, so normalizing views that change it would blow up."""
        if self.channels == 4 and (counts[3] > 0).sum() == 1:
            raise DataError(
                f"ImageData.channels {self.channels}: the fourth channel must vary, but in {self.path!r} it is "
                f"{int(counts[3].argmax())} in all training images, as in files without transparency. Use "
                "channels=3."
            )
