"""The files of a run, and the table of an experiment.

    results/<training id>/training.json       what was trained, how long, where; written after the files that it names
                          history.csv         the learning curve, one row per epoch
                          encoder.safetensors, head.safetensors
                          failure.json        instead, if the training failed: why
                          evaluations/<id>.json, <id>.npz    metrics and per-image predictions
                                      <id>.failure.json      instead, if that evaluation failed
    results/experiments/<name>-<scale>.json   the cells of an experiment, for `ablation status`

Every file is written under a temporary name, flushed and renamed; the training as soon as it is trained, then each
evaluation. A training is finished if and only if its training.json says so, an evaluation if its file exists. A
document holds a digest of itself, and those of the files that it names, with which they are compared when they are
read. What is truncated, changed, of another version or of another run does not count; it is reported and its cell runs
again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ablation import documents
from ablation.documents import Refused, printable, sealed
from ablation.failures import Failure
from ablation.files import cannot_write, clear, open_lock, read_file, write_file
from ablation.specs import (
    COMPUTED,
    FORMAT,
    Cell,
    Experiment,
    InvalidSpec,
    contents_read_once,
    describe,
    identity,
    identity_of_description,
)  # fmt: skip

if TYPE_CHECKING:
    import pandas as pd

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
    """Raises InvalidSpec where a coordinate has the name of a column that the table fills itself."""
    for axis in {axis for cell in experiment.cells for axis in cell.coords}:
        if (
            axis in (*MEASURED, *COMPUTED, *PREDICTED, *CURVE)
            or axis.startswith(("knn_", "linear_", "probe_", "invariance_"))
            or axis.endswith("_images")
        ):
            raise InvalidSpec(
                f"Cell.coords must not use the name of what is measured or computed, but got {axis!r}. Rename the axis."
            )


def identified(experiment: Experiment) -> list[Identified]:
    """Ids of every cell. Fingerprints the data sets, so it raises DataError where one cannot be read."""
    check_axes(experiment)
    known: dict[int, str] = {}

    def evaluation_id(evaluation: Any) -> str:
        return known.setdefault(id(evaluation), identity(evaluation))

    with contents_read_once():
        return [
            Identified(cell, identity(cell.run.training), tuple(map(evaluation_id, cell.run.evaluations)))
            for cell in experiment.cells
        ]


@dataclass
class Found:
    """What lies there of a run and counts; by evaluation id, None for the training.

    wrong: what lies there and does not count, in sentences.
    """

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
        """Ids of the evaluations."""
        return [evaluation_id for evaluation_id, document in self.evaluations.items() if document is None]


class Standing:
    """How the cells of an experiment stand, counted alike by every command: "8 cells, 1 failed, 7 finished"."""

    def __init__(self):
        self.states: Counter[str] = Counter()
        self.runs: set[str] = set()
        self.failed: set[tuple[str, str]] = set()  # evaluations

    def add(self, training_id: str, found: Found) -> None:
        """Another cell. Nothing of what was found is kept, which may be large."""
        self.states[found.state] += 1
        self.runs.add(training_id)
        self.failed |= {(training_id, part) for part in found.failures if part is not None}

    def __str__(self) -> str:
        cells = self.states.total()
        runs = len(self.runs)
        shown = [f"{cells} cell{'s' * (cells != 1)}" + (f" of {runs} run{'s' * (runs != 1)}" if runs != cells else "")]
        shown += [f"{count} {state}" for state, count in sorted(self.states.items())]
        failed = len(self.failed)
        return ", ".join([*shown, *([f"{failed} evaluation{'s' * (failed != 1)} failed"] if failed else [])])


class Results:
    """A folder of results. Only the process that owns an experiment writes into it. Raises InvalidSpec for a file."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        nearest = next(each for each in (self.root, *self.root.parents) if os.path.lexists(each))
        if not nearest.is_dir():
            raise InvalidSpec(f"--results must be a folder, but {nearest} is none. Name another: --results FOLDER.")

    def folder(self, training_id: str) -> Path:
        return self.root / training_id

    def look(self, training_id: str, evaluation_ids: Iterable[str], *, whole: bool = False) -> Found:
        """What lies there of a run. whole: its files, but for the weights, are compared with their digests."""
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
        """training.json of a finished training, and what is wrong with what lies there otherwise."""
        folder = self.folder(training_id)
        if wrong := no_folder(folder):
            return None, wrong
        document, wrong = self._read(folder / "training.json", documents.TRAINING)
        if document and not _describes(document, "training", training_id, whole=whole):
            return None, f"{folder}/training.json describes another training than its place says"
        return self._with_files(document, folder, wrong, whole=whole)

    def evaluation(
        self, training_id: str, evaluation_id: str, *, whole: bool = False
    ) -> tuple[dict | None, str | None]:
        """The document of a finished evaluation, and what is wrong with what lies there otherwise."""
        folder = self.folder(training_id) / "evaluations"
        if wrong := no_folder(folder):
            return None, wrong
        document, wrong = self._read(folder / f"{evaluation_id}.json", documents.EVALUATION)
        if document and not _describes(document, "evaluation", evaluation_id, whole=whole):
            return None, f"{folder}/{evaluation_id}.json describes another evaluation than its place says"
        if document and document["training_id"] != training_id:
            return None, f"{folder}/{evaluation_id}.json belongs to the training {document['training_id']}"
        return self._with_files(document, folder, wrong, whole=whole)

    def failure(self, training_id: str, evaluation_id: str | None = None) -> tuple[dict | None, str | None]:
        """Why the training or one of its evaluations failed, and what is wrong with what lies there otherwise."""
        path = self.failure_path(training_id, evaluation_id)
        if no_folder(path.parent):  # which is told of the training
            return None, None
        document, wrong = self._read(path, documents.FAILURE)
        if document and (document["training_id"], document["evaluation_id"]) != (training_id, evaluation_id):
            return None, f"{path} is of another run than its place says"
        return document, wrong

    def failure_path(self, training_id: str, evaluation_id: str | None) -> Path:
        """Where it is recorded why a training, or one of its evaluations, failed."""
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
        """The document, if the files that it names are there in the size that was written, or as they were written."""
        for name, written in document["files"].items() if document else ():
            try:
                about = os.lstat(f"{folder}/{name}")
            except OSError:
                about = None
            if about is None or not stat.S_ISREG(about.st_mode) or about.st_size != written["bytes"]:
                return None, f"{folder}/{name} is missing or truncated, or no file"
            if whole and name not in WEIGHTS:
                _, wrong = content_of(folder / name, written["sha256"])
                if wrong:
                    return None, wrong
        return document, wrong

    def weights(self, training_id: str, document: dict) -> dict[str, Stored] | None:
        """The files of the encoder's and the head's weights, or None where they do not hold what was written."""
        found = {}
        for name in WEIGHTS:
            path, written = self.folder(training_id) / name, document["files"].get(name)
            if written is None or content_of(path, written["sha256"])[1]:
                return None
            found[name] = (path, written["sha256"])
        return found

    def content(self, training_id: str, name: str, evaluation_id: str | None = None) -> tuple[bytes | None, str | None]:
        """A file of a finished training or evaluation as it was written, and what is wrong with what lies there
        otherwise."""
        if evaluation_id is None:
            (document, wrong), folder = self.training(training_id), self.folder(training_id)
        else:
            document, wrong = self.evaluation(training_id, evaluation_id)
            folder = self.folder(training_id) / "evaluations"
        if document is None or name not in document["files"]:
            return None, wrong
        return content_of(folder / name, document["files"][name]["sha256"])

    def write(self, training_id: str, files: Files) -> None:
        """Writes a part of a run, its document last, and forgets an earlier failure of it."""
        folder = self.folder(training_id)
        with self._writing():
            if "training.json" in files or no_folder(folder):  # an unfinished or foreign result makes room
                clear(folder)
            if no_folder(folder / "evaluations"):
                clear(folder / "evaluations")
            for name in sorted(files, key=lambda name: name.endswith(".json")):
                if not (folder / name).is_file():  # a folder, say, which cannot be replaced
                    clear(folder / name)
                write_file(folder / name, files[name])
                if name.endswith(".json"):
                    clear((folder / name).with_suffix(".failure.json"))

    def write_failure(
        self, training_id: str, failure: Failure, cell: str, evaluation_id: str | None = None, label: str | None = None
    ) -> Path:
        """Records why a training, or one of its evaluations, failed; what lay in its place did not count."""
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
        """A full disk, say, ends the command with a sentence."""
        try:
            yield
        except OSError as error:
            raise cannot_write("--results", self.root, error) from error

    def write_manifest(self, name: str, scale: str, cells: Iterable[Identified], file: str) -> None:
        """The cells of an experiment, so that `status` needs neither the experiment nor its data. file: where the
        experiment is, kept relative to the folder of manifests (`loading.check_owner`)."""
        path, content = self._manifest(name, scale, cells, file)
        with self._writing():
            _require_folder(path.parent)
            write_file(path, content)

    def keep_manifest(self, name: str, scale: str, cells: Iterable[Identified], file: str) -> None:
        """As `write_manifest`, where it can be written and is not there: nothing needs it in somebody else's folder."""
        path, content = self._manifest(name, scale, cells, file)
        try:
            there = read_file(path) == content
        except OSError:
            there = False
        if not there:
            with contextlib.suppress(InvalidSpec):
                self.write_manifest(name, scale, cells, file)

    def _manifest(self, name: str, scale: str, cells: Iterable[Identified], file: str) -> tuple[Path, bytes]:
        rows = [
            {"coords": dict(c.cell.coords), "training": c.training_id, "evaluations": c.evaluation_ids} for c in cells
        ]
        place = Path(os.path.relpath(file, (self.root / "experiments").resolve())).as_posix()
        document = {"name": name, "scale": scale, "file": place, "cells": rows}
        return self.root / "experiments" / f"{name}-{scale}.json", sealed(document, documents.MANIFEST)

    def manifests(self) -> tuple[list[dict], list[str]]:
        """What was run into this folder, and which of the files that say so cannot be read."""
        found: list[dict] = []
        paths, wrong = json_files(self.root / "experiments")
        for path in paths:
            document, bad = self._read(path, documents.MANIFEST)
            if document and path.stem != f"{document['name']}-{document['scale']}":
                document, bad = None, f"{path} is of {document['name']}-{document['scale']}, not what its name says"
            found += [document] if document else []
            wrong += [f"{bad}; run its experiment again"] if bad else []
        return found, wrong

    @contextmanager
    def owned(self, *, wait: bool = False) -> Iterator[None]:
        """One process at a time writes here. Raises InvalidSpec if another does, unless it is to `wait`."""
        with self._locked(fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)):
            yield

    @contextmanager
    def owned_shard(self, index: int, count: int) -> Iterator[None]:
        """Shards write side by side, one process at a time each: another one of the same shard waits."""
        with self.shared(f"shards of {count}"), self.alone(f"shard-{index}-of-{count}"):
            yield

    @contextmanager
    def shared(self, by: str) -> Iterator[None]:
        """Several processes of one kind, `by`, write here side by side, none a run that another of them does.

        Raises InvalidSpec if one process owns the folder, or those of another kind write here.
        """
        with self._locked(fcntl.LOCK_SH | fcntl.LOCK_NB), ExitStack() as kept:
            kinds = self.root / ".locks"
            own = kept.enter_context(self._open_lock(kinds / f"kind {by}"))
            self._lock(own, fcntl.LOCK_SH, "")  # first, so that of two kinds that start at once one at least is refused
            for other in [path for path in kinds.glob("kind *") if path.name != f"kind {by}"]:
                with self._open_lock(other) as lock:
                    self._lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, f"{other.name.removeprefix('kind ')} are")
            yield

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with self._open_lock(self.root / ".lock") as lock:
            self._lock(lock, how, "another one is")
            yield

    def _open_lock(self, path: Path) -> IO:
        with self._writing():
            if path.parent != self.root:
                _require_folder(path.parent)
            return open_lock(path)

    def _lock(self, lock: IO, how: int, who: str) -> None:
        try:
            fcntl.flock(lock, how)
        except BlockingIOError as error:
            raise InvalidSpec(
                f"--results must be written by one process at a time, but {who} running into {self.root}/. "
                "Wait, or name another folder."
            ) from error
        except OSError as error:  # such as Lustre without `-o flock`
            print(
                f"ablation: {self.root}/ cannot be locked ({error.strerror}): see to it yourself that only one "
                "process at a time, or one of each shard, writes there.",
                file=sys.stderr,
            )

    @contextmanager
    def alone(self, training_id: str) -> Iterator[None]:
        """Waits until no other process of a shared folder computes this run."""
        with self._open_lock(self.root / ".locks" / training_id) as lock:
            with contextlib.suppress(OSError):  # of a file system without locks, of which `_locked` has told
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def state(self, training_id: str, evaluation_ids: Iterable[str]) -> str:
        """ "finished", "failed", "trained" (an evaluation is missing) or "missing"."""
        return self.look(training_id, evaluation_ids).state

    def found(self, training_id: str, evaluation_ids: Iterable[str]) -> tuple[str, dict | None, list[dict | None]]:
        """The state, the training's document and those of its evaluations; None for what is not there."""
        found = self.look(training_id, evaluation_ids)
        return found.state, found.training, [found.evaluations[each] for each in evaluation_ids]


