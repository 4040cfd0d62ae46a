"""Where an image data set lies, and what it holds: encoded images and labels, one batch at a time."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from ablation.datasets import cache, decode
from ablation.datasets.base import DataError
from ablation.datasets.folder import Folder, Tree, is_image, walk
from ablation.datasets.labels import Labels, class_of
from ablation.datasets.tables import NoImage, Part, Wrong, parquet_part, parquet_splits, split_part
from ablation.specs import InvalidSpec, canonical_json

VERSION = 5  # of what is remembered of a source; raised when an older version read it in another way


@dataclass(frozen=True)
class Source:
    """Where to read what; see ImageData. test: None where all splits are read, whatever they are called."""

    path: str
    config: str | None
    revision: str | None
    train: str
    test: str | float | None
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
    roles "train" and, unless it is to be cut, "test". files: a digest of the files' names, sizes and times, or a
    commit. turned: whether a tag says of an image that it is stored turned. copies: a sentence, where test images are
    trained on, or may be."""

    fingerprint: str
    classes: tuple[str, ...]
    labels: dict[str, list[int]]
    files: str
    turned: bool
    warning: str


def surveyed(source: Source) -> Survey:
    """Reads all images once, as long as the files stay the same: this process and the cache's folder keep the survey.
    A commit of the Hub stays as it is."""
    with _sentences(source):
        return _surveyed(source, (source.place is None and source.revision) or _reader(source).state())


@functools.lru_cache(maxsize=8)
def _surveyed(source: Source, state: str) -> Survey:
    with _sentences(source):
        name = "source-" + hashlib.sha256(canonical_json([VERSION, asdict(source), state]).encode()).hexdigest()[:16]
        found = cache.recall(name)[0]
        if found is None:
            if not os.access(_existing(cache.folder()), os.W_OK):  # somebody else's results may be looked at
                return _survey(source, state)
            with cache.locked(name):
                found = cache.recall(name)[0]
                if found is None:
                    survey = _survey(source, state)
                    check_unchanged(source, survey)
                    cache.remember(name, asdict(survey))
                    return survey
    tell(found["warning"])
    return Survey(**{**found, "classes": tuple(found["classes"])})


def check_unchanged(source: Source, survey: Survey) -> None:
    """Raises DataError where a file was changed since: its images would not be those of the fingerprint."""
    if source.place and _reader(source).state() != survey.files:
        raise DataError(
            f"ImageData.path {source.path!r}: its files must stay as they are while they are read, but one was "
            "changed. Start again."
        )


def _survey(source: Source, state: str) -> Survey:
    reader = _reader(source)
    roles = _roles(source, reader)
    reader.check(list(roles.values()))
    read = reader.parts(list(roles.values()))
    parts = {role: read[name] for role, name in roles.items()}
    labels = Labels(parts)
    digest = hashlib.sha256(repr(labels.classes).encode())
    found: dict[str, list[int]] = {}
    files: dict[str, list[bytes]] = {}
    some_turned = False
    faults = Faults(source)
    for role in sorted(roles):
        found[role], files[role] = [], []
        for part in parts[role]:
            for where, value, image in part.images():
                found[role].append(number := labels.number(part, where, value))
                with faults.noted(where):
                    encoded = image()
                    # A tag that turns the image changes what is learned, so it counts; 1, or none, never did.
                    turned = decode.turned(encoded)
                    changed = "turned " * turned + "inverted " * decode.inverted(encoded)
                    some_turned |= bool(changed)
                    digest.update(f"{role} {number} {len(encoded)} {changed}".encode())
                    digest.update(encoded)
                    files[role].append(hashlib.blake2b(encoded, digest_size=16).digest())
        if not found[role]:
            raise Wrong(
                f"the split {roles[role]!r} must hold images, but it has none. Add some, or name another split."
            )
    faults.refuse()
    plain = {name: " ".join(name.casefold().split()) for name in labels.classes}
    counts = Counter(plain.values())
    alike = [name for name in labels.classes if counts[plain[name]] > 1]
    said = [f"the classes {', '.join(map(repr, alike[:4]))} differ in capitals or spaces only"] * bool(alike)
    said += dict.fromkeys(filter(None, (part.warning() for of_role in parts.values() for part in of_role)))
    said += _copies(files, found)
    warning = f"{source.path}: {'; '.join(said)}" if said else ""
    tell(warning)
    return Survey(digest.hexdigest()[:16], labels.classes, found, state, some_turned, warning)


