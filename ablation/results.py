"""The files of a run, and the table of an experiment.

    results/<training id>/training.json       what was trained, how long, where; written last
                          history.csv         the learning curve, one row per epoch
                          encoder.safetensors
                          failure.json        instead, if the run failed: the traceback
                          evaluations/<id>.json, <id>.npz    metrics and per-image predictions
    results/experiments/<name>-<scale>.json   the cells of an experiment, for `ablation status`

Every file is written under a temporary name, flushed and renamed. A training is finished if and only if its
training.json says so, an evaluation if its file exists. A file that is truncated, of another version or of
another run does not count; it is reported and its cell runs again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ablation.specs import Cell, Experiment, describe, identity, identity_of_description

FORMAT = 1

Files = dict[str, bytes]  # path inside a run's folder -> content


@dataclass(frozen=True)
class Identified:
    """A cell with the ids of its training and its evaluations."""

    cell: Cell
    training_id: str
    evaluation_ids: tuple[str, ...]


def identified(experiment: Experiment) -> list[Identified]:
    """Ids of every cell. Fingerprints the data sets, so it raises DataError where one cannot be read."""
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
        if document is not None:
            for name, size in document["files"].items():
                path = self.folder(training_id) / name
                if not path.is_file() or path.stat().st_size != size["bytes"]:
                    return None, f"{path} is missing or truncated"
        return document, wrong

    def evaluation(self, training_id: str, evaluation_id: str) -> tuple[dict | None, str | None]:
        path = self.folder(training_id) / "evaluations" / f"{evaluation_id}.json"
        document, wrong = self._read(path, "evaluation", evaluation_id)
        if document is not None and document["training_id"] != training_id:
            return None, f"{path} belongs to the training {document['training_id']}"
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
        if document.get("id") != expected or identity_of_description(document.get(kind)) != expected:
            return None, f"{path} describes another {kind} than its place says"
        return document, None

    def failure(self, training_id: str) -> dict | None:
        try:
            return json.loads((self.folder(training_id) / "failure.json").read_bytes())
        except (OSError, ValueError):
            return None

    def encoder(self, training_id: str, document: dict) -> bytes | None:
        """The encoder's weights, or None where they were discarded or are not those that were written."""
        path = self.folder(training_id) / "encoder.safetensors"
        recorded = document["files"].get("encoder.safetensors")
        if recorded is None or not path.is_file():
            return None
        content = path.read_bytes()
        return content if hashlib.sha256(content).hexdigest() == recorded["sha256"] else None

    def write(self, training_id: str, files: Files) -> None:
        """Writes a run's files, training.json last, and forgets an earlier failure."""
        if "training.json" in files:  # an unfinished or foreign result makes room
            shutil.rmtree(self.folder(training_id), ignore_errors=True)
        for name in sorted(files, key=lambda name: name == "training.json"):
            write_file(self.folder(training_id) / name, files[name])
        (self.folder(training_id) / "failure.json").unlink(missing_ok=True)

    def write_failure(self, training_id: str, cell: str, trace: str) -> Path:
        path = self.folder(training_id) / "failure.json"
        write_file(path, to_json({"cell": cell, "traceback": trace}))
        return path

    def write_manifest(self, name: str, scale: str, cells: Iterable[Identified]) -> None:
        """The cells of an experiment, so that `status` needs neither the experiment nor its data."""
        rows = [
            {"coords": dict(c.cell.coords), "training": c.training_id, "evaluations": c.evaluation_ids} for c in cells
        ]
        document = {"format": FORMAT, "name": name, "scale": scale, "cells": rows}
        write_file(self.root / "experiments" / f"{name}-{scale}.json", to_json(document))

    def manifests(self) -> list[dict]:
        return [json.loads(path.read_bytes()) for path in sorted((self.root / "experiments").glob("*.json"))]

    def state(self, training_id: str, evaluation_ids: Iterable[str]) -> str:
        """ "finished", "failed", "trained" (an evaluation is missing) or "missing"."""
        if self.training(training_id)[0] is None:
            return "failed" if self.failure(training_id) else "missing"
        done = all(self.evaluation(training_id, e)[0] is not None for e in evaluation_ids)
        return "finished" if done else "failed" if self.failure(training_id) else "trained"


def write_file(path: Path, content: bytes) -> None:
    """All or nothing, also when the machine stops in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def to_json(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def training_document(training, files: Files, **facts: Any) -> bytes:
    """training.json: the description, facts about the computation, and the digests of the other files."""
    described = describe(training)
    digests = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()}
    head = {"format": FORMAT, "id": identity_of_description(described), "training": described}
    return to_json({**head, **facts, "files": digests})


def evaluation_document(evaluation, training_id: str, **facts: Any) -> tuple[str, bytes]:
    """The evaluation's id and its JSON."""
    described = describe(evaluation)
    name = identity_of_description(described)
    return name, to_json({"format": FORMAT, "id": name, "training_id": training_id, "evaluation": described, **facts})


def table(experiment: Experiment, results: Results | str | Path) -> pd.DataFrame:
    """One row per cell: its coordinates, then what was measured; percent, seconds, bytes.

    Columns named PROTOCOL_SPLIT_top1_STATISTICS (`linear_test_top1_recalibrated`) are accuracies; `state`
    tells the rows that are not finished, whose measurements are missing.
    """
    results = results if isinstance(results, Results) else Results(results)
    return pd.DataFrame([_row(cell, results) for cell in identified(experiment)])


def _row(item: Identified, results: Results) -> dict[str, Any]:
    training = item.cell.run.training
    row: dict[str, Any] = {**item.cell.coords}
    row["state"] = results.state(item.training_id, item.evaluation_ids)
    row |= {
        "method": training.method.label,
        "dataset": training.dataset.label,
        "encoder": training.encoder.label,
        "epochs": training.optimization.epochs if training.method.trains else 0,
        "batch": training.optimization.batch,
        "precision": training.optimization.precision,
        "training": item.training_id,
    }
    document, _ = results.training(item.training_id)
    if document is None:
        return row
    for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
        found, _ = results.evaluation(item.training_id, evaluation_id)
        if found:
            row |= {f"{evaluation.label}_{name}": value for name, value in found["metrics"].items()}
            row[f"{evaluation.label}_seconds"] = found["seconds"]
    row |= document["last"] | document["diagnostics"]
    row |= {f"{split}_images": count for split, count in document["images"].items()}
    row |= {"training_seconds": document["seconds"], "peak_memory_bytes": document["peak_memory_bytes"]}
    row |= {name: document["provenance"][name] for name in ("device", "torch", "kornia", "commit")}
    return row
