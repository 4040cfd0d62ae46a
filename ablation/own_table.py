"""`ablation figures my.csv`: a heatmap of a user's own tidy table, and what its statistics say."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from math import isnan
from pathlib import Path

import pandas as pd

from ablation.plots import HEADLINE, Heatmap, save
from ablation.settings import check_table
from ablation.specs import InvalidSpec
from ablation.statistics import calibration, order_effects, seed_correlation, seeds_needed, spread
from ablation.tables import ROUNDING, digest, numbers, read_table


def draw(
    path: Path,
    rows: str,
    columns: str,
    values: list[str] | None,
    reference: str | None,
    *,
    fractions: bool = False,
    where: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> tuple[list[Path], str]:
    """Draws beside the table, or into a folder; returns what was drawn, and the numbers as text.

    values: columns of numbers; without them the only one there is, or linear evaluation. where: labels of the rows to
    draw, by column. fractions: they are shares of
    one, and are shown in percent. Raises InvalidSpec for a table that cannot be drawn.
    """
    check_table(path)
    table, axes = read_table(path), [rows, columns]
    for column in ("seed", *axes):
        near = [each for each in table.columns if each.casefold() == column.casefold()]
        if column not in table and near:
            raise InvalidSpec(f"the table {path} must have a column {column!r}, but has {near[0]!r}. Rename it.")
    _need_columns(path, table, axes)
    values = values or _numbers(path, table, [*axes, *(where or ())])
    table = _checked(path, table, axes, values)
    _check_direction(path, values)
    _tell_of_accuracies(path, table, values, fractions=fractions)
    _tell_of_labels_alike(path, table, axes)
    table, values = _in_percent(path, table, values, fractions=fractions)
    figure = Heatmap(rows=rows, columns=columns, values=tuple(values), where=where or {}, reference=reference)
    whole = figure.rows_of(table)
    twice = whole[whole[axes].notna().all(axis=1) & whole.duplicated(["seed", *axes])]
    if len(twice):
        raise InvalidSpec(
            f"the table {path} must have one row per {rows}, {columns} and seed, but line {twice.index[0]} repeats "
            "those of an earlier one. Give them different seeds, or choose by another column: --where COLUMN=LABEL."
        )
    _tell_of_settings(path, whole, axes, values)
    _tell_of_averages(path, whole, axes, values)
    _tell_of_unfinished(path, whole, axes, values)
    # Not "-heatmap": the table may be an experiment's, whose figure has that name.
    drawn = save(figure.draw(table), (folder or path.parent) / f"{path.stem}-own-heatmap", digest(path))
    texts = [f"{figure.text(table)}\n\nThe highest value is taken as the best."]
    texts += ["\n".join([f"{value}:", *_seeds_said(whole, axes, value)]) for value in values]
    texts += [_order_said(whole, value) for value in values if axes == ["first", "second"]]
    return drawn, "\n\n".join(texts)


def _in_percent(
    path: Path, table: pd.DataFrame, values: list[str], *, fractions: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The table with its `fractions` as columns of percent; else a line for each accuracy that may be a fraction."""
    for value in values:
        largest = table[value].abs().max()
        if fractions and largest > 1:
            raise InvalidSpec(
                f"--fractions must be of a column of shares of one, but {value!r} of {path} reaches {largest:g}. "
                "Omit it."
            )
        if not fractions and largest <= 1 and _is_accuracy(value):
            what = f"{value} of {path} is never above 1; if it is a share of one, add --fractions"
            print(f"ablation: {what}", file=sys.stderr)
    if not fractions:
        return table, values
    return table.assign(**{f"{value} (%)": 100 * table[value] for value in values}), [f"{v} (%)" for v in values]


SETTING = re.compile(
    r"lr|batch|epochs?|wd|temperature|tau|momentum|width|depth|optimi[sz]er|schedule|method|model|encoder|arch|backbone|"
    r"strength|(learning|weight|batch|image|data|warm)[ _-]?(rate|decay|size|set|up)",
    re.IGNORECASE,
)
ACCURACY = re.compile(r"(^|[^a-z])(test|val|train)?(top[ _-]?\d|acc(urac(y|ies))?)([^a-z]|$)")
PROTOCOL = re.compile(  # whose accuracy it is
    r"((test|val(idation)?|train)[ _-]+)?"
    r"(lin(ear)?|\d*-?k?[ -]?nn|(linear[ _-]?)?(prob(e|ing)|eval(uation)?|classifier)|fine[ _-]?tun(e|ed|ing))"
    r"([ _-]*(z|h|test|val(idation)?|running|recalibrated|percent|\(?%\)?|\d+))*"
)


