"""The files of a run, and the list of an experiment's cells.

    results/<training id>/training.json       the training, its time and device; written after the files that it names
                          history.csv         the learning curve, one row per epoch
                          encoder.safetensors, head.safetensors
                          failure.json        instead, if the training failed: the cause
                          evaluations/<id>.json, <id>.npz    metrics and per-image predictions
                                      <id>.failure.json      instead, if that evaluation failed
    results/experiments/<name>-<scale>.json   the cells of an experiment, for `ablation status`

Every file is written under a temporary name, flushed and renamed; the training as soon as it ends, then each
evaluation. A training is finished if and only if it has a training.json, an evaluation if its file exists. A document
holds a digest of itself and of the files that it names, which are checked on reading. A file that is truncated,
changed, of another version or of another run is reported, and its cell runs again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ablation.execution import documents, locks
from ablation.execution.documents import Refused, sealed
from ablation.spec import (
    COMPUTED,
    Cell,
    Experiment,
    InvalidSpec,
    StorageError,
    contents_read_once,
    describe,
    identity,
    identity_of_description,
)
from ablation.spec.metric import is_column
from ablation.system.failures import Failure
from ablation.system.files import cannot_write, clear, no_folder, read_file, write_file
from ablation.system.terminal import many

WEIGHTS = ("encoder.safetensors", "head.safetensors")
Files = dict[str, bytes]  # path inside a run's folder -> content
Stored = tuple[Path, str]  # a file, and the SHA-256 that it had when it was written


@dataclass(frozen=True)
class Identified:
    """A cell with the ids of its training and its evaluations."""

    cell: Cell
    training_id: str
    evaluation_ids: tuple[str, ...]


def check_axes(experiment: Experiment) -> None:
    """Raises InvalidSpec if a coordinate has the name of a computed column of the table."""
    runs = {id(cell.run.evaluations): cell.run for cell in experiment.cells}.values()
    labels = tuple({each.label for run in runs for each in run.evaluations if hasattr(each, "label")})
    for axis in {axis for cell in experiment.cells for axis in cell.coords}:
        if axis in COMPUTED or is_column(axis, labels):
            raise InvalidSpec(
                f"Cell.coords must not use the name of a computed column, but got {axis!r}. Rename the axis."
            )


def identified(experiment: Experiment) -> list[Identified]:
    """Ids of every cell. Fingerprints the data sets, so it raises DataError if one cannot be read."""
    check_axes(experiment)
    known: dict[int, str] = {}  # by object, which the cells keep alive: equal ones, of 1 and True, may differ in id

    def evaluation_id(evaluation: Any) -> str:
        if id(evaluation) not in known:
            known[id(evaluation)] = identity(evaluation)
        return known[id(evaluation)]

    with contents_read_once():
        return [
            Identified(cell, identity(cell.run.training), tuple(map(evaluation_id, cell.run.evaluations)))
            for cell in experiment.cells
        ]


@dataclass
class Found:
    """The valid documents of a run by evaluation id, None for the training; wrong: a sentence for each invalid file."""

    training: dict | None = None
    evaluations: dict[str, dict | None] = field(default_factory=dict)
    failures: dict[str | None, dict] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """ "finished", "failed" (the training, or an evaluation), "trained" (an evaluation is missing) or "missing"."""
        if self.training and None not in self.evaluations.values():
            return "finished"
        return "failed" if self.failures else "trained" if self.training else "missing"

    @property
    def missing(self) -> list[str]:
        """Ids of the missing evaluations."""
        return [evaluation_id for evaluation_id, document in self.evaluations.items() if document is None]


class Standing:
    """The cells of an experiment by their state, counted alike by every command: "8 cells, 1 failed, 7 finished"."""

    def __init__(self):
        self.states: Counter[str] = Counter()
        self.runs: set[str] = set()
        self.failed: set[tuple[str, str]] = set()  # evaluations

    def add(self, training_id: str, found: Found) -> None:
        """Counts another cell. Does not keep `found`, which may be large."""
        self.states[found.state] += 1
        self.runs.add(training_id)
        self.failed |= {(training_id, part) for part in found.failures if part is not None}

    def __str__(self) -> str:
        cells, runs, failed = self.states.total(), len(self.runs), len(self.failed)
        shown = [many(cells, "cell") + (f" of {many(runs, 'run')}" if runs != cells else "")]
        shown += [f"{count} {state}" for state, count in sorted(self.states.items())]
        shown += [f"{many(failed, 'evaluation')} failed"] if failed else []
        return ", ".join(shown)


class Results:
    """A results folder. Only the owner writes into it. Raises StorageError for a file."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        nearest = next(each for each in (self.root, *self.root.parents) if os.path.lexists(each))
        if not nearest.is_dir():
            raise StorageError(f"--results must be a folder, but {nearest} is a file. Name another: --results FOLDER.")

    def folder(self, training_id: str) -> Path:
        return self.root / training_id

    def look(self, training_id: str, evaluation_ids: Iterable[str], *, whole: bool = False) -> Found:
        """The documents of a run. whole: also compare its files, except the weights, with their digests."""
        found = Found(evaluations=dict.fromkeys(evaluation_ids))
        found.training, wrong = self.training(training_id, whole=whole)
        found.wrong += [wrong] if wrong else []
        for evaluation_id in found.evaluations if found.training else ():
            document, wrong = self.evaluation(training_id, evaluation_id, whole=whole)
            found.evaluations[evaluation_id] = document
            found.wrong += [wrong] if wrong else []
        for part in found.missing if found.training else [None]:
            failure, wrong = self.failure(training_id, part)
            found.failures |= {part: failure} if failure else {}
            found.wrong += [wrong] if wrong else []
        return found

    def training(self, training_id: str, *, whole: bool = False) -> tuple[dict | None, str | None]:
        """training.json of a finished training; or None, and the reason if it is invalid."""
        folder = self.folder(training_id)
        if wrong := no_folder(folder):
            return None, wrong
        document, wrong = self._read(folder / "training.json", documents.TRAINING)
        if document and not _describes(document, "training", training_id, whole=whole):
            return None, f"{folder}/training.json describes another training than that of its folder"
        return self._with_files(document, folder, wrong, whole=whole)

    def evaluation(
        self, training_id: str, evaluation_id: str, *, whole: bool = False
    ) -> tuple[dict | None, str | None]:
        """The document of a finished evaluation; or None, and the reason if it is invalid."""
        folder = self.folder(training_id) / "evaluations"
        if wrong := no_folder(folder):
            return None, wrong
        document, wrong = self._read(folder / f"{evaluation_id}.json", documents.EVALUATION)
        if document and not _describes(document, "evaluation", evaluation_id, whole=whole):
            return None, f"{folder}/{evaluation_id}.json describes another evaluation than that of its name"
        if document and document["training_id"] != training_id:
            return None, f"{folder}/{evaluation_id}.json belongs to the training {document['training_id']}"
        return self._with_files(document, folder, wrong, whole=whole)

    def failure(self, training_id: str, evaluation_id: str | None = None) -> tuple[dict | None, str | None]:
        """The failure of a training or of one of its evaluations; or None, and the reason if its record is invalid."""
        path = self.failure_path(training_id, evaluation_id)
        if no_folder(path.parent):  # `training` reports it
            return None, None
        document, wrong = self._read(path, documents.FAILURE)
        if document and (document["training_id"], document["evaluation_id"]) != (training_id, evaluation_id):
            return None, f"{path} belongs to another run than that of its folder"
        return document, wrong

    def failure_path(self, training_id: str, evaluation_id: str | None) -> Path:
        """The record of the failure of a training or of one of its evaluations."""
        folder = self.folder(training_id)
        return folder / "evaluations" / f"{evaluation_id}.failure.json" if evaluation_id else folder / "failure.json"

    def _read(self, path: Path, form: dict) -> tuple[dict | None, str | None]:
        try:
            return documents.read(path, form), None
        except FileNotFoundError:
            return None, None
        except Refused as error:
            return None, str(error)

    def _with_files(
        self, document: dict | None, folder: Path, wrong: str | None, *, whole: bool
    ) -> tuple[dict | None, str | None]:
        """The document, if its files have their recorded sizes; whole: and their recorded digests."""
        for name, written in document["files"].items() if document else ():
            try:
                about = os.lstat(f"{folder}/{name}")
            except OSError:
                about = None
            if about is None or not stat.S_ISREG(about.st_mode) or about.st_size != written["bytes"]:
                return None, f"{folder}/{name} is missing, truncated, or no regular file"
            if whole and name not in WEIGHTS:
                _, wrong = unchanged_content(folder / name, written["sha256"])
                if wrong:
                    return None, wrong
        return document, wrong

    def weights(self, training_id: str, document: dict) -> dict[str, Stored] | None:
        """The files of the weights of encoder and head, or None if one is missing or changed."""
        stored = {}
        for name in WEIGHTS:
            path, written = self.folder(training_id) / name, document["files"].get(name)
            if written is None or unchanged_content(path, written["sha256"])[1]:
                return None
            stored[name] = (path, written["sha256"])
        return stored

    def content(self, training_id: str, name: str, evaluation_id: str | None = None) -> tuple[bytes | None, str | None]:
        """The unchanged content of a file of a finished training or evaluation; or None, and the reason if invalid."""
        if evaluation_id is None:
            (document, wrong), folder = self.training(training_id), self.folder(training_id)
        else:
            document, wrong = self.evaluation(training_id, evaluation_id)
            folder = self.folder(training_id) / "evaluations"
        if document is None or name not in document["files"]:
            return None, wrong
        return unchanged_content(folder / name, document["files"][name]["sha256"])

    def write(self, training_id: str, files: Files) -> None:
        """Writes a part of a run, its document last, and removes the record of an earlier failure."""
        folder = self.folder(training_id)
        with self._writing():
            if "training.json" in files or no_folder(folder):  # removes an unfinished or foreign result
                clear(folder)
            if no_folder(folder / "evaluations"):
                clear(folder / "evaluations")
            for name in sorted(files, key=lambda name: name.endswith(".json")):
                if not (folder / name).is_file():  # for example a folder, which write_file cannot replace
                    clear(folder / name)
                write_file(folder / name, files[name])
                if name.endswith(".json"):
                    clear((folder / name).with_suffix(".failure.json"))

    def write_failure(
        self, training_id: str, failure: Failure, cell: str, evaluation_id: str | None = None, label: str | None = None
    ) -> Path:
        """Records the failure of a training or of one of its evaluations, in place of an invalid result."""
        path, folder = self.failure_path(training_id, evaluation_id), self.folder(training_id)
        document = {"training_id": training_id, "evaluation_id": evaluation_id, "label": label, "cell": cell}
        with self._writing():
            for place in (folder, path.parent):
                if no_folder(place):
                    clear(place)
            clear(path.with_name(f"{evaluation_id or 'training'}.json"))
            if not path.is_file():
                clear(path)
            write_file(path, sealed(document | asdict(failure), documents.FAILURE))
        return path

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Reports I/O errors, such as a full disk, to the user."""
        try:
            yield
        except OSError as error:
            raise cannot_write("--results", self.root, error) from error

    def write_manifest(self, name: str, scale: str, cells: Iterable[Identified], file: str) -> None:
        """Writes the cells of an experiment, so that `status` needs neither the experiment nor its data. file: the
        experiment's, stored relative to the folder of manifests (`study.experiment_file.check_owner`)."""
        path, content = self._manifest(name, scale, cells, file)
        with self._writing():
            _require_folder(path.parent)
            write_file(path, content)

    def keep_manifest(self, name: str, scale: str, cells: Iterable[Identified], file: str) -> None:
        """As `write_manifest`, if the manifest is missing or differs; skipped if the folder is read-only."""
        path, content = self._manifest(name, scale, cells, file)
        try:
            current = read_file(path) == content
        except OSError:
            current = False
        if not current:
            with contextlib.suppress(StorageError):
                self.write_manifest(name, scale, cells, file)

    def _manifest(self, name: str, scale: str, cells: Iterable[Identified], file: str) -> tuple[Path, bytes]:
        rows = [
            {"coords": dict(c.cell.coords), "training": c.training_id, "evaluations": c.evaluation_ids} for c in cells
        ]
        place = Path(os.path.relpath(file, (self.root / "experiments").resolve())).as_posix()
        document = {"name": name, "scale": scale, "file": place, "cells": rows}
        return self.root / "experiments" / f"{name}-{scale}.json", sealed(document, documents.MANIFEST)

    def manifests(self) -> tuple[list[dict], list[str]]:
        """The experiments of this folder, and a sentence for each unreadable manifest."""
        manifests: list[dict] = []
        paths, wrong = json_files(self.root / "experiments")
        for path in paths:
            document, bad = self._read(path, documents.MANIFEST)
            if document and path.stem != f"{document['name']}-{document['scale']}":
                document, bad = None, f"{path} belongs to {document['name']}-{document['scale']}, despite its name"
            manifests += [document] if document else []
            wrong += [f"{bad}; run its experiment again"] if bad else []
        return manifests, wrong

    def owned(self) -> AbstractContextManager[None]:
        """The lock for a single writing process. Raises StorageError if another process holds it."""
        return locks.owned(self.root)

    def owned_shard(self, index: int, count: int) -> AbstractContextManager[None]:
        """The lock for one of `count` processes that write different runs; see `locks.owned_shard`."""
        return locks.owned_shard(self.root, index, count)

    def state(self, training_id: str, evaluation_ids: Iterable[str]) -> str:
        """ "finished", "failed", "trained" (an evaluation is missing) or "missing"."""
        return self.look(training_id, evaluation_ids).state

    def found(self, training_id: str, evaluation_ids: Iterable[str]) -> tuple[str, dict | None, list[dict | None]]:
        """The state, the training's document and those of its evaluations; None for missing ones."""
        found = self.look(training_id, evaluation_ids)
        return found.state, found.training, [found.evaluations[each] for each in evaluation_ids]


