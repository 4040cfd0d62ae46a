"""Augmented sample images: a contact sheet of operators with their laws, and strips of an experiment's views.

Masked patches, whose pixels a masked method does not see, are hatched.
"""

from __future__ import annotations

import io
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ablation.contracts.base import by_a_user
from ablation.contracts.operators import check_views
from ablation.data import loaded
from ablation.data.dataset import Split
from ablation.operators import Operator
from ablation.operators.pipeline import annotate, render, sample
from ablation.plots.layout import PAGE, SMALL, STYLE, TEXT, TITLE, folded
from ablation.spec import Experiment, view_label, written
from ablation.spec.randomness import generator_at
from ablation.system.files import write_file
from ablation.system.terminal import many

SMALLEST = 64  # pixels of the side of an image in a strip, at least


def operators_of(experiment: Experiment) -> list[Operator]:
    """Every different operator of the experiment's views, in order of appearance."""
    found = [operator for cell in experiment.cells for operator in cell.run.training.operators]
    return list({repr(op): op for op in found}.values())  # by repr: a user's operator may hold a list, without a hash


def samples(split: Split, count: int) -> Tensor:
    """`count` images of a split, spread over all classes; always the same ones."""
    order = torch.randperm(len(split.images), generator=generator_at(0, "samples"))
    if split.labels is None:
        return split.images[order[:count].to(split.images.device)]
    seen: Counter[int] = Counter()
    place = []  # rank of each image within its class
    for label in split.labels.cpu()[order].tolist():
        place.append(seen[label])
        seen[label] += 1
    first = sorted(range(len(place)), key=place.__getitem__)[:count]
    return split.images[order[first].to(split.images.device)]


@dataclass(frozen=True)
class Shown:
    """One of the different views of a strip: images (draws, C, S, S) in [0, 1], its operators, and how many such views
    a training has."""

    images: Tensor
    operators: str
    count: int


@dataclass(frozen=True)
class Strip:
    """A set of views of an experiment, all of the same images, and the cells that have it."""

    views: tuple[Shown, ...]
    cells: str

    @property
    def operators(self) -> str:
        return " | ".join(view.operators for view in self.views)


def strips(experiment: Experiment, draws: int = 6) -> list[Strip]:
    """Augmented validation images, of the first cell's data set, of each set of views.

    draws: the images of a strip, divided among its different views. Views without operators are left out beside others.
    """
    sets: dict[str, tuple] = {}
    places: dict[str, list[dict]] = {}
    for cell in experiment.cells:
        training = cell.run.training
        views = tuple(view for view in training.views if view) or ((),)
        key = repr((training.shared, views))  # a user's operator may hold a list, without a hash
        sets.setdefault(key, (training.shared, views))
        place = {axis: written(value) for axis, value in cell.coords.items() if axis != "seed"}
        places.setdefault(key, []).append(place)
    images = samples(loaded(experiment.cells[0].run.training.dataset, "cpu").validation, draws)
    return [Strip(_different(images, *each), _in_common(places[key])) for key, each in sets.items()]