def _words(name: str) -> str:
    """ "error rate" of ErrorRate."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()


def _is_accuracy(name: str) -> bool:
    """By the name of a column."""
    return bool(ACCURACY.search(_words(name)) or PROTOCOL.fullmatch(_words(name)))


def _tell_of_accuracies(path: Path, table: pd.DataFrame, values: list[str], *, fractions: bool) -> None:
    """Prints a line for each accuracy, by its column's name, whose values are impossible or look like failed runs."""
    for value in filter(_is_accuracy, values):
        found = table[value].dropna()
        outside = found[(found < 0) | (found > 100)]
        shares = found[(found > 0) & (found < 1)] if not fractions and found.max() > 10 else found[:0]
        far = found[found > 0].quantile(0.1) > (0.05 if fractions or found.max() <= 1 else 5)
        for wrong, what in (
            (outside, "is no accuracy in percent"),
            (shares, "reads like a share of one, not percent"),
            (found[found == 0] if far else found[:0], "is far below the others, as where a run failed"),
        ):
            if len(wrong):
                more = f", and {len(wrong) - 1} more," * (len(wrong) > 1)
                where = f"{wrong.iloc[0]:g} in line {wrong.index[0]}{more}"
                print(f"ablation: {path}: {value!r}: {where} {what}. Correct it, or leave it out.", file=sys.stderr)


def _tell_of_labels_alike(path: Path, table: pd.DataFrame, axes: list[str]) -> None:
    for axis in axes:
        labels = table[axis].dropna().map(str).drop_duplicates()
        alike = labels[labels.str.casefold().duplicated(keep=False)]
        if len(alike):
            shown = ", ".join(map(repr, alike[:4]))
            print(f"ablation: {path}: {shown} in {axis!r} differ in capitals only. Are they one?", file=sys.stderr)


def _tell_of_settings(path: Path, table: pd.DataFrame, axes: list[str], values: list[str]) -> None:
    """Prints a line for each column that is a setting by its name, or is the same within most cells, and differs within
    some: its rows are averaged as if they were seeds of one run."""
    cells = table[table[axes].notna().all(axis=1)].groupby(axes, sort=False)
    ours = {"training", "commit"} <= set(table)  # whose other columns are measured
    for column in table.columns.difference([*ABOUT_A_RUN, *axes, *values], sort=False):
        several = cells[column].nunique(dropna=False)[cells.size() > 1]
        mixed = several[several > 1]
        few = len(several) >= 3 and len(mixed) < len(several) / 2 and not (ours or _is_accuracy(column))
        if len(mixed) and (few or SETTING.fullmatch(column)):
            cell = mixed.index[0]
            found = table.loc[(table[axes] == list(cell)).all(axis=1), column].unique()
            print(
                f"ablation: {path}: {column!r} differs between the seeds of {len(mixed)} of {len(several)} cells, the "
                f"first {', '.join(map(str, cell))} ({', '.join(map(str, found[:3]))}), which are averaged. Choose one "
                f"with --where {column}=LABEL.",
                file=sys.stderr,
            )  # fmt: skip


UNFINISHED = re.compile(
    r"crashed|failed|failure|killed|running|preempt(ed|ing)|pending|queued|abort(ed)?|cancell?ed|interrupted|oom|error|"
    r"timeout|timed[ _-]out|diverged|stopped|incomplete",
    re.IGNORECASE,
)


def _tell_of_unfinished(path: Path, table: pd.DataFrame, axes: list[str], values: list[str]) -> None:
    """Prints a line where a column marks rows with values as runs that did not end."""
    for column in table.columns.difference([*axes, *values, "seed"], sort=False):
        texts = table[column].map(lambda text: isinstance(text, str) and bool(UNFINISHED.fullmatch(text.strip())))
        wrong = table[texts & table[values].notna().any(axis=1)]
        if len(wrong):
            first, others = wrong[column].iloc[0], table.loc[~texts, column].dropna().unique()
            more = f" and {len(wrong) - 1} more like it" if len(wrong) > 1 else ""
            cure = f"--where {column}={others[0]}" if len(others) else "remove these rows"
            print(
                f"ablation: {path}: {column!r} is {first!r} in line {wrong.index[0]}{more}, and the values of these "
                f"runs count as if they had ended. Leave them out: {cure}.",
                file=sys.stderr,
            )


AVERAGED = re.compile(
    r"n|counts?|((n|num|number of|no)[ _-]?)?(seeds|runs|repeats|repetitions)|"
    r"(.*[^a-z])?(std|stdev|stderr|sd|sem|ci\d*|var)"
)


