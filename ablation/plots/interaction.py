"""Two crossed coordinates, such as method and views: the spread of their effects and of their interaction."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.analysis.statistics import TwoWay, summary, two_way
from ablation.analysis.tables import rounded
from ablation.plots.base import FigureSpec
from ablation.plots.caption import caption, collapsed, seeds_in, seeds_said
from ablation.spec import InvalidSpec, written

COMPONENTS = {"rows": "spread of {rows}", "columns": "spread of {columns}", "interaction": "spread of the interaction"}
SEEDS = "spread over seeds"
NAMED = 8  # interactions in the caption, at most


@dataclass(frozen=True, kw_only=True)
class Interaction(FigureSpec):
    """One panel per value: standard deviations of the true effects of two coordinates, of their interaction and of a
    run over seeds, then the effect of each label; 95 % bootstrap intervals.

    Both coordinates are fixed: the numbers hold for these labels. rows, columns: the coordinates. with_collapsed:
    whether runs whose z has collapsed count; without them, labels of `rows` that lack two seeds in a cell are omitted.
    """

    rows: str
    columns: str
    with_collapsed: bool = True

    def __post_init__(self):
        super().__post_init__()
        self.require("with_collapsed", isinstance(self.with_collapsed, bool), "be True or False")

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.rows, self.columns)

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        table = super().rows_of(table)
        if self.with_collapsed:
            return table
        kept = table[~collapsed(table)]
        complete = [name for name in kept[self.rows].dropna().unique() if self._complete(kept, name)]
        if len(complete) < 2:
            raise InvalidSpec(
                f"Interaction.with_collapsed must be True here: without the runs whose z has collapsed only "
                f"{len(complete)} of the {self.rows} have two seeds in each cell. Write with_collapsed=True."
            )
        chosen = kept[kept[self.rows].isin(complete)]
        chosen.attrs["omitted"] = [name for name in table[self.rows].dropna().unique() if name not in complete]
        return chosen

    def _complete(self, table: pd.DataFrame, name: str) -> bool:
        of = table[table[self.rows] == name]
        counts = [summary(of, [self.columns], value).set_index(self.columns)["n"] for value in self.values]
        return all((n.reindex(table[self.columns].dropna().unique()) >= 2).all() for n in counts)

    def plot(self, rows: pd.DataFrame) -> Figure:
        found = [two_way(rows, self.rows, self.columns, value) for value in self.values]
        shown = [self._estimates(each) for each in found]
        names = [self.labels.get(value, self.measured(value).short) for value in self.values]
        panels = [(each, f"effect on {name}, or its spread") for each, name in zip(shown, names, strict=True)]
        return self.forest(rows, list(shown[0]["label"]), panels, self._panel)

    def _estimates(self, found: TwoWay) -> pd.DataFrame:
        """A line for each component and each label: label, kind, estimate, low, high."""
        spans = found.components.set_index("component")
        lines = [
            {"label": text.format(rows=self.label(self.rows), columns=self.label(self.columns)), "kind": "spread"}
            | spans.loc[name].rename({"sd": "estimate"}).to_dict()
            for name, text in COMPONENTS.items()
        ]
        lines.append({"label": SEEDS, "kind": "spread"} | spans.loc["seeds"].rename({"sd": "estimate"}).to_dict())
        effects = found.effects.rename(columns={"axis": "kind"})
        return pd.concat([pd.DataFrame(lines), effects.assign(label=effects["label"].map(self.label))])

    def _panel(self, axis, estimates: pd.DataFrame) -> None:
        colors = dict(zip(("spread", "rows", "columns"), sns.color_palette("colorblind", 3), strict=True))
        estimates = estimates.reset_index(drop=True)
        for number, (kind, rows) in enumerate(estimates.groupby("kind", sort=False)):
            axis.hlines(rows.index, rows["low"], rows["high"], color=colors[kind], lw=0.9)
            axis.plot(rows["estimate"], rows.index, "sod"[number], color=colors[kind], markersize=3)
        axis.axvline(0, color="0.6", lw=0.8)
        sns.despine(ax=axis)

    def describe(self, rows: pd.DataFrame) -> str:
        text = caption(rows, list(self.axes), self.values, self.note, self.missing(rows, self.values), self.measures)
        text += (
            f" Effects of these {rows[self.rows].nunique()} labels of {self.label(self.rows)} and "
            f"{rows[self.columns].nunique()} of {self.label(self.columns)}: a label's mean minus that of all; spreads: "
            "standard deviations of the true effects, without the part that seeds add. Bars: 95 % intervals, residuals "
            "resampled within each row."
        )
        if not self.with_collapsed:
            omitted = ", ".join(map(self.label, rows.attrs.get("omitted", ())))
            others = f", and without {omitted}, which lack two others in a cell" if omitted else ""
            text += f" Without runs whose z has collapsed{others}."
        for value in self.values:
            cells = two_way(rows, self.rows, self.columns, value).apart
            cells = cells.sort_values("estimate", key=abs, ascending=False)
            largest = cells.head(NAMED).itertuples()
            named = [f"{self.label(cell.row)} with {self.label(cell.column)} {cell.estimate:+.1f}" for cell in largest]
            more = f" and {len(cells) - NAMED} more" if len(cells) > NAMED else ""
            text += (
                f" Interactions other than 0, with intervals that hold together ({self.measured(value).short}): "
                f"{', '.join(named) or 'none'}{more}."
            )
        return text

    def line(self, rows: pd.DataFrame) -> str:
        n = seeds_said(seeds_in(rows, list(self.axes), self.values))
        return f"95 % bootstrap intervals; {n} of each cell.{self.missing(rows, self.values)}"

    def text(self, table: pd.DataFrame) -> str:
        rows = self.rows_of(table)
        parts = []
        for value in self.values:
            shown = self._estimates(two_way(rows, self.rows, self.columns, value)).set_index("label")
            largest, unit = rows[value].abs().max(), self.measured(value).unit_of_differences
            numbers = shown[["estimate", "low", "high"]].rename(index=written)
            numbers = numbers.map(lambda x, near=largest: "-" if pd.isna(x) else rounded(x, 2, near))
            named = f"{self.metric(value)}, {unit}" if unit else self.metric(value)
            parts.append(f"{named}\n{numbers.to_string()}")
        return "\n\n".join([*parts, self.describe(rows)])
