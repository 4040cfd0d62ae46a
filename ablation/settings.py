"""What was run, beside the table: figures/NAME-SCALE.json.

Captions, appendices and `report --check` read this file and never today's code, so a default that changes later changes
no word about a run that is finished. It holds

    name, scale, title, command, file       of the experiment; its file's path is relative to the folder
    reconstructed                           "" or the commits at which it was written again for an older table
    notes                                   what each figure's caption says beside its table
    axes, trainings                         the coordinates' names; descriptions by training id
    evaluations                             the ids of each cell's evaluations, by its coordinates (`key_of`)
    specs                                   every spec once, by its id; elsewhere {"@": id} stands for it
    sizes                                   of each data set's images, the side in pixels, by the data set's id
    operators                               label and law of each operator, by its id, at each size of image
    tables                                  the digest of the table ("") and of those beside it ("curves", ...)

    digest                                  of all that, so that a change of the file is noticed

A description with its references replaced by what they stand for has the id that it is filed under.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.files import read_file
from ablation.specs import InvalidSpec, canonical_json, describe, identity, identity_of_description, written
from ablation.tables import digest, numbers

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = 2  # the format of the file; raised when an older version could not read it
MAPS = ("notes", "trainings", "evaluations", "specs", "sizes", "operators", "tables")
TABLES = ("", "curves", "images", "test", "importance")  # that have settings beside them, by the ending of their names


@dataclass
class Settings:
    """See above. Written by `ablation run`, read by whatever speaks of a run."""

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

    def add(self, cells: Iterable[tuple[Any, str, Sequence[str]]], size_of: Mapping[Any, int]) -> None:
        """cells: Cell, training id, evaluation ids; size_of: the side of a data set's images in pixels."""
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
            self.evaluations[key_of(cell.coords)] = list(evaluation_ids)

    def _filed(self, described: Any) -> Any:
        """The description with a reference in the place of each spec inside it, and of itself."""
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
        """The description that `_filed` took apart. Raises InvalidSpec for a reference to nothing."""
        if isinstance(filed, list):
            return [self.whole(item) for item in filed]
        if not isinstance(filed, dict):
            return filed
        if set(filed) == {"@"}:
            if filed["@"] not in self.specs:
                raise InvalidSpec(f"the settings of {self.stem} lack the spec {filed['@']}. Run the experiment again.")
            return self.whole(self.specs[filed["@"]])
        return {name: self.whole(value) for name, value in filed.items()}

    def training(self, training_id: str) -> dict:
        """The description of a training."""
        return self.whole(self.trainings[training_id])

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.scale}"

    def with_optimizers(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with the columns on how weights were trained, which tables of earlier versions lack."""
        if "optimizer" in table or "training" not in table:
            return table
        trained = table["training"]
        if "epochs" in table:
            trained = trained.where(numbers(table, ["epochs"])["epochs"] != 0)  # not of an untrained baseline
        found = [self._optimized(training_id) if training_id in self.trainings else {} for training_id in trained]
        columns = dict.fromkeys(name for each in found for name in each if name not in table)  # an axis stays
        return table.assign(**{name: [each.get(name) for each in found] for name in columns})

    def _optimized(self, training_id: str) -> dict[str, Any]:
        optimization = self.training(training_id)["optimization"]
        optimizer = optimization["optimizer"]
        kept = {name: optimizer[name] for name in ("learning_rate", "weight_decay") if name in optimizer}
        return {"optimizer": optimizer["type"], "schedule": f"warm-up {optimization['warmup']:g}, cosine"} | kept

    def wrong(self) -> list[str]:
        """What does not have the id that it is filed under."""
        filed = {**self.trainings, **self.specs}
        return [f"{key} of {self.stem}" for key, value in filed.items() if _id(self, value) != key]

    def content(self, csv: Path | None = None) -> bytes:
        """The file, with the digests of the tables as they are; a line for each run and spec, so that a change is seen
        as one."""
        if csv is not None:
            self.tables = {name: digest(path) for name, path in tables_of(csv).items()}
        parts = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            text = _lines(value) if item.name in MAPS else json.dumps(value, ensure_ascii=False)
            parts.append(f'"{item.name}": {text}')
        parts = [f'"format": {SETTINGS}', *parts, f'"digest": "{self.digest()}"']
        return ("{\n" + ",\n".join(parts) + "\n}\n").encode()

    def digest(self) -> str:
        return hashlib.sha256(canonical_json(dataclasses.asdict(self)).encode()).hexdigest()


def _lines(found: Mapping[str, Any]) -> str:
    rows = (f" {json.dumps(k, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False)}" for k, v in found.items())
    return "{\n" + ",\n".join(rows) + "\n}" if found else "{}"


def _id(settings: Settings, filed: Any) -> str:
    try:
        return identity_of_description(settings.whole(filed))
    except InvalidSpec:
        return ""


def path_of(csv: Path) -> Path:
    """Where the settings of a table are."""
    return csv.with_suffix(".json")


def tables_of(csv: Path) -> dict[str, Path]:
    """A table and those beside it, as far as they are there, by the ending of their names."""
    paths = {name: csv.with_name(f"{csv.stem}-{name}.csv") if name else csv for name in TABLES}
    return {name: path for name, path in paths.items() if path.is_file()}


def check_table(path: Path) -> None:
    """Raises InvalidSpec where a table was written with settings and changed since. A user's own table has none."""
    for ending in (f"-{name}.csv" if name else ".csv" for name in TABLES):
        csv = path.with_name(path.name.removesuffix(ending) + ".csv")
        if path.name.endswith(ending) and path_of(csv).is_file() and b'"trainings"' in path_of(csv).read_bytes():
            read_settings(csv)


def read_settings(csv: Path) -> Settings:
    """The settings beside a table. Raises InvalidSpec where they are missing or changed, and where the table, or one
    beside it, has changed since they were written."""
    path = path_of(csv)
    try:
        document = json.loads(read_file(path.resolve()))
        form, sealed = document.pop("format"), document.pop("digest")
        settings = Settings(**document)
        kinds = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
        right = all(isinstance(kinds[name], dict) for name in MAPS) and isinstance(settings.axes, list)
    except FileNotFoundError as error:
        raise InvalidSpec(f"{path}, the settings of {csv.name}, is not there. Run the experiment again.") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InvalidSpec(f"{path} cannot be read as the settings of {csv.name} ({error}). Write it again.") from error
    if form != SETTINGS or not right:
        raise InvalidSpec(f"{path} is not of format {SETTINGS}, which this version reads. Run the experiment again.")
    if settings.stem != csv.stem:
        raise InvalidSpec(f"{path} is of the table {settings.stem}, not of {csv.name}. Run {csv.stem} itself.")
    if sealed != settings.digest():
        raise InvalidSpec(f"{path} was changed: its digest is another. Restore it, or run the experiment again.")
    for name, table in tables_of(csv).items():
        if settings.tables.get(name) != digest(table):
            raise InvalidSpec(
                f"{table} is not the table that was written with {path.name}: its digest is another. Restore it, or "
                f"run the experiment again ({settings.command or settings.stem}). To draw what you changed, copy it "
                "under another name: ablation figures COPY.csv."
            )
    return settings


def key_of(coords: Mapping[str, Any]) -> str:
    """A cell's coordinates as text, the same whatever their order and whether a table was read as text or numbers."""
    given = {axis: value for axis, value in coords.items() if value is not None and value == value}  # not missing
    return ", ".join(f"{axis}={written(given[axis])}" for axis in sorted(given))


def sized(training: Any, size: int) -> Iterator[tuple[Any, int]]:
    """The operators of a training, each with the side of the images that it is given; size: of the data set's."""
    for view in training.views:
        side = size
        for operator in (*training.shared, *view):
            yield operator, side
            side = operator.output_size(side) if hasattr(operator, "output_size") else side


def law(operator: Any, size: int) -> str:
    """The operator's card for images of `size` pixels, with the strength and p that the card leaves out."""
    card = operator.card(size)
    return ", ".join([card, *(f"{n} {v:g}" for n, v, usual in _unusual(operator) if usual.card(size) == card)])


def _unusual(operator: Any) -> Iterator[tuple[str, float, Any]]:
    """Every strength and p that is not 1, of an operator and its parts, and the operator with 1 in its place."""
    for item in dataclasses.fields(operator):
        value = getattr(operator, item.name)
        if item.name in ("strength", "p") and value != 1:
            yield item.name, value, dataclasses.replace(operator, **{item.name: 1.0})
        elif hasattr(value, "card"):
            for name, inner, usual in _unusual(value):
                yield f"{item.name} {name}", inner, dataclasses.replace(operator, **{item.name: usual})
