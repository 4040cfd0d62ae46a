"""Augmented sample images: a contact sheet of operators with their laws, and strips of an experiment's views."""

from __future__ import annotations

import io
import json
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn.functional import interpolate

from ablation.contracts.base import by_a_user
from ablation.contracts.operators import check_views
from ablation.data import loaded
from ablation.data.dataset import Split
from ablation.operators import Operator
from ablation.operators.pipeline import make_views
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
class Strip:
    """A view of an experiment: images (draws, C, S, S) in [0, 1], its operators, and the cells that have it."""

    images: Tensor
    operators: str
    cells: str


def strips(experiment: Experiment, draws: int = 6) -> list[Strip]:
    """Augmented validation images, of the first cell's data set, of each different first view."""
    views: dict[str, tuple] = {}
    places: dict[str, list[dict]] = {}
    for cell in experiment.cells:
        training = cell.run.training
        key = repr((training.shared, training.views[0]))  # a user's operator may hold a list, without a hash
        views.setdefault(key, (training.shared, training.views[0]))
        place = {axis: written(value) for axis, value in cell.coords.items() if axis != "seed"}
        places.setdefault(key, []).append(place)
    images = samples(loaded(experiment.cells[0].run.training.dataset, "cpu").validation, draws)
    found = []
    for key, (shared, view) in views.items():
        shown = make_views(images, shared, (view,), (0, "strip"))[0]
        shown = interpolate(shown, images.shape[-2:])  # changes only views of another size
        operators = view_label(operator.label for operator in (*shared, *view))
        found.append(Strip(shown, operators, _in_common(places[key])))
    return found


def _in_common(places: list[dict]) -> str:
    """The coordinates that all cells share, and the number of cells."""
    different = list({tuple(place.items()): place for place in places}.values())
    shared = [f"{a} {v}" for a, v in different[0].items() if all(place.get(a) == v for place in different)]
    return ", ".join(shared + ([many(len(different), "cell")] if len(different) > 1 else []))


def save_strips(experiment: Experiment, stem: Path) -> list[Path]:
    """Writes the strips as PNG and PDF under a title; returns the paths.

    The PNG's texts hold `height`, that of a row in pixels, and `views`, the title and the rows' labels from top to
    bottom as JSON.
    """
    rows = strips(experiment)
    datasets = list(dict.fromkeys(cell.run.training.dataset for cell in experiment.cells))
    title = f"Views of {datasets[0].label}" + (f", the first of {len(datasets)} data sets" if datasets[1:] else "")
    picture, texts = io.BytesIO(), PngInfo()
    scale = -(-SMALLEST // rows[0].images.shape[-1])
    height = scale * rows[0].images.shape[-1]
    texts.add_text("views", json.dumps([title, *(row.operators for row in rows)]))
    texts.add_text("height", str(height))
    _picture(rows, title, scale, height).save(picture, "PNG", pnginfo=texts, optimize=True)
    files = {".png": picture.getvalue(), ".pdf": _page(rows, title)}
    paths = {stem.with_name(f"{stem.name}{ending}"): content for ending, content in files.items()}
    for path, content in paths.items():
        write_file(path, content)
    return list(paths)


def _in_line(row: Strip) -> Tensor:
    """(C, S, draws * S) as three channels."""
    return torch.cat(list(_as_rgb(row.images)), 2)


def _picture(rows: list[Strip], title: str, scale: int, height: int) -> Image.Image:
    grid = torch.cat([_in_line(row) for row in rows], 1).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    shown = Image.fromarray((grid * 255).round().byte().permute(1, 2, 0).numpy())
    picture = Image.new("RGB", (shown.width + 8 * height, shown.height + height), "white")
    picture.paste(shown, (0, height))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=0.26 * height)
    draw.text((4, 0.4 * height), title, fill="black", font=ImageFont.load_default(size=0.34 * height))
    for number, row in enumerate(rows, start=1):
        text = f"{row.operators}\n{row.cells}"
        draw.text((shown.width + 8, (number + 0.15) * height), text, fill="black", font=font, spacing=2)
    return picture.quantize(256)


def _page(rows: list[Strip], title: str) -> bytes:
    page = io.BytesIO()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows), 1, figsize=(PAGE, 0.5 * len(rows) + 0.35), squeeze=False, layout="constrained"
        )
        figure.suptitle(title, fontsize=TITLE, x=0.01, ha="left")
        for axis, row in zip(axes.flat, rows, strict=True):
            axis.imshow(_in_line(row).permute(1, 2, 0).numpy(), vmin=0, vmax=1, interpolation="none", aspect="equal")
            axis.axis("off")
            axis.set_anchor("W")
            text = "\n".join(folded(each, 3.2, TEXT) for each in (row.operators, row.cells) if each)
            axis.text(1.02, 0.5, text, va="center", transform=axis.transAxes, fontsize=SMALL)
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
        (shown,) = make_views(images, (), ((operator,),), (0, "preview"))
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
