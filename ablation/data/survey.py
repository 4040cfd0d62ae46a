"""Reads a whole data set for a digest of all encoded images and labels, and for a warning about copies."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ablation.data import cache, decode
from ablation.data.labels import Labels, class_of
from ablation.data.reader import Reader, reader_of
from ablation.data.source import Faults, ImageSource, Wrong, sentences
from ablation.spec import DataError, canonical_json

VERSION = 5  # of stored surveys; raise it when the code reads a source differently


@dataclass(frozen=True)
class Survey:
    """The result of reading all images and labels.

    fingerprint: a digest of them. classes: their names, () if labels are not read. labels: class numbers in the order
    of the images, by the roles "train" and, unless it is cut, "test"; all 0 if labels are not read. files: a digest of
    the files' names, sizes and times, or a commit. turned: whether an image is stored turned. warning: a sentence if
    training images include or may include test images, or "".
    """

    fingerprint: str
    classes: tuple[str, ...]
    labels: dict[str, list[int]]
    files: str
    turned: bool
    warning: str


def surveyed(source: ImageSource) -> Survey:
    """Reads all images once while the files stay the same: this process and the cache keep the survey. A commit of the
    Hub never changes."""
    with sentences(source):
        return _surveyed(source, (source.place is None and source.revision) or reader_of(source).state())


@functools.lru_cache(maxsize=8)
def _surveyed(source: ImageSource, state: str) -> Survey:
    with sentences(source):
        name = "source-" + hashlib.sha256(canonical_json([VERSION, asdict(source), state]).encode()).hexdigest()[:16]
        stored = cache.recall(name)[0]
        if stored is None:
            if not os.access(_existing(cache.folder()), os.W_OK):  # another user's results
                return _survey(source, state)
            with cache.locked(name):
                stored = cache.recall(name)[0]
                if stored is None:
                    survey = _survey(source, state)
                    check_files_unchanged(source, survey)
                    cache.remember(name, asdict(survey))
                    return survey
    tell(stored["warning"])
    return Survey(**{**stored, "classes": tuple(stored["classes"])})


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def check_files_unchanged(source: ImageSource, survey: Survey) -> None:
    """Raises DataError if a file has changed since the survey: its images would not match the fingerprint."""
    if source.place and reader_of(source).state() != survey.files:
        raise DataError(
            f"ImageData.path {source.path!r}: a file changed while the images were being read. Start again."
        )


def _survey(source: ImageSource, state: str) -> Survey:
    reader = reader_of(source)
    roles = _roles(source, reader)
    reader.check(list(roles.values()))
    read = reader.parts(list(roles.values()))
    parts = {role: read[name] for role, name in roles.items()}
    labels = Labels(parts) if source.labels else None
    classes = labels.classes if labels else ()
    digest = hashlib.sha256(repr(classes).encode())
    numbers: dict[str, list[int]] = {}
    files: dict[str, list[bytes]] = {}
    some_turned = False
    faults = Faults(source)
    for role in sorted(roles):
        numbers[role], files[role] = [], []
        for part in parts[role]:
            for where, value, image in part.images():
                number = labels.number(part, where, value) if labels else 0
                numbers[role].append(number)
                with faults.noted(where):
                    encoded = image()
                    # A tag that turns the image changes the result, so it counts; 1, or no tag, changes nothing.
                    turned = decode.turned(encoded)
                    changed = ("turned " if turned else "") + ("inverted " if decode.inverted(encoded) else "")
                    some_turned |= bool(changed)
                    digest.update(f"{role} {number} {len(encoded)} {changed}".encode())
                    digest.update(encoded)
                    files[role].append(hashlib.blake2b(encoded, digest_size=16).digest())
        if not numbers[role]:
            raise Wrong(f"the split {roles[role]!r} has no images. Add some, or name another split.")
    faults.refuse()
    plain = {name: " ".join(name.casefold().split()) for name in classes}
    counts = Counter(plain.values())
    alike = [name for name in classes if counts[plain[name]] > 1]
    remarks = [f"the classes {', '.join(map(repr, alike[:4]))} differ in capitals or spaces only"] if alike else []
    remarks += dict.fromkeys(filter(None, (part.warning() for of_role in parts.values() for part in of_role)))
    remarks += _copies(files, numbers)
    warning = f"{source.path}: {'; '.join(remarks)}" if remarks else ""
    tell(warning)
    return Survey(digest.hexdigest()[:16], classes, numbers, state, some_turned, warning)


def tell(sentence: str) -> None:
    """Prints a sentence that is not empty, except in workers, which would repeat it."""
    if sentence and multiprocessing.parent_process() is None:
        print(f"ablation: {sentence}.", file=sys.stderr, flush=True)


def _copies(files: dict[str, list[bytes]], labels: dict[str, list[int]]) -> list[str]:
    """Sentences about test or validation images that are, or may be, training images too. files: a digest of every
    encoded image, by role."""
    train, remarks = files["train"], []
    different = set(train)
    if "test" in files and (count := sum(each in different for each in files["test"])):
        remarks.append(
            f"{count:,} of the {len(files['test']):,} test images are training images too (equal files), so accuracies "
            "are too high"
        )
    if "test" in files and (count := len(files["test"]) - len(set(files["test"]))):
        remarks.append(f"{count:,} of the {len(files['test']):,} test images repeat another (equal files)")
    if count := len(train) - len(different):
        cut = "validation" if "test" in files else "test and validation"
        remarks.append(
            f"{count:,} of the {len(train):,} images repeat another (equal files), so images cut for {cut} may also "
            "be training images"
        )
    classes: dict[bytes, set[int]] = {}
    for image, label in zip(train, labels["train"], strict=True):
        classes.setdefault(image, set()).add(label)
    if count := sum(len(classes[image]) > 1 for image in train):
        remarks.append(f"{count:,} of the {len(train):,} images are in two classes (equal files)")
    return [*remarks[:-1], f"{remarks[-1]}. Remove them"] if remarks else []


def images_of(source: ImageSource, role: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The images of a role in order: location, and a function that returns the encoded image."""
    with sentences(source):
        reader = reader_of(source)
        roles = _roles(source, reader)
        for part in reader.parts(list(roles.values()))[roles[role]]:
            for where, _, image in part.images():
                yield where, image


def everything(source: ImageSource) -> Iterator[tuple[str, Callable[[], str], Callable[[], bytes]]]:
    """All images of all splits: location, a function for the class name, and one for the encoded image."""
    with sentences(source):
        reader = reader_of(source)
        for parts in reader.parts(reader.names).values():
            for part in parts:
                for where, value, image in part.images():
                    yield where, functools.partial(_class_of, source, part, where, value), image


def _class_of(source: ImageSource, *label: object) -> str:
    with sentences(source):
        return class_of(*label)


def _roles(source: ImageSource, reader: Reader) -> dict[str, str]:
    """The names of the splits by their roles: "train" and, unless the test images are cut, "test"."""
    wanted = {"train": source.train} | ({"test": source.test} if isinstance(source.test, str) else {})
    for role, name in wanted.items():
        if name not in reader.names:
            alike = [each for each in reader.names if each.casefold() == name.casefold()]
            cure = f"Name it as it is written: {role}={alike[0]!r}." if alike else reader.cure(role)
            raise DataError(
                f"ImageData.{role} must name a split of {source.path!r}, but {name!r} is not in {reader.names}. {cure}"
            )
    return wanted
