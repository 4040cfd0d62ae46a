"""A table of figures/ for a report: each method returns text, or an element of the report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup
from scipy import stats

from ablation.analysis import statistics
from ablation.analysis.references import reference_table
from ablation.analysis.tables import numbers, rounded
from ablation.plots import HEADLINE
from ablation.report.elements import Cells, ClickableHeatmap, Record
from ablation.report.latex import cells, markdown
from ablation.report.values import Figures, current
from ablation.spec import InvalidSpec, Measures, written
from ablation.spec.metric import CHOSEN_ON, Metric

VALUES = {"linear": HEADLINE[0], "knn": HEADLINE[1]}
PAIR = ("first", "second")
Coordinates = dict[str, Any]


class Table:
    """A table by its name without ".csv", such as Table("pairwise-cifar10-small", cell=("first", "second")).

    cell: the coordinates of a cell. figures: the table's folder (default: that of the report). In all methods `value`
    is a column, or "linear" or "knn" for test top-1 with recalibrated batch-norm statistics; keyword arguments select
    rows by their coordinates; best_of="rate" takes for each cell the rate with the best mean on validation images.
    """

    def __init__(self, name: str, cell: Sequence[str] = (), figures: Figures | None = None):
        self.name, self.cell, self.figures = name, tuple(cell), figures or current()
        self.coordinates: Coordinates = {}
        self._spreads: dict[tuple, tuple] = {}
        self.figures.table(name)

    def where(self, **coordinates: Any) -> Table:
        """The same table, restricted to these coordinates in every method."""
        narrow = Table(self.name, self.cell, self.figures)
        narrow.coordinates, narrow._spreads = self.coordinates | coordinates, self._spreads
        return narrow

    def mean(self, value: str, digits: int = 1, **where: Any) -> str:
        """ "41.8 ± 2.2", mean and sample standard deviation over the chosen rows."""
        values = self._values(value, where)
        spread = f" ± {rounded(values.std(ddof=1), digits, values.mean())}" if len(values) > 1 else ""
        return f"{rounded(values.mean(), digits)}{spread}"

    def largest(self, value: str, digits: int = 1, **where: Any) -> str:
        """The largest of the chosen rows; of noisy values it is biased upwards."""
        return rounded(self._values(value, where).max(), digits)

    def count(self, **where: Any) -> int:
        """The number of the chosen rows."""
        return len(self._chosen(where))

    def gap(
        self, value: str, one: Coordinates | list[Coordinates], other: Coordinates | list[Coordinates],
        digits: int = 1, best_of: str | None = None,
    ) -> str:  # fmt: skip
        """ "3.1 (95 %: 1.0 to 5.2)", one cell minus another. The spread is pooled over all cells of the table.

        Coordinates of several cells, or a list, give the mean of the cells with equal weights.
        """
        return self._gap(value, one, other, digits, best_of)

    def change(self, value: str, one: Coordinates, other: Coordinates, before: Coordinates, after: Coordinates) -> str:
        """How a difference changes: one minus other at the coordinates `after`, minus the same at `before`."""
        gained, lost = [one | after, other | before], [other | after, one | before]
        return self._gap(value, gained, lost, times=2)  # of means of two cells

    def _gap(
        self, value: str, one: Coordinates | list[Coordinates], other: Coordinates | list[Coordinates],
        digits: int = 1, best_of: str | None = None, times: int = 1,
    ) -> str:  # fmt: skip
        column, by = VALUES.get(value, value), [axis for axis in self._cell() if axis != best_of]
        if (column, best_of) not in self._spreads:
            table = self._rows({}, by, best_of, column, narrow=False)
            self._spreads[column, best_of] = table, statistics.spread(table, by, column)
        table, spread = self._spreads[column, best_of]

        def cells_at(side: Coordinates | list[Coordinates]) -> pd.DataFrame:
            sides = [side] if isinstance(side, dict) else side
            return pd.concat([self._at(spread.cells, self.coordinates | each, "cell") for each in sides])

        found = statistics.difference_of_groups(spread, table, column, cells_at(one), cells_at(other))
        if pd.isna(found["low"]):
            return f"{rounded(times * found['difference'], digits)} (no interval: no cell has two seeds)"
        return _with_interval(*(times * found[name] for name in ("difference", "low", "high")), digits)

    def paired(self, value: str, axis: str, one: str, other: str, digits: int = 1, **where: Any) -> str:
        """ "3.1 (95 %: 1.0 to 5.2)", the difference of two cells that share their seeds, paired by seed."""
        column = VALUES.get(value, value)
        found = statistics.paired(self._chosen(where, column), axis, column, written(one), written(other))
        return _with_interval(found["difference"], found["low"], found["high"], digits)

    def against(self, value: str, axis: str, control: str, digits: int = 1, **where: Any) -> list[Record]:
        """Each label of an axis minus the label `control`, the largest difference first: label, difference, effect.

        difference: "3.1 (95 %: 1.0 to 5.2)", where all intervals hold together (Dunnett). effect: "gain" or "loss", or
        "none" if the interval includes 0.
        """
        column = VALUES.get(value, value)
        found = statistics.against_control(self._chosen(where, column), axis, column, written(control))
        return [
            Record(
                label=row.label,
                difference=_with_interval(row.difference, row.low, row.high, digits),
                effect="gain" if row.low > 0 else "loss" if row.high < 0 else "none",
            )
            for row in found.rename(columns={axis: "label"}).sort_values("difference", ascending=False).itertuples()
        ]

    def two_way(self, value: str, rows: str, columns: str, digits: int = 1, **where: Any) -> Record:
        """How far two crossed coordinates move a value (`statistics.two_way`): rows, columns, interaction, each
        "4.2 (95 %: 3.5 to 5.0)", the standard deviation of the true effects; seeds, that of a run over seeds; cells,
        their number; apart, the number of those whose interaction is not 0, by intervals that hold together."""
        column = VALUES.get(value, value)
        found = statistics.two_way(self._chosen(where, column), rows, columns, column)
        parts = found.components.set_index("component")
        spreads = {part: _with_interval(*parts.loc[part], digits) for part in ("rows", "columns", "interaction")}
        seeds = rounded(parts.loc["seeds", "sd"], digits)
        return Record(spreads, seeds=seeds, cells=str(len(found.interactions)), apart=str(len(found.apart)))

    def correlations(self, value: str, group: str, by: Sequence[str], digits: int = 2, **where: Any) -> list[Record]:
        """Each pair of labels of `group`, such as methods, over the cells `by` (`statistics.grid_correlations`): one,
        other; observed, the correlation of both means; corrected, "0.93 (95 %: 0.80 to 1.00)", without the noise of
        seeds, or "not known"; p, of no interaction, adjusted for the number of pairs (Holm)."""
        column = VALUES.get(value, value)
        found = statistics.grid_correlations(self._chosen(where, column), group, by, column)
        records = []
        for row in found.itertuples():
            known = pd.notna(row.low)
            corrected = _with_interval(row.corrected, row.low, row.high, digits) if known else "not known"
            pair = {"one": row.one, "other": row.other, "observed": rounded(row.observed, digits)}
            records.append(Record(pair, corrected=corrected, p=f"{row.p_holm:.2g}"))
        return records

    def best(self, value: str, best_of: str | None = None, **where: Any) -> str:
        """The cells that are not significantly different from the best one (Hsu), best first."""
        column, by = VALUES.get(value, value), self._free(where, best_of)
        metric = self._metric(column)
        if not metric.has_a_best:
            raise InvalidSpec(f"{self.name}.best needs an accuracy, but got {column!r}. Name one.")
        lowest = metric.lowest_is_best
        found = statistics.among_best(self._rows(where, by, best_of, column), by, column, lowest=lowest)
        if found["among_best"].isna().all():
            return "not known: no cell has two seeds"
        found = found[found["among_best"].fillna(False)].sort_values("mean", ascending=lowest)
        return "; ".join(" + ".join(dict.fromkeys(str(row[axis]) for axis in by)) for _, row in found.iterrows())

    def rank(
        self, value: str, axis: str, reference: str, version: str | None = None, best_of: str | None = None,
        leave_out: Sequence[str] = (), **where: Any,
    ) -> str:  # fmt: skip
        """ "Kendall 0.60 over 6 rows, one-sided p 0.14": rank correlation with a published list.

        The p value is exact for rows that are exchangeable; for pairs, which share operators, use `agreement`.
        """
        column = VALUES.get(value, value)
        ours = statistics.summary(self._rows(where, [axis], best_of, column), [axis], column)
        ours = ours.assign(key=ours[axis].map(written))[~ours[axis].isin([written(label) for label in leave_out])]
        published = self._published(reference, version, where)
        both = ours.merge(published.assign(key=published[axis].map(written))[["key", "value"]], on="key")
        found = stats.kendalltau(both["mean"], both["value"], variant="b", alternative="greater")
        return f"Kendall {found.statistic:.2f} over {len(both)} rows, one-sided p {found.pvalue:.2g}"

    def trend(
        self, value: str, axis: str, steps: Sequence, digits: int = 1, reference: str | None = None,
        version: str | None = None, **where: Any,
    ) -> str:  # fmt: skip
        """ "0.8 (95 %: 0.2 to 1.4)", the slope in points per step over `steps`, values of an axis in order; with a
        reference also "; published 1.2", the slope of a published table over the same steps."""
        column, keys = VALUES.get(value, value), [written(step) for step in steps]
        spread = statistics.spread(self._chosen(where, column), [axis], column)
        ours = spread.cells.set_index(spread.cells[axis].map(written)).loc[keys]
        published = [0.0] * len(ours)
        if reference:
            rows = self._published(reference, version, where)
            published = list(rows.set_index(rows[axis].map(written)).loc[keys, "value"])
        line = statistics.trend(list(ours["mean"]), list(ours["error"]), spread.freedom, published)
        low, high = statistics.interval(line["slope"], line["error"], spread.freedom)
        text = _with_interval(line["slope"], low, high, digits)
        return text + (f"; published {line['reference_slope']:.{digits}f}" if reference else "")

    def agreement(
        self,
        value: str,
        reference: str | Coordinates = "simclr_figure5_pairs",
        best_of: str | None = None,
        **where: Any,
    ) -> Record:
        """The agreement of a pairwise grid with a published one, or with the grid at the coordinates `reference` of the
        same table: the fields of `statistics.Agreement`, correlations with two decimals, p values with two digits."""
        column = VALUES.get(value, value)

        def square(rows: pd.DataFrame, values: str) -> pd.DataFrame:
            rows = rows.dropna(subset=list(PAIR))
            return rows.pivot_table(index="first", columns="second", values=values, sort=False)

        ours = square(self._rows(where, list(PAIR), best_of, column), column)
        if isinstance(reference, str):
            other = square(reference_table(reference), "value")
        else:
            other = square(self._rows(reference, list(PAIR), best_of, column), column)
        return _record(statistics.agreement(ours, other))

    def calibration(self, value: str, digits: int = 2, **where: Any) -> Record:
        """The A/A test over pairs that commute in law: n, largest, ratio, p, p_smaller."""
        found = statistics.calibration(self._orders(value, where))
        return Record({name: str(number) if name == "n" else f"{number:.{digits}f}" for name, number in found.items()})

    def order(self, value: str, digits: int = 2, **where: Any) -> str:
        """A table of both orders of every pair."""
        orders = self._orders(value, where)
        floats = orders.select_dtypes("float")
        return Markup(markdown(orders.assign(**floats.map(lambda x: f"{x:.{digits}g}"))))

    def order_p(self, value: str, digits: int = 2, **where: Any) -> str:
        """The smallest p over all pairs that their order matters, adjusted for the number of pairs (Holm)."""
        return f"{self._orders(value, where)['p_holm'].min():.{digits}f}"

    def seeds(self, value: str, **where: Any) -> Record:
        """Effects of seeds on all cells: the fields of `statistics.SeedCorrelation`."""
        column = VALUES.get(value, value)
        return _record(statistics.seed_correlation(self._chosen(where, column), self._free(where), column))

    def seeds_needed(self, value: str, difference: float, **where: Any) -> str:
        """ "6 (95 %: 6 to 7)", seeds per cell that resolve a difference between two cells with 80 % power."""
        column = VALUES.get(value, value)
        spread = statistics.spread(self._chosen(where, column), self._free(where), column)
        low, needed, high = statistics.seeds_needed(difference, spread.sd, spread.freedom)
        return f"{needed} (95 %: {low} to {high})"

    def pooled(self, value: str, digits: int = 1, **where: Any) -> str:
        """The pooled standard deviation over seeds."""
        column = VALUES.get(value, value)
        return f"{statistics.pooled_sd(self._chosen(where, column), self._free(where), column):.{digits}f}"

    def images(self, column: str, evaluation: str, digits: int = 1, **where: Any) -> str:
        """A column of the table of variances over seeds and test images, such as "whole_error"."""
        rows = self._beside("images")._chosen(where | {"evaluation": evaluation}, column)
        return rounded(rows[column].mean(), digits)

    def early(self, epoch: int, digits: int = 2, **where: Any) -> str:
        """ "0.57 (95 %: 0.28 to 0.78)", Spearman's correlation of an early epoch's validation kNN with the final value
        over the trials of a search."""
        rows = self._beside("curves")._chosen(where, "epoch", "seed", "validation_knn", "value")
        found = statistics.early_agreement(rows)
        row = found[found["epoch"] == epoch].iloc[0]
        return _with_interval(row["spearman"], row["low"], row["high"], digits)

    def cells(
        self, values: dict[str, str] | Sequence[str] | None = None, by: Sequence[str] | None = None, digits: int = 1,
        best_of: str | None = None, within: Sequence[str] | None = None, **where: Any,
    ) -> Cells:  # fmt: skip
        """A table of cells, in Markdown and LaTeX: a row for each with mean ± sd, and * if it is not significantly
        different from the best (of the cells with the same columns `within`).

        values: columns by title, {"test": "linear"}, or their names (default: linear and kNN). by: the shown
        coordinates (default: those of a cell).
        """
        values = values or {"linear": "linear", "kNN": "knn"}
        values = values if isinstance(values, dict) else {value: value for value in values}
        values = {title: VALUES.get(value, value) for title, value in values.items()}
        by = list(by or self._cell())
        rows = self._rows(where, [axis for axis in by if axis != best_of], best_of, *values.values())
        found = cells(rows, by, values, digits, within, self._measures())
        seeds = [int(count) for n in found["n"] for count in str(n).split(" / ")]
        starred = any(found[title].str.endswith(" *").any() for title in values)
        return Cells(self.name, found, (min(seeds), max(seeds)), tuple(within or ()), starred)

    def heatmap(self, value: str, title: str, **where: Any) -> ClickableHeatmap:
        """A clickable pairwise grid; in report.md a line that refers to it."""
        column = VALUES.get(value, value)
        known = self.figures.table(self.name)
        seconds = ["training_seconds"] if "training_seconds" in known else []
        table = self._chosen(where, column, *seconds).dropna(subset=[*PAIR, column])
        metric = self._metric(column)
        best = statistics.among_best(table, list(PAIR), column, lowest=metric.lowest_is_best)
        best = best.set_index(list(PAIR))["among_best"]
        best = best if metric.has_a_best else best.map(lambda _: None)
        rows = [
            {
                "first": first, "second": second, "values": list(runs[column]),
                "best": None if pd.isna(best[first, second]) else bool(best[first, second]),
                "seconds": runs["training_seconds"].mean() if seconds else math.nan,
            }
            for (first, second), runs in table.groupby(list(PAIR), sort=False)
        ]  # fmt: skip
        curves = self._curves(where) if (self.figures.folder / f"{self.name}-curves.csv").is_file() else {}
        views = self.figures.folder / f"{self.name}-views.png"
        views = self.figures.path(views.name) if views.is_file() else None
        return ClickableHeatmap(title, pd.DataFrame(rows, dtype=object), curves, views)

    def _measures(self) -> Measures:
        settings = self.figures.settings(self.name)
        return settings.measures if settings else {}

    def _metric(self, column: str) -> Metric:
        return Metric.of(column, self._measures())

    def _curves(self, where: Coordinates) -> dict[tuple[str, str], list]:
        """Epoch, loss and validation kNN, means over seeds, by pair; without labels there is no kNN."""
        beside = self._beside("curves")
        names = [name for name in ("loss", "validation_knn") if name in self.figures.table(beside.name)]
        table = beside._chosen(where, "epoch", *names)
        means = table.groupby([*PAIR, "epoch"], sort=False)[names].mean().reset_index()
        means = means.reindex(columns=[*PAIR, "epoch", "loss", "validation_knn"])
        return {
            pair: [[int(row.epoch), _finite(row.loss, 4), _finite(row.validation_knn, 2)] for row in rows.itertuples()]
            for pair, rows in means.groupby(list(PAIR), sort=False)
        }

    def _beside(self, kind: str) -> Table:
        """The table of curves or of variances that lies beside this one."""
        beside = Table(f"{self.name}-{kind}", self.cell, self.figures)
        beside.coordinates = self.coordinates
        return beside

    def _cell(self) -> tuple[str, ...]:
        if not self.cell:
            raise InvalidSpec(f'{self.name} needs the coordinates of a cell. Write: Table("{self.name}", cell=(...))')
        return self.cell

    def _free(self, where: Coordinates, best_of: str | None = None) -> list[str]:
        """The coordinates of a cell that are not chosen."""
        return [axis for axis in self._cell() if axis not in (*self.coordinates, *where, best_of)]

    def _at(self, rows: pd.DataFrame, coordinates: Coordinates, kind: str) -> pd.DataFrame:
        for axis, wanted in coordinates.items():
            if axis not in rows:
                raise InvalidSpec(f"{self.name} has no column {axis!r}; its columns are {', '.join(rows.columns)}")
            rows = rows[rows[axis].map(written) == written(wanted)]
        if rows.empty:
            raise InvalidSpec(f"{self.name} has no {kind} with {coordinates}")
        return rows

    def _chosen(self, where: Coordinates, *columns: str, narrow: bool = True) -> pd.DataFrame:
        """The rows at these coordinates, with these columns as numbers."""
        table = self.figures.table(self.name)
        for column in columns:
            if column not in table:
                raise InvalidSpec(f"{self.name} has no column {column!r}; its columns are {', '.join(table.columns)}")
        return numbers(self._at(table, (self.coordinates if narrow else {}) | where, "row"), columns)

    def _values(self, value: str, where: Coordinates) -> pd.Series:
        column = VALUES.get(value, value)
        values = self._chosen(where, column)[column].dropna()
        if values.empty:
            raise InvalidSpec(f"{self.name} has no value of {value} at {where}. Finish its runs.")
        return values

    def _rows(
        self, where: Coordinates, by: list[str], best_of: str | None, *columns: str, narrow: bool = True
    ) -> pd.DataFrame:
        """The chosen rows; with best_of only each cell's best value of that coordinate, by validation images."""
        table = self._chosen(where, *columns, *([CHOSEN_ON] if best_of else []), narrow=narrow)
        return statistics.envelope(table, by, best_of)[0] if best_of else table

    def _orders(self, value: str, where: Coordinates) -> pd.DataFrame:
        column = VALUES.get(value, value)
        settings = self.figures.settings(self.name)
        commuting = settings.commuting() if settings else frozenset()
        return statistics.order_effects(self._chosen(where, column).dropna(subset=list(PAIR)), column, commuting)

    def _published(self, reference: str, version: str | None, where: Coordinates) -> pd.DataFrame:
        """The rows of a published table at those of these coordinates that it has."""
        rows = reference_table(reference)
        for axis, wanted in {**self.coordinates, **where, **({"version": version} if version else {})}.items():
            if axis in rows:
                rows = rows[rows[axis].map(written) == written(wanted)]
        return rows


def _record(result: Any) -> Record:
    """The fields of a dataclass of numbers as text: counts, p values with two digits, others with two decimals."""
    fields = dataclasses.asdict(result).items()
    return Record(
        {
            name: str(n) if isinstance(n, int) else f"{n:.2g}" if name.split("_")[-1] == "p" else f"{n:.2f}"
            for name, n in fields
        }
    )


def _with_interval(value: float, low: float, high: float, digits: int) -> str:
    largest = max(map(abs, (value, low, high)))
    if 1e-12 < largest < 0.5 * 10**-digits:  # all three would be 0
        digits = 1 - math.floor(math.log10(largest))
    value, low, high = (round(number, digits) + 0.0 for number in (value, low, high))  # + 0.0: no "-0.0"
    return f"{value:.{digits}f} (95 %: {low:.{digits}f} to {high:.{digits}f})"


def _finite(value: float, digits: int) -> float | None:
    """For JSON, which has no not-a-number."""
    return round(float(value), digits) if math.isfinite(value) else None