def _describes(document: dict, kind: str, expected: str, *, whole: bool) -> bool:
    """Whether it is of that id; with `whole`, whether its description is too, which its digest says already."""
    return document["id"] == expected and (not whole or identity_of_description(document[kind]) == expected)


def no_folder(path: Path) -> str | None:
    """What is wrong with something that has a folder's name; None of a folder, or where nothing is."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return None if stat.S_ISDIR(mode) else f"{path} is a link or a file where a folder belongs"


def _require_folder(path: Path) -> None:
    if no_folder(path):
        raise OSError(errno.EINVAL, "it is a link or a file where a folder belongs", str(path))


def json_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Documents of a folder of the results, in order, none where it is not there; and what is wrong with it."""
    if wrong := no_folder(folder):
        return [], [wrong]
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{folder} cannot be read ({error.strerror})"]
    return [folder / name for name in names if name.endswith(".json") and not name.startswith(".")], []


def content_of(path: Path, sha256: str) -> tuple[bytes | None, str | None]:
    """The content of a file that is as it was written, and what is wrong with it otherwise."""
    try:
        content = read_file(path)
    except OSError as error:
        return None, f"{path} cannot be read ({error.strerror or error})"
    if hashlib.sha256(content).hexdigest() != sha256:
        return None, f"{path} is not what was written: its digest differs"
    return content, None


