"""The files of a run, and the table of an experiment.

    results/<training id>/training.json       what was trained, how long, where; written last
                          history.csv         the learning curve, one row per epoch
                          encoder.safetensors, head.safetensors
                          failure.json        instead, if the run failed: the traceback
                          evaluations/<id>.json, <id>.npz    metrics and per-image predictions
    results/experiments/<name>-<scale>.json   the cells of an experiment, for `ablation status`

Every file is written under a temporary name, flushed and renamed. A training is finished if and only if its
training.json says so, an evaluation if its file exists. A file that is truncated, of another version or of
another run does not count; it is reported and its cell runs again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ablation.files import write_file
from ablation.specs import COMPUTED, FORMAT, Cell, Experiment, InvalidSpec, describe, identity, identity_of_description

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = {
    "training": {"id", "training", "files", "last", "diagnostics", "images", "seconds", "provenance"},
    "evaluation": {"id", "training_id", "evaluation", "files", "metrics", "notes", "seconds"},
}

WEIGHTS = ("encoder.safetensors", "head.safetensors")
Files = dict[str, bytes]  # path inside a run's folder -> content


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
            axis in (*MEASURED, *COMPUTED)
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

    return [
        Identified(cell, identity(cell.run.training), tuple(map(evaluation_id, cell.run.evaluations)))
        for cell in experiment.cells
    ]


class Results:
    """A folder of results. Only the process that owns an experiment writes into it."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def folder(self, training_id: str) -> Path:
        return self.root / training_id

    def training(self, training_id: str) -> tuple[dict | None, str | None]:
        """training.json of a finished training, and what is wrong with what lies there otherwise."""
        document, wrong = self._read(self.folder(training_id) / "training.json", "training", training_id)
        return self._with_files(document, self.folder(training_id), wrong)

    def evaluation(self, training_id: str, evaluation_id: str) -> tuple[dict | None, str | None]:
        path = self.folder(training_id) / "evaluations" / f"{evaluation_id}.json"
        document, wrong = self._read(path, "evaluation", evaluation_id)
        if document is not None and document["training_id"] != training_id:
            return None, f"{path} belongs to the training {document['training_id']}"
        return self._with_files(document, path.parent, wrong)

    def _with_files(self, document: dict | None, folder: Path, wrong: str | None) -> tuple[dict | None, str | None]:
        """The document, if the files that it names are there in the size that was written."""
        for name, written in (document or {"files": {}})["files"].items():
            try:
                whole = os.stat(f"{folder}/{name}").st_size == written["bytes"]
            except OSError:
                whole = False
            if not whole:
                return None, f"{folder / name} is missing or truncated"
        return document, wrong

    def _read(self, path: Path, kind: str, expected: str) -> tuple[dict | None, str | None]:
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None, None
        except (OSError, ValueError) as error:
            return None, f"{path} cannot be read ({error})"
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            return None, f"{path} is not of format {FORMAT}, which this version writes"
        if REQUIRED[kind] - set(document):
            return None, f"{path} lacks {', '.join(sorted(REQUIRED[kind] - set(document)))}"
        if document["id"] != expected or identity_of_description(document[kind]) != expected:
            return None, f"{path} describes another {kind} than its place says"
        return document, None

    def failure(self, training_id: str) -> dict | None:
        try:
            return json.loads((self.folder(training_id) / "failure.json").read_bytes())
        except (OSError, ValueError):
            return None

    def weights(self, training_id: str, document: dict) -> dict[str, Path] | None:
        """The files of the encoder's and the head's weights, or None where they do not hold what was written."""
        paths = {name: self.folder(training_id) / name for name in WEIGHTS}
        for name, path in paths.items():
            if not path.is_file() or name not in document["files"]:
                return None
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != document["files"][name]["sha256"]:
                return None
        return paths

    def write(self, training_id: str, files: Files) -> None:
        """Writes a run's files, training.json last, and forgets an earlier failure."""
        with self._writing():
            if "training.json" in files:  # an unfinished or foreign result makes room
                shutil.rmtree(self.folder(training_id), ignore_errors=True)
            for name in sorted(files, key=lambda name: name == "training.json"):
                write_file(self.folder(training_id) / name, files[name])
        (self.folder(training_id) / "failure.json").unlink(missing_ok=True)

    def write_failure(self, training_id: str, cell: str, trace: str) -> Path:
        path = self.folder(training_id) / "failure.json"
        with self._writing():
            write_file(path, to_json({"cell": cell, "traceback": trace}))
        return path

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A full disk, say, ends the command with a sentence."""
        try:
            yield
        except OSError as error:
            raise InvalidSpec(
                f"--results must be a folder that can be written, but {self.root}/ cannot: {error.strerror} "
                f"({error.filename}). Nothing that was finished is lost. Make room; the same command continues."
            ) from error

    def write_manifest(self, name: str, scale: str, cells: Iterable[Identified], file: str) -> None:
        """The cells of an experiment, so that `status` needs neither the experiment nor its data. file: where the
        experiment is, kept relative to the folder of manifests (`loading.check_owner`)."""
        rows = [
            {"coords": dict(c.cell.coords), "training": c.training_id, "evaluations": c.evaluation_ids} for c in cells
        ]
        place = Path(os.path.relpath(file, (self.root / "experiments").resolve())).as_posix()
        document = {"format": FORMAT, "name": name, "scale": scale, "file": place, "cells": rows}
        with self._writing():
            write_file(self.root / "experiments" / f"{name}-{scale}.json", to_json(document))

    def manifests(self) -> tuple[list[dict], list[str]]:
        """What was run into this folder, and which of the files that say so cannot be read."""
        found, wrong = [], []
        for path in sorted((self.root / "experiments").glob("*.json")):
            try:
                document = json.loads(path.read_bytes())
                found.append({name: document[name] for name in ("name", "scale", "cells")})
            except (OSError, ValueError, KeyError, TypeError) as error:
                wrong.append(f"{path} cannot be read ({error}); run its experiment again")
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
            kinds.mkdir(parents=True, exist_ok=True)
            for other in [path for path in kinds.glob("kind *") if path.name != f"kind {by}"]:
                with open(other) as lock:
                    self._lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, f"{other.name.removeprefix('kind ')} are")
            self._lock(kept.enter_context(open(kinds / f"kind {by}", "w")), fcntl.LOCK_SH, "")
            yield

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "w") as lock:
            self._lock(lock, how, "another one is")
            yield

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
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / training_id, "w") as lock:
            with contextlib.suppress(OSError):  # of a file system without locks, of which `_locked` has told
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def state(self, training_id: str, evaluation_ids: Iterable[str]) -> str:
        """ "finished", "failed", "trained" (an evaluation is missing) or "missing"."""
        return self.found(training_id, evaluation_ids)[0]

    def found(self, training_id: str, evaluation_ids: Iterable[str]) -> tuple[str, dict | None, list[dict | None]]:
        """The state, the training's document and those of its evaluations; None for what is not there."""
        training, _ = self.training(training_id)
        evaluations = [self.evaluation(training_id, e)[0] if training else None for e in evaluation_ids]
        if training and None not in evaluations:
            return "finished", training, evaluations
        state = "failed" if self.failure(training_id) else "trained" if training else "missing"
        return state, training, evaluations


