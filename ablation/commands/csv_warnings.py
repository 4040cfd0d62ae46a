"""What in a user's own table looks like a mistake, by the names and values of its columns."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from ablation.spec import InvalidSpec, Measures, Metric
from ablation.spec.metric import reads_as_accuracy, words_of

SETTING = re.compile(
    r"lr|batch|epochs?|wd|temperature|tau|momentum|width|depth|optimi[sz]er|schedule|method|model|encoder|arch|backbone|"
    r"strength|(learning|weight|batch|image|data|warm)[ _-]?(rate|decay|size|set|up)",
    re.IGNORECASE,
)


def warn_of_accuracies(path: Path, table: pd.DataFrame, values: list[str], *, fractions: bool) -> None:
    """Warns of columns named like an accuracy whose values are impossible or look like failed runs."""
    for value in filter(reads_as_accuracy, values):
        accuracies = table[value].dropna()
        outside = accuracies[(accuracies < 0) | (accuracies > 100)]
        shares = (
            accuracies[(accuracies > 0) & (accuracies < 1)]
            if not fractions and accuracies.max() > 10
            else accuracies[:0]
        )
        far = accuracies[accuracies > 0].quantile(0.1) > (0.05 if fractions or accuracies.max() <= 1 else 5)
        for wrong, problem in (
            (outside, "is no accuracy in percent"),
            (shares, "reads like a share of one, not percent"),
            (accuracies[accuracies == 0] if far else accuracies[:0], "is far below the others, as if the run failed"),
        ):
            if len(wrong):
                more = f", and {len(wrong) - 1} more," if len(wrong) > 1 else ""
                where = f"{wrong.iloc[0]:g} in line {wrong.index[0]}{more}"
                print(f"ablation: {path}: {value!r}: {where} {problem}. Correct it, or omit it.", file=sys.stderr)


def warn_of_labels_alike(path: Path, table: pd.DataFrame, axes: list[str]) -> None:
    for axis in axes:
        labels = table[axis].dropna().map(str).drop_duplicates()
        alike = labels[labels.str.casefold().duplicated(keep=False)]
        if len(alike):
            shown = ", ".join(map(repr, alike[:4]))
            print(f"ablation: {path}: {shown} in {axis!r} differ only in capitals. Are they one?", file=sys.stderr)


def warn_of_settings(path: Path, table: pd.DataFrame, axes: list[str], values: list[str]) -> None:
    """Warns of columns that differ within a cell and are named like a setting or constant within most cells: their rows
    are averaged as if they were seeds of one run."""
    cells = table[table[axes].notna().all(axis=1)].groupby(axes, sort=False)
    ours = {"training", "commit"} <= set(table)  # the suite's own table; its other columns are measurements
    for column in table.columns.difference([*ABOUT_A_RUN, *axes, *values], sort=False):
        several = cells[column].nunique(dropna=False)[cells.size() > 1]
        mixed = several[several > 1]
        few = len(several) >= 3 and len(mixed) < len(several) / 2 and not (ours or reads_as_accuracy(column))
        if len(mixed) and (few or SETTING.fullmatch(column)):
            cell = mixed.index[0]
            labels = table.loc[(table[axes] == list(cell)).all(axis=1), column].unique()
            print(
                f"ablation: {path}: {column!r} differs between the seeds of {len(mixed)} of {len(several)} cells, the "
                f"first {', '.join(map(str, cell))} ({', '.join(map(str, labels[:3]))}), which are averaged. Choose "
                f"one with --where {column}=LABEL.",
                file=sys.stderr,
            )  # fmt: skip


UNFINISHED = re.compile(
    r"crashed|failed|failure|killed|running|preempt(ed|ing)|pending|queued|abort(ed)?|cancell?ed|interrupted|oom|error|"
    r"timeout|timed[ _-]out|diverged|stopped|incomplete",
    re.IGNORECASE,
)


def warn_of_unfinished(path: Path, table: pd.DataFrame, axes: list[str], values: list[str]) -> None:
    """Warns if a column marks rows with values as runs that did not finish."""
    for column in table.columns.difference([*axes, *values, "seed"], sort=False):
        texts = table[column].map(lambda text: isinstance(text, str) and bool(UNFINISHED.fullmatch(text.strip())))
        wrong = table[texts & table[values].notna().any(axis=1)]
        if len(wrong):
            first, others = wrong[column].iloc[0], table.loc[~texts, column].dropna().unique()
            more = f" and {len(wrong) - 1} more like it" if len(wrong) > 1 else ""
            cure = f"--where {column}={others[0]}" if len(others) else "remove these rows"
            print(
                f"ablation: {path}: {column!r} is {first!r} in line {wrong.index[0]}{more}, and the values of these "
                f"runs count as if they had finished. Exclude them: {cure}.",
                file=sys.stderr,
            )


AVERAGED = re.compile(
    r"n|counts?|((n|num|number of|no)[ _-]?)?(seeds|runs|repeats|repetitions)|"
    r"(.*[^a-z])?(std|stdev|stderr|sd|sem|ci\d*|var)"
)


def warn_of_averages(path: Path, table: pd.DataFrame, axes: list[str], values: list[str]) -> None:
    """Warns if each cell has one row and other columns show that it is the mean of several runs."""
    summaries = [c for c in table.columns.difference([*axes, *values], sort=False) if AVERAGED.fullmatch(words_of(c))]
    cells = table[table[axes].notna().all(axis=1)]
    if summaries and "training" not in table and not cells.duplicated(axes).any():
        print(
            f"ablation: {path}: each row counts as one seed, so the spread is not known; the suite does not read "
            f"{', '.join(map(repr, summaries))}. If a row is a mean, write a row for each seed instead.",
            file=sys.stderr,
        )


LOWEST_IS_BEST = (
    r"errs?|errors?|nll|perplexity|ppl|[wce]er|r?mse|fid|brier|ece|regret|f[pn]r(at|@)?|fdr|frr|miss(es|[ _-]?rate)|"
    r"misclassif\w*|wrong|epe|kl|bpd|bits[ _-]per[ _-]\w+|fail(ure)?s?[ _-]rate"
)
ONE_MINUS = re.compile(r"(1|100) *[-\u2212\u2013] *\w*(acc|top)")
OF_AN_ACCURACY = r"(log|cross)?[ _-]?loss(es)?"  # may also name the epoch of an accuracy
# An error, a cost or a spread, or the name of a method.
MAY_BE = (
    r"m?ae|distance|divergence|dissimilarity|hamming|gap|overfit(ting)?|latency|runtime|time|duration|seconds?|secs?|ms|"
    r"minutes?|hours?|costs?|memory|bytes|flops|g?macs|params|parameters|energy|joules"
)
SPREAD = r"std|stdev|stderr|sd|sem|var|variance"


def check_direction(path: Path, values: list[str], measures: Measures) -> None:
    """Refuses a column of errors or losses: the figure frames the highest value. The column's name shows it, or its
    evaluation states it."""
    for value in values:
        words = words_of(value)

        def has(pattern: str, words: str = words) -> bool:
            return bool(re.search(rf"(^|[^a-z])({pattern})([^a-z]|$)", words))

        accuracy = reads_as_accuracy(value)
        lowest = Metric.of(value, measures).lowest_is_best
        if lowest or has(LOWEST_IS_BEST) or ONE_MINUS.match(words) or (has(OF_AN_ACCURACY) and not accuracy):
            raise InvalidSpec(
                f"--value must name a column whose highest value is the best, but {value!r} of {path} reads like one "
                "whose lowest is. Draw an accuracy, say 100 - error, or the negative, under another name."
            )
        if has(SPREAD) or (has(MAY_BE) and not accuracy):
            print(
                f"ablation: the highest {value} of {path} is taken as the best. If the lowest is, as for an error or a "
                "time, draw the negative under another name.",
                file=sys.stderr,
            )


# Columns that may differ between the seeds of a cell: the run's id, its machine and its code.
ABOUT_A_RUN = ("seed", "baseline", "n", "state", "training", "notes", "device", "torch", "kornia", "commit", "compiled")
