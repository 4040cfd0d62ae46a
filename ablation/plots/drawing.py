"""Figures as files: PNG and PDF with a caption as text, drawn from the table beside them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ablation.analysis.settings import settings_beside
from ablation.analysis.tables import digest, read_table
from ablation.plots.base import FigureSpec
from ablation.plots.layout import STYLE
from ablation.spec import AblationError, Cell
from ablation.spec.metric import CHOSEN_ON
from ablation.system.files import write_file

ENDINGS = (".png", ".pdf", ".txt")  # a figure's two pictures and its caption


def rehearse(figures: Mapping[str, FigureSpec], cells: Sequence[Cell]) -> None:
    """Draws each figure with invented numbers before anything is computed. Raises InvalidSpec if a figure cannot be
    drawn of these cells."""
    places = dict.fromkeys(tuple(cell.coords.items()) for cell in cells)
    rows = pd.DataFrame([{"seed": 0, **dict(place)} for place in places], dtype=object)
    for name, figure in figures.items():
        if not isinstance(figure, FigureSpec):
            continue
        invented = dict.fromkeys((*figure.shown, *figure.computed_with, CHOSEN_ON), np.arange(len(rows), dtype=float))
        table = rows.assign(**{axis: label for axis, label in figure.where.items() if axis == "evaluation"})
        try:
            figure.text(table.assign(**{column: held for column, held in invented.items() if column not in rows}))
        except AblationError as error:
            raise type(error)(f"Experiment.figures[{name!r}] could not be drawn: {error}") from error


def table_of(figure: FigureSpec, csv: Path) -> Path:
    """The table of a figure: `csv`, or one beside it."""
    return csv.with_name(f"{csv.stem}-{figure.source}.csv") if figure.source else csv


def draw_all(
    figures: Mapping[str, FigureSpec], csv: Path, read: Callable[[Path], pd.DataFrame] = read_table
) -> tuple[list[Path], str, list[str]]:
    """Draws the figures of a table beside it. Returns the files, the numbers as text, and a sentence for each figure
    that failed; a failure stops no other figure."""
    paths, texts, wrong = [], [], []
    settings = settings_beside(csv)
    for name, figure in figures.items():
        if settings and isinstance(figure, FigureSpec):
            figure = figure.replace(measures=settings.measures)
        try:
            source = table_of(figure, csv)
            table = read(source)  # from the file, so that the figure can be drawn from it again
            drawn, text = figure.draw(table), figure.text(table)
            paths += save(drawn, csv.with_name(f"{csv.stem}-{name}"), digest(source), caption_text(figure, table))
            texts.append(text)
        except Exception as error:  # a user's class of figures may raise anything
            plt.close("all")
            wrong.append(f"the figure {name!r} of {csv} is not drawn: {cause(error)}")
    return paths, "\n\n".join(filter(None, texts)), wrong


def caption_text(figure: FigureSpec, table: pd.DataFrame) -> str:
    """The whole caption of a figure of this table, for the file beside it and for a paper; for a user's class without
    one, its note."""
    described = getattr(figure, "full_caption", None)
    return described(table) if described else getattr(figure, "note", "")


def cause(error: Exception) -> str:
    """An error in one sentence, with its type unless it is one of ours or the system's."""
    return str(error) if isinstance(error, (AblationError, OSError)) else f"{type(error).__name__}: {error}"


def save(figure: Figure, stem: Path, source: str = "", caption: str = "") -> list[Path]:
    """Writes PNG, PDF and the caption, if any, as text, without the time of drawing, so that the same table gives the
    same files. Returns their paths.

    source: the digest of the table, stored in both pictures; the PNG also holds the caption. A picture without a table
    may hold photographs, so it keeps all its colors; a picture of a table gets 256 colors, a third of the bytes.
    """
    png, pdf = io.BytesIO(), io.BytesIO()
    kept = {"Keywords": source} if source else {}
    try:
        with plt.rc_context(STYLE):
            figure.savefig(png, format="png", metadata={"Software": None})
            figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, **kept})
    finally:
        plt.close(figure)
    if source:
        png = _signed(png, {"Keywords": source, "Description": caption})
    text = f"{caption}\n".encode() if caption else b""
    files = dict(zip(ENDINGS, (png.getvalue(), pdf.getvalue(), text), strict=True))
    paths = [stem.with_name(stem.name + ending) for ending, content in files.items() if content]
    for path in paths:
        write_file(path, files[path.suffix])
    if not caption:
        stem.with_name(f"{stem.name}.txt").unlink(missing_ok=True)  # of an earlier drawing
    return paths


def _signed(png: io.BytesIO, texts: Mapping[str, str]) -> io.BytesIO:
    """The picture with 256 colors and these texts."""
    info, signed = PngInfo(), io.BytesIO()
    for key, text in texts.items():
        if text:
            info.add_itxt(key, text)
    with Image.open(png) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(signed, "PNG", pnginfo=info, dpi=picture.info["dpi"], optimize=True)
    return signed
