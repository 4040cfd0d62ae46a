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
    three equal channels. config, image_column, label_column: needed only where a data set has several
    configurations, several image columns, or not exactly one column of class labels.

    The identity is the content: a digest over all encoded images and labels, or `revision`, a commit of the
    Hub's repository (with the configuration and columns that are named). The path and the name on figures do not count.
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
        local = Path(self.path).expanduser().exists()  # there, a revision says nothing
        if self.revision and not local:
            return ":".join(filter(None, [self.revision, self.config, self.image_column, self.label_column]))
        return _fingerprint(self._source())

    def _source(self) -> Source:
        return Source(
            self.path, self.config, self.revision, self.train, self.test, self.image_column, self.label_column
        )

    def load(self) -> Data:
        rows, classes = _read(self._source())
        pictures = {name: self._decode(images, name) for name, images in rows.items()}
        self._check_sizes(pictures)
        split = {n: Split(torch.stack(p), torch.tensor([label for _, label in rows[n]])) for n, p in pictures.items()}
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

    def _decode(self, rows: list[Row], split: str) -> list[Tensor]:
        from PIL import Image, UnidentifiedImageError

        images: list[Tensor] = []
        for number, (encoded, _) in enumerate(rows):
            try:
                with Image.open(io.BytesIO(encoded)) as opened:
                    images.append(_square(_in_color(opened), self.size))
            except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
                raise DataError(
                    f"ImageData.path {self.path!r}: image {number} of {split} must be readable, but: {error}. "
                    "Remove or replace it."
                ) from error
        return images

    def _check_sizes(self, pictures: dict[str, list[Tensor]]) -> None:
        sizes = {tuple(image.shape[1:]) for images in pictures.values() for image in images}
        if self.size is None and (len(sizes) > 1 or any(h != w for h, w in sizes)):
            shown = ", ".join(f"{w} x {h}" for h, w in sorted(sizes)[:3])
            raise DataError(
                f"ImageData.size must be stated where images are not all square and of one size, but {self.path!r} has "
                f"{len(sizes)} sizes ({shown}{', ...' if len(sizes) > 3 else ''}). Add size=64, say."
            )


def _take(split: Split, index: Tensor) -> Split:
    return Split(split.images[index], split.labels[index])


def _in_color(image):
    """RGB; 16-bit grey is scaled, where PIL's own conversion would clip it."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image, dtype=np.float32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its mode {image.mode} has no known range of values; store it with 8 or 16 bits")
    return image.convert("RGB")


def _square(image, size: int | None) -> Tensor:
    """(3, S, S) uint8."""
    import numpy as np
    from PIL import Image, ImageOps

    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class Source:
    """Where to read what; see ImageData."""

    path: str
    config: str | None
    revision: str | None
    train: str
    test: str | float
    image_column: str | None
    label_column: str | None


@functools.lru_cache(maxsize=8)
def _fingerprint(source: Source) -> str:
    rows, classes = _read(source)
    digest = hashlib.sha256(repr(classes).encode())
    for name in sorted(rows):
        for encoded, label in rows[name]:
            digest.update(f"{name} {label} {len(encoded)} ".encode())
            digest.update(encoded)
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=2)
def _read(source: Source) -> tuple[dict[str, list[Row]], tuple]:
    """Encoded images and labels of the splits "train" and, unless it is to be cut, "test"; class names."""
    path, splits = source.path, _open(source)
    wanted = {"train": source.train} | ({"test": source.test} if isinstance(source.test, str) else {})
    for role, name in wanted.items():
        if name not in splits:
            cure = f"Name one: ImageData({role}=...)"
            cure += ", or cut one: test=0.2." if role == "test" else "."
            raise DataError(
                f"ImageData.{role} must name a split of {path!r}, but {name!r} is none of {sorted(splits)}. {cure}"
            )
    rows, classes = {}, ()
    for role, name in wanted.items():
        rows[role], classes = _rows(splits[name], source)
        if not rows[role]:
            raise DataError(f"ImageData.path {path!r}: the split {name!r} must hold images, but it has none.")
    return rows, classes


def _open(source: Source):
    """{split name: a `datasets` data set}; local files are read in place, nothing is copied."""
    import logging

    import datasets

    datasets.disable_progress_bars()
    # A folder on disk has no repository card, of which the library would tell everybody.
    logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)
    path, place = source.path, Path(source.path).expanduser()
    try:
        if place.is_file():
            return datasets.load_dataset("parquet", data_files={"train": str(place)}, streaming=True)
        if place.is_dir():
            _refuse_empty_class_folders(place)
            return datasets.load_dataset(str(place.resolve()), source.config, streaming=True)
        if place.is_absolute() or path.startswith(".") or path.count("/") > 1:
            raise DataError(
                f"ImageData.path must be a folder, a parquet file or a Hub name, but {path!r} does not exist here. "
                "Check the path, or name the folder with --data."
            )
        return datasets.load_dataset(path, source.config, revision=source.revision)
    except DataError:
        raise
    except Exception as error:  # whatever the library, the parquet reader or the network raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"ImageData.path must be a readable image data set, but reading {path!r} failed: {reason}. "
            "Check the name or the files; for a copy on this machine give its folder (--data on the command line)."
        ) from error


def _refuse_empty_class_folders(place: Path) -> None:
    """`datasets` does not see a class folder without images; a user who made one should hear of it."""
    if any(place.rglob("*.parquet")):
        return
    for folder in sorted(p for p in place.rglob("*") if p.is_dir()):
        if any(part.startswith(".") for part in folder.relative_to(place).parts):
            continue
        files = [f for f in folder.iterdir() if not f.name.startswith(".")]
        if not any(f.is_dir() or f.suffix.lower() in IMAGE_FILES for f in files):
            raise DataError(
                f"ImageData.path {str(place)!r}: every class folder must hold images, but {folder.name!r} has none. "
                "Remove the folder or add images."
            )


def _rows(split, source: Source) -> tuple[list[Row], tuple[str, ...]]:
    import datasets

    features = split.features or {}
    image = _column(source, "image_column", features, lambda f: isinstance(f, datasets.Image))
    label = _column(source, "label_column", features, lambda f: isinstance(f, datasets.ClassLabel))
    undecoded = split.cast_column(image, datasets.Image(decode=False))
    images, labels = [], []
    for batch in undecoded.iter(batch_size=1000):
        images += [i["bytes"] if i["bytes"] is not None else Path(i["path"]).read_bytes() for i in batch[image]]
        labels += batch[label]
    missing = [number for number, value in enumerate(labels) if value is None or value == -1]
    if missing:
        raise DataError(
            f"ImageData.path {source.path!r}: every image must have a label, but image {missing[0]} has none. Label it."
        )
    if isinstance(features[label], datasets.ClassLabel):
        classes = tuple(features[label].names)
        return list(zip(images, labels, strict=True)), classes
    values = sorted(set(labels))  # plain numbers or strings
    rank = {value: number for number, value in enumerate(values)}
    return [(i, rank[value]) for i, value in zip(images, labels, strict=True)], tuple(map(str, values))


def _column(source: Source, field: str, features: dict, fits) -> str:
    """The column that the field names, or the only one that fits."""
    named = getattr(source, field)
    found = [named] if named else [name for name, feature in features.items() if fits(feature)]
    if len(found) != 1 or found[0] not in features:
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        what = "images" if field == "image_column" else "class labels"
        raise DataError(
            f"ImageData.{field} must name the column of the {what} of {source.path!r}, but got {named!r}, and "
            f"{len(found)} columns look like it; the columns are {kinds}. Add {field}='...'."
        )
    return found[0]