def training_document(training, files: Files, **facts: Any) -> bytes:
    """training.json: the description, facts about the computation, and the digests of the other files."""
    described = describe(training)
    head = {"id": identity_of_description(described), "training": described}
    return sealed({**head, **facts, "files": _digests(files)}, documents.TRAINING)


def evaluation_files(evaluation, training_id: str, predictions: bytes, **facts: Any) -> Files:
    """evaluations/<id>.npz and, after it, evaluations/<id>.json."""
    described = describe(evaluation)
    name = identity_of_description(described)
    head = {"id": name, "training_id": training_id, "evaluation": described, "label": evaluation.label}
    document = sealed({**head, **facts, "files": _digests({f"{name}.npz": predictions})}, documents.EVALUATION)
    return {f"evaluations/{name}.npz": predictions, f"evaluations/{name}.json": document}


def _digests(files: Files) -> dict[str, dict]:
    return {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}


def table(experiment: Experiment, results: Results | str | Path) -> pd.DataFrame:
    """One row per cell: its coordinates, then what was measured; percent, seconds, bytes.

    Columns named PROTOCOL_SPLIT_top1_STATISTICS (`linear_test_top1_recalibrated`) are accuracies; `state`
    tells the rows that are not finished, whose measurements are missing.
    """
    import pandas as pd  # takes longer than `ablation status`, which needs none of it

    results = results if isinstance(results, Results) else Results(results)
    cells = identified(experiment)
    # Once a data set: where it is a folder it looks at all of its files.
    warnings = {dataset: getattr(dataset, "warning", "") for dataset in {c.cell.run.training.dataset for c in cells}}
    return pd.DataFrame([_row(cell, results, warnings[cell.cell.run.training.dataset]) for cell in cells])


