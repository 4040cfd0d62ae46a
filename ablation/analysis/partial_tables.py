"""A long table computed in pieces: `ablation run NAME --part I/N`.

A part consists of whole cells with all their seeds. Its table keeps the finished cells of the earlier table beside the
figures, from any machine, if the ids of their training and evaluations match today's cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ablation.analysis.settings import Settings, key_of, read_settings, tables_of
from ablation.analysis.tables import numbers, read_table
from ablation.execution.store import Identified
from ablation.spec import AblationError, DataError


def place_of(coords: Mapping[str, Any]) -> str:
    """A cell's coordinates without the seed."""
    return key_of({axis: value for axis, value in coords.items() if axis != "seed"})


def cells_of_part(cells: Sequence[Identified], index: int, count: int) -> list[Identified]:
    """The cells of part `index` of `count`, in order; each cell is in exactly one part."""
    places = list(dict.fromkeys(place_of(cell.cell.coords) for cell in cells))
    mine = set(places[len(places) * index // count : len(places) * (index + 1) // count])
    return [cell for cell in cells if place_of(cell.cell.coords) in mine]


@dataclass(frozen=True)
class Earlier:
    """The tables of earlier parts, by the suffix of their names; "" is the table of cells."""

    tables: dict[str, pd.DataFrame]
    settings: Settings

    @classmethod
    def read(cls, csv: Path, names: Sequence[str]) -> Earlier | None:
        """None if there is no table. Raises DataError if it is unreadable or has no settings."""
        if not csv.is_file():
            return None
        try:
            settings = read_settings(csv)
        except AblationError as error:
            raise DataError(
                f"--part cannot continue the table {csv}: {error} Or move the table to another folder."
            ) from error
        return cls({name: read_table(path) for name, path in tables_of(csv).items() if name in names}, settings)

    def finished(self, cell: Identified) -> pd.Series | None:
        """The row of a finished cell, if its training and evaluations are today's."""
        key, table = key_of(cell.cell.coords), self.tables[""]
        mine = table[(table["training"] == cell.training_id) & (table["state"] == "finished")]
        mine = mine[[key_of(coords) == key for coords in self._coords(mine)]]
        same = self.settings.evaluations.get(key, []) == list(cell.evaluation_ids)
        return mine.iloc[0] if same and len(mine) else None

    def beside(self, name: str, keys: set[str], *, seeds: bool) -> pd.DataFrame:
        """The rows of these cells in another table. seeds: whether it has a row per seed."""
        table = self.tables.get(name, pd.DataFrame())
        key = key_of if seeds else place_of
        return table[[key(coords) in keys for coords in self._coords(table)]] if len(table) else table

    def _coords(self, table: pd.DataFrame) -> list[dict[str, Any]]:
        return table[[axis for axis in self.settings.axes if axis in table]].to_dict("records")


def with_earlier(
    tables: dict[str, pd.DataFrame], earlier: Earlier | None, cells: Sequence[Identified]
) -> tuple[dict[str, pd.DataFrame], int]:
    """The tables, with rows of earlier parts for cells that are unfinished here, and the number of those cells.

    tables: under "" one row for each of `cells`, in order; other tables have a row per seed ("curves"), or one for all
    seeds ("images"), which is kept only if all seeds come from the same table.
    """
    if earlier is None:
        return tables, 0
    rows, here, kept = [], {}, set()
    for item, (_, row) in zip(cells, tables[""].iterrows(), strict=True):
        old = earlier.finished(item) if row["state"] != "finished" else None
        rows.append((row if old is None else old).dropna().to_dict())
        here.setdefault(place_of(item.cell.coords), set()).add(old is None)
        kept |= set() if old is None else {key_of(item.cell.coords)}
    columns = dict.fromkeys([*(earlier.tables[""].columns if kept else ()), *tables[""].columns])
    merged = {"": _as_numbers(pd.DataFrame(rows, columns=list(columns)), tables[""])}
    order = {key: i for i, cell in enumerate(cells) for key in (key_of(cell.cell.coords), place_of(cell.cell.coords))}
    axes = {axis for cell in cells for axis in cell.cell.coords}
    for name, table in tables.items():
        if not name:
            continue
        seeds = "seed" in table or "seed" in earlier.tables.get(name, ())
        key = key_of if seeds else place_of
        old = earlier.beside(name, kept if seeds else {p for p, own in here.items() if own == {False}}, seeds=seeds)
        coords = [{axis: row[axis] for axis in axes if axis in row} for row in table.to_dict("records")]
        fresh = [key(c) not in kept and (seeds or here[key(c)] == {True}) for c in coords]
        both = pd.concat([table[fresh], _as_numbers(old, table)] if len(table) else [old], ignore_index=True)
        coords = both[[axis for axis in both if axis in axes]].to_dict("records")
        both = both.assign(order=[order[key(c)] for c in coords])
        merged[name] = both.sort_values("order", kind="stable").drop(columns="order")
    return merged, len(kept)


def _as_numbers(table: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """Converts text columns to numbers if the other table has numbers there."""
    return numbers(table, [column for column in like.select_dtypes("number") if column in table])
