"""The base class of figures: fields, checks against an experiment and a table, the envelope, the reference's rows."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ablation.analysis.references import REFERENCES, reference_table
from ablation.analysis.statistics import envelope, summary
from ablation.analysis.tables import numbers
from ablation.plots.caption import are, mean_sd, missing_runs, seeds_in, seeds_said
from ablation.plots.caption import caption as caption_of
from ablation.plots.columns import columns_of, coordinates_in, in_order, labels_of, listed, need
from ablation.plots.layout import STYLE, TEXT, TITLE, blank, folded, panels, write_caption
from ablation.spec import COMPUTED, HEADLINE, Cell, InvalidSpec, Measures, Metric, Spec, check_labels, written
from ablation.spec.metric import CHOSEN_ON, MEASURED
from ablation.system.terminal import many

TRAINED_ON = (
    "{} chooses the best {!r} on validation images, which must not be trained on, but Optimization.with_validation is "
    "True. Remove best_of or with_validation."
)
TAKEN = ("seed", *COMPUTED)
OPTIONAL = ("reference", "best_of", "highest_is_best", "cmap")


@dataclass(frozen=True, kw_only=True)
class FigureSpec(Spec):
    """A figure of a table. It draws only what the table holds, and trains nothing.

    Content:
    values: columns of numbers, one panel each. where: only rows with these coordinates. source: a table beside the
    results' own, such as "curves". reference: a published table (ablation/analysis/references), drawn beside ours.
    best_of: a coordinate, such as a learning rate; each cell takes its value with the best mean on validation images
    (linear evaluation): the envelope. highest_is_best: whether to mark the cells that may have the highest value; None:
    the best of accuracies, and of metrics whose best value an evaluation states. measures: these statements, of the
    settings beside the table.

    Appearance:
    caption: below the picture; True: a line on seeds and marks, False: nothing, or your own text. The whole caption is
    always in a file beside the picture; note is a sentence for it. labels: names of axes, of their values and of
    columns on the figure, {"strength": "color strength"}; titles: of the panels, by column. cmap: a Matplotlib color
    map. width: inches (default: a column, 3.4, or a page, 7). math: labels and titles may hold LaTeX mathematics,
    r"$\\tau$"; else a dollar is a dollar.
    """

    supports: ClassVar[tuple[str, ...]] = ()  # which of OPTIONAL this kind of figure draws
    computed_with: ClassVar[tuple[str, ...]] = ()  # columns of numbers beside the values

    source: str = ""
    values: tuple[str, ...] = HEADLINE
    where: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    reference: str | None = None
    best_of: str | None = None
    highest_is_best: bool | None = None
    measures: Measures = field(default_factory=dict)
    caption: bool | str = True
    labels: Mapping[Any, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    cmap: str | None = None
    width: float | None = None
    math: bool = False

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
        self._check_looks()
        for name in set(OPTIONAL) - set(self.supports):
            self.require(name, getattr(self, name) is None, "be None, since this figure draws none", "Remove it.")

    def _check_looks(self) -> None:
        self.require("caption", isinstance(self.caption, (bool, str)), "be True, False or a text")
        for name, example in (("labels", "{'crop': 'random crop'}"), ("titles", "{'loss': 'training'}")):
            given = getattr(self, name)
            good = isinstance(given, Mapping) and all(isinstance(text, str) for text in given.values())
            self.require(name, good, "be a mapping to texts", f"Write {name}={example}.")
        if self.cmap is not None and self.cmap not in matplotlib.colormaps:
            near = difflib.get_close_matches(str(self.cmap), list(matplotlib.colormaps), 3)
            self.require("cmap", False, "be a color map of Matplotlib", f"Try {', '.join(near or ['viridis'])}.")
        if self.width is not None:
            self.require_number("width", 1, 40)

    def draw(self, table: pd.DataFrame) -> Figure:
        """A Matplotlib figure. Raises InvalidSpec if the table cannot be drawn."""
        rows = self.rows_of(table)
        with plt.rc_context(STYLE | {"text.parse_math": self.math}):
            return self.plot(rows)

    def plot(self, rows: pd.DataFrame) -> Figure:
        """Of the rows that `rows_of` gives. It is called in the suite's style; `below` writes the line."""
        raise NotImplementedError(f"{type(self).__name__} must define plot(self, rows)")

    def text(self, table: pd.DataFrame) -> str:
        """The same numbers for a terminal, and the caption; by default mean and standard deviation over seeds of each
        cell of `axes`. Before a run it is called with invented numbers. Raises InvalidSpec if the table cannot be
        drawn."""
        rows, columns = self.rows_of(table), {}
        for value in self.values:
            digits = self.measured(value).digits
            cells = summary(rows, list(self.axes), value).set_index(list(self.axes))
            columns[self.metric(value)] = pd.Series(
                [mean_sd(cell["mean"], cell["sd"], digits) for _, cell in cells.iterrows()], index=cells.index
            )
        return f"{pd.DataFrame(columns).fillna('-').rename(index=written).to_string()}\n\n{self.describe(rows)}"

    def full_caption(self, table: pd.DataFrame) -> str:
        """The whole caption, for a paper: data, method, seeds, spread, the method of the intervals, missing runs.
        Raises InvalidSpec if the table cannot be drawn."""
        return self.describe(self.rows_of(table))

    def describe(self, rows: pd.DataFrame) -> str:
        """The whole caption."""
        if not self.axes:
            return self.note
        return caption_of(rows, list(self.axes), self.values, self.note, self.missing(rows, self.values), self.measures)

    def line(self, rows: pd.DataFrame) -> str:
        """The default line below the picture: the number of seeds, and the meaning of the marks."""
        return f"{seeds_said(seeds_in(rows, list(self.axes), self.values))}." if self.axes else ""

    def below(self, figure: Figure, rows: pd.DataFrame) -> float:
        """Writes the `caption` below the panels; returns its height in inches."""
        text = self.caption if isinstance(self.caption, str) else self.line(rows) if self.caption else ""
        return write_caption(figure, text)

    def forest(
        self, rows: pd.DataFrame, labels: Sequence[str], estimates: Sequence[tuple[pd.DataFrame, str]], panel: Callable
    ) -> Figure:
        """Estimates in points with intervals, a line per label and a panel for each of `values`. estimates: of each
        panel, with what they measure; panel(axis, estimates) draws them."""
        down, across, width = panels(len(self.values), 2, self.width)
        lines = [folded(label, 1.6, TEXT) for label in labels]
        height = down * (0.15 * sum(line.count("\n") + 1 for line in lines) + 0.7)
        figure, axs = plt.subplots(
            down, across, figsize=(width, height), squeeze=False, layout="constrained", sharey=True
        )
        for axis, value, (found, measured) in zip(axs.flat, self.values, estimates, strict=False):
            panel(axis, found)
            unit = self.measured(value).unit_of_differences
            measured += f" ({unit})" if unit else ""
            axis.set_xlabel(folded(measured, (width - 1.5) / across - 0.1, TEXT))
            axis.set_title(folded(self.title(value), (width - 1.5) / across - 0.1, TITLE))
        blank(axs, len(self.values))
        axs[0][0].set_yticks(range(len(lines)), lines)
        axs[0][0].set_ylim(len(lines) - 0.4, -0.6)
        figure.set_figheight(height + self.below(figure, rows))
        return figure

    def label(self, name: Any) -> str:
        """The name on the figure of an axis, one of its values or a column."""
        given = {written(key): text for key, text in self.labels.items()}
        return given.get(written(name), written(name))

    def metric(self, value: str) -> str:
        """The name of a column of numbers on an axis, with its unit."""
        return self.labels.get(value) or self.measured(value).label

    def measured(self, value: str) -> Metric:
        """What a column of numbers measures."""
        return Metric.of(value, self.measures)

    def title(self, value: str, usual: str = "") -> str:
        return self.titles.get(value, usual)

    @property
    def axes(self) -> tuple[str, ...]:
        """The coordinates that the figure needs."""
        raise NotImplementedError

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns of numbers that the figure shows."""
        return self.values

    @property
    def own_labels(self) -> tuple[str, ...]:
        """Labels of the figure that are not in the table, such as that of an average."""
        return ()

    def check(self, name: str, cells: Sequence[Cell]) -> None:
        """Raises InvalidSpec if the cells of an experiment will lack coordinates, labels or columns of its figure
        `name`. Metrics of a user's own classes are not known in advance."""

        def refuse(field: str, wrong: Any, known: Sequence[str]) -> None:
            near = difflib.get_close_matches(str(wrong), known, 3, cutoff=0.85 if field == "values" else 0.6)
            begun = [each for each in known if each.startswith(str(wrong))]
            near = near or (begun if len(begun) <= 3 else [])
            cure = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There will be {', '.join(known)}."
            if field == "values" and not near and (usual := [each for each in HEADLINE if each in known]):
                cure = f"The usual accuracies are {' and '.join(usual)}. {cure}"
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
        known, beginnings, others = columns_of(cells, self.source)
        for value in (*self.shown, *([CHOSEN_ON] if self.best_of else [])):
            if value not in known and (value.startswith(beginnings) or not value.startswith(others)):
                refuse("columns" if value not in self.values else "values", value, known)
        columns = [*self.shown, *([self.best_of] if self.best_of else [])]
        names = [*labels, *(label for each in labels.values() for label in each), *columns, *self.own_labels]
        for name in map(written, self.labels):
            if name not in names:
                refuse("labels", name, names)
        for value in self.titles:
            if value not in self.shown:
                refuse("titles", value, self.shown)
        drawn = [cell.coords for cell in cells if self._draws(cell)]
        if self.axes and drawn:
            rows = pd.DataFrame(drawn, dtype=object)
            self._one_coordinate_a_cell(rows, [axis for axis in labels if axis in rows])
            if self.source == "images" and "evaluation" not in (*self.axes, *self.where):
                self._refuse_to_average("evaluation", list(labels["evaluation"]))

    def marks(self, value: str) -> bool:
        """Whether the cells that may have the best value are marked."""
        known = self.measured(value)
        best = known.highest_is_best is True or known.lowest_is_best
        return best if self.highest_is_best is None else self.highest_is_best

    def lowest(self, value: str) -> bool:
        """Whether the lowest value is the best."""
        return self.highest_is_best is None and self.measured(value).lowest_is_best

    def _draws(self, cell: Cell) -> bool:
        return all(written(cell.coords.get(a)) == written(v) for a, v in self.where.items() if a != "evaluation")

    def _cell(self) -> list[str]:
        """The columns that tell one cell from another."""
        epoch = ["epoch"] if "epoch" in self.computed_with else []
        return list(dict.fromkeys([*self.axes, *([self.best_of] if self.best_of else []), *epoch]))

    def _one_coordinate_a_cell(self, rows: pd.DataFrame, coordinates: Iterable[str]) -> None:
        """Raises InvalidSpec if rows of a cell differ in more than the seed."""
        by = [axis for axis in self._cell() if axis in rows]
        cells = rows.dropna(subset=by).map(written).groupby(by, sort=False)
        for axis in coordinates:
            if axis not in (*by, *self.where, "seed") and (cells[axis].nunique(dropna=False) > 1).any():
                self._refuse_to_average(axis, labels_of(rows, axis))

    def _refuse_to_average(self, axis: str, labels: Sequence) -> None:
        if len(labels) > 1:
            shown = listed(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
            raise InvalidSpec(
                f"{type(self).__name__}.where must choose one {axis!r}, since its values ({shown}) differ within "
                f"cells and would be averaged as if they were seeds. Write where={{{axis!r}: {labels[0]!r}}} "
                f"(for your own table: --where {axis}={written(labels[0])}), let the figure show {axis!r}, or remove "
                "the column if it does not affect the value."
            )

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows to draw, with coordinates as text and values as numbers. Raises InvalidSpec if the table cannot be
        drawn."""
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
                    f"{listed(labels_of(table, axis))}."
                )
            table = rows
        need(self, table, [*self.axes, *self.values])
        if self.axes:
            others = [each for each in table if each in self._cell() or each not in measured]
            self._one_coordinate_a_cell(table, coordinates_in(table[others], self._cell()))
        for value in self.values:
            runs = table.dropna(subset=list(self.axes))[value]
            if runs.isna().all():
                raise InvalidSpec(
                    f"{type(self).__name__} must find {value!r} in at least one run with {' and '.join(self.axes)}, "
                    f"but all {len(runs)} runs are missing. Finish the experiment, or name another column."
                )
        return table

    def _names(self) -> None:
        """Raises InvalidSpec if two columns have the same name, or one has the name of a statistic."""
        columns = [*self.axes, *self.values]
        for axis in self.axes:
            if axis in TAKEN:
                raise InvalidSpec(
                    f"{type(self).__name__} must not use the name of a computed column for a coordinate, but {axis!r} "
                    f"is one of {', '.join(TAKEN)}. Rename the column."
                )
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice or "seed" in columns:
            raise InvalidSpec(
                f"{type(self).__name__} must use a different column for each coordinate and value, but uses "
                f"{', '.join(twice) or 'seed'} twice. Name another."
            )

    def missing(self, table: pd.DataFrame, values: Sequence[str]) -> str:
        """Sentences on runs without a value, and on combinations of the axes that the table lacks, perhaps on purpose;
        "" if nothing is missing."""
        by = list(dict.fromkeys([*self.axes, *([self.best_of] if self.best_of else [])]))
        runs = table.dropna(subset=by)
        whole = math.prod(runs[axis].nunique() for axis in by)
        absent = whole - len(runs[by].drop_duplicates())
        by_name = " and ".join(map(self.label, by))
        sentence = f" {absent} of {whole} combinations of {by_name} {are(absent)} not in the table." if absent else ""
        return missing_runs(table, by, values) + sentence

    def envelope(self, table: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, str]:
        """The rows of each cell's best value of `best_of`, and a sentence that names these values."""
        if self.best_of is None:
            return table, ""
        need(self, table, [self.best_of, CHOSEN_ON])
        chosen, best = envelope(table, by, self.best_of)
        if len(best) > 12:
            counts = best[self.best_of].value_counts().to_dict()
            choices = ", ".join(f"{self.label(v)} in {many(counts[v], 'cell')}" for v in in_order(list(counts)))
        else:
            rows = [list(map(self.label, row)) for row in best.itertuples(index=False)]
            choices = ", ".join(f"{' + '.join(row[:-1])} {row[-1]}" for row in rows)
        name = self.label(self.best_of)
        sentence = f" {name[:1].upper()}{name[1:]} with the best mean on validation images: {choices}."
        return chosen, sentence

    def published(self, table: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame | None:
        """The reference's rows for this figure's `where`, its `axes` as text.

        Raises InvalidSpec if the reference lacks an axis, has no such rows, shares no label with the table, or fits no
        panel.
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
                        f"{listed(labels_of(found, axis))}. {cure}"
                    )
                found = rows
        found = found.assign(**{axis: found[axis].map(written) for axis in axes})
        if not any(set(found[axis]) & set(map(written, labels_of(table, axis))) for axis in axes):
            ours, theirs = (
                "; ".join(f"{axis}: {listed(labels_of(rows, axis))}" for axis in axes) for rows in (table, found)
            )
            raise InvalidSpec(
                f"{rule} share labels with the table, but the table has {ours}; {self.reference} has {theirs}. {cure}"
            )
        if all(self.published_in(value, found) is None for value in self.values):
            raise InvalidSpec(
                f"{rule} fit a panel, but {self.reference} is a {REFERENCES[self.reference].protocol} evaluation on "
                f"test images, and the values are {', '.join(self.values)}. {cure}"
            )
        return found

    def published_in(self, value: str, found: pd.DataFrame) -> str | None:
        """The reference's column for the panel of `value`, or None."""
        if value in found:
            return value
        metric, protocol = self.measured(value), REFERENCES[self.reference].protocol
        mine = (metric.split, metric.evaluation) == ("test", protocol) or value == f"test_{protocol}_k200_maximum"
        return "value" if mine else None

    def sentence(self) -> str:
        return f" {REFERENCES[self.reference].sentence}" if self.reference else ""
