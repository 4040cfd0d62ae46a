"""Values other than text: several numbers of one statistic, a table of cells, a clickable heatmap."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from ablation.analysis.tables import rounded
from ablation.plots.caption import not_worse, seeds_said
from ablation.report.latex import in_markdown, markdown


class Record(dict):
    """Numbers of one statistic as text, by name; the report need not show all of them."""


@dataclass(frozen=True, eq=False)
class Cells:
    """A table of cells: Markdown in the report, and a LaTeX table beside it.

    table: its name; seeds: the fewest and the most seeds of a value; within: the columns within which the best is
    marked; starred: whether a cell is.
    """

    table: str
    frame: pd.DataFrame
    seeds: tuple[int, int]
    within: tuple[str, ...] = ()
    starred: bool = True

    @property
    def star(self) -> str:
        """What a star means: "* not significantly different from the best with the same method (Hsu, 95 %)."; "" if
        there is none."""
        return f"* {not_worse(self.within)} (Hsu, 95 %)." if self.starred else ""

    @property
    def caption(self) -> str:
        spread = "mean ± sample standard deviation over " if self.seeds[1] > 1 else ""
        return f"{self.table}: {spread}{seeds_said(self.seeds)}{f'; {self.star}' if self.starred else '.'}"

    def markdown(self) -> str:
        shown = markdown(self.frame)
        return f"{shown}\n\n\\{in_markdown(self.star)}" if self.starred else shown  # a line with "* " is a list


@dataclass(frozen=True, eq=False)
class ClickableHeatmap:
    """A pairwise grid. In the page each cell shows its spread, seconds, learning curve and views.

    cells: columns first, second, values (over seeds), best (True, False, or None if unknown), seconds (nan if unknown).
    curves: (epoch, loss, validation kNN) by pair. views: the picture of the views, if there is one.
    """

    title: str
    cells: pd.DataFrame
    curves: dict[tuple[str, str], list]
    views: Path | None

    def markdown(self) -> str:
        return f"*{in_markdown(self.title)}: click on a cell of [the page](report.html) for its numbers.*"

    def html(self, link: Callable[[Path], str]) -> str:
        """link: the address of a picture in the page."""
        strips = self._strips(link)
        means = self.cells["values"].map(lambda values: sum(values) / len(values))
        low, high = means.min(), means.max()
        rows, data = [], []
        labels = list(dict.fromkeys(self.cells["first"]))
        known = {(row.first, row.second): row for row in self.cells.itertuples()}
        for first in labels:
            row = []
            for second in labels:
                cell = known.get((first, second))
                if cell is None:
                    row.append('<td class="missing">missing</td>')
                    continue
                mean = sum(cell.values) / len(cell.values)
                row.append(_cell(mean, (mean - low) / max(high - low, 1e-9), bool(cell.best), len(data)))
                data.append(self._data(cell, mean, strips["places"]))
            rows.append(f'<tr><th scope="row">{in_line(first)}</th>{"".join(row)}</tr>')
        head = "".join(f'<th scope="col">{in_line(label)}</th>' for label in labels)
        payload = in_script({"cells": data, "strips": strips["picture"], "height": strips["height"]})
        return (
            f'<figure class="heatmap"><figcaption>{in_line(self.title)}</figcaption><div class="both">'
            f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
            f'<div class="detail" aria-live="polite">Click on a cell, or point at it.</div></div>'
            f'<script type="application/json">{payload}</script></figure>'
        )

    def _data(self, cell: Any, mean: float, places: dict[str, int]) -> dict[str, Any]:
        view = cell.first if cell.first == cell.second else f"{cell.first} + {cell.second}"
        sd = pd.Series(cell.values).std(ddof=1)
        return {
            "view": view,
            "mean": _shown(mean),
            "values": [_shown(value) for value in cell.values],
            "sd": _shown(sd, mean) if len(cell.values) > 1 else None,
            "n": len(cell.values),
            "seconds": None if math.isnan(cell.seconds) else round(cell.seconds, 1),
            "best": cell.best,
            "curve": self.curves.get((cell.first, cell.second), []),
            "strip": places.get(view),
        }

    def _strips(self, link: Callable[[Path], str]) -> dict[str, Any]:
        """The picture of augmented images, and the number of each view's strip in it."""
        if self.views is None:
            return {"picture": None, "height": 0, "places": {}}
        with Image.open(self.views) as picture:
            views, height = json.loads(picture.text["views"]), int(picture.text["height"])
        return {"picture": link(self.views), "height": height, "places": {view: i for i, view in enumerate(views)}}


def _cell(mean: float, share: float, best: bool, number: int) -> str:
    """A cell in the color of the figures; share: 0 for the smallest mean, 1 for the largest."""
    marks = (" best" if best else "") + (" dark" if share < 0.6 else "")
    return (
        f'<td class="cell{marks}" tabindex="0" style="background:{to_hex(colormaps["viridis"](share))}" '
        f'data-cell="{number}">{rounded(mean, 1)}</td>'
    )


def _shown(number: float, beside: float = 0.0) -> float:
    return float(rounded(number, 2, beside))


def in_line(text: str) -> Markup:
    """A label in HTML, in one line, since a blank line would end Markdown's block of HTML."""
    return escape(" ".join(text.split()))


def in_script(value: Any) -> str:
    """JSON that cannot end the script element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
