"""Reading an image data set through `datasets`: encoded images and labels, one batch at a time."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ablation.datasets import cache
from ablation.datasets.base import DataError
from ablation.specs import canonical_json

IMAGE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
BATCH = 100  # encoded images that are held at a time


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

    @property
    def place(self) -> Path | None:
        """The file or folder on this machine; None for a name on the Hub."""
        place = Path(self.path).expanduser()
        return place.resolve() if place.exists() else None


@dataclass(frozen=True)
class Survey:
    """What all images and labels have been read for: a digest of them, the class names, the labels in order of the
    roles "train" and, unless it is to be cut, "test". files: a digest of the files' names, sizes and times."""

    fingerprint: str
    classes: tuple[str, ...]
    labels: dict[str, list[int]]
    files: str


@functools.lru_cache(maxsize=8)
def surveyed(source: Source) -> Survey:
    """Reads all images, once for the files as they are: what was found is remembered in the cache's folder."""
    splits = None if source.place else _open(source)
    files = _files(source, splits)
    name = "source-" + hashlib.sha256(canonical_json([asdict(source), files]).encode()).hexdigest()[:16]
    found = cache.recall(name)[0]
    if found is None:
        if not os.access(_existing(cache.folder()), os.W_OK):  # somebody else's results may be looked at
            return _survey(source, splits, files)
        with cache.locked(name):
            found = cache.recall(name)[0]
            if found is None:
                survey = _survey(source, splits, files)
                check_unchanged(source, survey)
                cache.remember(name, asdict(survey))
                return survey
    return Survey(found["fingerprint"], tuple(found["classes"]), found["labels"], found["files"])


def check_unchanged(source: Source, survey: Survey) -> None:
    """Raises DataError where a file was changed since: its images would not be those of the fingerprint."""
    if source.place and _files(source, None) != survey.files:
        surveyed.cache_clear()
        raise DataError(
            f"ImageData.path {source.path!r}: its files must stay as they are while they are read, but one was "
            "changed. Start again."
        )


def _survey(source: Source, splits, files: str) -> Survey:
    roles = _roles(source, splits if splits is not None else _open(source))
    read = {role: _Labels(split, source) for role, split in roles.items()}
    classes = {role: labels.classes for role, labels in read.items()}
    if len(set(classes.values())) > 1:
        raise DataError(
            f"ImageData.path {source.path!r}: all splits must have the same classes, but they are {classes}. "
            "Give every class an image in every split."
        )
    digest = hashlib.sha256(repr(classes["train"]).encode())
    found: dict[str, list[int]] = {}
    for role in sorted(roles):
        found[role] = []
        for number, (image, value) in enumerate(encoded(roles[role], source)):
            label = read[role].number(value, number)
            digest.update(f"{role} {label} {len(image)} ".encode())
            digest.update(image)
            found[role].append(label)
        if not found[role]:
            name = getattr(source, role)
            raise DataError(f"ImageData.path {source.path!r}: the split {name!r} must hold images, but it has none.")
    return Survey(digest.hexdigest()[:16], classes["train"], found, files)


def images_of(source: Source, role: str) -> Iterator[bytes]:
    """The encoded images of a role in order."""
    for image, _ in encoded(_roles(source, _open(source))[role], source):
        yield image


def everything(source: Source) -> Iterator[tuple[str, int, bytes, Callable[[], str]]]:
    """All images of all splits: the split, the number in it, the encoded image, and what names its class."""
    for name, split in _open(source).items():
        labels = _Labels(split, source)
        for number, (image, value) in enumerate(encoded(split, source)):
            yield name, number, image, functools.partial(labels.name, value, number)


def encoded(split, source: Source) -> Iterator[tuple[bytes, object]]:
    """Encoded images with what stands in the column of labels."""
    import datasets

    image, label = _columns(split, source)
    allowed = _allowed(source)
    undecoded = split.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    if isinstance(undecoded, datasets.IterableDataset):
        # Row group by row group: of a whole parquet file Arrow reads on, and keeps, while images are decoded.
        undecoded = undecoded.reshard()
    with _readable(source):
        for batch in undecoded.iter(batch_size=BATCH):
            for each, value in zip(batch[image], batch[label], strict=True):
                yield each["bytes"] if each["bytes"] is not None else _inside(each["path"], allowed, source), value