def tell(sentence: str) -> None:
    """Prints it, unless it is empty, but not in workers, which would repeat it."""
    if sentence and multiprocessing.parent_process() is None:
        print(f"ablation: {sentence}.", file=sys.stderr, flush=True)


def _copies(files: dict[str, list[bytes]], labels: dict[str, list[int]]) -> list[str]:
    """What is wrong where images are trained on and tested, or chosen on, or may be. files: a digest of every encoded
    image, by role."""
    train, said = files["train"], []
    different = set(train)
    if "test" in files and (count := sum(each in different for each in files["test"])):
        said.append(
            f"{count:,} of the {len(files['test']):,} test images are training images too (equal files), so accuracies "
            "are too high"
        )
    if "test" in files and (count := len(files["test"]) - len(set(files["test"]))):
        said.append(f"{count:,} of the {len(files['test']):,} test images repeat another (equal files)")
    if count := len(train) - len(different):
        cut = "validation" if "test" in files else "test and validation"
        said.append(
            f"{count:,} of the {len(train):,} images repeat another (equal files), so images that are cut for {cut} "
            "may be trained on"
        )
    classes: dict[bytes, set[int]] = {}
    for image, label in zip(train, labels["train"], strict=True):
        classes.setdefault(image, set()).add(label)
    if count := sum(len(classes[image]) > 1 for image in train):
        said.append(f"{count:,} of the {len(train):,} images are in two classes (equal files)")
    return [*said[:-1], f"{said[-1]}. Remove them"] if said else []


class Faults:
    """Images that cannot be read, so that all of them are named at once."""

    def __init__(self, source: Source):
        self.source, self.found = source, []

    @contextmanager
    def noted(self, where: str) -> Iterator[None]:
        try:
            yield
        except (NoImage, decode.Unreadable, OSError) as fault:
            self.found.append(f"{where} ({fault})")
        except Wrong as wrong:
            raise DataError(f"ImageData.path {self.source.path!r}: {wrong}") from wrong

    def refuse(self) -> None:
        if self.found:
            more = f"; and {len(self.found) - 5:,} more" if len(self.found) > 5 else ""
            raise DataError(
                f"ImageData.path {self.source.path!r}: every image must be readable, but {len(self.found):,} cannot be "
                f"read: {'; '.join(self.found[:5])}{more}. Remove or replace them."
            )


