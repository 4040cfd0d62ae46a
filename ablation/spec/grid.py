"""Cells of an experiment: ordered pairs of operators, and cartesian products of any axes."""

from __future__ import annotations

import itertools
import math
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ablation.spec.base import InvalidSpec, clean, plain
from ablation.spec.run import Run


def pairwise(operators: Iterable[Any], make: Callable[[tuple], Run], *, seeds: Iterable[int]) -> tuple[Cell, ...]:
    """Every ordered pair of operators, and each operator alone on the diagonal (Chen et al. 2020, Figure 5).

    make(view) returns the run of a view, `(first, second)` or `(first,)`; this function sets its seed.
    Coordinates: "first" and "second", the operators' labels, and "seed".
    """
    operators, seeds = tuple(operators), _several(seeds)
    cells = []
    for (i, first), (j, second) in itertools.product(enumerate(operators), repeat=2):
        run = make((first,) if i == j else (first, second))
        for seed in seeds:
            coords = {"first": first.label, "second": second.label, "seed": seed}
            cells.append(Cell(coords=coords, run=run.with_seed(seed)))
    return tuple(cells)


def sweep(make: Callable[..., Run], *, seeds: Iterable[int], **axes: Any) -> tuple[Cell, ...]:
    """The cartesian product of named axes. `make(axis=value, ...)` returns the run; this function sets its seed.

    An axis is a mapping from labels to values, or a sequence of values; a value without a `label` is its own
    coordinate.
    """
    named, seeds = {}, _several(seeds)
    for axis, values in axes.items():
        pairs = list(values.items()) if isinstance(values, Mapping) else [(getattr(v, "label", v), v) for v in values]
        pairs = [(plain(label), plain(value)) for label, value in pairs]
        for label, _ in pairs:
            if not isinstance(label, (str, int, float)):
                raise InvalidSpec(
                    f"sweep: the values of {axis} must be strings or numbers or have a label, but got {label!r}. "
                    f"Give labels: {axis}={{'name': value, ...}}."
                )
        named[axis] = pairs
    cells = []
    for combination in itertools.product(*named.values()):
        run = make(**{axis: value for axis, (_, value) in zip(named, combination, strict=True)})
        coords = {axis: label for axis, (label, _) in zip(named, combination, strict=True)}
        cells += [Cell(coords={**coords, "seed": seed}, run=run.with_seed(seed)) for seed in seeds]
    return tuple(cells)


def _several(seeds: Iterable[int]) -> tuple[int, ...]:
    if not isinstance(seeds, Iterable):
        raise InvalidSpec(f"seeds must be several numbers, but got {seeds!r}. Write seeds=range({seeds}).")
    return tuple(map(plain, seeds))


COMPUTED = ("mean", "sd", "n", "error", "reach", "among_best")  # columns of statistics, so not names of axes
RESERVED = ("curves", "images", "views", "test", "importance")  # suffixes of other files, so not names of figures
FIGURE = ("draw", "text", "source", "note", "replace")


def written(label: Any) -> str:
    """A coordinate as tables and figures show and compare it. Whole numbers have no decimal point: pandas turns 32
    into 32.0 next to a missing value."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(plain(label))


def check_labels(axis: str, labels: Iterable[Any]) -> None:
    """Raises InvalidSpec if two labels of an axis look the same: 0.5 and "0.5", or labels that differ only in Unicode
    compatibility forms (NFKC), spaces or invisible format characters."""
    seen: dict[str, Any] = {}
    for label in dict.fromkeys(labels):
        visible = (c for c in unicodedata.normalize("NFKC", written(label)) if unicodedata.category(c) != "Cf")
        key = " ".join("".join(visible).split())
        if key in seen:
            raise InvalidSpec(
                f"the labels {seen[key]!a} and {label!a} of {axis!r} look the same. "
                "If they mean the same, write them the same way; if not, rename one."
            )
        seen[key] = label


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A run and its coordinates in a grid: numbers, or text that survives a round trip through a table."""

    coords: Mapping[str, str | int | float]
    run: Run

    def __post_init__(self):
        object.__setattr__(self, "coords", {axis: plain(label) for axis, label in self.coords.items()})
        for axis, label in self.coords.items():
            for role, text in (("axes", axis), ("labels", label)):
                number = role == "labels" and isinstance(text, (int, float)) and math.isfinite(text)
                if not number and not (isinstance(text, str) and text and text == clean(text)):
                    raise InvalidSpec(
                        f"Cell.coords: {role} must be text (NFC, no control characters, no spaces at the ends) or "
                        f"finite numbers, but got {text!a} at {axis!r}. Rename it."
                    )

    @property
    def name(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.coords.items())


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Cells and figures of one experiment. The file's name is the experiment's name."""

    cells: tuple[Cell, ...]
    figures: Mapping[str, Any]

    def __post_init__(self):
        wrong = self.cells
        if isinstance(self.cells, (tuple, list)):
            wrong = next((cell for cell in self.cells if not isinstance(cell, Cell)), None)
        if wrong is not None:
            raise InvalidSpec(
                f"Experiment.cells must be a tuple of cells, but got {reprlib.repr(wrong)}. "
                "Write cells=pairwise(...) or sweep(...), or Cell(coords={'axis': value, 'seed': 0}, run=run) for each."
            )
        axes = {axis for cell in self.cells for axis in cell.coords}
        for axis in axes:
            check_labels(axis, (cell.coords[axis] for cell in self.cells if axis in cell.coords))
        seen: dict[tuple, Cell] = {}
        for cell in self.cells:
            key = tuple(sorted((k, written(v)) for k, v in cell.coords.items()))
            if key in seen:
                raise InvalidSpec(
                    f"Experiment.cells: two cells have the same coordinates, {cell.name}. "
                    "Give two operators of the same class different labels, or add the axis on which they differ."
                )
            seen[key] = cell
        if not isinstance(self.figures, Mapping):
            raise InvalidSpec(
                f"Experiment.figures must map names to figures, but got {reprlib.repr(self.figures)}. Write "
                "figures={'heatmap': Heatmap(rows='first', columns='second')}, or {} for none."
            )
        for name, figure in self.figures.items():
            lacking = [each for each in FIGURE if not hasattr(figure, each)]
            if isinstance(figure, type) or lacking:
                raise InvalidSpec(
                    f"Experiment.figures[{name!r}] must be a figure, but got {reprlib.repr(figure)}. "
                    "Write Heatmap(rows='first', columns='second'), say; let a class of your own inherit FigureSpec."
                )
            if name in RESERVED or not re.fullmatch(r"\w[\w .+-]*", str(name)):
                raise InvalidSpec(
                    f"Experiment.figures: {name!r} is not a valid name. Use letters and digits, and none of "
                    f"{', '.join(RESERVED)}, which every experiment's own tables and pictures take. Rename the figure."
                )
            wrong = [axis for axis in getattr(figure, "axes", ()) if axis not in axes]
            if self.cells and wrong:
                raise InvalidSpec(
                    f"Experiment.figures[{name!r}] uses {wrong[0]!r}, which is no coordinate of the cells. "
                    f"Use one of {', '.join(sorted(axes))}."
                )
            if self.cells and hasattr(figure, "check"):
                figure.check(name, self.cells)
        if not self.cells:
            raise InvalidSpec(
                "Experiment.cells must hold at least one cell, but got (). Check the axes for an empty one."
            )
