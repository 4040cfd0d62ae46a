"""Augmented sample images: a contact sheet of operators with their laws, and strips of an experiment's views."""

from __future__ import annotations

import json
import textwrap

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn.functional import interpolate

from ablation.contracts import by_a_user, check_views
from ablation.datasets import loaded
from ablation.operators import Operator
from ablation.specs import Experiment
from ablation.views import make_views


def operators_of(experiment: Experiment) -> list[Operator]:
    """Every different operator of the experiment's views, in order of appearance."""
    trainings = [cell.run.training for cell in experiment.cells]
    found = [op for t in trainings for view in (t.shared, *t.views) for op in view]
    return list({repr(op): op for op in found}.values())  # a user's may hold a list, which has no hash


def strips(experiment: Experiment, draws: int = 6) -> tuple[Image.Image, PngInfo]:
    """A row of augmented validation images for each different first view, with its operators and its first cell.

    The picture's texts hold `views`, the labels from top to bottom as JSON, and `height`, of a row in pixels.
    """
    cells: dict[str, tuple] = {}
    for cell in experiment.cells:
        training = cell.run.training
        place = ", ".join(f"{axis} {value}" for axis, value in cell.coords.items() if axis != "seed")
        seen = training.shared, training.views[0]
        cells.setdefault(repr(seen), (*seen, place))  # a user's operator may hold a list, which has no hash
    images = loaded(experiment.cells[0].run.training.dataset, "cpu").validation.images[:draws]
    rows = [make_views(images, shared, (view,), (0, "strip"))[0] for shared, view, _ in cells.values()]
    rows = [interpolate(row, images.shape[-2:]) for row in rows]  # as they are, but for views of another size
    grid = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    shown = Image.fromarray((grid * 255).round().byte().permute(1, 2, 0).numpy())
    height, width = images.shape[-1], shown.width
    labels = [
        " + ".join(operator.label for operator in (*shared, *view)) or "none" for shared, view, _ in cells.values()
    ]
    picture = Image.new("RGB", (width + 9 * height, shown.height), "white")
    picture.paste(shown)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=0.32 * height)
    for row, lines in enumerate(zip(labels, (place for *_, place in cells.values()), strict=True)):
        draw.text((width + 4, row * height), "\n".join(lines), fill="black", font=font, spacing=1)
    texts = PngInfo()
    texts.add_text("views", json.dumps(labels))
    texts.add_text("height", str(height))
    return picture.quantize(256), texts


def contact_sheet(experiment: Experiment, draws: int) -> Figure:
    """Rows: the images, then each operator; columns: draws on different images."""
    data = loaded(experiment.cells[0].run.training.dataset, "cpu")
    images = data.validation.images[:draws]
    rows: list[tuple[str, str, Tensor]] = [("", f"{data.size} x {data.size} px, unchanged", images.float() / 255)]
    for operator in operators_of(experiment):
        if by_a_user(operator):
            check_views(images, (), ((operator,),))
        (shown,) = make_views(images, (), ((operator,),), (0, "preview"))
        rows.append((operator.label, f"p {operator.p:g}; {operator.card(data.size)}", shown))
    columns = len(images)
    with plt.rc_context({"font.size": 7, "pdf.fonttype": 42}):
        figure, axes = plt.subplots(
            len(rows), columns + 1, figsize=(0.62 * columns + 4.2, 0.68 * len(rows)), squeeze=False,
            width_ratios=[1] * columns + [5.5],
        )  # fmt: skip
        for line, (label, law, shown) in zip(axes, rows, strict=True):
            for axis, image in zip(line, shown, strict=False):
                axis.imshow(image.permute(1, 2, 0).numpy(), vmin=0, vmax=1)
            for axis in line:
                axis.axis("off")
            text = "\n".join([label, *textwrap.wrap(law, 62)]) if label else law
            line[-1].text(0, 0.5, text, va="center", transform=line[-1].transAxes)
        figure.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.01, wspace=0.05, hspace=0.08)
    return figure
