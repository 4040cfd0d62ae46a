"""Readers of a data set, one per form: class folders, parquet files, splits of `datasets`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from ablation.data.folder import Folder, Tree, is_image, walk
from ablation.data.parquet import columns_of, encoded_image, name_or_cut, parquet_part, parquet_splits, split_part
from ablation.data.source import ImageSource, SourcePart, Wrong
from ablation.spec import DataError


class Reader(Protocol):
    """names: of the splits. state: a digest of the files' names, sizes and times. check: refuses faults outside the
    named splits. parts: of the named splits. cure: advice for a missing split."""

    names: list[str]

    def state(self) -> str: ...

    def check(self, names: list[str]) -> None: ...

    def parts(self, names: list[str]) -> dict[str, list[SourcePart]]: ...

    def cure(self, role: str) -> str: ...


def reader_of(source: ImageSource) -> Reader:
    """Raises Wrong if no reader, or more than one, fits the place."""
    place = source.place
    if place is None:
        return OfLibrary(source, _from_hub(source), None)
    if place.is_file():
        with open(place, "rb") as file:
            if file.read(4) != b"PAR1":
                raise Wrong("it must be a folder, a parquet file or a Hub name, but it is another file. For images, "
                            "name their folder; unpack an archive.")  # fmt: skip
        return OfParquet(source, Tree(place.parent, [place.name]), {source.train: [place.name]})
    if (place / "dataset_dict.json").exists() or (place / "state.json").exists():
        return OfLibrary(source, _from_disk(source, place), walk(place))
    if source.config is not None and not (place / source.config).is_dir():
        raise Wrong(f"ImageData.config must name a folder in it, but {source.config!r} is not one. Omit config.")
    tree = walk(place if source.config is None else place / source.config)
    tables = parquet_splits(_tables(tree), source.train, source.test)
    if source.train in tables:
        beside = [path for path in tree.files if path.startswith(f"{source.train}/") and is_image(tree.place / path)]
        if beside:
            tree.refuse(f"the split {source.train!r} must be parquet files or a folder of images, not both", beside,
                        "Set the path to the folder of one, or move the other elsewhere.")  # fmt: skip
        return OfParquet(source, tree, tables)
    folder = Folder(tree, source.train, source.test, source.labels)
    if tables and not folder.images:
        return OfParquet(source, tree, tables)
    if not folder.images:
        raise Wrong(
            f"it must hold images or parquet files, but none of its {len(tree.files):,} files is one. Check the path."
        )
    return OfFolder(tree, folder)


def _tables(tree: Tree) -> list[str]:
    """The parquet files. Refuses other file names: such a file may belong to a split or be a job's leftover."""
    tables = [path for path in tree.files if path.endswith(".parquet")]
    hidden = [path for path in tables if any(part[0] in "._" for part in path.split("/"))]
    other = [path for path in tree.files if path not in set(tables) and _is_parquet(tree.place / path)]
    if hidden or other:
        tree.refuse("parquet files must be named NAME.parquet, without a leading dot or underscore", hidden + other,
                    "Rename them, or remove them.")  # fmt: skip
    return tables


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() in (".png", ".jpg", ".jpeg"):  # the usual kinds, so this test comes first
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def _tell(tree: Tree, sentence: str) -> None:
    print(f"ablation: {tree.place}: {sentence}", file=sys.stderr, flush=True)


class OfFolder:
    """A folder of class folders, or of images without classes."""

    def __init__(self, tree: Tree, folder: Folder):
        self.tree, self.folder, self.names = tree, folder, folder.names
        self.cure = folder.cure
        self.state = tree.state

    def check(self, names: list[str]) -> None:
        self.folder.refuse_unused(names)
        tables = [path for path in self.tree.files if path.endswith(".parquet")]
        if tables:
            _tell(self.tree, f"using its folders of images; not using {', '.join(tables[:5])}.")

    def parts(self, names: list[str]) -> dict[str, list[SourcePart]]:
        return {name: [self._part(name, images)] for name, images in self.folder.read(names).items()}

    def _part(self, name: str, images: list[tuple[str | None, str]]) -> SourcePart:
        classes = tuple(sorted({each for each, _ in images if each is not None}))
        numbers = {each: number for number, each in enumerate(classes)}

        def rows() -> Iterator[tuple[str, int | None, Callable[[], bytes]]]:
            for each, path in images:
                yield path, numbers.get(each), (self.tree.place / path).read_bytes

        base = f"{name}/" if self.folder.has_splits else ""
        return SourcePart(
            f"the split {name!r}",
            classes,
            lambda: ((where, number) for where, number, _ in rows()),
            rows,
            lambda: self.folder.same_folders(base, images) if self.folder.labels else "",
        )


