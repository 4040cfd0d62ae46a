"""The location of images, the parts that readers split them into, and one sentence per fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ablation.data import decode
from ablation.spec import AblationError, DataError


class Wrong(Exception):
    """A fault of a data set and its cure, in a sentence without the data set's name."""


class NoImage(Exception):
    """The reason why there is no encoded image."""


@dataclass(frozen=True)
class ImageSource:
    """Location, columns and splits to read; see ImageData. test: None to read all splits, whatever their names.
    labels: whether to read labels."""

    path: str
    config: str | None
    revision: str | None
    train: str
    test: str | float | None
    image_column: str | None
    label_column: str | None
    labels: bool = True

    @property
    def place(self) -> Path | None:
        """The file or folder on this machine; None for a name on the Hub."""
        place = Path(self.path).expanduser()
        return place.resolve() if place.exists() else None


@dataclass(frozen=True)
class SourcePart:
    """Images whose labels have one meaning: a folder's split, a parquet file, or a split of `datasets`.

    classes: the names of the numbers in `labels`; None if the labels are the classes themselves, or are not read.
    labels: location and label of each image. images: for each image its location, its label (None if labels are not
    read) and a function that returns it encoded or raises NoImage. warning: a sentence for the table, or "".
    """

    name: str
    classes: tuple[str, ...] | None
    labels: Callable[[], Iterator[tuple[str, object]]]
    images: Callable[[], Iterator[tuple[str, object, Callable[[], bytes]]]]
    warning: Callable[[], str] = lambda: ""


class Faults:
    """Collects unreadable images, so that one error names them all."""

    def __init__(self, source: ImageSource):
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
                f"ImageData.path {self.source.path!r}: {len(self.found):,} images cannot be read: "
                f"{'; '.join(self.found[:5])}{more}. Remove or replace them."
            )


@contextmanager
def sentences(source: ImageSource) -> Iterator[None]:
    """Turns faults of the data set, and errors of the library, parquet reader and network, into one sentence."""
    try:
        yield
    except AblationError:
        raise
    except Wrong as wrong:
        raise DataError(f"ImageData.path {source.path!r}: {wrong}") from wrong
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"ImageData.path: reading the image data set {source.path!r} failed: {reason}. "
            "Check the name or the files; for a copy on this machine give its folder (--data on the command line)."
        ) from error
