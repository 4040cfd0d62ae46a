"""What a marker of the report may say: numbers, cells and pictures, each from a table by name.

In the expressions `name` is a table of the figures' folder without its ending, `value` a column or its short name
("linear", "knn"), and keyword arguments choose rows by their coordinates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from ablation import statistics
from ablation.plots import HEADLINE
from ablation.plots.base import FigureSpec
from ablation.plots.trials import Rungs
from ablation.references import reference_table
from ablation.specs import InvalidSpec
from ablation.tables import cells, in_markdown, markdown, read_table

VALUES = {"linear": HEADLINE[0], "knn": HEADLINE[1]}


class Markers:
    """The functions of a report's markers, over the folder of its tables and figures."""

    NAMES = (
        "mean", "largest", "count", "gap", "best", "rank", "trend", "agreement", "calibration", "order", "seeds",
        "images", "seeds_needed", "pooled", "cells", "figure", "heatmap", "paired", "early",
    )  # fmt: skip

    def __init__(self, source: Path, figures: Path):
        self.source, self.figures = source, figures
        self.used: set[Path] = set()  # tables and pictures that the last rendering read
        self.kept: dict[str, Any] = {}  # by what was asked: the same is asked often, and takes a while
        self.shown: list[tuple[str, pd.DataFrame, str]] = []  # its tables: name, cells, seeds

    def table(self, name: str) -> pd.DataFrame:
        path = self.figures / f"{name}.csv"
        self.used.add(path)
        return read_table(path)

    def chosen(self, name: str, coordinates: dict[str, Any]) -> pd.DataFrame:
        table = self.table(name)
        for axis, wanted in coordinates.items():
            if axis not in table:
                raise InvalidSpec(f"{name} has no coordinate {axis!r}; its columns are {', '.join(table.columns)}")
            table = table[table[axis].astype(str) == str(wanted)]
        if table.empty:
            raise InvalidSpec(f"{name} has no row with {coordinates}")
        return table

    def mean(self, name: str, value: str, digits: int = 1, **coordinates: Any) -> str:
        """ "41.8 ± 2.2", the mean and sample standard deviation over the chosen rows."""
        found = self.chosen(name, coordinates)[VALUES.get(value, value)].dropna()
        if found.empty:
            raise InvalidSpec(f"{name} has no value of {value} at {coordinates}. Finish its runs.")
        spread = f" ± {found.std(ddof=1):.{digits}f}" if len(found) > 1 else ""
        return f"{found.mean():.{digits}f}{spread}"

    def largest(self, name: str, value: str, digits: int = 1, **coordinates: Any) -> str:
        """The largest of the chosen rows, which of noisy ones is too large."""
        return f"{self.chosen(name, coordinates)[VALUES.get(value, value)].max():.{digits}f}"

    def paired(self, name: str, value: str, axis: str, one: str, other: str, digits: int = 1, **where: Any) -> str:
        """ "3.1 (95 %: 1.0 to 5.2)", one cell minus another that has run with the same seeds, paired over them."""
        found = statistics.paired(self.chosen(name, where), axis, VALUES.get(value, value), one, other)
        return _with_interval(found["difference"], found["low"], found["high"], digits)

    def early(self, name: str, epoch: int, digits: int = 2, **where: Any) -> str:
        """ "0.57 (95 %: 0.28 to 0.78)", how an epoch's validation kNN orders a search's trials as their value does."""
        found = Rungs().agreement(self.chosen(f"{name}-curves", where))
        row = found[found["epoch"] == epoch].iloc[0]
        return _with_interval(row["spearman"], row["low"], row["high"], digits)

    def count(self, name: str, **coordinates: Any) -> int:
        return len(self.chosen(name, coordinates))

    def rows(self, name: str, where: dict[str, Any], by: list[str], best_of: str | None) -> pd.DataFrame:
        """The chosen rows; best_of: only each cell's best value of that coordinate, by validation images."""
        return FigureSpec(best_of=best_of).envelope(self.chosen(name, where), by)[0]

    def gap(
        self,
        name: str,
        value: str,
        one: dict | list[dict],
        other: dict | list[dict],
        by: list[str] | None = None,
        digits: int = 1,
        best_of: str | None = None,
    ) -> str:
        """ "3.1 (95 %: 1.0 to 5.2)", one cell minus the other, with the spread pooled over the table's cells.

        by: the coordinates that make a cell (default: those that are named). Where they are more than those named, or
        a side is a list, the difference is between means over several cells, each with the same weight.
        """  # fmt: skip
        by = by or list(one if isinstance(one, dict) else one[0])
        asked = repr((name, value, by, best_of))
        self.used.add(self.figures / f"{name}.csv")
        if asked not in self.kept:
            table = self.rows(name, {}, by, best_of)
            self.kept[asked] = table, statistics.spread(table, by, VALUES.get(value, value))
        table, found = self.kept[asked]

        def at(coordinates: dict) -> pd.DataFrame:
            rows = found.cells
            for axis, wanted in coordinates.items():
                rows = rows[rows[axis].astype(str) == str(wanted)]
            if rows.empty:
                raise InvalidSpec(f"{name} has no cell at {coordinates}")
            return rows

        def chosen(side: dict | list[dict]) -> pd.DataFrame:
            return at(side) if isinstance(side, dict) else pd.concat([at(coordinates) for coordinates in side])

        d = statistics.difference_of_groups(found, table, VALUES.get(value, value), chosen(one), chosen(other))
        if pd.isna(d["low"]):
            return f"{d['difference']:.{digits}f} (no interval: no cell has two seeds)"
        return _with_interval(d["difference"], d["low"], d["high"], digits)

    def best(self, name: str, value: str, by: list[str], best_of: str | None = None, **where: Any) -> str:
        """The cells that are not told from the best, in falling order."""
        found = statistics.among_best(self.rows(name, where, by, best_of), by, VALUES.get(value, value))
        if found["among_best"].isna().all():
            return "not known: no cell has two seeds"
        found = found[found["among_best"].fillna(False)].sort_values("mean", ascending=False)
        labels = (" + ".join(dict.fromkeys(str(row[axis]) for axis in by)) for _, row in found.iterrows())
        return in_markdown("; ".join(labels))

    def rank(
        self,
        name: str,
        value: str,
        axis: str,
        reference: str,
        version: str | None = None,
        best_of: str | None = None,
        leave_out: tuple[str, ...] = (),
        **where: Any,
    ) -> str:
        """ "Kendall 0.60 over 6 rows, p 0.14": whether the rows of a published list stand in the same order here.

        The p-value is exact, for rows whose order is by chance; use `agreement` for pairs, which share operators.
        """  # fmt: skip
        ours = statistics.summary(self.rows(name, where, [axis], best_of), [axis], VALUES.get(value, value))
        published = self._published(reference, version, where)
        ours = ours[~ours[axis].isin(leave_out)]
        both = ours.assign(key=ours[axis].astype(str)).merge(
            published.assign(key=published[axis].astype(str))[["key", "value"]], on="key"
        )
        found = stats.kendalltau(both["mean"], both["value"], variant="b", alternative="greater")
        return f"Kendall {found.statistic:.2f} over {len(both)} rows, one-sided p {found.pvalue:.2g}"

    def trend(
        self, name: str, value: str, axis: str, steps: list, digits: int = 1, reference: str | None = None,
        version: str | None = None, **where: Any,
    ) -> str:  # fmt: skip
        """ "0.8 (95 %: 0.2 to 1.4)", the slope over `steps`, the values of an axis in their order, in points a step;
        and after it "; published 1.2", that of a published table over the same steps."""
        found = statistics.spread(self.chosen(name, where), [axis], VALUES.get(value, value))
        cells = found.cells.set_index(found.cells[axis].astype(str)).loc[[str(step) for step in steps]]
        published = [0.0] * len(cells)
        if reference:
            known = self._published(reference, version, where)
            published = list(known.set_index(known[axis].astype(str)).loc[[str(step) for step in steps], "value"])
        line = statistics.trend(list(cells["mean"]), list(cells["error"]), found.freedom, published)
        low, high = statistics.interval(line["slope"], line["error"], found.freedom)
        said = _with_interval(line["slope"], low, high, digits)
        return said + (f"; published {line['reference_slope']:.{digits}f}" if reference else "")

    def _published(self, reference: str, version: str | None, where: dict[str, Any]) -> pd.DataFrame:
        """The rows of a published table at these coordinates, as far as it has them."""
        found = reference_table(reference)
        for key, wanted in {**where, **({"version": version} if version else {})}.items():
            if key in found:
                found = found[found[key].astype(str) == str(wanted)]
        return found

    def agreement(
        self,
        name: str,
        value: str,
        reference: str | dict[str, Any] = "simclr_figure5_pairs",
        best_of: str | None = None,
        **where: Any,
    ) -> Any:
        """Of a pairwise grid with a published one, or with the one at the coordinates `reference` of the table."""
        asked = repr((name, value, reference, best_of, sorted(where.items())))
        self.used.add(self.figures / f"{name}.csv")
        if asked not in self.kept:
            self.kept[asked] = self._agreement(name, value, reference, best_of, where)
        return self.kept[asked]

    def _agreement(self, name: str, value: str, reference: str | dict, best_of: str | None, where: dict) -> Any:

        def square(rows: pd.DataFrame, column: str) -> pd.DataFrame:
            rows = rows.dropna(subset=["first", "second"])
            return rows.pivot_table(index="first", columns="second", values=column, sort=False)

        column = VALUES.get(value, value)
        ours = square(self.rows(name, where, ["first", "second"], best_of), column)
        if isinstance(reference, str):
            return statistics.agreement(ours, square(reference_table(reference), "value"))
        return statistics.agreement(ours, square(self.rows(name, reference, ["first", "second"], best_of), column))

    def calibration(self, name: str, value: str, **where: Any) -> dict[str, float]:
        return statistics.calibration(self.order(name, value, **where))

    def order(self, name: str, value: str, **where: Any) -> pd.DataFrame:
        table = self.chosen(name, where).dropna(subset=["first", "second"])
        return statistics.order_effects(table, VALUES.get(value, value))

    def seeds(self, name: str, value: str, by: list[str], **where: Any) -> Any:
        """Whether seeds have effects of their own: correlation, p, sd without them, cells, seeds."""
        return statistics.seed_correlation(self.chosen(name, where), by, VALUES.get(value, value))

    def images(self, name: str, column: str, evaluation: str, digits: int = 1, **coordinates: Any) -> str:
        """A column of the table of variances, such as "whole_error"."""
        rows = self.chosen(f"{name}-images", {"evaluation": evaluation, **coordinates})
        return f"{rows[column].mean():.{digits}f}"

    def seeds_needed(self, name: str, value: str, difference: float, by: list[str], **where: Any) -> str:
        found = statistics.spread(self.chosen(name, where), by, VALUES.get(value, value))
        low, needed, high = statistics.seeds_needed(difference, found.sd, found.freedom)
        return f"{needed} (95 %: {low} to {high})"

    def pooled(self, name: str, value: str, by: list[str], **where: Any) -> float:
        return statistics.pooled_sd(self.chosen(name, where), by, VALUES.get(value, value))

    def cells(
        self, name: str, by: list[str], values: dict[str, str] | list[str] | None = None, digits: int = 1,
        best_of: str | None = None, within: list[str] | None = None, **where: Any,
    ) -> str:  # fmt: skip
        values = values or {"linear": VALUES["linear"], "kNN": VALUES["knn"]}
        values = values if isinstance(values, dict) else {value: value for value in values}
        rows = self.rows(name, where, [axis for axis in by if axis != best_of], best_of)
        found = cells(rows, by, {t: VALUES.get(v, v) for t, v in values.items()}, digits, within)
        seeds = sorted({int(count) for n in found["n"] for count in str(n).split(" / ")})
        self.shown.append((name, found, " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))))
        return f"\n\n{markdown(found)}\n\n"

    def figure(self, name: str, title: str) -> str:
        path = self.figures / f"{name}.png"
        if not path.is_file():
            raise InvalidSpec(f"the figure {path} is not there. Run its experiment, or `ablation figures`.")
        self.used.add(path)
        return f"\n\n![{title}]({self._relative(path)})\n\n"

    def heatmap(self, name: str, value: str, title: str, **where: Any) -> str:
        """In the page a heatmap to point at; in report.md the picture."""
        self.chosen(name, where)
        return f"\n\n*{title}: point at a cell of [the page](report.html) for its numbers.*\n\n"

    def _relative(self, path: Path) -> str:
        return Path("..", path.resolve().relative_to(self.source.resolve().parent.parent)).as_posix()


def _with_interval(value: float, low: float, high: float, digits: int) -> str:
    value, low, high = (round(number, digits) + 0.0 for number in (value, low, high))  # + 0.0: no "-0.0"
    return f"{value:.{digits}f} (95 %: {low:.{digits}f} to {high:.{digits}f})"