def images_of(source: Source, role: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The images of a role in order: where each is, and what gives it encoded."""
    with _sentences(source):
        reader = _reader(source)
        roles = _roles(source, reader)
        for part in reader.parts(list(roles.values()))[roles[role]]:
            for where, _, image in part.images():
                yield where, image


def everything(source: Source) -> Iterator[tuple[str, Callable[[], str], Callable[[], bytes]]]:
    """All images of all splits: where each is, what names its class, and what gives it encoded."""
    with _sentences(source):
        reader = _reader(source)
        for parts in reader.parts(reader.names).values():
            for part in parts:
                for where, value, image in part.images():
                    yield where, functools.partial(_class_of, source, part, where, value), image


def _class_of(source: Source, *label: object) -> str:
    with _sentences(source):
        return class_of(*label)


@contextmanager
def _sentences(source: Source) -> Iterator[None]:
    """One sentence for whatever is wrong with the data set, and what the library, the parquet reader or the network
    raise."""
    try:
        yield
    except InvalidSpec:
        raise
    except Wrong as wrong:
        raise DataError(f"ImageData.path {source.path!r}: {wrong}") from wrong
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"ImageData.path must be a readable image data set, but reading {source.path!r} failed: {reason}. "
            "Check the name or the files; for a copy on this machine give its folder (--data on the command line)."
        ) from error


# --------------------------------------------------------------------------------------------------
# What can be read


class Reader(Protocol):
    """names: of the splits. state: a digest of the names, sizes and times of change of the files. check: refuses what
    is wrong beside the splits that are read. parts: those of some splits. cure: where the split for a role is
    missing."""

    names: list[str]

    def state(self) -> str: ...

    def check(self, names: list[str]) -> None: ...

    def parts(self, names: list[str]) -> dict[str, list[Part]]: ...

    def cure(self, role: str) -> str: ...


def _reader(source: Source) -> Reader:
    place = source.place
    if place is None:
        return _OfLibrary(source, _from_hub(source), None)
    if place.is_file():
        with open(place, "rb") as file:
            if file.read(4) != b"PAR1":
                raise Wrong("it must be a folder, a parquet file or a Hub name, but it is another file. Of images name "
                            "their folder; unpack an archive.")  # fmt: skip
        return _Parquet(source, Tree(place.parent, [place.name]), {source.train: [place.name]})
    if (place / "dataset_dict.json").exists() or (place / "state.json").exists():
        return _OfLibrary(source, _from_disk(source, place), walk(place))
    if source.config is not None and not (place / source.config).is_dir():
        raise Wrong(f"ImageData.config must name a folder in it, but {source.config!r} is none. Leave config out.")
    tree = walk(place if source.config is None else place / source.config)
    tables = parquet_splits(_tables(tree), source.train, source.test)
    if source.train in tables:
        beside = [path for path in tree.files if path.startswith(f"{source.train}/") and is_image(tree.place / path)]
        if beside:
            tree.refuse(f"the split {source.train!r} must be parquet files or a folder of images, not both", beside,
                        "Name the folder of the one by the path, or move the other elsewhere.")  # fmt: skip
        return _Parquet(source, tree, tables)
    folder = Folder(tree, source.train, source.test)
    if tables and not folder.images:
        return _Parquet(source, tree, tables)
    if not folder.images:
        raise Wrong(
            f"it must hold images or parquet files, but among its {len(tree.files):,} files are none. Check the path."
        )
    return _Images(tree, folder)


def _tell(tree: Tree, what: str) -> None:
    print(f"ablation: {tree.place}: {what}", file=sys.stderr, flush=True)


def _tables(tree: Tree) -> list[str]:
    """The parquet files. Refuses one with another name: it may belong to a split, or be a leftover of a job."""
    found = [path for path in tree.files if path.endswith(".parquet")]
    hidden = [path for path in found if any(part[0] in "._" for part in path.split("/"))]
    other = [path for path in tree.files if path not in set(found) and _is_parquet(tree.place / path)]
    if hidden or other:
        tree.refuse("parquet files must be called NAME.parquet, without a dot or underscore in front", hidden + other,
                    "Rename them, or remove them.")  # fmt: skip
    return found


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() in (".png", ".jpg", ".jpeg"):  # the usual kinds, so this test comes first
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


class _Images:
    """A folder of class folders."""

    def __init__(self, tree: Tree, folder: Folder):
        self.tree, self.folder, self.names = tree, folder, folder.names
        self.cure = folder.cure

    def check(self, names: list[str]) -> None:
        self.folder.refuse_unused(names)
        tables = [path for path in self.tree.files if path.endswith(".parquet")]
        if tables:
            _tell(self.tree, f"its folders of images are used; {', '.join(tables[:5])} not.")

    def state(self) -> str:
        return _state(self.tree)

    def parts(self, names: list[str]) -> dict[str, list[Part]]:
        return {name: [self._part(name, images)] for name, images in self.folder.read(names).items()}

    def _part(self, name: str, images: list[tuple[str, str]]) -> Part:
        classes = tuple(sorted({each for each, _ in images}))
        numbers = {each: number for number, each in enumerate(classes)}

        def rows() -> Iterator[tuple[str, int, Callable[[], bytes]]]:
            for each, path in images:
                yield path, numbers[each], (self.tree.place / path).read_bytes

        base = f"{name}/" if self.folder.has_splits else ""
        return Part(
            f"the split {name!r}",
            classes,
            lambda: ((where, number) for where, number, _ in rows()),
            rows,
            lambda: self.folder.same_folders(base, images),
        )


class _Parquet:
    """Parquet files, each read by its own schema."""

    def __init__(self, source: Source, tree: Tree, splits: dict[str, list[str]]):
        self.source, self.tree, self.splits, self.names = source, tree, splits, sorted(splits)

    def state(self) -> str:
        return _state(self.tree)

    def check(self, names: list[str]) -> None:
        """Other splits are only mentioned; images beside the files count only where a row names them."""
        others = [path for name, paths in self.splits.items() if name not in names for path in paths]
        if others:
            used = " and ".join(map(repr, names))
            _tell(self.tree, f"{used} are used; {', '.join(others[:5])} not.")
        beside = sum(is_image(self.tree.place / path) for path in self.tree.files if not path.endswith(".parquet"))
        if beside:
            _tell(self.tree, f"{beside:,} images beside the parquet files are used only where a row names them.")

    def cure(self, role: str) -> str:
        return f"{_name_or_cut(role)} Files of a split are called NAME.parquet or NAME-00000-of-00002.parquet."

    def parts(self, names: list[str]) -> dict[str, list[Part]]:
        read = functools.partial(_encoded, allowed=[self.tree.place])
        columns = functools.partial(_columns, self.source)
        return {
            name: [parquet_part(self.tree.place / path, path, columns, read) for path in self.splits[name]]
            for name in names
        }


class _OfLibrary:
    """Splits of `datasets`; tree: the folder in which they were saved, None for those of the Hub."""

    def __init__(self, source: Source, splits: dict, tree: Tree | None):
        self.source, self.splits, self.tree, self.names = source, splits, tree, sorted(splits)

    def state(self) -> str:
        if self.tree is not None:
            return _state(self.tree)
        files = [file["filename"] for split in self.splits.values() for file in split.cache_files]
        return _state(Tree(Path("/"), files))

    def check(self, names: list[str]) -> None:
        if self.tree is None:
            _refuse_other_classes(self.source, self.splits[names[0]].features)

    def cure(self, role: str) -> str:
        return _name_or_cut(role)

    def parts(self, names: list[str]) -> dict[str, list[Part]]:
        read = functools.partial(_encoded, allowed=_caches() if self.tree is None else [self.tree.place])
        columns = functools.partial(_columns, self.source)
        return {name: [split_part(self.splits[name], f"the split {name!r}", columns, read)] for name in names}


def _from_hub(source: Source) -> dict:
    import datasets

    datasets.disable_progress_bars()
    path = source.path
    if Path(path).expanduser().is_absolute() or path.startswith(".") or path.count("/") > 1:
        raise DataError(
            f"ImageData.path must be a folder, a parquet file or a Hub name, but {path!r} does not exist here. "
            "Check the path; of a scale's own images --data says where they are."
        )
    return datasets.load_dataset(path, source.config, revision=source.revision)


def _refuse_other_classes(source: Source, features: dict) -> None:
    """`datasets` takes the names of classes from the repository's card, or from its first parquet file, and reads the
    numbers of all files by these."""
    import datasets
    import fsspec
    import pyarrow.parquet

    builder = datasets.load_dataset_builder(source.path, source.config, revision=source.revision)
    files = [str(file) for files in (builder.config.data_files or {}).values() for file in files]
    for path in [file for file in files if file.endswith(".parquet")]:
        with fsspec.open(path, "rb") as file:
            own = datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(file))
        for column, feature in own.items():
            names, read = (getattr(each, "names", None) for each in (feature, features.get(column)))
            if names and read and names != read:
                raise Wrong(
                    f"its classes must have one order, but for {column!r} {path!r} has {names} and others {read}. Load "
                    "the files into a folder, where each is read by its own names: --data FOLDER."
                )


def _from_disk(source: Source, place: Path) -> dict:
    """What `save_to_disk` wrote."""
    import datasets

    datasets.disable_progress_bars()
    saved = datasets.load_from_disk(str(place))
    return saved if isinstance(saved, dict) else {source.train: saved}


def _roles(source: Source, reader: Reader) -> dict[str, str]:
    """What splits are for, and their names: "train" and, unless it is to be cut, "test"."""
    wanted = {"train": source.train} | ({"test": source.test} if isinstance(source.test, str) else {})
    for role, name in wanted.items():
        if name not in reader.names:
            alike = [each for each in reader.names if each.casefold() == name.casefold()]
            cure = f"Name it as it is written: {role}={alike[0]!r}." if alike else reader.cure(role)
            raise DataError(
                f"ImageData.{role} must name a split of {source.path!r}, but {name!r} is none of {reader.names}. {cure}"
            )
    return wanted


def _name_or_cut(role: str) -> str:
    return f"Name one: {role}=..." + (", or cut the test images: test=0.2." if role == "test" else ".")


def _columns(source: Source, features: dict, name: str) -> tuple[str, str]:
    """The names of the columns of images and of labels in a file or split."""
    import datasets

    return (
        _column(source, "image_column", features, name, lambda f: isinstance(f, datasets.Image)),
        _column(source, "label_column", features, name, lambda f: isinstance(f, datasets.ClassLabel)),
    )


def _column(source: Source, field: str, features: dict, name: str, fits: Callable) -> str:
    """The column that the field names, or the only one that fits."""
    named = getattr(source, field)
    found = [named] if named else [column for column, feature in features.items() if fits(feature)]
    if len(found) != 1 or found[0] not in features:
        kinds = ", ".join(f"{column!r} ({type(feature).__name__})" for column, feature in features.items())
        what = "images" if field == "image_column" else "class labels"
        so = f"there is no column {named!r}" if named else f"{len(found)} columns are declared as such"
        raise DataError(
            f"ImageData.{field} must name the column of the {what} of {source.path!r}, but in {name} {so}; the columns "
            f"are {kinds}. Add {field}='...'."
        )
    return found[0]


# --------------------------------------------------------------------------------------------------
# Files


def _state(tree: Tree) -> str:
    """A digest of what lies in a folder: names, and of files sizes and times of change."""
    digest = hashlib.sha256(repr([tree.folders, tree.strange]).encode(errors="surrogateescape"))
    for name in tree.files:
        path = tree.place / name
        stat = os.stat(path)
        digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _caches() -> list[Path]:
    """Folders in which images of the Hub that are given by their path may lie."""
    import datasets.config
    import huggingface_hub.constants

    hub = (datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE)
    return [Path(folder).expanduser().resolve() for folder in hub]


def _encoded(value: object, allowed: list[Path]) -> bytes:
    """The image that stands in a column. allowed: folders in which one that is given by its path may lie: a data set
    may come from a stranger, and must not pass on what else lies on this machine."""
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise NoImage("there is none" if value is None else f"it is of type {type(value).__name__}")
    real = (allowed[0] / value).resolve()
    if not any(real.is_relative_to(folder) for folder in allowed):
        raise Wrong(
            f"its images must lie inside the data set's folder, but {value!r} leads to {str(real)!r}. Copy the image "
            "into the folder, or remove it from the data set."
        )
    try:
        return real.read_bytes()
    except OSError as error:
        raise NoImage(f"{value!r}: {error.strerror}") from error