class OfParquet:
    """Parquet files, each read by its own schema."""

    def __init__(self, source: ImageSource, tree: Tree, splits: dict[str, list[str]]):
        self.source, self.tree, self.splits, self.names = source, tree, splits, sorted(splits)
        self.state = tree.state

    def check(self, names: list[str]) -> None:
        """Prints a line about other splits, and about images beside the files, which count only if a row names them."""
        others = [path for name, paths in self.splits.items() if name not in names for path in paths]
        if others:
            used = " and ".join(map(repr, names))
            _tell(self.tree, f"using {used}; not using {', '.join(others[:5])}.")
        beside = sum(is_image(self.tree.place / path) for path in self.tree.files if not path.endswith(".parquet"))
        if beside:
            _tell(self.tree, f"{beside:,} images beside the parquet files are used only if a row names them.")

    def cure(self, role: str) -> str:
        return f"{name_or_cut(role)} A split's files have the names NAME.parquet or NAME-00000-of-00002.parquet."

    def parts(self, names: list[str]) -> dict[str, list[SourcePart]]:
        read = functools.partial(encoded_image, allowed=[self.tree.place])
        columns = functools.partial(columns_of, self.source)
        return {
            name: [parquet_part(self.tree.place / path, path, columns, read) for path in self.splits[name]]
            for name in names
        }


class OfLibrary:
    """Splits of `datasets`. tree: the folder of saved splits, None for the Hub's."""

    def __init__(self, source: ImageSource, splits: dict, tree: Tree | None):
        self.source, self.splits, self.tree, self.names = source, splits, tree, sorted(splits)

    def state(self) -> str:
        if self.tree is not None:
            return self.tree.state()
        files = [file["filename"] for split in self.splits.values() for file in split.cache_files]
        return Tree(Path("/"), files).state()

    def check(self, names: list[str]) -> None:
        if self.tree is None and self.source.labels:
            _refuse_other_classes(self.source, self.splits[names[0]].features)

    def cure(self, role: str) -> str:
        return name_or_cut(role)

    def parts(self, names: list[str]) -> dict[str, list[SourcePart]]:
        read = functools.partial(encoded_image, allowed=_caches() if self.tree is None else [self.tree.place])
        columns = functools.partial(columns_of, self.source)
        return {name: [split_part(self.splits[name], f"the split {name!r}", columns, read)] for name in names}


def _from_hub(source: ImageSource) -> dict:
    import datasets

    datasets.disable_progress_bars()
    path = source.path
    if Path(path).expanduser().is_absolute() or path.startswith(".") or path.count("/") > 1:
        raise DataError(
            f"ImageData.path must be a folder, a parquet file or a Hub name, but {path!r} does not exist here. "
            "Check the path; for a scale's own images, --data gives their location."
        )
    return datasets.load_dataset(path, source.config, revision=source.revision)


def _refuse_other_classes(source: ImageSource, features: dict) -> None:
    """Refuses files that number the classes differently: `datasets` takes the names of classes from the repository's
    card or its first parquet file, and applies them to the numbers of all files."""
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
                    f"its classes must have one order, but for {column!r} {path!r} has {names} and others have {read}. "
                    "Download the files into a folder, where each is read by its own names: --data FOLDER."
                )


def _from_disk(source: ImageSource, place: Path) -> dict:
    """The splits that `save_to_disk` wrote."""
    import datasets

    datasets.disable_progress_bars()
    saved = datasets.load_from_disk(str(place))
    return saved if isinstance(saved, dict) else {source.train: saved}


def _caches() -> list[Path]:
    """Folders that may contain the Hub's images given by path."""
    import datasets.config
    import huggingface_hub.constants

    hub = (datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE)
    return [Path(folder).expanduser().resolve() for folder in hub]