def curves(experiment: Experiment, results: Results) -> pd.DataFrame:
    """The learning curves: a row per cell and epoch with its coordinates, the loss and what was measured beside it."""
    import pandas as pd

    frames = []
    for item in identified(experiment):
        content = _or_told(*results.content(item.training_id, "history.csv"))
        if content and content.strip():  # of what is not trained it has no columns
            frames.append(pd.read_csv(io.BytesIO(content)).assign(**item.cell.coords))
    if not frames:
        return pd.DataFrame()
    found = pd.concat(frames, ignore_index=True)
    axes = list(dict.fromkeys(axis for cell in experiment.cells for axis in cell.coords))
    first = ("epoch", "loss", "contrastive_accuracy", "training_accuracy")
    last = [column for column in ("validation_knn", "validation_linear", "learning_rate") if column in found]
    others = [column for column in found if column not in (*axes, *first, *last)]  # metrics of a loss
    return found[[*axes, *(column for column in first if column in found), *others, *last]]


def variances(experiment: Experiment, results: Results) -> pd.DataFrame:
    """Seeds against test images as sources of variance: a row per evaluation on h and cell of two seeds or more.

    From the per-image predictions with recalibrated statistics, see `statistics.seed_and_image_variance`.
    """
    import dataclasses

    import numpy as np
    import pandas as pd

    from ablation.statistics import seed_and_image_variance

    correct: dict[tuple, list] = {}
    for item in identified(experiment):
        for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
            if evaluation.label not in ("linear", "knn"):
                continue
            content = _or_told(*results.content(item.training_id, f"{evaluation_id}.npz", evaluation_id))
            if content is None:
                continue
            coords = {axis: value for axis, value in item.cell.coords.items() if axis != "seed"}
            with np.load(io.BytesIO(content)) as found:
                right = found["test_recalibrated"] == found["test_labels"]
            correct.setdefault((*coords.items(), ("evaluation", evaluation.label)), []).append(right)
    rows = [
        dict(cell) | dataclasses.asdict(seed_and_image_variance(np.stack(seeds)))
        for cell, seeds in correct.items()
        if len(seeds) > 1
    ]
    return pd.DataFrame(rows)


