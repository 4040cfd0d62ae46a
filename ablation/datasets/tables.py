"""Images and labels in tables: parquet files, each with its own schema, and the splits of `datasets`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH = 100  # encoded images that are held at a time
SHARD = re.compile(r"-(\d{5})-of-(\d{5})(-[0-9a-f]+)?$")  # as in train-00000-of-00002.parquet


class Wrong(Exception):
    """What is wrong with a data set, and the cure; a sentence that does not say which data set."""


class NoImage(Exception):
    """Why there is no encoded image."""


@dataclass(frozen=True)
class Part:
    """Images whose labels have one meaning: of a folder's split, a parquet file, a split of `datasets`.

    classes: the names of the numbers in `labels`; None where the labels are the classes themselves. labels: for each
    image where it is and its label. images: for each image the same and a function that gives it encoded, or raises
    NoImage. warning: what must be said of it, or "".
    """

    name: str
    classes: tuple[str, ...] | None
    labels: Callable[[], Iterator[tuple[str, object]]]
    images: Callable[[], Iterator[tuple[str, object, Callable[[], bytes]]]]
    warning: Callable[[], str] = lambda: ""


def parquet_splits(files: list[str], train: str, test: str | float | None) -> dict[str, list[str]]:
    """Parquet files by the splits that they belong to. A file is called like its split, NAME.parquet or
    NAME-00000-of-00002.parquet, or lies in a folder NAME that is a split which is asked for.

    files: their paths below the data set's folder.
    """
    wanted = {train, test}
    splits: dict[str, list[str]] = {}
    places: dict[str, set[str]] = {}  # of the files or folders that are called like a split
    pieces: dict[str, list[tuple[int, int]]] = {}
    for path in files:
        *above, name = path.split("/")
        stem = SHARD.sub("", name.removesuffix(".parquet"))
        inside = [folder for folder in above if folder in wanted]
        if inside and stem in wanted and set(inside) != {stem}:
            raise Wrong(f"{path!r} must belong to one split, but is named {inside[0]!r} and {stem!r}. Rename it.")
        split, place = stem, "/".join([*above, f"{stem}*.parquet"])
        if stem not in wanted and inside:
            split, place = inside[-1], "/".join(above[: above.index(inside[-1]) + 1])
        elif stem.isdecimal():  # a piece of what its folder is called
            split, place = above[-1] if above else train, "/".join(above)
        splits.setdefault(split, []).append(path)
        places.setdefault(split, set()).add(place)
        if piece := SHARD.search(name.removesuffix(".parquet")):
            pieces.setdefault(split, []).append((int(piece[1]), int(piece[2])))
    for split in wanted & places.keys():
        if len(places[split]) > 1:
            raise Wrong(
                f"the files of the split {split!r} must lie in one place, but are {sorted(places[split])}. Of several "
                "data sets name one by its folder: config=..."
            )
        found = pieces.get(split, [])
        if found and len(found) < len(splits[split]):
            raise Wrong(
                f"the split {split!r} must be a whole file or numbered pieces, but has both: {splits[split]}. Remove "
                "one of them, so that no image is read twice."
            )
        if found and sorted(found) != [(number, found[0][1]) for number in range(found[0][1])]:
            raise Wrong(
                f"the split {split!r} must be complete, but of its {found[0][1]} files {len(found)} are there, "
                f"the last is {splits[split][-1]!r}. Add the others, or name a single file by the path."
            )
    return splits


FOR_TRAINING = {"train", "training"}
HELD_OUT = {
    "test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation", "holdout", "publictest",
    "privatetest", "unused",
}  # fmt: skip
FLAGS = re.compile(r"(is|for|in)_?(train|training|test|testing|val|validation|holdout)")


def other_splits(name: str, features: Mapping[str, Any], label: str, values: Callable[[str], Iterator]) -> str:
    """What must be said where a column other than the label gives rows of one split to training and others not: by the
    names of splits, whatever it is called, or by yes and no, where it is called like a split. "" where none does.

    values: from a column's name to what stands in it, row by row; read up to the first that names no split.
    """
    for column, feature in features.items():
        kind, names = getattr(feature, "dtype", ""), getattr(feature, "names", None)
        words = kind in ("string", "large_string") or names
        if column == label or not (words or (kind == "bool" and FLAGS.fullmatch(column.casefold()))):
            continue
        found = set()
        for value in values(column):
            word = names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value
            found.add(word)
            if words and str(word).strip().casefold() not in FOR_TRAINING | HELD_OUT:
                break
        else:
            called = {str(word).strip().casefold() for word in found}
            if found == {True, False} or (called & FOR_TRAINING and called & HELD_OUT):
                shown = ", ".join(sorted(map(repr, found))[:4])
                return (
                    f"the column {column!r} of {name} holds {shown}, and all rows are read as one split. Write a file "
                    "for each, train.parquet and test.parquet"
                )
    return ""


def parquet_part(path: Path, name: str, columns: Callable, read: Callable) -> Part:
    """A parquet file, read by its own schema, row group by row group.

    columns: from the features of the file to the names of the columns of images and labels; read: from what stands in
    the former to an encoded image.
    """
    import datasets
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        features = datasets.Features.from_arrow_schema(file.schema_arrow)
    image, label = columns(features, name)

    def rows(*chosen: str) -> Iterator[tuple]:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            # One row group after the other: of a whole file Arrow reads on, and keeps, while images are decoded.
            groups = (
                file.iter_batches(BATCH, row_groups=[g], columns=list(chosen)) for g in range(file.num_row_groups)
            )
            for batch in itertools.chain.from_iterable(groups):
                for values in zip(*(batch.column(each).to_pylist() for each in chosen), strict=True):
                    yield (f"row {number} of {name}", *values)
                    number += 1

    return _part(name, features, rows, image, label, read)


def split_part(split, name: str, columns: Callable, read: Callable) -> Part:
    """A split of `datasets`; the rest as of a parquet file."""
    import datasets

    image, label = columns(split.features, name)

    def rows(*chosen: str) -> Iterator[tuple]:
        table = split.select_columns(list(chosen))
        if image in chosen:
            table = table.cast_column(image, datasets.Image(decode=False))
        number = 0
        for batch in table.iter(batch_size=BATCH):
            for values in zip(*(batch[each] for each in chosen), strict=True):
                yield (f"row {number} of {name}", *values)
                number += 1

    return _part(name, split.features, rows, image, label, read)


def _part(name: str, features, rows: Callable, image: str, label: str, read: Callable) -> Part:
    import datasets

    feature = features[label]
    classes = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    def images() -> Iterator[tuple[str, object, Callable[[], bytes]]]:
        for where, value, labelled in rows(image, label):
            yield where, labelled, lambda value=value: read(value)

    def warning() -> str:
        return other_splits(name, features, label, lambda column: (value for _, value in rows(column)))

    return Part(name, classes, lambda: rows(label), images, warning)
