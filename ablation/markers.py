"""What a marker of the report may say: numbers, cells and pictures, each from a table by name.

In the expressions `name` is a table of the figures' folder without its ending, `value` a column or its short name
("linear", "knn"), and keyword arguments choose rows by their coordinates.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup
from scipy import stats

from ablation import statistics
from ablation.plots import HEADLINE
from ablation.plots.base import CHOSEN_ON, FigureSpec
from ablation.plots.trials import Rungs
from ablation.references import reference_table
from ablation.settings import check_table
from ablation.specs import InvalidSpec, written
from ablation.tables import cells, in_markdown, markdown, numbers, read_table, rounded

VALUES = {"linear": HEADLINE[0], "knn": HEADLINE[1]}


class Markers:
    """The functions of a report's markers, over the folder of its tables and figures.

    They return text, numbers, or dataclasses and dictionaries of numbers; what is Markdown or HTML already is `Markup`.
    """

    NAMES = (
        "mean", "largest", "count", "gap", "best", "rank", "trend", "agreement", "calibration", "order", "order_p",
        "seeds", "images", "seeds_needed", "pooled", "cells", "figure", "heatmap", "paired", "early",
    )  # fmt: skip

    def __init__(self, source: Path, figures: Path):
        self.source, self.figures = source, figures
        self.used: set[Path] = set()  # tables and pictures that the last rendering read
        self.read: dict[Path, pd.DataFrame] = {}
        self.kept: dict[str, Any] = {}  # by what was asked: the same is asked often, and takes a while
        self.shown: list[tuple[str, pd.DataFrame, str]] = []  # its tables: name, cells, seeds

    def path(self, name: str, ending: str) -> Path:
        """A file of the figures' folder, from now on one of those that were used."""
        if Path(name).name != name:
            raise InvalidSpec(f"a marker must name a table or a figure of {self.figures}/, but got {name!r}.")
        path = self.figures / f"{name}{ending}"
        self.used.add(path)
        return path

    def table(self, name: str) -> pd.DataFrame:
        path = self.path(name, ".csv")
        if path not in self.read:
            check_table(path)
            self.read[path] = read_table(path)
        return self.read[path]

    def chosen(self, name: str, coordinates: dict[str, Any], *values: str) -> pd.DataFrame:
        """The rows at these coordinates, with the columns `values` as numbers."""
        table = self.table(name)
        for column in (*coordinates, *values):
            if column not in table:
                raise InvalidSpec(f"{name} has no column {column!r}; its columns are {', '.join(table.columns)}")
        for axis, wanted in coordinates.items():
            table = table[table[axis].map(written) == written(wanted)]
        if table.empty:
            raise InvalidSpec(f"{name} has no row with {coordinates}")
        return numbers(table, values)

    def mean(self, name: str, value: str, digits: int = 1, **coordinates: Any) -> str:
        """ "41.8 ± 2.2", the mean and sample standard deviation over the chosen rows."""
        column = VALUES.get(value, value)
        found = self.chosen(name, coordinates, column)[column].dropna()
        if found.empty:
            raise InvalidSpec(f"{name} has no value of {value} at {coordinates}. Finish its runs.")
        spread = f" ± {rounded(found.std(ddof=1), digits, found.mean())}" if len(found) > 1 else ""
        return f"{rounded(found.mean(), digits)}{spread}"

    def largest(self, name: str, value: str, digits: int = 1, **coordinates: Any) -> str:
        """The largest of the chosen rows, which of noisy ones is too large."""
        column = VALUES.get(value, value)
        return rounded(self.chosen(name, coordinates, column)[column].max(), digits)

    def paired(self, name: str, value: str, axis: str, one: str, other: str, digits: int = 1, **where: Any) -> str:
        """ "3.1 (95 %: 1.0 to 5.2)", one cell minus another that has run with the same seeds, paired over them."""
        column = VALUES.get(value, value)
        found = statistics.paired(self.chosen(name, where, column), axis, column, written(one), written(other))
        return _with_interval(found["difference"], found["low"], found["high"], digits)

    def early(self, name: str, epoch: int, digits: int = 2, **where: Any) -> str:
        """ "0.57 (95 %: 0.28 to 0.78)", how an epoch's validation kNN orders a search's trials as their value does."""
        found = Rungs().agreement(self.chosen(f"{name}-curves", where))
        row = found[found["epoch"] == epoch].iloc[0]
        return _with_interval(row["spearman"], row["low"], row["high"], digits)

    def count(self, name: str, **coordinates: Any) -> int:
        return len(self.chosen(name, coordinates))

    def rows(
        self, name: str, where: dict[str, Any], by: list[str], best_of: str | None, *values: str
    ) -> pd.DataFrame:  # fmt: skip
        """The chosen rows; best_of: only each cell's best value of that coordinate, by validation images."""
        table = self.chosen(name, where, *values, *([CHOSEN_ON] if best_of else []))
        return FigureSpec(best_of=best_of).envelope(table, by)[0]

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
        self.path(name, ".csv")
        if asked not in self.kept:
            table = self.rows(name, {}, by, best_of, VALUES.get(value, value))
            self.kept[asked] = table, statistics.spread(table, by, VALUES.get(value, value))
        table, found = self.kept[asked]

        def at(coordinates: dict) -> pd.DataFrame:
            rows = found.cells
            for axis, wanted in coordinates.items():
                rows = rows[rows[axis].map(written) == written(wanted)]
            if rows.empty:
                raise InvalidSpec(f"{name} has no cell at {coordinates}")
            return rows

        def chosen(side: dict | list[dict]) -> pd.DataFrame:
            return at(side) if isinstance(side, dict) else pd.concat([at(coordinates) for coordinates in side])

        d = statistics.difference_of_groups(found, table, VALUES.get(value, value), chosen(one), chosen(other))
        if pd.isna(d["low"]):
            return f"{rounded(d['difference'], digits)} (no interval: no cell has two seeds)"
        return _with_interval(d["difference"], d["low"], d["high"], digits)

    def best(self, name: str, value: str, by: list[str], best_of: str | None = None, **where: Any) -> str:
        """The cells that are not told from the best, in falling order."""
        column = VALUES.get(value, value)
        found = statistics.among_best(self.rows(name, where, by, best_of, column), by, column)
        if found["among_best"].isna().all():
            return "not known: no cell has two seeds"
        found = found[found["among_best"].fillna(False)].sort_values("mean", ascending=False)
        labels = (" + ".join(dict.fromkeys(str(row[axis]) for axis in by)) for _, row in found.iterrows())
        return "; ".join(labels)

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
        column = VALUES.get(value, value)
        ours = statistics.summary(self.rows(name, where, [axis], best_of, column), [axis], column)
        published = self._published(reference, version, where)
        ours = ours[~ours[axis].isin([written(label) for label in leave_out])]
        both = ours.assign(key=ours[axis].map(written)).merge(
            published.assign(key=published[axis].map(written))[["key", "value"]], on="key"
        )
        found = stats.kendalltau(both["mean"], both["value"], variant="b", alternative="greater")
        return f"Kendall {found.statistic:.2f} over {len(both)} rows, one-sided p {found.pvalue:.2g}"

    def trend(
        self, name: str, value: str, axis: str, steps: list, digits: int = 1, reference: str | None = None,
        version: str | None = None, **where: Any,
    ) -> str:  # fmt: skip
        """ "0.8 (95 %: 0.2 to 1.4)", the slope over `steps`, the values of an axis in their order, in points a step;
        and after it "; published 1.2", that of a published table over the same steps."""
        column = VALUES.get(value, value)
        found = statistics.spread(self.chosen(name, where, column), [axis], column)
        cells = found.cells.set_index(found.cells[axis].map(written)).loc[list(map(written, steps))]
        published = [0.0] * len(cells)
        if reference:
            known = self._published(reference, version, where)
            published = list(known.set_index(known[axis].map(written)).loc[list(map(written, steps)), "value"])
        line = statistics.trend(list(cells["mean"]), list(cells["error"]), found.freedom, published)
        low, high = statistics.interval(line["slope"], line["error"], found.freedom)
        said = _with_interval(line["slope"], low, high, digits)
        return said + (f"; published {line['reference_slope']:.{digits}f}" if reference else "")

    def _published(self, reference: str, version: str | None, where: dict[str, Any]) -> pd.DataFrame:
        """The rows of a published table at these coordinates, as far as it has them."""
        found = reference_table(reference)
        for key, wanted in {**where, **({"version": version} if version else {})}.items():
            if key in found:
                found = found[found[key].map(written) == written(wanted)]
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
        self.path(name, ".csv")
        if asked not in self.kept:
            self.kept[asked] = self._agreement(name, value, reference, best_of, where)
        return self.kept[asked]

    def _agreement(self, name: str, value: str, reference: str | dict, best_of: str | None, where: dict) -> Any:

        def square(rows: pd.DataFrame, column: str) -> pd.DataFrame:
            rows = rows.dropna(subset=["first", "second"])
            return rows.pivot_table(index="first", columns="second", values=column, sort=False)

        column = VALUES.get(value, value)
        ours = square(self.rows(name, where, ["first", "second"], best_of, column), column)
        if isinstance(reference, str):
            return statistics.agreement(ours, square(reference_table(reference), "value"))
        other = self.rows(name, reference, ["first", "second"], best_of, column)
        return statistics.agreement(ours, square(other, column))

    def calibration(self, name: str, value: str, **where: Any) -> dict[str, float]:
        return statistics.calibration(self._orders(name, value, where))

    def order(self, name: str, value: str, digits: int = 2, **where: Any) -> str:
        """A table of both orders of every pair."""
        found = self._orders(name, value, where)
        floats = found.select_dtypes("float")
        return Markup(f"\n\n{markdown(found.assign(**floats.map(lambda x: f'{x:.{digits}g}')))}\n\n")

    def order_p(self, name: str, value: str, **where: Any) -> float:
        """The smallest p of all pairs that their order matters, adjusted for their number (Holm)."""
        return float(self._orders(name, value, where)["p_holm"].min())

    def _orders(self, name: str, value: str, where: dict[str, Any]) -> pd.DataFrame:
        column = VALUES.get(value, value)
        table = self.chosen(name, where, column).dropna(subset=["first", "second"])
        return statistics.order_effects(table, column)

    def seeds(self, name: str, value: str, by: list[str], **where: Any) -> Any:
        """Whether seeds have effects of their own: correlation, p, sd without them, cells, seeds."""
        column = VALUES.get(value, value)
        return statistics.seed_correlation(self.chosen(name, where, column), by, column)

    def images(self, name: str, column: str, evaluation: str, digits: int = 1, **coordinates: Any) -> str:
        """A column of the table of variances, such as "whole_error"."""
        rows = self.chosen(f"{name}-images", {"evaluation": evaluation, **coordinates}, column)
        return rounded(rows[column].mean(), digits)

    def seeds_needed(self, name: str, value: str, difference: float, by: list[str], **where: Any) -> str:
        column = VALUES.get(value, value)
        found = statistics.spread(self.chosen(name, where, column), by, column)
        low, needed, high = statistics.seeds_needed(difference, found.sd, found.freedom)
        return f"{needed} (95 %: {low} to {high})"

    def pooled(self, name: str, value: str, by: list[str], **where: Any) -> float:
        column = VALUES.get(value, value)
        return statistics.pooled_sd(self.chosen(name, where, column), by, column)

    def cells(
        self, name: str, by: list[str], values: dict[str, str] | list[str] | None = None, digits: int = 1,
        best_of: str | None = None, within: list[str] | None = None, **where: Any,
    ) -> str:  # fmt: skip
        values = values or {"linear": VALUES["linear"], "kNN": VALUES["knn"]}
        values = values if isinstance(values, dict) else {value: value for value in values}
        values = {title: VALUES.get(value, value) for title, value in values.items()}
        rows = self.rows(name, where, [axis for axis in by if axis != best_of], best_of, *values.values())
        found = cells(rows, by, values, digits, within)
        seeds = sorted({int(count) for n in found["n"] for count in str(n).split(" / ")})
        self.shown.append((name, found, " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))))
        return Markup(f"\n\n{markdown(found)}\n\n")

    def figure(self, name: str, title: str) -> str:
        path = self.path(name, ".png")
        if not path.is_file():
            raise InvalidSpec(f"the figure {path} is not there. Run its experiment, or `ablation figures`.")
        return Markup(f"\n\n![{in_markdown(title)}]({quote(self._relative(path))})\n\n")

    def heatmap(self, name: str, value: str, title: str, **where: Any) -> str:
        """In the page a heatmap to point at; in report.md the picture."""
        self.chosen(name, where)
        return Markup(f"\n\n*{in_markdown(title)}: point at a cell of [the page](report.html) for its numbers.*\n\n")

    def _relative(self, path: Path) -> str:
        return Path("..", path.resolve().relative_to(self.source.resolve().parent.parent)).as_posix()


def _with_interval(value: float, low: float, high: float, digits: int) -> str:
    largest = max(map(abs, (value, low, high)))
    if 1e-12 < largest < 0.5 * 10**-digits:  # all three would be 0
        digits = 1 - math.floor(math.log10(largest))
    value, low, high = (round(number, digits) + 0.0 for number in (value, low, high))  # + 0.0: no "-0.0"
    return f"{value:.{digits}f} (95 %: {low:.{digits}f} to {high:.{digits}f})"