def predictions(
    experiment: Experiment, results: Results | str | Path, *, split: str = "test", statistics: str = "recalibrated"
) -> pd.DataFrame:
    """What every finished run predicts for every image of a split: a row per cell, evaluation and image.

    Columns: the coordinates, `evaluation` (its label in the table), `image` (the number in the split), `label` and
    `predicted` (names of classes). split: "train", "validation" or "test", as far as the evaluation classifies it;
    statistics: "running" or "recalibrated". What does not predict classes, such as a probe, is left out.
    """
    import numpy as np
    import pandas as pd

    results = results if isinstance(results, Results) else Results(results)
    frames = []
    for item in identified(experiment):
        document, _ = results.training(item.training_id)
        for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
            content = _or_told(*results.content(item.training_id, f"{evaluation_id}.npz", evaluation_id))
            if document is None or content is None:
                continue
            with np.load(io.BytesIO(content)) as found:
                labels, predicted = found[f"{split}_labels"], found.get(f"{split}_{statistics}", ())
            if len(predicted) == len(labels):
                names = pd.Index(document["classes"])
                rows = {"evaluation": evaluation.label, "image": np.arange(len(labels))}
                rows |= {"label": names[labels], "predicted": names[predicted]}
                frames.append(pd.DataFrame(rows).assign(**item.cell.coords))
    axes = list(dict.fromkeys(axis for cell in experiment.cells for axis in cell.coords))
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*axes, *PREDICTED])
    return whole[[*(axis for axis in axes if axis in whole), *PREDICTED]]


CURVE = ("epoch", "validation_knn", "validation_linear")  # columns of a learning curve that a table does not have
PREDICTED = ("evaluation", "image", "label", "predicted")


