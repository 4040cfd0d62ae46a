"""Sizes, style and layout of figures: a column or a page of a paper, text of 6 to 7.5 points."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from ablation.spec import written

PAGE, COLUMN = 7.0, 3.4  # inches: the text width of a two-column page, and of one column
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
    "text.parse_math": False,  # a $ is a dollar, unless FigureSpec.math is True
    "pdf.fonttype": 42,  # fonts embedded as TrueType
    "svg.fonttype": "none",
    "savefig.dpi": 240,
}
MARKERS = "osD^vX<>P*h"


def colors_of(names: list, cmap: str | None = None) -> dict:
    """A color for each name: from a palette for color-blind readers, or evenly from a color map. Markers and dashes
    separate them in grey."""
    palette = sns.color_palette(cmap or "colorblind", max(1, len(names)))
    return dict(zip(names, palette, strict=False))


def marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def inches(text: str, points: float) -> float:
    """The width of one line of text."""
    math = bool(matplotlib.rcParams["text.parse_math"] and is_math_text(text))
    wide, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=points), ismath=math)
    return wide / 72


def folded(text: Any, width: float, points: float) -> str:
    """The text in lines of at most `width` inches, whole numbers as `written`. LaTeX mathematics stays in one line."""
    text = written(text)
    if matplotlib.rcParams["text.parse_math"] and is_math_text(text):
        return text
    characters = max(1, min(len(text), int(180 * width / points)))  # of 0.4 em at least
    while characters > 1 and max((inches(line, points) for line in textwrap.wrap(text, characters)), default=0) > width:
        characters -= 1
    return "\n".join(textwrap.wrap(text, characters))


def widest(texts: list[str], points: float) -> float:
    """Inches of the longest line of several texts."""
    return max((inches(line, points) for text in texts for line in text.split("\n")), default=0.0)


def panels(count: int, across: int, width: float | None = None) -> tuple[int, int, float]:
    """Rows and columns of `count` panels, and the figure's width in inches: the given one, or a page's, or a column's
    for one panel."""
    return -(-count // across), min(count, across), width or (COLUMN if count == 1 else PAGE)


def blank(axs: np.ndarray, used: int) -> None:
    """Hides the panels after the first `used`."""
    for axis in list(axs.flat)[used:]:
        axis.axis("off")


def mark_missing(axis, grid: pd.DataFrame) -> None:
    """Draws a dash on grey in each cell of a heatmap without a number."""
    axis.set_facecolor("0.85")
    for row, column in np.argwhere(grid.isna().to_numpy()):
        axis.text(column + 0.5, row + 0.5, "–", ha="center", va="center", fontsize=CELL, color="0.25")


def write_caption(figure: Figure, text: str) -> float:
    """Writes the text below everything; returns its height in inches."""
    if not text:
        return 0.0
    lines = folded(text, 0.94 * figure.get_figwidth(), SMALL)
    figure.supxlabel(lines, fontsize=SMALL, ha="left", x=0.01, color="0.25", linespacing=1.2)
    return 1.25 * SMALL / 72 * (lines.count("\n") + 1.8)


def legend_handles(axes) -> dict[str, Any]:
    """The artists of the panels by label; the last one for each label."""
    handles: dict[str, Any] = {}
    for axis in axes:
        handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    return handles


def write_legend(figure: Figure, handles: Mapping[str, Any], title: str | None = None) -> float:
    """Writes a legend above the panels, in as many columns as fit; returns its height in inches. handles: by label."""
    if not handles:
        return 0.0
    labels = [folded(label, figure.get_figwidth() - 0.6, SMALL) for label in handles]
    rows = -(-len(labels) // max(1, int((figure.get_figwidth() - 0.1) / (widest(labels, SMALL) + 0.5))))
    columns = -(-len(labels) // rows)
    figure.legend(
        handles.values(), labels, loc="outside upper center", ncols=columns, frameon=False, title=title,
        borderaxespad=0.2, columnspacing=1.2, handlelength=2.4, labelspacing=0.3,
    )  # fmt: skip
    return 1.6 * SMALL / 72 * (rows + (title is not None)) + 0.1
