"""Any Hugging Face image data set: a Hub name, local parquet files, or a folder of class folders."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ablation.datasets.base import Data, DataError, DataSet, Split, cut_validation, subset
from ablation.specs import outside_identity

IMAGE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
Row = tuple[bytes, int]  # an encoded image and its label


@dataclass(frozen=True, kw_only=True)
class ImageData(DataSet):
    """Images and class labels, read through `datasets`, resized and stored once as uint8.

    path: a Hub name ("uoft-cs/cifar10"), a folder of class folders, a folder of parquet files, or one
    parquet file. train, test: names of the splits; a fraction such as test=0.2 cuts the test images from the
    training split (classes in proportion, fixed seed) where there is no other. validation: the fraction of
    the training images that is kept for validation. size: images are resized to size x size (bilinear,
    antialiased; the shorter side first, then the centre); None if all are square and of one size.
    train_images, test_images: use only so many (classes in proportion, fixed seed). Grey images become
    three equal channels.

    The identity is the content: a digest over all encoded images and labels, or `revision`, a commit of the
    Hub's repository. The path and the name on figures do not count.
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

    @property
    def label(self) -> str:
        """Its name on figures: `name`, else the last part of the path."""
        return self.name or Path(self.path).name.removesuffix(".parquet")

    def fingerprint(self) -> str:
        if self.revision:
            return self.revision
        return _fingerprint(self.path, self.train, self.test, None)

    def load(self) -> Data:
        rows, classes = _read(self.path, self.train, self.test, self.revision)
        split = {name: self._decode(images, name) for name, images in rows.items()}
        train, test = split["train"], split.get("test")
        if test is None:
            rest, held_out = cut_validation(train.labels, round(self.test * len(train)), seed=1)
            train, test = _take(train, rest), _take(train, held_out)
        train = self._limit(train, "train_images", 2)
        test = self._limit(test, "test_images", 3)
        rest, held_out = cut_validation(train.labels, max(1, round(self.validation * len(train))), seed=0)
        data = Data(train=_take(train, rest), validation=_take(train, held_out), test=test, classes=classes)
        for name, part in data.splits().items():
            self._check_classes(part, name, classes)
        return data

    def _limit(self, split: Split, field: str, seed: int) -> Split:
        count = getattr(self, field)
        if count is None:
            return split
        self.require(field, count <= len(split), f"be at most {len(split)}, the number of images in {self.path}")
        return _take(split, subset(split.labels, count, seed))

    def _check_classes(self, split: Split, name: str, classes: tuple[str, ...]) -> None:
        counts = torch.bincount(split.labels, minlength=len(classes))
        if (counts == 0).any():
            empty = classes[int(counts.argmin())]
            raise DataError(
                f"ImageData.path {self.path!r}: every class must have an image in every split, but {empty!r} has none "
                f"in {name} ({len(split)} images). Remove the class, add images, or use more of them."
            )

    def _decode(self, rows: list[Row], split: str) -> Split:
        from PIL import Image, UnidentifiedImageError

        images: list[Tensor] = []
        for number, (encoded, _) in enumerate(rows):
            try:
                with Image.open(io.BytesIO(encoded)) as opened:
                    images.append(_square(opened.convert("RGB"), self.size))
            except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
                raise DataError(
                    f"ImageData.path {self.path!r}: image {number} of {split} must be readable, but: {error}. "
                    "Remove or replace it."
                ) from error
        sizes = {tuple(image.shape[1:]) for image in images}
        if self.size is None and (len(sizes) > 1 or any(h != w for h, w in sizes)):
            shown = ", ".join(f"{w} x {h}" for h, w in sorted(sizes)[:3])
            raise DataError(
                f"ImageData.size must be stated where images are not all square and of one size, but {self.path!r} has "
                f"{len(sizes)} sizes in {split} ({shown}{', ...' if len(sizes) > 3 else ''}). Add size=64, say."
            )
        return Split(torch.stack(images), torch.tensor([label for _, label in rows]))


def _take(split: Split, index: Tensor) -> Split:
    return Split(split.images[index], split.labels[index])