def _tell_of_averages(path: Path, table: pd.DataFrame, axes: list[str], values: list[str]) -> None:
    """Prints a line where each cell has one row, and columns say that it is the mean of several runs."""
    said = [c for c in table.columns.difference([*axes, *values], sort=False) if AVERAGED.fullmatch(_words(c))]
    cells = table[table[axes].notna().all(axis=1)]
    if said and "training" not in table and not cells.duplicated(axes).any():
        print(
            f"ablation: {path}: each row counts as one seed, whose spread is not known, also where it is a mean: what "
            f"stands in {', '.join(map(repr, said))} is not read. Write a row for each seed.",
            file=sys.stderr,
        )


LOWEST_IS_BEST = (
    r"errs?|errors?|nll|perplexity|ppl|[wce]er|r?mse|fid|brier|ece|regret|f[pn]r(at|@)?|fdr|frr|miss(es|[ _-]?rate)|"
    r"misclassif\w*|wrong|epe|kl|bpd|bits[ _-]per[ _-]\w+|fail(ure)?s?[ _-]rate"
)
ONE_MINUS = re.compile(r"(1|100) *[-\u2212\u2013] *\w*(acc|top)")
OF_AN_ACCURACY = r"(log|cross)?[ _-]?loss(es)?"  # may also say at which epoch it was read
# An error, a cost or a spread, or the name of a method.
MAY_BE = (
    r"m?ae|distance|divergence|dissimilarity|hamming|gap|overfit(ting)?|latency|runtime|time|duration|seconds?|secs?|ms|"
    r"minutes?|hours?|costs?|memory|bytes|flops|g?macs|params|parameters|energy|joules"
)
SPREAD = r"std|stdev|stderr|sd|sem|var|variance"


def _check_direction(path: Path, values: list[str]) -> None:
    """The highest value is framed as the best."""
    for value in values:
        words = _words(value)

        def has(pattern: str, words: str = words) -> bool:
            return bool(re.search(rf"(^|[^a-z])({pattern})([^a-z]|$)", words))

        accuracy = _is_accuracy(value)
        if has(LOWEST_IS_BEST) or ONE_MINUS.match(words) or (has(OF_AN_ACCURACY) and not accuracy):
            raise InvalidSpec(
                f"--value must name a column whose highest value is the best, but {value!r} of {path} reads like one "
                "whose lowest is. Draw an accuracy, 100 - error say, or the negative, under another name."
            )
        if has(SPREAD) or (has(MAY_BE) and not accuracy):
            print(
                f"ablation: the highest {value} of {path} is taken as the best; is the lowest, as of an error or a "
                "time? Then draw the negative, under another name.",
                file=sys.stderr,
            )


# Columns that say what was run, as the suite's tables call them; never the value that somebody wants to see.
FACTS = ("seed", "format", "baseline", "n", "epochs", "batch", "state")
# Columns that may differ between the seeds of a cell: the run's id, its machine and its code.
ABOUT_A_RUN = ("seed", "baseline", "n", "state", "training", "notes", "device", "torch", "kornia", "commit")


def _numbers(path: Path, table: pd.DataFrame, axes: list[str]) -> list[str]:
    """Linear evaluation, or the only column in which a field begins like a number (45,6 too); `_checked` names what is
    none."""
    if HEADLINE[0] in table:
        return [HEADLINE[0]]
    columns = [column for column in table if column not in (*FACTS, *axes)]
    found = [column for column in columns if _holds_numbers(table[column])]
    if not found and len(columns) == 1:
        return columns
    if len(found) != 1:
        raise InvalidSpec(
            f"--value must name the column of {path} to draw, which has {'several' if found else 'none'} of numbers"
            f"{': ' + ', '.join(found) if found else ''}. Write --value COLUMN."
        )
    return found


OF_A_SEED = re.compile(r"(seed|s|run|rep|repeat|trial)?[ _-]?\d+", re.IGNORECASE)


def _need_columns(path: Path, table: pd.DataFrame, axes: list[str]) -> None:
    """Raises InvalidSpec where the seed or an axis is missing, perhaps because its labels are columns."""
    for column in ("seed", *axes):
        if column in table:
            continue
        cure = "Add it, or name others with --rows and --columns."
        wide = [each for each in table if _holds_numbers(table[each]) and each not in (*FACTS, *axes)]
        if column == "seed":
            cure = "Add one: 0 in every row where nothing was repeated."
            wide = [each for each in wide if OF_A_SEED.fullmatch(each)]
        if len(wide) > 1:
            others = [each for each in table if each not in wide]
            whole = ", as whole numbers" * (column == "seed")
            cure = (
                f"Where {', '.join(map(repr, wide[:4]))} are its labels{whole}, write a row for each: in pandas "
                f"table.melt({others}, {wide[:9]}, {column!r}, 'accuracy'). {cure if column != 'seed' else ''}"
            ).strip()
        raise InvalidSpec(f"the table {path} must have a column {column!r}, but has {', '.join(table.columns)}. {cure}")


