"""Figures: a spec that draws itself from a table, and from nothing else.

Figures import no torch and train nothing: they are drawn again from the committed CSV files.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.specs import InvalidSpec, Spec
from ablation.statistics import pooled_sd, summary

VALUE_NAMES = {
    "linear_test_top1_recalibrated": "linear evaluation, test top-1 (%)",
    "knn_test_top1_recalibrated": "kNN evaluation, test top-1 (%)",
    "linear_test_top1_running": "linear evaluation, running BN statistics, test top-1 (%)",
    "knn_test_top1_running": "kNN evaluation, running BN statistics, test top-1 (%)",
}
HEADLINE = ("linear_test_top1_recalibrated", "knn_test_top1_recalibrated")
REFERENCES = {
    "simclr_figure5_pairs": (
        "SimCLR, Figure 5",
        "Reference: Chen et al. 2020 (arXiv:2002.05709), Figure 5: ImageNet, ResNet-50, linear top-1, with a shared "
        "crop before the branches; compare ranks, not levels.",
    ),
}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "pdf.fonttype": 42,  # fonts embedded as TrueType
    "svg.fonttype": "none",
    "savefig.dpi": 200,
}


def reference_table(name: str) -> pd.DataFrame:
    """A published table that comes with the package."""
    with resources.files("ablation.references").joinpath(f"{name}.csv").open() as file:
        return pd.read_csv(file)


@dataclass(frozen=True, kw_only=True)
class Heatmap(Spec):
    """One panel per value: mean and standard deviation over seeds for each pair of two axes, and row averages.

    rows, columns: coordinates of the table. note: a sentence for the caption. reference: a published table
    of pairs, drawn beside ours.
    """

    rows: str
    columns: str
    values: tuple[str, ...] = HEADLINE
    reference: str | None = None
    note: str = ""

    def __post_init__(self):
        self.require("reference", self.reference in (None, *REFERENCES), f"be one of {', '.join(REFERENCES)}")

    def draw(self, table: pd.DataFrame) -> Figure:
        axes = [self.rows, self.columns]
        _need(self, table, [*axes, *self.values])
        rows, columns = self._orders(table)
        panels = [(_named(v), *self._matrices(table, v)) for v in self.values]
        caption = _caption(table, axes, self.values, self.note)
        if self.reference:
            title, sentence = REFERENCES[self.reference]
            published = reference_table(self.reference)
            found = published.pivot(index="first_transform", columns="second_transform", values="top1")
            if len(found.index.intersection(rows)) >= 2:
                mean = found.reindex(index=rows, columns=columns).astype(float)
                panels.append((f"{title} (ImageNet, linear)", _with_average(mean), None))
                caption += " " + sentence
        cell = 0.42 if len(columns) > 5 else 0.52
        width = max(len(panels) * (cell * (len(columns) + 1) + 0.9), 5.0)
        with plt.rc_context(STYLE):
            figure, axs = plt.subplots(
                1, len(panels), figsize=(width, cell * len(rows) + 1.7), squeeze=False, layout="constrained"
            )
            for axis, (title, mean, sd) in zip(axs[0], panels, strict=True):
                self._panel(axis, title, mean, sd)
            _write_caption(figure, caption, width)
        return figure

    @property
    def axes(self) -> tuple[str, str]:
        return self.rows, self.columns

    def _orders(self, table: pd.DataFrame) -> tuple[list, list]:
        """Labels in the order of the table; where both axes have the same ones, in the same order."""
        rows, columns = (list(dict.fromkeys(table.dropna(subset=list(self.axes))[axis])) for axis in self.axes)
        return rows, (rows if set(rows) == set(columns) else columns)

    def _matrices(self, table: pd.DataFrame, value: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        axes, (rows, columns) = list(self.axes), self._orders(table)
        cells = summary(table, axes, value)
        mean, sd = (
            cells.pivot(index=self.rows, columns=self.columns, values=v).reindex(index=rows, columns=columns)
            for v in ("mean", "sd")
        )
        # The average of a row for each seed, then its spread over the seeds that have the whole row.
        by_seed = table.dropna(subset=[*axes, value]).groupby([self.rows, "seed"])[value]
        whole = by_seed.mean()[by_seed.count() == len(columns)]
        sd = sd.assign(average=whole.groupby(level=0).std(ddof=1).reindex(rows))
        return _with_average(mean), sd

    def _panel(self, axis, title: str, mean: pd.DataFrame, sd: pd.DataFrame | None) -> None:
        def text(row: str, column: str) -> str:
            if pd.isna(mean.loc[row, column]):
                return "missing" if sd is not None else ""
            spread = sd.loc[row, column] if sd is not None else np.nan
            return f"{mean.loc[row, column]:.1f}" + (f"\n±{spread:.1f}" if pd.notna(spread) else "")

        labels = [[text(row, column) for column in mean.columns] for row in mean.index]
        sns.heatmap(
            mean.astype(float), annot=np.array(labels), fmt="", cmap="viridis", cbar=False, ax=axis, linewidths=0.5,
            linecolor="white", annot_kws={"fontsize": 6}, square=True,
        )  # fmt: skip
        axis.axvline(len(mean.columns) - 1, color="white", linewidth=4)
        axis.set_facecolor("0.85")
        axis.set_title(title)
        pairs = self.axes == ("first", "second")
        axis.set_ylabel("first operator" if pairs else self.rows)
        axis.set_xlabel("second operator (diagonal: alone)" if pairs else self.columns)
        axis.tick_params(length=0)
        axis.set_xticklabels(axis.get_xticklabels(), rotation=45, ha="right")
        axis.set_yticklabels(axis.get_yticklabels(), rotation=0)

    def text(self, table: pd.DataFrame) -> str:
        """The same numbers for a terminal."""
        parts = []
        for value in self.values:
            mean, sd = self._matrices(table, value)
            shown = mean.map(lambda x: f"{x:.1f}" if pd.notna(x) else "-")
            spread = sd.reindex(columns=mean.columns).map(lambda x: f" ±{x:.1f}" if pd.notna(x) else "")
            title = f"{_named(value)}; rows: {self.rows}, columns: {self.columns}"
            parts.append(f"{title}\n{(shown + spread).to_string()}")
        parts.append(_caption(table, [self.rows, self.columns], self.values, self.note))
        return "\n\n".join(parts)


@dataclass(frozen=True, kw_only=True)
class Lines(Spec):
    """One panel per value: mean over seeds against one coordinate, a line for each value of another.

    Bars are one standard deviation over seeds; every seed's value is drawn as a faint dot.
    """

    x: str
    lines: str
    values: tuple[str, ...] = HEADLINE
    note: str = ""
    chance: float | None = None

    @property
    def axes(self) -> tuple[str, str]:
        return self.x, self.lines

    def draw(self, table: pd.DataFrame) -> Figure:
        _need(self, table, [self.x, self.lines, *self.values])
        caption = _caption(table, [self.x, self.lines], self.values, self.note)
        names = list(dict.fromkeys(table[self.lines].dropna()))
        colors = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
        markers = dict(zip(names, "osD^vP*Xh<>"[: len(names)] or "o", strict=False))
        labels = list(dict.fromkeys(table[self.x].dropna()))
        numbers = pd.api.types.is_numeric_dtype(table[self.x])
        at = {label: float(label) if numbers else i for i, label in enumerate(labels)}
        step = min(np.diff(sorted(at.values())), default=1)
        with plt.rc_context(STYLE):
            width = 3.7 * len(self.values) + 1.3
            figure, axs = plt.subplots(1, len(self.values), figsize=(width, 4.0), squeeze=False, layout="constrained")
            for axis, value in zip(axs[0], self.values, strict=True):
                for number, name in enumerate(names):
                    rows = table[table[self.lines] == name].dropna(subset=[value])
                    cells = summary(rows, [self.x], value)
                    cells = cells.assign(place=cells[self.x].map(at)).sort_values("place")
                    shift = (number - (len(names) - 1) / 2) * step * 0.025
                    style = {"color": colors[name], "marker": markers.get(name, "o"), "markersize": 4}
                    axis.errorbar(
                        cells["place"] + shift, cells["mean"], cells["sd"].fillna(0), label=name, capsize=2, lw=1.2,
                        linestyle="-" if number % 2 == 0 else "--", **style,
                    )  # fmt: skip
                    axis.plot(
                        rows[self.x].map(at) + shift, rows[value], ".", color=colors[name], alpha=0.3, markersize=3
                    )
                if self.chance is not None:
                    axis.axhline(self.chance, color="0.6", lw=0.8, linestyle=":")
                axis.set_title(_named(value))
                axis.set_xlabel(self.x)
                axis.set_ylabel("%")
                axis.set_xticks(list(at.values()), labels)
                sns.despine(ax=axis)
            figure.legend(*axs[0][0].get_legend_handles_labels(), loc="outside right center", frameon=False)
            _write_caption(figure, caption, width)
        return figure

    def text(self, table: pd.DataFrame) -> str:
        parts = []
        for value in self.values:
            cells = summary(table, [self.lines, self.x], value)
            cells["shown"] = [
                f"{row.mean_:.1f}" + (f" ±{row.sd:.1f}" if pd.notna(row.sd) else "")
                for row in cells.rename(columns={"mean": "mean_"}).itertuples()
            ]
            wide = cells.pivot(index=self.lines, columns=self.x, values="shown")
            wide = wide.reindex(list(dict.fromkeys(table[self.lines].dropna()))).fillna("-")
            parts.append(f"{_named(value)}; columns: {self.x}\n{wide.to_string()}")
        parts.append(_caption(table, [self.x, self.lines], self.values, self.note))
        return "\n\n".join(parts)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes PNG and PDF, without the moment of drawing, so that the same table gives the same files."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        path = stem.with_name(stem.name + suffix)
        with plt.rc_context(STYLE):
            figure.savefig(path, metadata=metadata)
        paths.append(path)
    plt.close(figure)
    return paths


def _named(value: str) -> str:
    return VALUE_NAMES.get(value, value.replace("_", " "))


def _need(spec: Spec, table: pd.DataFrame, columns: list[str]) -> None:
    missing = [column for column in columns if column not in table.columns or table[column].isna().all()]
    if missing:
        raise InvalidSpec(
            f"{type(spec).__name__} must find {', '.join(map(repr, missing))} in its table, but nothing finished has "
            f"it; the columns are {', '.join(table.columns)}. Run the experiment, or name one of these."
        )


def _with_average(mean: pd.DataFrame) -> pd.DataFrame:
    """Row averages as in the paper, for complete rows."""
    return mean.assign(average=mean.mean(axis=1, skipna=False))


def _caption(table: pd.DataFrame, by: list[str], values: tuple[str, ...], note: str) -> str:
    """What the numbers are, from the table itself."""
    cells = table.dropna(subset=by)
    done = cells.dropna(subset=list(values))
    if done.empty:
        return note

    def only(column: str) -> str:
        found = [str(x) for x in done[column].dropna().unique()] if column in done else []
        return ", ".join(found)

    trained = done[done["epochs"] > 0] if "epochs" in done else done
    epochs = ", ".join(str(int(e)) for e in trained["epochs"].unique())
    counts = " + ".join(f"{int(done[f'{s}_images'].iloc[0]):,} {s}" for s in ("train", "validation", "test"))
    n = sorted({int(x) for x in summary(done, by, values[0])["n"]})
    seeds = f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"
    spread = "mean ± sample standard deviation over seeds" if n[-1] > 1 else "one seed, so no spread is known"
    text = f"{only('dataset')} ({counts} images), {only('method')}, {only('encoder')}, {epochs} epochs, last epoch; "
    text += f"shared crop before the branches: {only('shared')}; "
    text += f"{seeds}, {spread}"
    if n[-1] > 1:
        sds = ", ".join(f"{pooled_sd(done, by, v):.1f}" for v in values)
        text += f" (pooled over cells: {sds})"
    text += ". Batch-norm statistics recalibrated on clean training images." if "recalibrated" in values[0] else "."
    if len(done) < len(cells):
        text += f" {len(cells) - len(done)} of {len(cells)} runs are missing."
    text += _baselines(table, by, values)
    return f"{text} {note}".strip()


def _baselines(table: pd.DataFrame, by: list[str], values: tuple[str, ...]) -> str:
    """The cells outside the grid, at the coordinate "baseline"."""
    if "baseline" not in table.columns or "baseline" in by:
        return ""
    found = {value: summary(table, ["baseline"], value).set_index("baseline") for value in values}
    sentences = []
    for name in table["baseline"].dropna().unique():
        shown = [f"{_protocol(v)} {_mean_sd(rows.loc[name])}" for v, rows in found.items() if name in rows.index]
        if shown:
            sentences.append(f" {str(name).capitalize()}: {', '.join(shown)}.")
    return "".join(sentences)


def _protocol(value: str) -> str:
    return {"knn": "kNN"}.get(value.split("_")[0], value.split("_")[0])


def _mean_sd(row: pd.Series) -> str:
    return f"{row['mean']:.1f}" + (f" ± {row['sd']:.1f}" if pd.notna(row["sd"]) else "")


def _write_caption(figure: Figure, caption: str, width: float) -> None:
    lines = textwrap.wrap(caption, width=int(width * 19))
    figure.supxlabel("\n" + "\n".join(lines), fontsize=6.5, ha="left", x=0.01, color="0.25")
