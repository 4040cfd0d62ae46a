"""Images and labels in tables: parquet files, each with its own schema, and splits of `datasets`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablation.data.source import ImageSource, NoImage, SourcePart, Wrong
from ablation.spec import DataError

BATCH = 100  # encoded images in memory at a time
SHARD = re.compile(r"-(\d{5})-of-(\d{5})(-[0-9a-f]+)?$")  # train-00000-of-00002.parquet


def parquet_splits(files: list[str], train: str, test: str | float | None) -> dict[str, list[str]]:
    """Parquet files by split. A file has its split's name, NAME.parquet or NAME-00000-of-00002.parquet, or is in a
    folder NAME that is a requested split.

    files: their paths below the data set's folder.
    """
    wanted = {train, test}
    splits: dict[str, list[str]] = {}
    places: dict[str, set[str]] = {}  # of the files or folders named like a split
    pieces: dict[str, list[tuple[int, int]]] = {}
    for path in files:
        *above, name = path.split("/")
        stem = SHARD.sub("", name.removesuffix(".parquet"))
        inside = [folder for folder in above if folder in wanted]
        if inside and stem in wanted and set(inside) != {stem}:
            raise Wrong(f"{path!r} must belong to one split, but is named both {inside[0]!r} and {stem!r}. Rename it.")
        split, place = stem, "/".join([*above, f"{stem}*.parquet"])
        if stem not in wanted and inside:
            split, place = inside[-1], "/".join(above[: above.index(inside[-1]) + 1])
        elif stem.isdecimal():  # a piece of the split that the folder names
            split, place = above[-1] if above else train, "/".join(above)
        splits.setdefault(split, []).append(path)
        places.setdefault(split, set()).add(place)
        if piece := SHARD.search(name.removesuffix(".parquet")):
            pieces.setdefault(split, []).append((int(piece[1]), int(piece[2])))
    for split in wanted & places.keys():
        if len(places[split]) > 1:
            raise Wrong(
                f"the files of the split {split!r} must be in one place, but are in {sorted(places[split])}. If these "
                "are several data sets, name one by its folder: config=..."
            )
        numbers = pieces.get(split, [])
        if numbers and len(numbers) < len(splits[split]):
            raise Wrong(
                f"the split {split!r} must be a whole file or numbered pieces, but has both: {splits[split]}. Remove "
                "the one or the other, so that no image is read twice."
            )
        if numbers and sorted(numbers) != [(number, numbers[0][1]) for number in range(numbers[0][1])]:
            raise Wrong(
                f"the split {split!r} must be complete, but only {len(numbers)} of its {numbers[0][1]} files exist, "
                f"the last is {splits[split][-1]!r}. Add the others, or set the path to a single file."
            )
    return splits


FOR_TRAINING = {"train", "training"}
HELD_OUT = {
    "test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation", "holdout", "publictest",
    "privatetest", "unused",
}  # fmt: skip
FLAGS = re.compile(r"(is|for|in)_?(train|training|test|testing|val|validation|holdout)")


def other_splits(name: str, features: Mapping[str, Any], label: str | None, values: Callable[[str], Iterator]) -> str:
    """A sentence if a column other than the label seems to divide one split into training and other images: any column
    with names of splits as values, or a yes/no column named like a split. "" otherwise.

    values: from a column's name to its values, row by row; read up to the first that names no split.
    """
    for column, feature in features.items():
        kind, names = getattr(feature, "dtype", ""), getattr(feature, "names", None)
        words = kind in ("string", "large_string") or names
        if column == label or not (words or (kind == "bool" and FLAGS.fullmatch(column.casefold()))):
            continue
        seen = set()
        for value in values(column):
            word = names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value
            seen.add(word)
            if words and str(word).strip().casefold() not in FOR_TRAINING | HELD_OUT:
                break
        else:
            called = {str(word).strip().casefold() for word in seen}
            if seen == {True, False} or (called & FOR_TRAINING and called & HELD_OUT):
                shown = ", ".join(sorted(map(repr, seen))[:4])
                return (
                    f"the column {column!r} of {name} holds {shown}, but all rows are read as one split. Write one "
                    "file for each, train.parquet and test.parquet"
                )
    return ""


def parquet_part(path: Path, name: str, columns: Callable, read: Callable) -> SourcePart:
    """A parquet file, read by its own schema, row group by row group.

    columns: from the file's features to the names of its image and label columns (None: not read). read: from a value
    of the image column to an encoded image.
    """
    import datasets
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        features = datasets.Features.from_arrow_schema(file.schema_arrow)
    image, label = columns(features, name)

    def rows(*chosen: str) -> Iterator[tuple]:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            # One row group at a time: given a whole file, Arrow reads ahead, and keeps it, while images are decoded.
            groups = (
                file.iter_batches(BATCH, row_groups=[g], columns=list(chosen)) for g in range(file.num_row_groups)
            )
            for batch in itertools.chain.from_iterable(groups):
                for values in zip(*(batch.column(each).to_pylist() for each in chosen), strict=True):
                    yield (f"row {number} of {name}", *values)
                    number += 1

    return _part(name, features, rows, image, label, read)


def split_part(split, name: str, columns: Callable, read: Callable) -> SourcePart:
    """A split of `datasets`; parameters as for `parquet_part`."""
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


def _part(name: str, features, rows: Callable, image: str, label: str | None, read: Callable) -> SourcePart:
    """label: the label column; None if labels are not read."""
    import datasets

    feature = features[label] if label else None
    classes = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    def images() -> Iterator[tuple[str, object, Callable[[], bytes]]]:
        for where, value, *labels in rows(image, *([label] if label else [])):
            yield where, labels[0] if labels else None, lambda value=value: read(value)

    def warning() -> str:
        return other_splits(name, features, label, lambda column: (value for _, value in rows(column)))

    return SourcePart(name, classes, lambda: rows(label), images, warning)


def columns_of(source: ImageSource, features: Mapping[str, Any], name: str) -> tuple[str, str | None]:
    """The names of the image and label columns of a file or split; None if labels are not read."""
    import datasets

    image = _column(source, "image_column", features, name, lambda f: isinstance(f, datasets.Image))
    if not source.labels:
        return image, None
    return image, _column(source, "label_column", features, name, lambda f: isinstance(f, datasets.ClassLabel))


def _column(source: ImageSource, field: str, features: Mapping[str, Any], name: str, fits: Callable) -> str:
    """The column that the field names, or the only one that fits."""
    named = getattr(source, field)
    columns = [named] if named else [column for column, feature in features.items() if fits(feature)]
    if len(columns) != 1 or columns[0] not in features:
        kinds = ", ".join(f"{column!r} ({type(feature).__name__})" for column, feature in features.items())
        of_images = field == "image_column"
        content = "images" if of_images else "class labels"
        fault = f"there is no column {named!r}" if named else f"{len(columns)} columns are declared as such"
        raise DataError(
            f"ImageData.{field} must name the column of the {content} of {source.path!r}, but in {name} {fault}; the "
            f"columns are {kinds}. Add {field}='...'"
            + (", or train without labels: labels=False." if not of_images else ".")
        )
    return columns[0]


def name_or_cut(role: str) -> str:
    """The cure for a table without a split for a role."""
    return f"Name one: {role}=..." + (", or cut the test images: test=0.2." if role == "test" else ".")


def encoded_image(value: object, allowed: list[Path]) -> bytes:
    """The image in a column. allowed: folders that may contain images given by path; a data set may come from a
    stranger and must not read other files of this machine."""
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise NoImage("it is empty" if value is None else f"it is of type {type(value).__name__}")
    real = (allowed[0] / value).resolve()
    if not any(real.is_relative_to(folder) for folder in allowed):
        raise Wrong(
            f"images must be inside the data set's folder, but {value!r} leads to {str(real)!r}. Copy the image "
            "into the folder, or remove it from the data set."
        )
    try:
        return real.read_bytes()
    except OSError as error:
        raise NoImage(f"{value!r}: {error.strerror}") from error