def _holds_numbers(fields: pd.Series) -> bool:
    """Whether a field begins like a number (45,6 too)."""
    return bool(fields.map(lambda field: bool(re.match(r"[-+−]?[.,]?\d", str(field)))).any())


def _checked(path: Path, table: pd.DataFrame, axes: list[str], values: list[str]) -> pd.DataFrame:
    """The table with its values as numbers."""
    for value in values:
        if value not in table:
            raise InvalidSpec(
                f"the table {path} must have a column {value!r}, but has {', '.join(table.columns)}. Add it, or name "
                "another with --value."
            )
    if table.empty:
        raise InvalidSpec(f"the table {path} must have rows, but has none below its head.")
    for column in ["seed", *axes]:
        outside = table["baseline"].notna() if column != "seed" and "baseline" in table else False
        without = table.index[table[column].isna() & ~pd.Series(outside, table.index)]
        if len(without):
            raise InvalidSpec(
                f"every row of {path} must have a {'number' if column == 'seed' else 'label'} in {column!r}, but "
                f"{len(without)} have none, the first in line {without[0]}. Give them one"
                + (", or a name in a column 'baseline' if they lie outside the grid." if column != "seed" else ".")
            )
    if "baseline" in table and "baseline" not in axes:
        inside = table.index[table["baseline"].notna() & table[axes].notna().all(axis=1)]
        if len(inside):
            raise InvalidSpec(
                f"the column 'baseline' of {path} must name rows that lie outside the grid, but line {inside[0]} has "
                f"{table['baseline'][inside[0]]!r} and a label in {' and '.join(axes)}. Give the column another name."
            )
    table = numbers(table, values)
    for column in values:
        if table[column].isna().all():
            raise InvalidSpec(f"the column {column!r} of {path} must hold numbers, but is empty. Name another.")
    return table


def _seeds_said(table: pd.DataFrame, axes: list[str], value: str) -> list[str]:
    """The spread over seeds, whether a seed is good or bad for all cells, and how many seeds it would take."""
    found = spread(table, axes, value)
    if not found.freedom > 0:
        return ["one seed in each cell, so no spread is known: run another seed"]
    if found.sd <= ROUNDING * table[value].abs().max():
        return ["all seeds of a cell have the same value, so no spread is known: are they runs of their own?"]
    cells = (found.cells["n"] > 1).sum()
    copied = ((found.cells["n"] > 1) & (found.cells["sd"] <= ROUNDING * table[value].abs().max())).sum()
    if copied > 1:
        print(
            f"ablation: {value!r} is the same for all seeds of {copied} cells: are they runs of their own?",
            file=sys.stderr,
        )
    equal = "cannot be compared between cells" if isnan(found.equal) else f"equal in all of them: p {found.equal:.2g}"
    moderated = ", so intervals are from moderated ones" * found.moderated
    said = [
        f"spread over seeds {found.sd:.3g}, pooled over {cells} cell(s) with several; {equal}{moderated} "
        f"({found.freedom:.3g} degrees of freedom)"
    ]
    seeds = seed_correlation(table, axes, value)
    if not isnan(seeds.p):
        said.append(
            f"a seed's effect on all cells: correlation {seeds.correlation:.2f}, p {seeds.p:.2g} "
            f"({seeds.cells} cells with the same {seeds.seeds} seeds)"
        )
    for difference in (1, 2):
        try:
            low, needed, high = seeds_needed(difference, found.sd, found.freedom)
        except InvalidSpec:
            said.append(f"seeds per cell to resolve a difference of {difference}: over a million")
        else:
            said.append(f"seeds per cell to resolve a difference of {difference}: {needed} (95 %: {low} to {high})")
    return said


def _order_said(table: pd.DataFrame, value: str) -> str:
    """Of a table of pairs: whether their order matters, and the pairs for which it cannot."""
    effects = order_effects(table, value)
    if spread(table, ["first", "second"], value).sd <= ROUNDING * table[value].abs().max():
        return f"{value}: order is not compared, since no spread is known."
    if effects["p"].isna().all():
        return f"{value}: no pair stands in both orders with a known spread, so order is not compared."
    said = f"{value}: does the order of a pair matter? (commutes: by its law it cannot)\n"
    said += effects.to_string(index=False, float_format="{:.3g}".format)
    found = calibration(effects)
    if found["ratio"] >= 0:  # nan where there is no such pair, or no spread
        said += (
            f"\npairs that commute in law: {found['n']}, largest difference {found['largest']:.2g}, mean squared "
            f"difference over its error {found['ratio']:.2g} (1 expected, p {found['p']:.2g})"
        )
    return said
