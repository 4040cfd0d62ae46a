"""What all figures share: style, sizes, names of values, captions from the table, references, files."""

from __future__ import annotations

import difflib
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ablation.files import write_file
from ablation.references import REFERENCES, reference_table
from ablation.specs import COMPUTED, Cell, InvalidSpec, Spec, check_labels, is_ours, written
from ablation.statistics import pooled_sd, spread, summary
from ablation.tables import LARGEST, NUMBER, digest, numbers, read_table, rounded

VALUE_NAMES = {
    "linear_test_top1_recalibrated": "linear evaluation, test top-1 (%)",
    "knn_test_top1_recalibrated": "kNN evaluation, test top-1 (%)",
    "linear_test_top1_running": "linear evaluation, running BN statistics, test top-1 (%)",
    "knn_test_top1_running": "kNN evaluation, running BN statistics, test top-1 (%)",
    "linear_validation_top1_recalibrated": "linear evaluation, validation top-1 (%)",
    "linear_train_top1_recalibrated": "linear evaluation, training top-1 (%)",
    "linear_z_test_top1_recalibrated": "linear evaluation on z, test top-1 (%)",
    "linear_z_train_top1_recalibrated": "linear evaluation on z, training top-1 (%)",
    "validation_knn": "validation kNN, running BN statistics, top-1 (%)",
    "validation_linear": "validation, linear classifier, running BN statistics, top-1 (%)",
    "contrastive_accuracy": "contrastive accuracy (fraction)",
    "contrastive_entropy": "entropy of the softmax (nats)",
}
CHOSEN_ON = "linear_validation_top1_recalibrated"
# Columns of numbers by the table they stand in, beside those of the evaluations and of a user's method.
MEASURED = {
    "": (
        "loss", "contrastive_accuracy", "contrastive_entropy", "training_accuracy", "alignment", "uniformity",
        "training_seconds", "peak_memory_bytes", "energy_joules", "epochs", "batch", "learning_rate", "weight_decay",
        "train_images", "validation_images", "test_images",
    ),
    "curves": (
        "epoch", "loss", "contrastive_accuracy", "contrastive_entropy", "training_accuracy", "validation_knn",
        "validation_linear", "learning_rate",
    ),
    "images": (
        "accuracy", "seeds", "images", "seed_sd", "image_sd", "rest_sd", "seed_error", "whole_error",
    ),
}  # fmt: skip
TRAINED_ON = (
    "{} chooses the best {!r} on validation images, which must not be trained on, but Optimization.with_validation is "
    "True. Remove best_of or with_validation."
)
HEADLINE = ("linear_test_top1_recalibrated", "knn_test_top1_recalibrated")
PAGE, COLUMN = 7.0, 3.4  # inches: what a page of two columns has, and one of its columns
TEXT, TITLE, SMALL, CELL = 7, 7.5, 6.5, 6  # points: labels, titles, captions and legends, numbers in cells
STYLE = {
    "font.size": TEXT,
    "axes.titlesize": TITLE,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a label with a $ is a label
    "pdf.fonttype": 42,  # fonts embedded as TrueType
    "svg.fonttype": "none",
    "savefig.dpi": 240,
}
MARKERS = "osD^vX<>P*h"
TAKEN = ("seed", *COMPUTED)
CHOSEN = ("epochs", "batch", "learning_rate", "weight_decay")  # numbers of a run that are not measured
TOLD = ("seed", "baseline", "state", "training", "notes", "format", "device", "torch", "kornia", "commit")  # of a run