def to_json(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def training_document(training, files: Files, **facts: Any) -> bytes:
    """training.json: the description, facts about the computation, and the digests of the other files."""
    described = describe(training)
    head = {"format": FORMAT, "id": identity_of_description(described), "training": described}
    return to_json({**head, **facts, "files": _digests(files)})


def evaluation_files(evaluation, training_id: str, predictions: bytes, **facts: Any) -> Files:
    """evaluations/<id>.npz and, after it, evaluations/<id>.json."""
    described = describe(evaluation)
    name = identity_of_description(described)
    head = {"format": FORMAT, "id": name, "training_id": training_id, "evaluation": described}
    document = to_json({**head, **facts, "files": _digests({f"{name}.npz": predictions})})
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
    return pd.DataFrame([_row(cell, results) for cell in identified(experiment)])


def curves(experiment: Experiment, results: Results) -> pd.DataFrame:
    """The learning curves: a row per cell and epoch with its coordinates, the loss and what was measured beside it."""
    import pandas as pd

    frames = []
    for item in identified(experiment):
        path = results.folder(item.training_id) / "history.csv"
        if path.is_file() and path.stat().st_size > 2:
            frames.append(pd.read_csv(path).assign(**item.cell.coords))
    if not frames:
        return pd.DataFrame()
    found = pd.concat(frames, ignore_index=True)
    kept = ("epoch", "loss", "contrastive_accuracy", "training_accuracy", "validation_knn", "validation_linear")
    kept = [column for column in (*kept, "learning_rate") if column in found]
    axes = list(dict.fromkeys(axis for cell in experiment.cells for axis in cell.coords))
    return found[[*(axis for axis in axes if axis not in kept), *kept]]


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
            path = results.folder(item.training_id) / "evaluations" / f"{evaluation_id}.npz"
            if not path.is_file() or evaluation.label not in ("linear", "knn"):
                continue
            coords = {axis: value for axis, value in item.cell.coords.items() if axis != "seed"}
            with np.load(path) as found:
                right = found["test_recalibrated"] == found["test_labels"]
            correct.setdefault((*coords.items(), ("evaluation", evaluation.label)), []).append(right)
    rows = [
        dict(cell) | dataclasses.asdict(seed_and_image_variance(np.stack(seeds)))
        for cell, seeds in correct.items()
        if len(seeds) > 1
    ]
    return pd.DataFrame(rows)


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


def _row(item: Identified, results: Results) -> dict[str, Any]:
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
    } | (_optimized(training.optimization) if training.method.trains else {})
    row: dict[str, Any] = facts | dict(item.cell.coords)  # an axis may be called "method"; its labels stay
    row = {name: row[name] for name in dict.fromkeys([*item.cell.coords, *facts])}
    row["format"] = FORMAT
    row["state"], document, evaluations = results.found(item.training_id, item.evaluation_ids)
    row["training"] = item.training_id
    row |= {"notes": note} if (note := _borrowed_rate(training)) else {}
    if document is None:
        return row
    for evaluation, found in zip(item.cell.run.evaluations, evaluations, strict=True):
        if found:
            row |= {f"{evaluation.label}_{name}": value for name, value in found["metrics"].items()}
            row[f"{evaluation.label}_seconds"] = found["seconds"]
            row["notes"] = "; ".join([*filter(None, [row.get("notes")]), *found["notes"]])
    row |= document["last"] | document["diagnostics"]
    row |= {f"{split}_images": count for split, count in document["images"].items()}
    row |= {"training_seconds": document["seconds"], "peak_memory_bytes": document["peak_memory_bytes"]}
    joules = [each.get("energy_joules") for each in [document, *evaluations] if each]
    row |= {"energy_joules": sum(joules)} if None not in joules else {}
    row |= {name: document["provenance"][name] for name in ("device", "torch", "kornia", "commit")}
    return row
