"""The settings of the runs in a table, in a file beside it: figures/NAME-SCALE.json.

Captions, appendices and `report --check` read this file and never today's code, so a changed default never alters the
description of a finished run. It holds

    name, scale, title, command, file       of the experiment; its file's path is relative to the folder
    reconstructed                           "" or the commits at which it was rewritten for an older table
    notes                                   additional text of each figure's caption
    axes, trainings                         the coordinates' names; descriptions by training id
    evaluations                             the ids of each cell's evaluations, by its coordinates (`key_of`)
    specs                                   every spec once, by its id; elsewhere {"@": id} refers to it
    sizes                                   the side of each data set's images in pixels, by the data set's id
    operators                               label and law of each operator, by its id, at each image size
    tables                                  the digest of the table ("") and of those beside it ("curves", ...)
    searched                                only for a search, by study: metric, seeds, pruner, space, budget
    measures                                only with a user's evaluations, by label and metric: unit, best value

    digest                                  of all of the above, to detect changes of the file

A description's key is its id, computed after replacing all references by their specs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.analysis.tables import digest, numbers
from ablation.spec import (
    AblationError,
    DataError,
    canonical_json,
    describe,
    identity,
    identity_of_description,
    measures_of,
    written,
)
from ablation.system.files import read_file, write_file

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = 2  # the format of the file; raise it when older versions cannot read it
MAPS = ("notes", "trainings", "evaluations", "specs", "sizes", "operators", "tables", "searched", "measures")
COMMUTE_WITH_ROTATE = {"Blur", "Color", "Cutout", "Noise", "Sobel"}  # quarter turns; test_operators has the law
TABLES = ("", "curves", "images", "test", "importance")  # suffixes of tables that have settings


@dataclass
class Settings:
    """See above. `ablation run` writes it; everything that describes a run reads it."""

    name: str
    scale: str
    title: str = ""
    command: str = ""
    file: str = ""
    reconstructed: str = ""
    axes: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    trainings: dict[str, dict] = field(default_factory=dict)
    evaluations: dict[str, list[str]] = field(default_factory=dict)
    specs: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    operators: dict[str, dict] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    searched: dict[str, dict] = field(default_factory=dict)
    measures: dict[str, dict] = field(default_factory=dict)

    def add(self, cells: Iterable[tuple[Any, str, Sequence[str]]], size_of: Mapping[Any, int]) -> None:
        """cells: Cell, training id, evaluation ids. size_of: the side of a data set's images in pixels."""
        for cell, training_id, evaluation_ids in cells:
            self.axes += [axis for axis in cell.coords if axis not in self.axes]
            training = cell.run.training
            if training_id not in self.trainings:
                self.trainings[training_id] = {name: self._filed(value) for name, value in describe(training).items()}
                size = self.sizes[self.trainings[training_id]["dataset"]["@"]] = size_of[training.dataset]
                for operator, side in sized(training, size):
                    known = self.operators.setdefault(identity(operator), {"label": operator.label, "law": {}})
                    known["law"].setdefault(str(side), law(operator, side))
            for evaluation in cell.run.evaluations:
                self._filed(describe(evaluation))
            self.measures |= measures_of(cell.run.evaluations)
            self.evaluations[key_of(cell.coords)] = list(evaluation_ids)

    def _filed(self, described: Any) -> Any:
        """Stores all specs in a description, and returns it with references instead of them."""
        if isinstance(described, list):
            return [self._filed(item) for item in described]
        if not isinstance(described, dict):
            return described
        inside = {name: self._filed(value) for name, value in described.items()}
        if "type" not in described:
            return inside
        key = identity_of_description(described)
        self.specs[key] = inside
        return {"@": key}

    def whole(self, filed: Any) -> Any:
        """The inverse of `_filed`: resolves references. Raises DataError for a missing spec."""
        if isinstance(filed, list):
            return [self.whole(item) for item in filed]
        if not isinstance(filed, dict):
            return filed
        if set(filed) == {"@"}:
            if filed["@"] not in self.specs:
                raise DataError(f"the settings of {self.stem} lack the spec {filed['@']}. Run the experiment again.")
            return self.whole(self.specs[filed["@"]])
        return {name: self.whole(value) for name, value in filed.items()}

    def commuting(self) -> frozenset[frozenset[str]]:
        """Pairs of labels of the suite's operators that commute in law: the order of such a pair cannot matter."""
        kinds: dict[str, set[str]] = {}
        for key, operator in self.operators.items():
            described = self.specs.get(key, {})
            kinds.setdefault(operator["label"], set()).add(described["type"] if "source" not in described else "")
        turned = [label for label, kind in kinds.items() if kind == {"Rotate"}]
        others = [label for label, kind in kinds.items() if len(kind) == 1 and kind <= COMMUTE_WITH_ROTATE]
        return frozenset(frozenset((one, other)) for one in turned for other in others)

    def training(self, training_id: str) -> dict:
        """The description of a training."""
        return self.whole(self.trainings[training_id])

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.scale}"

    def with_optimizers(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with columns about optimizer and schedule, which tables of earlier versions lack."""
        if "optimizer" in table or "training" not in table:
            return table
        trained = table["training"]
        if "epochs" in table:
            trained = trained.where(numbers(table, ["epochs"])["epochs"] != 0)  # not for an untrained baseline
        optimized = [self._optimized(training_id) if training_id in self.trainings else {} for training_id in trained]
        columns = dict.fromkeys(name for each in optimized for name in each if name not in table)  # an axis stays
        return table.assign(**{name: [each.get(name) for each in optimized] for name in columns})

    def _optimized(self, training_id: str) -> dict[str, Any]:
        optimization = self.training(training_id)["optimization"]
        optimizer = optimization["optimizer"]
        kept = {name: optimizer[name] for name in ("learning_rate", "weight_decay") if name in optimizer}
        return {"optimizer": optimizer["type"], "schedule": f"warm-up {optimization['warmup']:g}, cosine"} | kept

    def wrong(self) -> list[str]:
        """Entries whose key is not their id."""
        filed = {**self.trainings, **self.specs}
        return [f"{key} of {self.stem}" for key, value in filed.items() if _id(self, value) != key]

    def content(self, csv: Path | None = None) -> bytes:
        """The file's content, with the tables' current digests; one line per run and spec, for readable diffs."""
        if csv is not None:
            self.tables = {name: digest(path) for name, path in tables_of(csv).items()}
        parts = []
        for name, value in self._document().items():
            text = _lines(value) if name in MAPS else json.dumps(value, ensure_ascii=False)
            parts.append(f'"{name}": {text}')
        parts = [f'"format": {SETTINGS}', *parts, f'"digest": "{self.digest()}"']
        return ("{\n" + ",\n".join(parts) + "\n}\n").encode()

    def digest(self) -> str:
        return hashlib.sha256(canonical_json(self._document()).encode()).hexdigest()

    def _document(self) -> dict[str, Any]:
        """The fields; the last two only where they apply."""
        fields = dataclasses.asdict(self).items()
        return {name: value for name, value in fields if value or name not in ("searched", "measures")}


def _lines(entries: Mapping[str, Any]) -> str:
    rows = (f" {json.dumps(k, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False)}" for k, v in entries.items())
    return "{\n" + ",\n".join(rows) + "\n}" if entries else "{}"


def _id(settings: Settings, filed: Any) -> str:
    try:
        return identity_of_description(settings.whole(filed))
    except AblationError:
        return ""


def path_of(csv: Path) -> Path:
    """The file of a table's settings."""
    return csv.with_suffix(".json")


def tables_of(csv: Path) -> dict[str, Path]:
    """A table and the existing tables beside it, by the suffix of their names."""
    return {name: path for name, path in _paths(csv).items() if path.is_file()}


def _paths(csv: Path) -> dict[str, Path]:
    return {name: csv.with_name(f"{csv.stem}-{name}.csv") if name else csv for name in TABLES}


def write_tables(csv: Path, contents: Mapping[str, bytes], settings: Settings) -> list[Path]:
    """Writes a table and those beside it, by suffix, then the settings with their digests. Removes tables beside it
    that an earlier call wrote. Returns the files, the settings after the table."""
    paths = _paths(csv)
    for name, path in paths.items():
        if name in contents:
            write_file(path, contents[name])
        else:
            path.unlink(missing_ok=True)
    write_file(path_of(csv), settings.content(csv))
    return [csv, path_of(csv), *(paths[name] for name in TABLES if name and name in contents)]


def settings_beside(path: Path) -> Settings | None:
    """The settings of a table, or of the table beside which it lies; None for a user's own table. Raises DataError if
    the table has changed since it was written."""
    for ending in (f"-{name}.csv" if name else ".csv" for name in TABLES):
        csv = path.with_name(path.name.removesuffix(ending) + ".csv")
        if path.name.endswith(ending) and path_of(csv).is_file() and b'"trainings"' in path_of(csv).read_bytes():
            return read_settings(csv)
    return None


def read_settings(csv: Path) -> Settings:
    """The settings beside a table. Raises DataError if they are missing or changed, or if the table, or one beside
    it, has changed since they were written."""
    path = path_of(csv)
    try:
        document = json.loads(read_file(path.resolve()))
        form, sealed = document.pop("format"), document.pop("digest")
        settings = Settings(**document)
        kinds = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
        right = all(isinstance(kinds[name], dict) for name in MAPS) and isinstance(settings.axes, list)
    except FileNotFoundError as error:
        raise DataError(f"{path}, the settings of {csv.name}, is missing. Run the experiment again.") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as the settings of {csv.name} ({error}). Write it again.") from error
    if form != SETTINGS or not right:
        raise DataError(f"{path} is not of format {SETTINGS}, which this version needs. Run the experiment again.")
    if settings.stem != csv.stem:
        raise DataError(f"{path} belongs to the table {settings.stem}, not to {csv.name}. Run {csv.stem} itself.")
    if sealed != settings.digest():
        raise DataError(f"{path} was changed: its digest differs. Restore it, or run the experiment again.")
    for name, table in tables_of(csv).items():
        if settings.tables.get(name) != digest(table):
            raise DataError(
                f"{table} has changed since it was written with {path.name}: its digest differs. Restore it, or "
                f"run the experiment again ({settings.command or settings.stem}). To draw the changed table, copy it "
                "under another name: ablation figures COPY.csv."
            )
    return settings


def key_of(coords: Mapping[str, Any]) -> str:
    """A cell's coordinates as text, independent of their order and of whether a table was read as text or numbers."""
    given = {axis: value for axis, value in coords.items() if value is not None and value == value}  # not missing
    return ", ".join(f"{axis}={written(given[axis])}" for axis in sorted(given))


def sized(training: Any, size: int) -> Iterator[tuple[Any, int]]:
    """The operators of a training, each with the side of its input images. size: of the data set's images."""
    for view in training.views:
        side = size
        for operator in (*training.shared, *view):
            yield operator, side
            side = operator.output_size(side) if hasattr(operator, "output_size") else side


def law(operator: Any, size: int) -> str:
    """The operator's description for images of `size` pixels, plus any strength and p that it omits."""
    text = operator.describe(size)
    return ", ".join([text, *(f"{n} {v:g}" for n, v, usual in _unusual(operator) if usual.describe(size) == text)])


def _unusual(operator: Any) -> Iterator[tuple[str, float, Any]]:
    """Every strength and p other than 1 of an operator and its parts, and the operator with 1 instead."""
    for item in dataclasses.fields(operator):
        value = getattr(operator, item.name)
        if item.name in ("strength", "p") and value != 1:
            yield item.name, value, dataclasses.replace(operator, **{item.name: 1.0})
        elif hasattr(value, "describe"):
            for name, inner, usual in _unusual(value):
                yield f"{item.name} {name}", inner, dataclasses.replace(operator, **{item.name: usual})
