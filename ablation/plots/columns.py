"""The columns of a table: those of an experiment, the coordinates among them, and the order of their labels."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ablation.analysis.tables import LARGEST, NUMBER
from ablation.spec import COMPUTED, Cell, InvalidSpec, Metric, Spec, is_ours, written
from ablation.spec.metric import MEASURED, OF_A_RUN, SETTINGS, SPLITS


def columns_of(cells: Sequence[Cell], source: str = "") -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """The columns of numbers that an experiment's table will have, or the one beside it that `source` names; prefixes
    whose columns are all known; and prefixes of a user's own classes that state no metrics ("", any column, for a
    method)."""
    methods = {type(cell.run.training.method) for cell in cells}
    any_name = () if all(is_ours(method) or vars(method).get("metrics") for method in methods) else ("",)
    own = [name for method in methods if source != "images" for name in getattr(method, "metrics", ())]
    measured = [*MEASURED[source], *own]
    if source:
        return list(dict.fromkeys(measured)), (), any_name if source == "curves" else ()
    runs = {id(cell.run.evaluations): cell.run for cell in cells}.values()
    evaluations = {id(each): each for run in runs for each in run.evaluations}.values()
    known, closed, others = measured, [], list(any_name)
    for evaluation in evaluations:
        label = getattr(evaluation, "label", type(evaluation).__name__)
        cls = type(evaluation)
        columns = evaluation.columns() if is_ours(cls) or vars(cls).get("metrics") else ()
        known += [*columns, f"{label}_seconds"]
        if getattr(evaluation, "dataset", None) is not None:
            known += [Metric.images(label, split).name for split in SPLITS]
        (closed if columns else others).append(f"{label}_")
    closed = [each for each in closed if not any(other.startswith(each) for other in others)]
    return list(dict.fromkeys(known)), tuple(closed), tuple(others)


def coordinates_in(rows: pd.DataFrame, by: list[str]) -> list[str]:
    """Columns that look like further coordinates: recurring words, or numbers that recur from cell to cell, one of them
    in every cell. A user's table does not name its coordinates. An experiment's table was checked before the run, so
    its numbers are ignored."""
    rows = rows.dropna(subset=by)
    cell = rows.groupby(by, sort=False).ngroup()
    measured = {name for table in MEASURED.values() for name in table} - set(SETTINGS)
    ours = {"training", "commit"} <= set(rows)  # in a user's table columns of these names may be anything
    excluded = [*measured, *OF_A_RUN, *COMPUTED, "seed", "baseline"] if ours else ["seed", "baseline"]
    found = []
    for column in rows.columns.difference([*by, *excluded], sort=False):
        labels = rows[column].dropna().map(written)
        if not labels.map(lambda label: bool(NUMBER.fullmatch(label))).all():
            further = labels.duplicated().any()
        elif not ours and len(labels):
            cells = cell.groupby(labels).nunique()  # the number of cells of each label
            further = cells.min() > 1 and cells.max() == cell.nunique()
        else:
            further = False
        found += [column] if further else []
    return found


def need(spec: Spec, table: pd.DataFrame, columns: list[str]) -> None:
    """Raises InvalidSpec if a column is missing or empty."""
    missing = [column for column in columns if column not in table.columns or table[column].isna().all()]
    if missing:
        raise InvalidSpec(
            f"{type(spec).__name__} must find {', '.join(map(repr, missing))} in its table, but no finished row has "
            f"it; the columns are {', '.join(table.columns)}. Finish the experiment, or name one of these."
        )


def labels_of(table: pd.DataFrame, axis: str) -> list:
    """The labels of an axis, in the order of the table."""
    return list(dict.fromkeys(table[axis].dropna()))


def scale_of(labels: Sequence[str]) -> list[float] | None:
    """The labels as positions on a scale, if all are different numbers in their usual spelling (1.10 is a version)."""
    usual = all(NUMBER.fullmatch(each) and each in (written(float(each)), str(float(each))) for each in labels)
    places = list(map(float, labels)) if usual else []
    return places if len(set(places)) == len(labels) and max(map(abs, places), default=0) <= LARGEST else None


def rising(labels: Sequence[str]) -> list[str]:
    """The labels sorted by size if they are numbers, else as they are."""
    places = scale_of(list(map(written, labels)))
    return [label for _, label in sorted(zip(places, labels, strict=True))] if places else list(labels)


def in_order(labels: Sequence[str]) -> list[str]:
    """The labels sorted by size if they are numbers, else by the alphabet."""
    return rising(sorted(labels))


def listed(labels: Sequence) -> str:
    return ", ".join(map(written, labels))
