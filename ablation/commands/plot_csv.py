"""`ablation figures my.csv`: a heatmap of a user's own tidy table, and its statistics."""

from __future__ import annotations

import sys
from collections.abc import Set
from math import isnan
from pathlib import Path

import pandas as pd

from ablation.analysis.settings import settings_beside
from ablation.analysis.statistics import calibration, order_effects, seed_correlation, seeds_needed, spread
from ablation.analysis.tables import ROUNDING, digest, read_table
from ablation.commands.csv_columns import checked, need_columns, value_columns
from ablation.commands.csv_warnings import (
    check_direction,
    warn_of_accuracies,
    warn_of_averages,
    warn_of_labels_alike,
    warn_of_settings,
    warn_of_unfinished,
)
from ablation.plots import Heatmap, save
from ablation.spec import AblationError, DataError, InvalidSpec
from ablation.spec.metric import reads_as_accuracy


def draw(
    path: Path, figure: Heatmap, values: list[str] | None, folder: Path, *, fractions: bool = False
) -> tuple[list[Path], str]:
    """Draws a user's table into a folder; returns the files, and the numbers as text.

    figure: everything but the values. values: columns of numbers (default: the only one, or linear evaluation).
    fractions: the values are shares of one, shown in percent. Raises DataError for a table that cannot be drawn.
    """
    settings = settings_beside(path)
    measures = settings.measures if settings else {}
    table, axes = read_table(path), list(figure.axes)
    for column in ("seed", *axes):
        near = [each for each in table.columns if each.casefold() == column.casefold()]
        if column not in table and near:
            raise DataError(f"the table {path} must have a column {column!r}, but has {near[0]!r}. Rename it.")
    need_columns(path, table, axes)
    values = values or value_columns(path, table, [*axes, *figure.where])
    table = checked(path, table, axes, values)
    check_direction(path, values, measures)
    warn_of_accuracies(path, table, values, fractions=fractions)
    warn_of_labels_alike(path, table, axes)
    table, values = _in_percent(path, table, values, fractions=fractions)
    figure = figure.replace(values=tuple(values), measures=measures)
    rows = figure.rows_of(table)
    twice = rows[rows[axes].notna().all(axis=1) & rows.duplicated(["seed", *axes])]
    if len(twice):
        raise DataError(
            f"the table {path} must have one row per {', '.join(axes)} and seed, but line {twice.index[0]} repeats "
            "those of an earlier row. Give them different seeds, or choose by another column: --where COLUMN=LABEL."
        )
    warn_of_settings(path, rows, axes, values)
    warn_of_averages(path, rows, axes, values)
    warn_of_unfinished(path, rows, axes, values)
    # Not "-heatmap": that may be the name of an experiment's figure.
    stem = folder / f"{path.stem}-own-heatmap"
    drawn = save(figure.draw(table), stem, digest(path), figure.full_caption(table))
    texts = [f"{figure.text(table)}\n\nThe highest value is taken as the best."]
    texts += ["\n".join([f"{value}:", *_seeds_text(rows, axes, value)]) for value in values]
    if axes == ["first", "second"]:
        commuting = settings.commuting() if settings else frozenset()
        texts += [_order_text(rows, value, commuting) for value in values]
    return drawn, "\n\n".join(texts)


def _in_percent(
    path: Path, table: pd.DataFrame, values: list[str], *, fractions: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The table, with `fractions` converted to columns of percent; else warns of accuracies that may be fractions."""
    for value in values:
        largest = table[value].abs().max()
        if fractions and largest > 1:
            raise InvalidSpec(
                f"--fractions needs columns with shares of one, but {value!r} of {path} reaches {largest:g}. Omit it."
            )
        if not fractions and largest <= 1 and reads_as_accuracy(value):
            warning = f"{value} of {path} is never above 1; if it is a share of one, add --fractions"
            print(f"ablation: {warning}", file=sys.stderr)
    if not fractions:
        return table, values
    return table.assign(**{f"{value} (%)": 100 * table[value] for value in values}), [f"{v} (%)" for v in values]


def _seeds_text(table: pd.DataFrame, axes: list[str], value: str) -> list[str]:
    """Lines on the spread over seeds, on effects of a seed on all cells, and on the number of seeds needed."""
    pooled = spread(table, axes, value)
    if not pooled.freedom > 0:
        return ["one seed in each cell, so the spread is not known: run another seed"]
    if pooled.sd <= ROUNDING * table[value].abs().max():
        return ["all seeds of a cell have the same value, so the spread is not known: are they different runs?"]
    cells = (pooled.cells["n"] > 1).sum()
    copied = ((pooled.cells["n"] > 1) & (pooled.cells["sd"] <= ROUNDING * table[value].abs().max())).sum()
    if copied > 1:
        print(
            f"ablation: {value!r} is the same for all seeds of {copied} cells: are they different runs?",
            file=sys.stderr,
        )
    equal = "cannot be compared between cells" if isnan(pooled.equal) else f"equal in all of them: p {pooled.equal:.2g}"
    moderated = ", so intervals use moderated ones" if pooled.moderated else ""
    lines = [
        f"spread over seeds {pooled.sd:.3g}, pooled over {cells} cell(s) with several; {equal}{moderated} "
        f"({pooled.freedom:.3g} degrees of freedom)"
    ]
    seeds = seed_correlation(table, axes, value)
    if not isnan(seeds.p):
        lines.append(
            f"a seed's effect on all cells: correlation {seeds.correlation:.2f}, p {seeds.p:.2g} "
            f"({seeds.cells} cells with the same {seeds.seeds} seeds)"
        )
    for difference in (1, 2):
        try:
            low, needed, high = seeds_needed(difference, pooled.sd, pooled.freedom)
        except AblationError:
            lines.append(f"seeds per cell to resolve a difference of {difference}: over a million")
        else:
            lines.append(f"seeds per cell to resolve a difference of {difference}: {needed} (95 %: {low} to {high})")
    return lines


def _order_text(table: pd.DataFrame, value: str, commuting: Set[frozenset[str]]) -> str:
    """The effect of the order of each pair, and the A/A test on pairs that commute in law, if operators are known."""
    effects = order_effects(table, value, commuting)
    if spread(table, ["first", "second"], value).sd <= ROUNDING * table[value].abs().max():
        return f"{value}: order is not compared, since the spread is not known."
    if effects["p"].isna().all():
        return f"{value}: no pair has both orders and a known spread, so order is not compared."
    question, shown = f"{value}: does the order of a pair matter?", "{:.3g}".format
    if not commuting:
        return f"{question}\n{effects.drop(columns='commutes').to_string(index=False, float_format=shown)}"
    text = f"{question} (commutes: by its law it cannot)\n{effects.to_string(index=False, float_format=shown)}"
    test = calibration(effects)
    if test["ratio"] >= 0:  # nan without such a pair, or without a spread
        text += (
            f"\npairs that commute in law: {test['n']}, largest difference {test['largest']:.2g}, mean squared "
            f"difference over its error {test['ratio']:.2g} (1 expected, p {test['p']:.2g})"
        )
    return text
