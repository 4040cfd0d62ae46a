"""A long table computed in pieces: `ablation run NAME --part I/N`.

A part is whole cells with all their seeds. Its table keeps the cells that were finished before, by whatever machine, as
the earlier table beside the figures has them: a row counts where its training and evaluations have the ids of today's
cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ablation.results import Identified
from ablation.settings import read_settings
from ablation.specs import written
from ablation.tables import numbers, read_table

Place = tuple[tuple[str, str], ...]  # a cell's coordinates without the seed, as they are written


def place_of(coords: Any) -> Place:
    return tuple((axis, written(value)) for axis, value in coords.items() if axis != "seed" and pd.notna(value))


def cells_of_part(cells: Sequence[Identified], index: int, count: int) -> list[Identified]:
    """The cells of part `index` of `count`, in order; the parts together have each cell once."""
    places = list(dict.fromkeys(place_of(cell.cell.coords) for cell in cells))
    mine = set(places[len(places) * index // count : len(places) * (index + 1) // count])
    return [cell for cell in cells if place_of(cell.cell.coords) in mine]


def with_earlier(
    tables: dict[str, pd.DataFrame], csv: Path, cells: Sequence[Identified]
) -> tuple[dict[str, pd.DataFrame], int]:
    """The tables with the rows of an earlier table for cells that are not finished here, and how many those are.

    tables: the table of the cells, a row for each in order, under "", and those beside it by the ending of their names.
    """
    if not csv.is_file():
        return tables, 0
    earlier, settings = _like(tables[""], read_table(csv)), read_settings(csv)
    axes = [axis for axis in settings.axes if axis in earlier]
    known = {_key(row, axes): row.dropna() for _, row in earlier.iterrows() if row["state"] == "finished"}
    rows, kept = [], []
    for item, (_, row) in zip(cells, tables[""].iterrows(), strict=True):
        old = known.get((item.training_id, frozenset(_written(item.cell.coords).items())))
        known_evaluations = set(settings.evaluations.get(item.training_id, []))
        if row["state"] != "finished" and old is not None and known_evaluations >= set(item.evaluation_ids):
            rows.append(old.to_dict())
            kept.append(place_of(item.cell.coords))
        else:
            rows.append(row.dropna().to_dict())
    columns = [*(earlier.columns if kept else ()), *tables[""].columns]
    merged = {"": pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))}
    order = {place: number for number, place in enumerate(dict.fromkeys(place_of(c.cell.coords) for c in cells))}
    for name, table in tables.items():
        beside = csv.with_name(f"{csv.stem}-{name}.csv")
        if name:
            before = _like(table, read_table(beside)) if kept and beside.is_file() else pd.DataFrame()
            before = before[[place_of(row) in set(kept) for row in _coords(before, axes)]] if len(before) else before
            both = pd.concat([table, before], ignore_index=True)
            number = [order[place_of(row)] for row in _coords(both, axes)]
            merged[name] = both.assign(order=number).sort_values("order", kind="stable").drop(columns="order")
    return merged, len(kept)


def _like(table: pd.DataFrame, earlier: pd.DataFrame) -> pd.DataFrame:
    """What was read as text as numbers, where the table has numbers."""
    return numbers(earlier, [column for column in table.select_dtypes("number") if column in earlier])


def _written(coords: Any) -> dict[str, str]:
    return {axis: written(value) for axis, value in coords.items() if pd.notna(value)}


def _key(row: pd.Series, axes: Sequence[str]) -> tuple[str, frozenset]:
    return row["training"], frozenset(_written({axis: row[axis] for axis in axes}).items())


def _coords(table: pd.DataFrame, axes: Sequence[str]) -> list[dict]:
    return table[[axis for axis in axes if axis in table]].to_dict("records")
