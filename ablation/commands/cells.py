"""The cells that `ablation run` selects, and warnings about cells that are equal by mistake."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ablation.analysis.partial_tables import place_of
from ablation.analysis.settings import key_of
from ablation.commands.status import print_warnings
from ablation.execution.store import Identified
from ablation.spec import InvalidSpec

if TYPE_CHECKING:
    import pandas as pd


def only(cells: Sequence[Identified], text: str | None) -> list[Identified]:
    """The cells at the coordinates of `text`, the value of --only ("first=crop,second=color"; None for all)."""
    if not text:
        return list(cells)
    pairs = [part.partition("=") for part in text.split(",")]
    axes = {key for cell in cells for key in cell.cell.coords}
    for key, equals, _ in pairs:
        if not equals:
            raise InvalidSpec(f"--only must give coordinates as axis=value, but got {key!r}. Write first=crop, say.")
        if key not in axes:
            near = difflib.get_close_matches(key, axes, 1)
            raise InvalidSpec(
                f"--only must name axes of the cells, but none is called {key!r}; "
                f"{f'did you mean {near[0]!r}? ' if near else ''}they are {', '.join(sorted(axes))}."
            )
    chosen = [c for c in cells if all(_is(c.cell.coords.get(key), value) for key, _, value in pairs)]
    if not chosen:
        values = (
            f"{key}: {', '.join(dict.fromkeys(str(c.cell.coords[key]) for c in cells if key in c.cell.coords))}"
            for key, _, _ in pairs
        )
        raise InvalidSpec(
            f"--only must choose at least one cell, but {text!r} chooses none. The values are {'; '.join(values)}."
        )
    return chosen


def _is(coordinate: Any, typed: str) -> bool:
    """Whether a coordinate equals the typed text; 0.50 equals 0.5."""
    if isinstance(coordinate, (int, float)):
        with contextlib.suppress(ValueError):
            return coordinate == float(typed)
    return str(coordinate) == typed


def warn_of_idle_axes(cells: list[Identified]) -> None:
    """Warns of an axis that changes no run, such as a value that the experiment never uses."""
    for axis in dict.fromkeys(axis for item in cells for axis in item.cell.coords):
        along: dict[str, list[Identified]] = {}
        for item in (item for item in cells if axis in item.cell.coords):
            others = {name: value for name, value in item.cell.coords.items() if name != axis}
            along.setdefault(key_of(others), []).append(item)
        groups = list(along.values())
        runs = [{(each.training_id, each.evaluation_ids) for each in group} for group in groups]
        if all(len(group) > 1 for group in groups) and all(len(each) == 1 for each in runs):
            print_warnings([
                f"the axis {axis!r} changes no run, so cells that differ only in it have the same numbers. Use its "
                "value in the run, or remove it"
            ])  # fmt: skip


def warn_of_equal_runs(cells: list[Identified]) -> None:
    """Warns of cells with different coordinates but the same run, if the run has a user's class."""
    places: dict[tuple, dict[str, Identified]] = {}
    for item in cells:
        places.setdefault((item.training_id, item.evaluation_ids), {})[place_of(item.cell.coords)] = item
    several = [cells_of_run for cells_of_run in places.values() if len(cells_of_run) > 1]
    if several:
        from ablation.contracts.base import by_a_user

        several = [each for each in several if by_a_user(next(iter(each.values())).cell.run)]
    if several:
        one, other, *_ = several[0]
        print_warnings([
            f"the cells {one} and {other} are one run, so their numbers are the same"
            + (f"; so are others, {len(several)} runs in all" if len(several) > 1 else "")
            + ". Make every difference between objects a field: globals and attributes of a class are not seen"
        ])  # fmt: skip


def warn_of_equal_numbers(cells: list[Identified], table: pd.DataFrame) -> None:
    """Warns if different trainings of a user's class have the same results to the last digit: a field that no method
    reads changes the id but not the result. table: a row per cell."""
    axes = {axis for item in cells for axis in item.cell.coords}
    measured = [name for name in table.columns.difference([*axes]) if table[name].dtype.kind == "f"]
    measured = [name for name in measured if re.search(r"^(loss|alignment|uniformity)$|_top\d|accuracy", name)]
    alike: dict[tuple, dict[str, Identified]] = {}
    for item, (_, row) in zip(cells, table.iterrows(), strict=True):
        training = item.cell.run.training
        if (
            "loss" in measured
            and row["state"] == "finished"
            and training.method.trains  # views change nothing without training, or with an operator switched off
            and not any(0 in (getattr(each, "p", 1), getattr(each, "strength", 1)) for each in training.operators)
        ):
            numbers = tuple(f"{row[name]:.6g}" for name in measured)
            alike.setdefault(numbers, {}).setdefault(item.training_id, item)
    several = [list(each.values()) for each in alike.values() if len(each) > 1]
    if several:
        from ablation.contracts.base import by_a_user

        several = [each for each in several if by_a_user(each[0].cell.run.training)]
    if several:
        coords = [item.cell.coords for item in several[0]]
        values = {axis: list(dict.fromkeys(str(each.get(axis)) for each in coords)) for axis in coords[0]}
        shown = [f"{axis} ({', '.join(each[:5])})" for axis, each in values.items() if len(each) > 1]
        print_warnings([
            f"cells that differ only in {' and '.join(shown)} have the same numbers to the last digit"
            + (f", in {len(several)} places" if len(several) > 1 else "")
            + ". Perhaps your class ignores this field: use it in a method, or remove the axis"
        ])  # fmt: skip
