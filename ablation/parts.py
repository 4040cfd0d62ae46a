"""A long table computed in pieces: `ablation run NAME --part I/N`.

A part is whole cells with all their seeds. Its table keeps the cells that were finished before, by whatever machine, as
the earlier table beside the figures has them: a row counts where its training and evaluations have the ids of today's
cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ablation.results import Identified
from ablation.settings import Settings, key_of, read_settings, tables_of
from ablation.specs import InvalidSpec
from ablation.tables import numbers, read_table


def place_of(coords: Mapping[str, Any]) -> str:
    """A cell's coordinates without the seed."""
    return key_of({axis: value for axis, value in coords.items() if axis != "seed"})


def cells_of_part(cells: Sequence[Identified], index: int, count: int) -> list[Identified]:
    """The cells of part `index` of `count`, in order; the parts together have each cell once."""
    places = list(dict.fromkeys(place_of(cell.cell.coords) for cell in cells))
    mine = set(places[len(places) * index // count : len(places) * (index + 1) // count])
    return [cell for cell in cells if place_of(cell.cell.coords) in mine]


@dataclass(frozen=True)
class Earlier:
    """The tables of earlier parts: that of the cells under "", those beside it by the ending of their names."""

    tables: dict[str, pd.DataFrame]
    settings: Settings

    @classmethod
    def read(cls, csv: Path, names: Sequence[str]) -> Earlier | None:
        """None where there is no table. Raises InvalidSpec where it cannot be read, or does not say what was run."""
        if not csv.is_file():
            return None
        try:
            settings = read_settings(csv)
        except InvalidSpec as error:
            raise InvalidSpec(
                f"--part must continue a table as it was written, which {csv} is not: {error} Or move the table "
                "to another folder."
            ) from error
        return cls({name: read_table(path) for name, path in tables_of(csv).items() if name in names}, settings)

    def finished(self, cell: Identified) -> pd.Series | None:
        """The row of a cell that was finished, if it is of today's training and evaluations."""
        key, table = key_of(cell.cell.coords), self.tables[""]
        mine = table[(table["training"] == cell.training_id) & (table["state"] == "finished")]
        mine = mine[[key_of(coords) == key for coords in self._coords(mine)]]
        same = self.settings.evaluations.get(key, []) == list(cell.evaluation_ids)
        return mine.iloc[0] if same and len(mine) else None

    def beside(self, name: str, keys: set[str], *, seeds: bool) -> pd.DataFrame:
        """The rows of a table beside it that are of these cells; seeds: whether it has a row for each seed."""
        table = self.tables.get(name, pd.DataFrame())
        of = key_of if seeds else place_of
        return table[[of(coords) in keys for coords in self._coords(table)]] if len(table) else table

    def _coords(self, table: pd.DataFrame) -> list[dict[str, Any]]:
        return table[[axis for axis in self.settings.axes if axis in table]].to_dict("records")


def with_earlier(
    tables: dict[str, pd.DataFrame], earlier: Earlier | None, cells: Sequence[Identified]
) -> tuple[dict[str, pd.DataFrame], int]:
    """The tables with the rows of earlier parts for cells that are not finished here, and how many those are.

    tables: a row for each of `cells` in order under "", and what lies beside it: with a row for each seed ("curves"),
    or one for all of them ("images"), which is kept only where all seeds are from one place.
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
        of = key_of if seeds else place_of
        old = earlier.beside(name, kept if seeds else {p for p, own in here.items() if own == {False}}, seeds=seeds)
        coords = [{axis: row[axis] for axis in axes if axis in row} for row in table.to_dict("records")]
        fresh = [of(c) not in kept and (seeds or here[of(c)] == {True}) for c in coords]
        both = pd.concat([table[fresh], _as_numbers(old, table)] if len(table) else [old], ignore_index=True)
        coords = both[[axis for axis in both if axis in axes]].to_dict("records")
        both = both.assign(order=[order[of(c)] for c in coords])
        merged[name] = both.sort_values("order", kind="stable").drop(columns="order")
    return merged, len(kept)


def _as_numbers(table: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """What was read as text as numbers, where the other table has numbers."""
    return numbers(table, [column for column in like.select_dtypes("number") if column in table])