def _square(image, size: int | None) -> Tensor:
    """(3, S, S) uint8."""
    import numpy as np
    from PIL import Image, ImageOps

    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@functools.lru_cache(maxsize=8)
def _fingerprint(path: str, train: str, test: str | float, revision: str | None) -> str:
    rows, classes = _read(path, train, test, revision)
    digest = hashlib.sha256(repr(classes).encode())
    for name in sorted(rows):
        for encoded, label in rows[name]:
            digest.update(f"{name} {label} {len(encoded)} ".encode())
            digest.update(encoded)
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=2)
def _read(path: str, train: str, test: str | float, revision: str | None) -> tuple[dict[str, list[Row]], tuple]:
    """Encoded images and labels of the splits "train" and, unless it is to be cut, "test"; class names."""
    splits = _open(path, revision)
    wanted = {"train": train} | ({"test": test} if isinstance(test, str) else {})
    for role, name in wanted.items():
        if name not in splits:
            cure = f"Name one: ImageData({role}=...)"
            cure += ", or cut one: test=0.2." if role == "test" else "."
            raise DataError(
                f"ImageData.{role} must name a split of {path!r}, but {name!r} is none of {sorted(splits)}. {cure}"
            )
    rows, classes = {}, ()
    for role, name in wanted.items():
        rows[role], classes = _rows(splits[name], path)
        if not rows[role]:
            raise DataError(f"ImageData.path {path!r}: the split {name!r} must hold images, but it has none.")
    return rows, classes


def _open(path: str, revision: str | None):
    """{split name: a `datasets` data set}; local files are read in place, nothing is copied."""
    import logging

    import datasets

    datasets.disable_progress_bars()
    # A folder on disk has no repository card, of which the library would tell everybody.
    logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)
    place = Path(path).expanduser()
    try:
        if place.is_file():
            return datasets.load_dataset("parquet", data_files={"train": str(place)}, streaming=True)
        if place.is_dir():
            _refuse_empty_class_folders(place)
            return datasets.load_dataset(str(place.resolve()), streaming=True)
        if place.is_absolute() or path.startswith(".") or path.count("/") > 1:
            raise DataError(
                f"ImageData.path must be a folder, a parquet file or a Hub name, but {path!r} does not exist here. "
                "Check the path, or name the folder with --data."
            )
        return datasets.load_dataset(path, revision=revision)
    except DataError:
        raise
    except Exception as error:  # whatever the library, the parquet reader or the network raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"ImageData.path must be a readable image data set, but reading {path!r} failed: {reason} "
            "Check the name or the files; for a copy on this machine give its folder (--data on the command line)."
        ) from error


def _refuse_empty_class_folders(place: Path) -> None:
    """`datasets` does not see a class folder without images; a user who made one should hear of it."""
    if any(place.rglob("*.parquet")):
        return
    for folder in sorted(p for p in place.rglob("*") if p.is_dir()):
        files = [f for f in folder.iterdir() if not f.name.startswith(".")]
        if not any(f.is_dir() or f.suffix.lower() in IMAGE_FILES for f in files):
            raise DataError(
                f"ImageData.path {str(place)!r}: every class folder must hold images, but {folder.name!r} has none. "
                "Remove the folder or add images."
            )


def _rows(split, path: str) -> tuple[list[Row], tuple[str, ...]]:
    import datasets

    features = split.features or {}
    image = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    label = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(image) != 1 or len(label) != 1:
        raise DataError(
            f"ImageData.path {path!r}: a data set must have one image column and one class-label column, but the "
            f"columns are {dict(features)}. Use a folder of class folders, or a parquet file written by `datasets`."
        )
    undecoded = split.cast_column(image[0], datasets.Image(decode=False))
    rows: list[Row] = []
    for batch in undecoded.iter(batch_size=1000):
        for item, number in zip(batch[image[0]], batch[label[0]], strict=True):
            if number is None or number < 0:
                raise DataError(
                    f"ImageData.path {path!r}: every image must have a label, but image {len(rows)} has none. Label it."
                )
            encoded = item["bytes"] if item["bytes"] is not None else Path(item["path"]).read_bytes()
            rows.append((encoded, number))
    return rows, tuple(features[label[0]].names)
