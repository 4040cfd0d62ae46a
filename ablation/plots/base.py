"""What all figures share: style, names of values, captions from the table, files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ablation.references import REFERENCES, reference_table
from ablation.specs import InvalidSpec, Spec
from ablation.statistics import pooled_sd, summary

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
    "contrastive_accuracy": "contrastive accuracy (fraction)",
    "contrastive_entropy": "entropy of the softmax (nats)",
}
CHOSEN_ON = "linear_validation_top1_recalibrated"
HEADLINE = ("linear_test_top1_recalibrated", "knn_test_top1_recalibrated")
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "pdf.fonttype": 42,  # fonts embedded as TrueType
    "svg.fonttype": "none",
    "savefig.dpi": 200,
}
MARKERS = "osD^vP*Xh<>"


@dataclass(frozen=True, kw_only=True)
class FigureSpec(Spec):
    """values: columns of the table, a panel each; where: only rows with these coordinates; note: a sentence for the
    caption; reference: a published table (ablation/references), drawn beside ours.

    best_of: a coordinate, such as a learning rate, of which each cell takes the value with the best mean on validation
    images (linear evaluation): the envelope.
    """

    source: ClassVar[str] = ""  # which of a run's tables is drawn: "" the results, "curves" the learning curves

    values: tuple[str, ...] = HEADLINE
    where: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    reference: str | None = None
    best_of: str | None = None

    def __post_init__(self):
        self.require("reference", self.reference in (None, *REFERENCES), f"be one of {', '.join(REFERENCES)}")

    @property
    def axes(self) -> tuple[str, ...]:
        """The coordinates that the figure needs."""
        raise NotImplementedError

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows that are drawn; raises InvalidSpec where the table cannot be drawn."""
        need(self, table, [*self.axes, *self.where])
        for axis, value in self.where.items():
            rows = table[table[axis].astype(str) == str(value)]
            if rows.empty:
                raise InvalidSpec(
                    f"{type(self).__name__}.where must choose rows, but no {axis} is {value!r}; there are "
                    f"{', '.join(map(str, table[axis].dropna().unique()))}."
                )
            table = rows
        need(self, table, [*self.axes, *self.values])
        return table

    def envelope(self, table: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, str]:
        """The rows of each cell's best value of `best_of`, and a sentence on which those are."""
        if self.best_of is None:
            return table, ""
        need(self, table, [self.best_of, CHOSEN_ON])
        means = summary(table, [*by, self.best_of], CHOSEN_ON)
        best = means.loc[means.groupby(by, sort=False)["mean"].idxmax(), [*by, self.best_of]]
        if len(best) > 12:
            counts = best[self.best_of].value_counts().sort_index()
            said = ", ".join(f"{value} in {count} cells" for value, count in counts.items())
        else:
            said = ", ".join(f"{' + '.join(map(str, row[:-1]))} {row[-1]}" for row in best.itertuples(index=False))
        sentence = f" {self.best_of} with the best mean on validation images: {said}."
        return table.merge(best, on=[*by, self.best_of]), sentence

    def published(self) -> pd.DataFrame | None:
        """The reference's rows for this figure's `where`."""
        if self.reference is None:
            return None
        found = reference_table(self.reference)
        for axis, value in self.where.items():
            if axis in found:
                found = found[found[axis].astype(str) == str(value)]
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
    return 1 if "top" in value or "knn" in value or "seconds" in value else 2


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


def mean_sd(mean: float, sd: float, digits: int = 1) -> str:
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if pd.notna(sd) else "")


def colors_of(names: list) -> dict:
    """Told apart by color-blind readers; markers and dashes tell them apart in grey."""
    palette = sns.color_palette("colorblind", max(1, len(names)))
    return dict(zip(names, palette, strict=False))


def marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def caption(table: pd.DataFrame, by: list[str], values: tuple[str, ...], note: str) -> str:
    """What the numbers are, from the table itself."""
    cells = table.dropna(subset=by)
    done = cells.dropna(subset=list(values))
    if done.empty:
        return note

    def only(column: str) -> str:
        found = [str(x) for x in done[column].dropna().unique()] if column in done else []
        return ", ".join(found) if len(found) <= 4 else f"{', '.join(found[:3])} and {len(found) - 3} more"

    n = sorted({int(x) for x in summary(done, by, values[0])["n"]})
    seeds = f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"
    several = "mean ± sample standard deviation over seeds" if n[-1] > 1 else "one seed, so no spread is known"
    text = f"{_what(done, only)}{seeds}, {several}"
    if n[-1] > 1:
        sds = ", ".join(f"{pooled_sd(done, by, v):.{decimals(v)}f}" for v in values)
        text += f" (pooled over cells: {sds})"
    text += ". Batch-norm statistics recalibrated on clean training images." if "recalibrated" in values[0] else "."
    if len(done) < len(cells):
        text += f" {len(cells) - len(done)} of {len(cells)} runs are missing."
    text += _baselines(table, by, values)
    return f"{text} {note}".strip()


def _what(done: pd.DataFrame, only: Callable[[str], str]) -> str:
    """Data, method, encoder and length, of those that the table tells: one's own table may tell none."""
    parts = [only("dataset")]
    counts = [(split, f"{split}_images") for split in ("train", "validation", "test")]
    if all(column in done for _, column in counts):
        parts[0] += f" ({' + '.join(f'{int(done[c].iloc[0]):,} {split}' for split, c in counts)} images)"
    parts += [only("method"), only("encoder")]
    if "epochs" in done:
        trained = done.loc[done["epochs"] > 0, "epochs"].unique()
        parts += [f"{', '.join(str(int(e)) for e in trained)} epochs, last epoch"]
    if "shared" in done:
        parts[-1] += f"; shared crop before the branches: {only('shared')}"
    said = ", ".join(part for part in parts if part)
    return f"{said}; " if said else ""


def _baselines(table: pd.DataFrame, by: list[str], values: tuple[str, ...]) -> str:
    """The cells outside the grid, at the coordinate "baseline"."""
    if "baseline" not in table.columns or "baseline" in by:
        return ""
    found = {value: summary(table, ["baseline"], value).set_index("baseline") for value in values}
    sentences = []
    for name in table["baseline"].dropna().unique():
        shown = [
            f"{_protocol(v)} {mean_sd(rows.loc[name, 'mean'], rows.loc[name, 'sd'])}"
            for v, rows in found.items()
            if name in rows.index
        ]
        if shown:
            sentences.append(f" {str(name).capitalize()}: {', '.join(shown)}.")
    return "".join(sentences)


def _protocol(value: str) -> str:
    return {"knn": "kNN"}.get(value.split("_")[0], value.split("_")[0])


def write_caption(figure: Figure, text: str, width: float) -> None:
    figure.supxlabel("\n" + "\n".join(_lines(text, width)), fontsize=6.5, ha="left", x=0.01, color="0.25")


def caption_height(text: str, width: float) -> float:
    """Inches that the caption takes in a figure of this width."""
    return 0.11 * (len(_lines(text, width)) + 1)


def _lines(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, width=int(width * 19))


def save(figure: Figure, stem: Path, source: str = "") -> list[Path]:
    """Writes PNG and PDF, without the moment of drawing, so that the same table gives the same files.

    source: the digest of that table, kept in both files.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    kept = {"Keywords": source} if source else {}
    for suffix, metadata in ((".png", {"Software": None, **kept}), (".pdf", {"CreationDate": None, **kept})):
        path = stem.with_name(stem.name + suffix)
        with plt.rc_context(STYLE):
            figure.savefig(path, metadata=metadata)
        paths.append(path)
    plt.close(figure)
    return paths