class _Labels:
    """From what stands in the column to the number of the class."""

    def __init__(self, split, source: Source):
        import datasets

        self.source = source
        _, column = _columns(split, source)
        feature = split.features[column]
        if isinstance(feature, datasets.ClassLabel):
            self.classes, self.rank = tuple(feature.names), None
            return
        with _readable(source):
            batches = split.select_columns([column]).iter(batch_size=1000)
            values = {value for batch in batches for value in batch[column]} - {None}
        values = sorted(values)  # plain numbers or strings
        self.rank = {value: number for number, value in enumerate(values)}
        self.classes = tuple(map(str, values))

    def number(self, value: object, image: int) -> int:
        if value is None or value == -1:
            raise DataError(
                f"ImageData.path {self.source.path!r}: every image must have a label, but image {image} has none. "
                "Label it."
            )
        return value if self.rank is None else self.rank[value]

    def name(self, value: object, image: int) -> str:
        return self.classes[self.number(value, image)]


# --------------------------------------------------------------------------------------------------
# Files


def _files(source: Source, splits) -> str:
    """A digest of names, sizes and times of change of the files that hold the images."""
    place = source.place
    if place is None:
        found = [file["filename"] for split in splits.values() for file in split.cache_files]
    elif place.is_file():
        found = [str(place)]
    else:
        found, seen = [], set()
        for folder, folders, names in os.walk(place, followlinks=True):
            folders[:] = [f for f in sorted(folders) if _unseen(os.path.join(folder, f), seen)]
            found += [os.path.join(folder, name) for name in sorted(names)]
    digest = hashlib.sha256()
    for path in found:
        try:
            stat = os.stat(path)
        except OSError:
            continue  # a link that leads nowhere
        digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _unseen(folder: str, seen: set[str]) -> bool:
    """Whether a folder is met for the first time; links may lead in circles."""
    real = os.path.realpath(folder)
    return real not in seen and not seen.add(real)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _allowed(source: Source) -> list[Path]:
    """Folders in which an image that is given by its path may lie."""
    place = source.place
    if place is not None:
        return [place if place.is_dir() else place.parent]
    import datasets.config
    import huggingface_hub.constants

    hub = (datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE)
    return [Path(folder).expanduser().resolve() for folder in hub]


def _inside(path: str, allowed: list[Path], source: Source) -> bytes:
    """The file's bytes. A data set may come from a stranger, and must not pass on what else lies on this machine."""
    real = (allowed[0] / path).resolve()
    if not any(real.is_relative_to(folder) for folder in allowed):
        raise DataError(
            f"ImageData.path {source.path!r}: its images must lie inside the data set's folder, but {path!r} leads to "
            f"{str(real)!r}. Copy the image into the folder, or remove it from the data set."
        )
    return real.read_bytes()


# --------------------------------------------------------------------------------------------------
# `datasets`


@contextmanager
def _readable(source: Source) -> Iterator[None]:
    """One sentence for whatever the library, the parquet reader or the network raise."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"ImageData.path must be a readable image data set, but reading {source.path!r} failed: {reason}. "
            "Check the name or the files; for a copy on this machine give its folder (--data on the command line)."
        ) from error


def _open(source: Source):
    """{split name: a `datasets` data set}; local files are read in place, nothing is copied."""
    import datasets

    datasets.disable_progress_bars()
    # A folder on disk has no repository card, of which the library would tell everybody.
    logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)
    path, place = source.path, source.place
    with _readable(source):
        if place is not None and place.is_file():
            return datasets.load_dataset("parquet", data_files={"train": str(place)}, streaming=True)
        if place is not None:
            _refuse_empty_class_folders(place)
            return datasets.load_dataset(str(place), source.config, streaming=True)
        if Path(path).expanduser().is_absolute() or path.startswith(".") or path.count("/") > 1:
            raise DataError(
                f"ImageData.path must be a folder, a parquet file or a Hub name, but {path!r} does not exist here. "
                "Check the path; of a scale's own images --data says where they are."
            )
        return datasets.load_dataset(path, source.config, revision=source.revision)


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


def _roles(source: Source, splits) -> dict[str, object]:
    """The splits by what they are for: "train" and, unless it is to be cut, "test"."""
    wanted = {"train": source.train} | ({"test": source.test} if isinstance(source.test, str) else {})
    for role, name in wanted.items():
        if name not in splits:
            cure = f"Name one: ImageData({role}=...)"
            cure += ", or cut one: test=0.2." if role == "test" else "."
            raise DataError(
                f"ImageData.{role} must name a split of {source.path!r}, but {name!r} is none of {sorted(splits)}. "
                f"{cure}"
            )
    return {role: splits[name] for role, name in wanted.items()}


def _columns(split, source: Source) -> tuple[str, str]:
    """The names of the columns of images and of labels."""
    import datasets

    features = split.features or {}
    return (
        _column(source, "image_column", features, lambda f: isinstance(f, datasets.Image)),
        _column(source, "label_column", features, lambda f: isinstance(f, datasets.ClassLabel)),
    )


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