def _describes(document: dict, kind: str, expected: str, *, whole: bool) -> bool:
    """Whether a document has the expected id; with `whole`, whether its description has it too."""
    return document["id"] == expected and (not whole or identity_of_description(document[kind]) == expected)


def _require_folder(path: Path) -> None:
    if no_folder(path):
        raise OSError(errno.EINVAL, "it is a link or a file where a folder belongs", str(path))


def json_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The documents in a folder of the results, sorted, and a sentence if the folder is invalid."""
    if wrong := no_folder(folder):
        return [], [wrong]
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{folder} cannot be read ({error.strerror})"]
    return [folder / name for name in names if name.endswith(".json") and not name.startswith(".")], []


def unchanged_content(path: Path, sha256: str) -> tuple[bytes | None, str | None]:
    """The unchanged content of a file; or None and the reason."""
    try:
        content = read_file(path)
    except OSError as error:
        return None, f"{path} cannot be read ({error.strerror or error})"
    if hashlib.sha256(content).hexdigest() != sha256:
        return None, f"{path} was changed: its digest differs"
    return content, None


def training_document(training, files: Files, **facts: Any) -> bytes:
    """training.json: the description, facts about the computation, and the digests of the other files."""
    described = describe(training)
    head = {"id": identity_of_description(described), "training": described}
    return sealed({**head, **facts, "files": _digests(files)}, documents.TRAINING)


def evaluation_files(evaluation, training_id: str, predictions: bytes, **facts: Any) -> Files:
    """The files evaluations/<id>.npz and evaluations/<id>.json, in this order."""
    described = describe(evaluation)
    name = identity_of_description(described)
    head = {"id": name, "training_id": training_id, "evaluation": described, "label": evaluation.label}
    document = sealed({**head, **facts, "files": _digests({f"{name}.npz": predictions})}, documents.EVALUATION)
    return {f"evaluations/{name}.npz": predictions, f"evaluations/{name}.json": document}


def _digests(files: Files) -> dict[str, dict]:
    return {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