def _or_told(content: bytes | None, wrong: str | None) -> bytes | None:
    if wrong:
        print(f"ablation: {printable(wrong)}; it is left out.", file=sys.stderr)
    return content


MEASURED = (
    "format", "state", "training", "notes", "loss", "contrastive_accuracy", "contrastive_entropy", "training_accuracy",
    "alignment", "uniformity", "training_seconds", "peak_memory_bytes", "energy_joules", "device", "torch", "kornia",
    "commit",
)  # fmt: skip


def _view_label(view: tuple) -> str:
    return " + ".join(operator.label for operator in view) or "none"


def _optimized(optimization: Any) -> dict[str, Any]:
    """The columns on how the weights were trained."""
    optimizer = optimization.optimizer
    rising = f"warm-up {optimization.warmup:g}, " if optimization.warmup else ""
    return {
        "optimizer": type(optimizer).__name__,
        "learning_rate": getattr(optimizer, "learning_rate", None),
        "weight_decay": getattr(optimizer, "weight_decay", None),
        "schedule": rising + getattr(optimization.schedule, "label", type(optimization.schedule).__name__),
    }


def _borrowed_rate(training: Any) -> str:
    """A note where a method takes the learning rate that was chosen for another."""
    chosen_for = training.optimization.rate_chosen_for
    if not training.method.trains or chosen_for in ("", training.method.label):
        return ""
    return f"the learning rate was chosen for {chosen_for}"


def _row(item: Identified, results: Results, warning: str) -> dict[str, Any]:
    """warning: of its data set."""
    training = item.cell.run.training
    facts = {
        "method": training.method.label,
        "dataset": training.dataset.label,
        "encoder": training.encoder.label,
        "shared": _view_label(training.shared),
        "views": " | ".join(map(_view_label, training.views)),
        "epochs": training.optimization.epochs if training.method.trains else 0,
        "batch": training.optimization.batch,
        "precision": training.optimization.precision,
        **({"trained_on": "train + validation"} if training.optimization.with_validation else {}),
    } | (_optimized(training.optimization) if training.method.trains else {})
    row: dict[str, Any] = facts | dict(item.cell.coords)  # an axis may be called "method"; its labels stay
    row = {name: row[name] for name in dict.fromkeys([*item.cell.coords, *facts])}
    row["format"] = FORMAT
    row["state"], document, evaluations = results.found(item.training_id, item.evaluation_ids)
    row["training"] = item.training_id
    notes = filter(None, [_borrowed_rate(training), warning])
    row |= {"notes": text} if (text := "; ".join(notes)) else {}
    if document is None:
        return row
    for evaluation, found in zip(item.cell.run.evaluations, evaluations, strict=True):
        if found:
            measured = {f"{evaluation.label}_{name}": value for name, value in found["metrics"].items()}
            if twice := [name for name in measured if name in row]:
                raise InvalidSpec(
                    f"the columns of {item.cell.name} must have names of their own, but two are {twice[0]!r}. Give the "
                    f"evaluation {evaluation.label!r} or its metric another name."
                )
            row |= measured
            row[f"{evaluation.label}_seconds"] = found["seconds"]
            said = [*filter(None, [row.get("notes")]), *found["notes"]]
            row["notes"] = "; ".join(dict.fromkeys(said))
    # A metric of a loss may have the name of a coordinate or of another column, which stays.
    measured = document["last"] | document["diagnostics"]
    if hidden := [name for name in measured if name in item.cell.coords]:
        said = f"the loss's metric {hidden[0]!r} has the name of an axis and is not shown"
        row["notes"] = "; ".join(filter(None, [row.get("notes"), said]))
    row |= {name: value for name, value in measured.items() if name not in row}
    row |= {f"{split}_images": count for split, count in document["images"].items()}
    row |= {"training_seconds": document["seconds"], "peak_memory_bytes": document["peak_memory_bytes"]}
    joules = [each.get("energy_joules") for each in [document, *evaluations] if each]
    row |= {"energy_joules": sum(joules)} if None not in joules else {}
    row |= {name: document["provenance"][name] for name in ("device", "torch", "kornia", "commit")}
    return row