@dataclass(frozen=True, kw_only=True)
class FigureSpec(Spec):
    """values: columns of the table, a panel each; where: only rows with these coordinates; note: a sentence for the
    caption; reference: a published table (ablation/references), drawn beside ours.

    best_of: a coordinate, such as a learning rate, of which each cell takes the value with the best mean on validation
    images (linear evaluation): the envelope. source: which table beside the results' own is drawn, as "curves".

    Figures are as wide as a column (3.4 inches) or a page (7 inches), with text of 6 to 7.5 points.
    """

    without: ClassVar[tuple[str, ...]] = ()  # which of the fields below a kind of figure cannot draw
    computed_with: ClassVar[tuple[str, ...]] = ()  # columns of numbers beside the values

    source: str = ""
    values: tuple[str, ...] = HEADLINE
    where: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    reference: str | None = None
    best_of: str | None = None

    def __post_init__(self):
        for name in ("values", "factors"):
            names = getattr(self, name, ())
            good = isinstance(names, tuple) and all(isinstance(each, str) for each in names)
            written_as = f"Write {name}=({names!r},), with a comma." if isinstance(names, str) else ""
            self.require(name, good, "be a tuple of names of columns", written_as)
        self.require("where", isinstance(self.where, Mapping), "be a mapping", "Write {'method': 'SimCLR'}.")
        coordinates = [*(() if type(self) is FigureSpec else self.axes), *self.where, self.best_of or "none"]
        if not all(isinstance(axis, str) and axis for axis in coordinates):
            raise InvalidSpec(f"{type(self).__name__} must have names of coordinates, but got {coordinates!r}.")
        self.require("reference", self.reference in (None, *REFERENCES), f"be one of {', '.join(REFERENCES)}")
        for name in self.without:
            self.require(name, getattr(self, name) is None, "be None, since this figure draws none", "Remove it.")

    @property
    def axes(self) -> tuple[str, ...]:
        """The coordinates that the figure needs."""
        raise NotImplementedError

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns of numbers that the figure shows."""
        return self.values

    def check(self, name: str, cells: Sequence[Cell]) -> None:
        """Raises InvalidSpec where the cells of an experiment, whose figure `name` this is, will not have what it
        shows: coordinates, their labels, columns. Metrics of a user's own classes are not known beforehand."""

        def refuse(field: str, wrong: Any, known: Sequence[str]) -> None:
            near = difflib.get_close_matches(str(wrong), known, 3)
            cure = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There will be {', '.join(known)}."
            raise InvalidSpec(
                f"{type(self).__name__}.{field} of Experiment.figures[{name!r}] must be in the experiment's table, but "
                f"got {wrong!r}. {cure}"
            )

        labels: dict[str, dict[str, None]] = {}
        if self.source == "images":
            labels["evaluation"] = {each.label: None for cell in cells for each in cell.run.evaluations}
        for cell in cells:
            for axis, label in cell.coords.items():
                labels.setdefault(axis, {})[written(label)] = None
        for axis, label in self.where.items():
            if axis not in labels:
                refuse("where", axis, sorted(labels))
            if written(label) not in labels[axis]:
                refuse(f"where[{axis!r}]", label, list(labels[axis]))
        if self.best_of is not None and self.best_of not in labels:
            refuse("best_of", self.best_of, sorted(labels))
        if self.best_of and any(cell.run.training.optimization.with_validation for cell in cells):
            raise InvalidSpec(TRAINED_ON.format(f"Experiment.figures[{name!r}], a {type(self).__name__}", self.best_of))
        if self.source not in MEASURED:
            refuse("source", self.source, list(MEASURED))
        known, beginnings, others = _columns(cells) if self.source == "" else (MEASURED[self.source], (), ())
        for value in (*self.shown, *([CHOSEN_ON] if self.best_of else [])):
            if value not in known and (value.startswith(beginnings) or not value.startswith(others)):
                refuse("columns" if value not in self.values else "values", value, known)
        drawn = [cell.coords for cell in cells if self._draws(cell)]
        if self.axes and drawn:
            rows = pd.DataFrame(drawn, dtype=object)
            self._one_coordinate_a_cell(rows, [axis for axis in labels if axis != "evaluation"])
            if self.source == "images" and "evaluation" not in (*self.axes, *self.where):
                self._refuse_to_average("evaluation", list(labels["evaluation"]))

    def _draws(self, cell: Cell) -> bool:
        return all(written(cell.coords.get(a)) == written(v) for a, v in self.where.items() if a != "evaluation")

    def _cell(self) -> list[str]:
        """The columns that tell one cell from another."""
        epoch = ["epoch"] if "epoch" in self.computed_with else []
        return list(dict.fromkeys([*self.axes, *([self.best_of] if self.best_of else []), *epoch]))

    def _one_coordinate_a_cell(self, rows: pd.DataFrame, coordinates: Iterable[str]) -> None:
        """Raises InvalidSpec where rows of a cell differ in more than the seed."""
        by = [axis for axis in self._cell() if axis in rows]
        cells = rows.dropna(subset=by).map(written).groupby(by, sort=False)
        for axis in coordinates:
            if axis not in (*by, *self.where, "seed") and (cells[axis].nunique(dropna=False) > 1).any():
                self._refuse_to_average(axis, labels_of(rows, axis))

    def _refuse_to_average(self, axis: str, labels: Sequence) -> None:
        if len(labels) > 1:
            shown = _list(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
            raise InvalidSpec(
                f"{type(self).__name__}.where must choose one {axis!r}, since its values ({shown}) differ inside of "
                f"cells, where they would be averaged as if they were seeds. Write where={{{axis!r}: {labels[0]!r}}} "
                f"(of your own table: --where {axis}={written(labels[0])}), let the figure show {axis!r}, or remove "
                "the column if it has nothing to do with the value."
            )

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows that are drawn, coordinates as text and values as numbers; raises InvalidSpec where the table cannot
        be drawn."""
        self._names()
        coordinates = dict.fromkeys([*self.axes, *self.where, *([self.best_of] if self.best_of else [])])
        need(self, table, list(coordinates))
        table = table.assign(**{axis: table[axis].map(written, na_action="ignore") for axis in coordinates})
        for axis in coordinates:
            check_labels(axis, labels_of(table, axis))
        measured = [*self.shown, *self.computed_with, *([CHOSEN_ON] if self.best_of else [])]
        table = numbers(table, [column for column in measured if column in table])
        for axis, value in self.where.items():
            rows = table[table[axis] == written(value)]
            if rows.empty:
                raise InvalidSpec(
                    f"{type(self).__name__}.where must choose rows, but no {axis} is {value!r}; there are "
                    f"{_list(labels_of(table, axis))}."
                )
            table = rows
        need(self, table, [*self.axes, *self.values])
        if self.axes:
            others = [each for each in table if each in self._cell() or each not in measured]
            self._one_coordinate_a_cell(table, _coordinates(table[others], self._cell()))
        for value in self.values:
            runs = table.dropna(subset=list(self.axes))[value]
            if runs.isna().all():
                raise InvalidSpec(
                    f"{type(self).__name__} must find {value!r} in at least one run with {' and '.join(self.axes)}, "
                    f"but all {len(runs)} runs are missing. Finish the experiment, or name another column."
                )
        return table

    def _names(self) -> None:
        """Raises InvalidSpec where columns cannot be told from one another, or from what is computed of them."""
        columns = [*self.axes, *self.values]
        for axis in self.axes:
            if axis in TAKEN:
                raise InvalidSpec(
                    f"{type(self).__name__} must have coordinates with names of their own, but {axis!r} is one of "
                    f"{', '.join(TAKEN)}, which stand for what is computed. Rename the column."
                )
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice or "seed" in columns:
            raise InvalidSpec(
                f"{type(self).__name__} must have a column of its own for each coordinate and value, but "
                f"{', '.join(twice) or 'seed'} stands for two. Name another."
            )

    def missing(self, table: pd.DataFrame, values: Sequence[str]) -> str:
        """Sentences on the runs without a value, and on the combinations of the axes that the table does not have,
        where there are any. Some of those may be absent on purpose, which a table cannot tell."""
        by = list(dict.fromkeys([*self.axes, *([self.best_of] if self.best_of else [])]))
        runs = table.dropna(subset=by)
        whole = math.prod(runs[axis].nunique() for axis in by)
        absent = whole - len(runs[by].drop_duplicates())
        are = f"{'is' if absent == 1 else 'are'} not in the table"
        said = f" {absent} of {whole} combinations of {' and '.join(by)} {are}." if absent else ""
        return missing_runs(table, by, values) + said

    def envelope(self, table: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, str]:
        """The rows of each cell's best value of `best_of`, and a sentence on which those are."""
        if self.best_of is None:
            return table, ""
        need(self, table, [self.best_of, CHOSEN_ON])
        if "trained_on" in table and table["trained_on"].notna().any():
            raise InvalidSpec(TRAINED_ON.format(type(self).__name__, self.best_of))
        means = summary(table, [*by, self.best_of], CHOSEN_ON)
        best = means.loc[means.groupby(by, sort=False)["mean"].idxmax(), [*by, self.best_of]]
        if len(best) > 12:
            counts = best[self.best_of].value_counts().to_dict()
            said = ", ".join(f"{written(value)} in {counts[value]} cells" for value in in_order(list(counts)))
        else:
            rows = [list(map(written, row)) for row in best.itertuples(index=False)]
            said = ", ".join(f"{' + '.join(row[:-1])} {row[-1]}" for row in rows)
        sentence = f" {self.best_of} with the best mean on validation images: {said}."
        return table.merge(best, on=[*by, self.best_of]), sentence

    def published(self, table: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame | None:
        """The reference's rows for this figure's `where`, its `axes` written as on the figure.

        Raises InvalidSpec where it lacks an axis, has no such rows, shares no label of any axis with the table, or
        belongs into no panel.
        """
        if self.reference is None:
            return None
        rule, cure = f"{type(self).__name__}.reference must", "Name another reference, or none."
        found = reference_table(self.reference)
        if not set(axes) <= set(found.columns):
            raise InvalidSpec(
                f"{rule} have the columns {', '.join(axes)}, but {self.reference} has {', '.join(found.columns)}. "
                f"{cure}"
            )
        for axis, value in self.where.items():
            if axis in found:
                rows = found[found[axis].map(written) == written(value)]
                if rows.empty:
                    raise InvalidSpec(
                        f"{rule} have rows with the {axis} {value!r} of this figure, but {self.reference} has "
                        f"{_list(labels_of(found, axis))}. {cure}"
                    )
                found = rows
        found = found.assign(**{axis: found[axis].map(written) for axis in axes})
        if not any(set(found[axis]) & set(map(written, labels_of(table, axis))) for axis in axes):
            ours, theirs = (
                "; ".join(f"{axis}: {_list(labels_of(rows, axis))}" for axis in axes) for rows in (table, found)
            )
            raise InvalidSpec(
                f"{rule} share labels with the table, but the table has {ours}; {self.reference} has {theirs}. {cure}"
            )
        if all(self.published_in(value, found) is None for value in self.values):
            raise InvalidSpec(
                f"{rule} belong into a panel, but {self.reference} is of {REFERENCES[self.reference].protocol} "
                f"evaluation on test images, and the values are {', '.join(self.values)}. {cure}"
            )
        return found

    def published_in(self, value: str, found: pd.DataFrame) -> str | None:
        """The reference's column that belongs into the panel of `value`, or None."""
        if value in found:
            return value
        parts = value.split("_")
        mine = "test" in parts and "z" not in parts and parts[0] == REFERENCES[self.reference].protocol
        return "value" if mine else None

    def sentence(self) -> str:
        return f" {REFERENCES[self.reference].sentence}" if self.reference else ""


def named(value: str) -> str:
    return VALUE_NAMES.get(value, value.replace("_", " "))


def decimals(value: str) -> int:
    """Percent and the like with one, fractions and nats with two."""
    return 1 if any(unit in value for unit in ("top", "knn", "seconds", "%")) else 2


def _columns(cells: Sequence[Cell]) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """The columns of numbers that an experiment's table will have, and beginnings of columns: those of which all are
    known, and those of a user's own classes (any beginning, "", for a method's)."""
    runs = {id(cell.run.evaluations): cell.run for cell in cells}.values()
    evaluations = {id(each): each for run in runs for each in run.evaluations}.values()
    known, closed, others = list(MEASURED[""]), [], []
    for evaluation in evaluations:
        label = getattr(evaluation, "label", type(evaluation).__name__)
        columns = evaluation.columns() if is_ours(type(evaluation)) else ()
        known += [*columns, f"{label}_seconds"]
        (closed if columns else others).append(f"{label}_")
    others += [""] * any(not is_ours(type(cell.run.training.method)) for cell in cells)
    closed = [each for each in closed if not any(other.startswith(each) for other in others)]
    return list(dict.fromkeys(known)), tuple(closed), tuple(others)


def _coordinates(rows: pd.DataFrame, by: list[str]) -> list[str]:
    """Columns that look like further coordinates of runs: words that recur, or numbers that recur from cell to cell,
    one of them in every cell. An own table does not name its coordinates. The table of an experiment was checked
    before the run, so numbers in it are ignored."""
    rows = rows.dropna(subset=by)
    cell = rows.groupby(by, sort=False).ngroup()
    measured = {*MEASURED[""], *MEASURED["images"], *MEASURED["curves"]} - set(CHOSEN)
    ours = {"training", "commit"} <= set(rows)  # in another's table a column of such a name may be anything
    told = [*measured, *TOLD, *COMPUTED] if ours else ["seed", "baseline"]
    found = []
    for column in rows.columns.difference([*by, *told], sort=False):
        labels = rows[column].dropna().map(written)
        if not labels.map(lambda label: bool(NUMBER.fullmatch(label))).all():
            found += [column] * bool(labels.duplicated().any())
        elif not ours and len(labels):
            cells = cell.groupby(labels).nunique()  # in which each number occurs
            found += [column] * bool(cells.min() > 1 and cells.max() == cell.nunique())
    return found


def need(spec: Spec, table: pd.DataFrame, columns: list[str]) -> None:
    missing = [column for column in columns if column not in table.columns or table[column].isna().all()]
    if missing:
        raise InvalidSpec(
            f"{type(spec).__name__} must find {', '.join(map(repr, missing))} in its table, but no finished row has "
            f"it; the columns are {', '.join(table.columns)}. Finish the experiment, or name one of these."
        )


def labels_of(table: pd.DataFrame, axis: str) -> list:
    """In the order of the table."""
    return list(dict.fromkeys(table[axis].dropna()))


def scale_of(labels: Sequence[str]) -> list[float] | None:
    """The labels as places on a scale, where all are different numbers in their usual spelling (1.10 is a version)."""
    usual = all(NUMBER.fullmatch(each) and each in (written(float(each)), str(float(each))) for each in labels)
    places = list(map(float, labels)) if usual else []
    return places if len(set(places)) == len(labels) and max(map(abs, places), default=0) <= LARGEST else None


def in_order(labels: Sequence[str]) -> list[str]:
    """By size where they are numbers, else by the alphabet."""
    places = scale_of(labels)
    return [label for _, label in sorted(zip(places or labels, labels, strict=True))]


def _list(labels: Sequence) -> str:
    return ", ".join(map(written, labels))


def mean_sd(mean: float, sd: float, digits: int = 1) -> str:
    return rounded(mean, digits) + (f" ± {rounded(sd, digits, mean)}" if pd.notna(sd) else "")


def kind_of_spread(table: pd.DataFrame, by: list[str], values: Sequence[str]) -> str:
    """Which spread intervals and marks are from; "" where none is known, as from one seed."""
    found = [spread(table, by, value) for value in values]
    moderated = {each.moderated for each in found if each.freedom > 0}
    if len(moderated) == 2:
        return "pooled over cells, moderated in the panels whose cells differ in it"
    return {False: "pooled over cells", True: "moderated, as cells differ in it"}[moderated.pop()] if moderated else ""


def colors_of(names: list) -> dict:
    """Told apart by color-blind readers; markers and dashes tell them apart in grey."""
    palette = sns.color_palette("colorblind", max(1, len(names)))
    return dict(zip(names, palette, strict=False))


def marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def caption(table: pd.DataFrame, by: list[str], values: Sequence[str], note: str, missing: str = "") -> str:
    """What the numbers are, from the table itself; `missing`: what FigureSpec.missing says of it."""
    cells = table.dropna(subset=by)
    done = cells.dropna(subset=list(values), how="all")

    def only(column: str) -> str:
        found = list(dict.fromkeys(map(written, done[column].dropna()))) if column in done else []
        return ", ".join(found) if len(found) <= 4 else f"{', '.join(found[:3])} and {len(found) - 3} more"

    n = sorted({int(x) for value in values for x in summary(cells, by, value)["n"]})
    seeds = f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"
    several = "mean ± sample standard deviation over seeds" if n[-1] > 1 else "one seed, so no spread is known"
    text = f"{_what(done, only)}{seeds}, {several}"
    if n[-1] > 1:
        sds = ", ".join(rounded(pooled_sd(cells, by, v), decimals(v), cells[v].abs().max()) for v in values)
        text += f" (pooled over cells: {sds})"
    text += ". Batch-norm statistics recalibrated on clean training images." if "recalibrated" in values[0] else "."
    text += missing + _baselines(table, by, values)
    return f"{text} {note}".strip()


def missing_runs(table: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> str:
    """A sentence on the rows without a value, where there are any."""
    runs = table.dropna(subset=list(by))
    lacking = len(runs) - len(runs.dropna(subset=list(values)))
    return f" {lacking} of {len(runs)} runs are missing." if lacking else ""


def _what(done: pd.DataFrame, only: Callable[[str], str]) -> str:
    """Data, method, encoder and length, of those that the table tells: one's own table may tell none, or other things
    in columns of these names."""
    images = [
        f"{_range(counts)} {split}" for split in ("train", "validation", "test")
        if (counts := _numbers(done, f"{split}_images"))
    ]  # fmt: skip
    counted = f"{' + '.join(images)} images" if images else ""
    if "trained_on" in done and done["trained_on"].notna().any():
        counted += ", those of validation trained on too, so that nothing may be chosen on them"
    data = only("dataset")
    parts = [f"{data} ({counted})" if data and counted else data or counted, only("method"), only("encoder")]
    parts += [_optimizers(done), only("precision")]
    trained = [f"{epochs:g}" for epochs in _numbers(done, "epochs") if epochs > 0]
    if trained:
        parts += [f"{', '.join(trained)} epochs, last epoch"]
    said = ", ".join(part for part in parts if part)
    shared = only("shared")
    return "".join(f"{part}; " for part in (said, f"shared crop before the branches: {shared}" * bool(shared)) if part)


def _optimizers(done: pd.DataFrame) -> str:
    """ "AdamW at rate 0.009, weight decay 1e-06, warm-up 0.1, cosine", and of each method where they differ; "" for a
    table that does not tell."""
    if not {"optimizer", "learning_rate"} <= set(done):
        return ""
    found: dict[str, list[str]] = {}
    trained = done.dropna(subset=["optimizer", "learning_rate"])
    for method, rows in trained.groupby("method", sort=False) if "method" in trained else [("", trained)]:
        rates = _numbers(rows, "learning_rate")
        if rates:
            reach = f"{min(rates):g}" + (f" to {max(rates):g}" if max(rates) > min(rates) else "")
            optimizers = " and ".join(map(str, dict.fromkeys(rows["optimizer"])))
            decays = " and ".join(f"{decay:g}" for decay in _numbers(rows, "weight_decay"))
            schedules = " and ".join(map(str, rows["schedule"].dropna().unique())) if "schedule" in rows else ""
            said = [f"{optimizers} at rate {reach}", f"weight decay {decays}" * bool(decays), schedules]
            found.setdefault(", ".join(filter(None, said)), []).append(str(method))
    if len(found) < 2:
        return "".join(found)
    return ", ".join(f"{' and '.join(methods)} with {text}" for text, methods in found.items())


def _numbers(table: pd.DataFrame, column: str) -> list[float]:
    """The different finite numbers of a column, in its order; none where it is absent or in words."""
    found = pd.to_numeric(table[column], errors="coerce") if column in table else pd.Series(dtype=float)
    return list(dict.fromkeys(found[np.isfinite(found)]))


def _range(numbers: list[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,.0f}" + (f" to {high:,.0f}" if high > low else "")


def _baselines(table: pd.DataFrame, by: list[str], values: Sequence[str]) -> str:
    """The cells outside the grid, at the coordinate "baseline"."""
    if "baseline" not in table.columns or "baseline" in by:
        return ""
    found = {value: summary(table, ["baseline"], value).set_index("baseline") for value in values}
    sentences = []
    for name in table["baseline"].dropna().unique():
        shown = [
            f"{_protocol(v)} {mean_sd(rows.loc[name, 'mean'], rows.loc[name, 'sd'], decimals(v))}"
            for v, rows in found.items()
            if name in rows.index
        ]
        if shown:
            sentences.append(f" {str(name).capitalize()}: {', '.join(shown)}.")
    return "".join(sentences)


def _protocol(value: str) -> str:
    return {"knn": "kNN"}.get(value.split("_")[0], value.split("_")[0])


def inches(text: str, points: float) -> float:
    """The width of one line of text."""
    wide, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=points), ismath=False)
    return wide / 72


def folded(text: Any, width: float, points: float) -> str:
    """The text in lines that are at most `width` inches wide; whole numbers as `written`."""
    text = written(text)
    characters = max(1, min(len(text), int(180 * width / points)))  # of 0.4 em at least
    while characters > 1 and max((inches(line, points) for line in textwrap.wrap(text, characters)), default=0) > width:
        characters -= 1
    return "\n".join(textwrap.wrap(text, characters))


def panels(count: int, across: int) -> tuple[int, int, float]:
    """Rows and columns of `count` panels, and the width of their figure in inches: a page's, or a column's for one."""
    return -(-count // across), min(count, across), COLUMN if count == 1 else PAGE


def mark_missing(axis, grid: pd.DataFrame) -> None:
    """A dash on grey in each cell of a heatmap that has no number."""
    axis.set_facecolor("0.85")
    for row, column in np.argwhere(grid.isna().to_numpy()):
        axis.text(column + 0.5, row + 0.5, "–", ha="center", va="center", fontsize=CELL, color="0.25")


def write_caption(figure: Figure, text: str) -> float:
    """Below everything; returns the inches that it takes."""
    lines = folded(text, 0.94 * figure.get_figwidth(), SMALL)
    figure.supxlabel("\n" + lines, fontsize=SMALL, ha="left", x=0.01, color="0.25", linespacing=1.2)
    return 1.25 * SMALL / 72 * (lines.count("\n") + 2)


def write_legend(figure: Figure, handles: Mapping[str, Any], title: str | None = None) -> float:
    """Above the panels, in as many columns as fit; returns the inches that it takes. handles: by label."""
    if not handles:
        return 0.0
    labels = [folded(label, figure.get_figwidth() - 0.6, SMALL) for label in handles]
    widest = max(inches(line, SMALL) for label in labels for line in label.splitlines())
    rows = -(-len(labels) // max(1, int((figure.get_figwidth() - 0.1) / (widest + 0.5))))
    columns = -(-len(labels) // rows)
    figure.legend(
        handles.values(), labels, loc="outside upper center", ncols=columns, frameon=False, title=title,
        borderaxespad=0.2, columnspacing=1.2, handlelength=2.4, labelspacing=0.3,
    )  # fmt: skip
    return 1.6 * SMALL / 72 * (rows + (title is not None)) + 0.1


def rehearse(figures: Mapping[str, FigureSpec], cells: Sequence[Cell]) -> None:
    """Raises InvalidSpec where a figure could not be drawn of these cells, whatever is measured: from made-up numbers,
    one seed each, before anything is computed."""
    places = dict.fromkeys(tuple((a, v) for a, v in cell.coords.items() if a != "seed") for cell in cells)
    rows = pd.DataFrame([{"seed": 0, **dict(place)} for place in places], dtype=object)
    for name, figure in figures.items():
        if not isinstance(figure, FigureSpec):
            continue
        made_up = dict.fromkeys((*figure.shown, *figure.computed_with, CHOSEN_ON), np.arange(len(rows), dtype=float))
        table = rows.assign(**{axis: label for axis, label in figure.where.items() if axis == "evaluation"})
        try:
            figure.text(table.assign(**{column: held for column, held in made_up.items() if column not in rows}))
        except InvalidSpec as error:
            raise InvalidSpec(f"Experiment.figures[{name!r}] could not be drawn: {error}") from error


def table_of(figure: FigureSpec, csv: Path) -> Path:
    """The table beside `csv` that a figure is drawn from."""
    return csv.with_name(f"{csv.stem}-{figure.source}.csv") if figure.source else csv


def draw_all(
    figures: Mapping[str, FigureSpec], csv: Path, read: Callable[[Path], pd.DataFrame] = read_table
) -> tuple[list[Path], str, list[str]]:
    """Draws the figures of a table beside it: what was drawn, the same as text, and a sentence for each that could not
    be drawn, which does not stop the others."""
    paths, texts, wrong = [], [], []
    for name, figure in figures.items():
        try:
            source = table_of(figure, csv)
            table = read(source)  # figures show what the file holds, so that they can be drawn from it again
            paths += save(figure.draw(table), csv.with_name(f"{csv.stem}-{name}"), digest(source))
            texts.append(figure.text(table))
        except Exception as error:  # also of a user's own class of figures
            plt.close("all")
            wrong.append(f"the figure {name!r} of {csv} is not drawn: {cause(error)}")
    return paths, "\n\n".join(filter(None, texts)), wrong


def cause(error: Exception) -> str:
    """An error in one sentence: a user's class may raise any."""
    return str(error) if isinstance(error, (InvalidSpec, OSError)) else f"{type(error).__name__}: {error}"


def save(figure: Figure, stem: Path, source: str = "") -> list[Path]:
    """Writes PNG and PDF, without the moment of drawing, so that the same table gives the same files.

    source: the digest of that table, kept in both files; a picture without a table, which may hold photographs, keeps
    all its colors, one of a table the 256 that it needs: a third of the bytes.
    """
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]
    kept = {"Keywords": source} if source else {}
    png, pdf = io.BytesIO(), io.BytesIO()
    try:
        with plt.rc_context(STYLE):
            figure.savefig(png, format="png", metadata={"Software": None})
            figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, **kept})
    finally:
        plt.close(figure)
    if source:
        texts = PngInfo()
        texts.add_text("Keywords", source)
        with Image.open(png) as picture:
            resolution = picture.info["dpi"]
            small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        png = io.BytesIO()
        small.save(png, "PNG", pnginfo=texts, dpi=resolution, optimize=True)
    for path, content in zip(paths, (png, pdf), strict=True):
        write_file(path, content.getvalue())
    return paths
