"""The columns of a user's own table: seed, axes and values, and how to write a table without them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from ablation.analysis.tables import numbers
from ablation.plots import HEADLINE
from ablation.spec import DataError, InvalidSpec

# Columns of the suite's tables that describe the run; never the value to draw.
FACTS = ("seed", "format", "baseline", "n", "epochs", "batch", "state")


def value_columns(path: Path, table: pd.DataFrame, axes: list[str]) -> list[str]:
    """Linear evaluation, or the only column in which a field begins like a number (45,6 too); `checked` refuses words
    in it."""
    if HEADLINE[0] in table:
        return [HEADLINE[0]]
    columns = [column for column in table if column not in (*FACTS, *axes)]
    numeric = [column for column in columns if _holds_numbers(table[column])]
    if not numeric and len(columns) == 1:
        return columns
    if len(numeric) != 1:
        raise InvalidSpec(
            f"--value must name the column of {path} to draw, which has {'several' if numeric else 'none'} of numbers"
            f"{': ' + ', '.join(numeric) if numeric else ''}. Write --value COLUMN."
        )
    return numeric


OF_A_SEED = re.compile(r"(seed|s|run|rep|repeat|trial)?[ _-]?\d+", re.IGNORECASE)


def need_columns(path: Path, table: pd.DataFrame, axes: list[str]) -> None:
    """Raises DataError if the seed or an axis is missing, perhaps because its labels are columns."""
    for column in ("seed", *axes):
        if column in table:
            continue
        cure = "Add it, or name others with --rows and --columns."
        wide = [each for each in table if _holds_numbers(table[each]) and each not in (*FACTS, *axes)]
        if column == "seed":
            cure = "Add one: 0 in every row if nothing was repeated."
            wide = [each for each in wide if OF_A_SEED.fullmatch(each)]
        if len(wide) > 1:
            others = [each for each in table if each not in wide]
            whole = ", as whole numbers" if column == "seed" else ""
            cure = (
                f"If {', '.join(map(repr, wide[:4]))} are its labels{whole}, write a row for each: in pandas "
                f"table.melt({others}, {wide[:9]}, {column!r}, 'accuracy'). {cure if column != 'seed' else ''}"
            ).strip()
        raise DataError(f"the table {path} must have a column {column!r}, but has {', '.join(table.columns)}. {cure}")


def _holds_numbers(fields: pd.Series) -> bool:
    """Whether a field begins like a number (45,6 too)."""
    return bool(fields.map(lambda field: bool(re.match(r"[-+−]?[.,]?\d", str(field)))).any())


def checked(path: Path, table: pd.DataFrame, axes: list[str], values: list[str]) -> pd.DataFrame:
    """The table with its values as numbers."""
    for value in values:
        if value not in table:
            raise DataError(
                f"the table {path} must have a column {value!r}, but has {', '.join(table.columns)}. Add it, or name "
                "another with --value."
            )
    if table.empty:
        raise DataError(f"the table {path} must have rows, but has none below its header.")
    for column in ["seed", *axes]:
        outside = table["baseline"].notna() if column != "seed" and "baseline" in table else False
        without = table.index[table[column].isna() & ~pd.Series(outside, table.index)]
        if len(without):
            raise DataError(
                f"every row of {path} must have a {'number' if column == 'seed' else 'label'} in {column!r}, but "
                f"{len(without)} have none, the first in line {without[0]}. Give them one"
                + (", or a name in a column 'baseline' if they lie outside the grid." if column != "seed" else ".")
            )
    if "baseline" in table and "baseline" not in axes:
        inside = table.index[table["baseline"].notna() & table[axes].notna().all(axis=1)]
        if len(inside):
            raise DataError(
                f"the column 'baseline' of {path} must name rows that lie outside the grid, but line {inside[0]} has "
                f"{table['baseline'][inside[0]]!r} and a label in {' and '.join(axes)}. Give the column another name."
            )
    table = numbers(table, values)
    for column in values:
        if table[column].isna().all():
            raise DataError(f"the column {column!r} of {path} must hold numbers, but is empty. Name another.")
    return table