def _different(images: Tensor, shared: tuple, views: tuple[tuple, ...]) -> tuple[Shown, ...]:
    counts, different = Counter(map(repr, views)), list({repr(view): view for view in views}.values())
    images = images[: max(1, len(images) // len(different))]
    return tuple(
        Shown(shown, view_label(operator.label for operator in (*shared, *view)), counts[repr(view)])
        for view, shown in zip(different, _drawn(images, shared, different, "strip"), strict=True)
    )


def _drawn(images: Tensor, shared: tuple, views: Sequence[tuple], address: str) -> list[Tensor]:
    """The views, float32 in [0, 1], of images (B, C, S, S) uint8; masked patches are hatched."""
    sampled = sample(shared, views, [(0, address)], len(images), images.shape[-1], images.device)
    drawn = zip(render(images, sampled), annotate(sampled), strict=True)
    return [hatched(view, facts["mask"]) if "mask" in facts else view for view, facts in drawn]


def hatched(images: Tensor, mask: Tensor) -> Tensor:
    """Images (B, C, S, S) with grey stripes in place of the masked patches; mask: (B, patches) bool, row by row."""
    side, grid = images.shape[-1], round(mask.shape[1] ** 0.5)
    hidden = interpolate(mask.view(-1, 1, grid, grid).float(), side).bool()
    pixels, patch = torch.arange(side), side / grid
    stripes = torch.where((pixels[:, None] + pixels) % patch < patch / 4, 0.35, 0.65)
    return torch.where(hidden, stripes, images)


def _in_common(places: list[dict]) -> str:
    """The coordinates that all cells share, all their methods, and the number of cells."""
    different = list({tuple(place.items()): place for place in places}.values())
    parts = [f"{a} {v}" for a, v in different[0].items() if all(place.get(a) == v for place in different)]
    methods = list(dict.fromkeys(place["method"] for place in different if "method" in place))
    parts += [f"methods {', '.join(methods)}"] if len(methods) > 1 else []
    parts += [many(len(different), "cell")] if len(different) > max(1, len(methods)) else []
    return ", ".join(parts)


def save_strips(experiment: Experiment, stem: Path, draws: int = 6) -> list[Path]:
    """Writes the strips as PNG and PDF under a title; returns the paths.

    The PNG's texts hold `height`, that of a row in pixels, and `views`, the title and the rows' labels from top to
    bottom as JSON.
    """
    rows = strips(experiment, draws)
    datasets = list(dict.fromkeys(cell.run.training.dataset for cell in experiment.cells))
    title = f"Views of {datasets[0].label}" + (f", the first of {len(datasets)} data sets" if datasets[1:] else "")
    shown, texts = io.BytesIO(), PngInfo()
    height = _largest(rows) * -(-SMALLEST // _largest(rows))
    texts.add_text("views", json.dumps([title, *(row.operators for row in rows)]))
    texts.add_text("height", str(height))
    picture(rows, title, height).save(shown, "PNG", pnginfo=texts, optimize=True)
    files = {".png": shown.getvalue(), ".pdf": _page(rows, title)}
    paths = {stem.with_name(f"{stem.name}{ending}"): content for ending, content in files.items()}
    for path, content in paths.items():
        write_file(path, content)
    return list(paths)


def _largest(rows: list[Strip]) -> int:
    """The side of the largest view."""
    return max(view.images.shape[-1] for row in rows for view in row.views)


def in_line(row: Strip, scale: float, height: int) -> tuple[Tensor, list[tuple[int, str]]]:
    """A strip as (3, height, width), its views `scale` times as large, and where it says how many views are equal."""
    parts, notes, column = [], [], 0
    for view in row.views:
        side, several = round(scale * view.images.shape[-1]), view.count > 1
        how = {"mode": "nearest"} if scale.is_integer() else {"mode": "bilinear", "antialias": True}
        images = interpolate(_as_rgb(view.images), (side, side), **how).clamp(0, 1)
        column += len(images) * side
        notes += [(column + height // 10, f"x {view.count}")] if several else []
        gap, top = (height * 7 // 10 if several else height // 8), (height - side) // 2
        parts.append(pad(torch.cat(list(images), 2), (0, gap, top, height - side - top), value=1.0))
        column += gap
    return torch.cat(parts, 2), notes


def _all_in_line(rows: list[Strip], height: int) -> list[tuple[Tensor, list[tuple[int, str]]]]:
    """Of equal widths, the largest views `height` pixels high."""
    lines = [in_line(row, height / _largest(rows), height) for row in rows]
    width = max(line.shape[2] for line, _ in lines)
    return [(pad(line, (0, width - line.shape[2]), value=1.0), notes) for line, notes in lines]


def _lines(row: Strip) -> list[str]:
    """The operators of each view, its size if sizes differ, and the cells."""
    sizes = [view.images.shape[-1] for view in row.views]
    notes = [f", {size} px" if len(set(sizes)) > 1 else "" for size in sizes]
    texts = [view.operators + note for view, note in zip(row.views, notes, strict=True)]
    return texts + ([row.cells] if row.cells else [])


def picture(rows: list[Strip], title: str, height: int) -> Image.Image:
    """The strips under a title. height: of the title, of a row and of the largest views, in pixels."""
    lines = _all_in_line(rows, height)
    grid = torch.cat([line for line, _ in lines], 1)
    shown = Image.fromarray((grid * 255).round().byte().permute(1, 2, 0).numpy())
    texts = ["\n".join(part for line in _lines(row) for part in textwrap.wrap(line, 72)) for row in rows]
    fonts = [ImageFont.load_default(size=min(0.26, 0.8 / (text.count("\n") + 1)) * height) for text in texts]
    wide = max(font.getlength(each) for text, font in zip(texts, fonts, strict=True) for each in text.split("\n"))
    whole = Image.new("RGB", (shown.width + 16 + round(wide), shown.height + height), "white")
    whole.paste(shown, (0, height))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=0.26 * height)
    draw.text((4, 0.4 * height), title, fill="black", font=ImageFont.load_default(size=0.34 * height))
    for number, (text, own, (_, notes)) in enumerate(zip(texts, fonts, lines, strict=True), start=1):
        middle = (number + 0.5) * height
        draw.text((shown.width + 8, middle), text, fill="black", font=own, spacing=2, anchor="lm")
        for column, note in notes:
            draw.text((column, middle), note, fill="black", font=font, anchor="lm")
    return whole.quantize(256)


def _page(rows: list[Strip], title: str) -> bytes:
    page, height = io.BytesIO(), _largest(rows)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows), 1, figsize=(PAGE, 0.5 * len(rows) + 0.35), squeeze=False, layout="constrained"
        )
        figure.suptitle(title, fontsize=TITLE, x=0.01, ha="left")
        for axis, row, (line, notes) in zip(axes.flat, rows, _all_in_line(rows, height), strict=True):
            axis.imshow(line.permute(1, 2, 0).numpy(), vmin=0, vmax=1, interpolation="none", aspect="equal")
            axis.axis("off")
            axis.set_anchor("W")
            text = "\n".join(folded(each, 3.2, TEXT) for each in _lines(row))
            axis.text(1.02, 0.5, text, va="center", transform=axis.transAxes, fontsize=SMALL)
            for column, note in notes:
                axis.text(column, height / 2, note, va="center", fontsize=SMALL)
        figure.savefig(page, format="pdf", metadata={"CreationDate": None})
    plt.close(figure)
    return page.getvalue()


def contact_sheet(experiment: Experiment, draws: int) -> Figure:
    """Rows: the images, then each operator; columns: draws on different images."""
    data = loaded(experiment.cells[0].run.training.dataset, "cpu")
    images = samples(data.validation, draws)
    rows: list[tuple[str, str, Tensor]] = [("", f"{data.size} x {data.size} px, unchanged", images.float() / 255)]
    for operator in operators_of(experiment):
        if by_a_user(operator):
            check_views(images, (), ((operator,),))
        (shown,) = _drawn(images, (), ((operator,),), "preview")
        rows.append((operator.label, f"p {operator.p:g}; {operator.describe(data.size)}", shown))
    columns = len(images)
    with plt.rc_context({"font.size": 7, "pdf.fonttype": 42}):
        figure, axes = plt.subplots(
            len(rows), columns + 1, figsize=(0.62 * columns + 4.2, 0.68 * len(rows)), squeeze=False,
            width_ratios=[1] * columns + [5.5],
        )  # fmt: skip
        for line, (label, law, shown) in zip(axes, rows, strict=True):
            for axis, image in zip(line, _as_rgb(shown), strict=False):
                axis.imshow(image.permute(1, 2, 0).numpy(), vmin=0, vmax=1)
            for axis in line:
                axis.axis("off")
            text = "\n".join([label, *textwrap.wrap(law, 62)]) if label else law
            line[-1].text(0, 0.5, text, va="center", transform=line[-1].transAxes)
        figure.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.01, wspace=0.05, hspace=0.08)
    return figure


def _as_rgb(images: Tensor) -> Tensor:
    """(B, 3, S, S) of images with any number of channels: the first three of them, or the first as grey."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
