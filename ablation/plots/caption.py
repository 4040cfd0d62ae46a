"""The caption of a figure, from its table: data, method, seeds, spread, missing runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ablation.analysis.statistics import pooled_sd, spread, summary
from ablation.analysis.tables import rounded
from ablation.spec import Measures, Metric, written
from ablation.spec.metric import COLLAPSED, SPLITS
from ablation.system.terminal import many

HSU = "at 95 % (Hsu's comparison with the best)"  # how `not_worse` is decided


def caption(
    table: pd.DataFrame, by: list[str], values: Sequence[str], note: str, missing: str = "",
    measures: Measures | None = None,
) -> str:  # fmt: skip
    """The caption of the numbers in a table. missing: sentences on runs and cells without a value. measures: what
    users' evaluations state of their metrics."""
    metrics = {value: Metric.of(value, measures) for value in values}
    cells = table.dropna(subset=by)
    done = cells.dropna(subset=list(values), how="all")

    def only(column: str) -> str:
        found = list(dict.fromkeys(map(written, done[column].dropna()))) if column in done else []
        return ", ".join(found) if len(found) <= 4 else f"{', '.join(found[:3])} and {len(found) - 3} more"

    n = seeds_in(cells, by, values)
    seeds = f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"
    several = "mean ± sample standard deviation over seeds" if n[-1] > 1 else "one seed, so no spread is known"
    text = f"{_what(done, only, metrics)}{seeds}, {several}"
    if n[-1] > 1:
        sds = ", ".join(rounded(pooled_sd(cells, by, v), m.digits, cells[v].abs().max()) for v, m in metrics.items())
        text += f" (pooled over cells: {sds})"
    text += f".{_batch_norm(done, metrics)}{missing}{_baselines(table, by, metrics)}"
    return f"{text} {note}".strip()


def not_worse(within: Sequence[str] = ()) -> str:
    """What a mark of the best means. within: the coordinates whose labels have each their own best."""
    group = f" with the same {' and '.join(within)}" if within else ""
    return f"not significantly different from the best{group}"


def seeds_in(table: pd.DataFrame, by: list[str], values: Sequence[str]) -> list[int]:
    """The different numbers of seeds of the cells, in rising order."""
    return sorted({int(n) for value in values for n in summary(table.dropna(subset=by), by, value)["n"]})


def seeds_said(n: Sequence[int]) -> str:
    """ "n = 5 seeds", "n = 2 to 5 seeds", "one seed"."""
    if n[-1] == 1:
        return "one seed"
    return f"n = {n[0]} seeds" if n[0] == n[-1] else f"n = {n[0]} to {n[-1]} seeds"


def mean_sd(mean: float, sd: float, digits: int = 1) -> str:
    return rounded(mean, digits) + (f" ± {rounded(sd, digits, mean)}" if pd.notna(sd) else "")


def kind_of_spread(tables: Sequence[pd.DataFrame], by: list[str], values: Sequence[str]) -> str:
    """The kind of spread behind intervals and marks, over separately compared tables; "" if no spread is known, as with
    one seed."""
    found = [spread(table, by, value) for table in tables for value in values]
    moderated = {each.moderated for each in found if each.freedom > 0}
    if len(moderated) == 2:
        return "pooled over cells, or moderated where cells differ in it"
    return {False: "pooled over cells", True: "moderated, as cells differ in it"}[moderated.pop()] if moderated else ""


def missing_runs(table: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> str:
    """Sentences on the rows without a value and on those whose z has collapsed, or ""."""
    runs = table.dropna(subset=list(by))
    lacking = runs[runs[list(values)].isna().any(axis=1)]
    unmeasured = lacking["state"] == "finished" if "state" in lacking else pd.Series(False, lacking.index)
    count, other = int((~unmeasured).sum()), int(unmeasured.sum())
    missing = f" {count} of {many(len(runs), 'run')} {are(count)} missing." if count else ""
    missing += f" {other} of {many(len(runs), 'run')} did not measure all of these values." if other else ""
    cells = [" + ".join(map(written, labels)) for labels in runs[collapsed(runs)][list(by)].itertuples(index=False)]
    if not cells:
        return missing
    counts = [f"{cell} ({cells.count(cell)})" for cell in dict.fromkeys(cells)]
    named = ", ".join(counts[:6]) + (f" and {many(len(counts) - 6, 'more cell')}" if len(counts) > 6 else "")
    return f"{missing} z has collapsed in {len(cells)} of {many(len(runs), 'run')}, which count: {named}."


def collapsed(table: pd.DataFrame) -> pd.Series:
    """Whether z of each run has collapsed, by the column z_deviation; False where it was not measured."""
    return _column(table, "z_deviation") < COLLAPSED if "z_deviation" in table else pd.Series(False, table.index)


def are(count: int) -> str:
    return "is" if count == 1 else "are"


def _what(done: pd.DataFrame, only: Callable[[str], str], metrics: Mapping[str, Metric]) -> str:
    """Data, method, encoder, training and its length, as far as the table has them; a user's table may have none, or
    something else in columns of these names. The training's test images are omitted if all values are of others."""
    evaluations = {metric.evaluation: metric for metric in metrics.values()}
    others = [metric for label, metric in evaluations.items() if label and Metric.images(label, "test").name in done]
    counted = _images(done, "", [split for split in SPLITS if split != "test" or len(others) < len(evaluations)])
    if "trained_on" in done and done["trained_on"].notna().any():
        counted += ", those of validation trained on too, so that nothing may be chosen on them"
    data = only("dataset")
    parts = [f"{data} ({counted})" if data and counted else data or counted, only("method"), only("encoder")]
    parts += [_optimizers(done), only("precision")]
    trained = [each for each in _numbers(done, "epochs") if each > 0]
    if trained:
        epochs = "1 epoch" if trained == [1] else f"{', '.join(f'{each:g}' for each in trained)} epochs"
        parts += [f"{epochs}, last epoch"]
    settings = ", ".join(part for part in parts if part)
    shared = only("shared")
    shared = f"shared crop before the branches: {shared}" if shared not in ("", "none") else ""
    return "".join(f"{part}; " for part in (settings, *_on_other_data(done, others), shared) if part)


def _images(done: pd.DataFrame, evaluation: str, splits: Sequence[str] = SPLITS) -> str:
    """ "5,000 train + 1,000 test images" of an evaluation's own data, or of the training's (""); "" if not known."""
    counts = {split: _numbers(done, Metric.images(evaluation, split).name) for split in splits}
    counted = [f"{_range(found)} {split}" for split, found in counts.items() if found]
    return f"{' + '.join(counted)} images" if counted else ""


def _on_other_data(done: pd.DataFrame, metrics: Sequence[Metric]) -> list[str]:
    """ "pets kNN and pets linear on 300 train + 100 test images of other data", for each such numbers of images."""
    found: dict[str, dict[str, None]] = {}
    for metric in metrics:
        found.setdefault(_images(done, metric.evaluation) or "images", {})[metric.evaluated] = None
    return [f"{' and '.join(names)} on {images} of other data" for images, names in found.items()]


def _optimizers(done: pd.DataFrame) -> str:
    """ "AdamW at rate 0.009, weight decay 1e-06, warm-up 0.1, cosine", per method if they differ; "" for a table
    without these columns."""
    if not {"optimizer", "learning_rate"} <= set(done):
        return ""
    found: dict[str, list[str]] = {}
    trained = done.dropna(subset=["optimizer", "learning_rate"])
    for method, rows in trained.groupby("method", sort=False) if "method" in trained else [("", trained)]:
        rates = _numbers(rows, "learning_rate")
        if rates:
            reach = f"{min(rates):g}" + (f" to {max(rates):g}" if max(rates) > min(rates) else "")
            optimizers = " and ".join(map(str, dict.fromkeys(rows["optimizer"])))
            decays = " and ".join(f"{decay:g}" for decay in _numbers(rows, "weight_decay"))
            schedules = " and ".join(map(str, rows["schedule"].dropna().unique())) if "schedule" in rows else ""
            said = [f"{optimizers} at rate {reach}", f"weight decay {decays}" if decays else "", schedules]
            found.setdefault(", ".join(filter(None, said)), []).append(str(method))
    if len(found) < 2:
        return "".join(found)
    return ", ".join(f"{' and '.join(methods)} with {text}" for text, methods in found.items())


def _batch_norm(done: pd.DataFrame, metrics: Mapping[str, Metric]) -> str:
    """A sentence on batch norm's statistics, which names the recalibrated values if there are others; "" if both kinds
    give the same numbers in every run, so that the encoders have no batch norm."""
    recalibrated = {value: metric for value, metric in metrics.items() if metric.statistics == "recalibrated"}
    kinds = [(value, replace(metric, statistics="running").name) for value, metric in recalibrated.items()]
    if all(other in done and _column(done, value).equals(_column(done, other)) for value, other in kinds):
        return ""
    some = len(recalibrated) < len(metrics)
    named = f" of {' and '.join(metric.short for metric in recalibrated.values())}" if some else ""
    evaluations = {metric.evaluation for metric in recalibrated.values()} - {""}
    other = any(Metric.images(evaluation, "train").name in done for evaluation in evaluations)
    images = "clean training images" + (" of the evaluated data" if other else "")
    return f" Batch-norm statistics{named} recalibrated on {images}."


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    """The column as numbers, NaN for words."""
    return pd.to_numeric(table[name], errors="coerce").rename("")


def _numbers(table: pd.DataFrame, column: str) -> list[float]:
    """The different finite numbers of a column, in its order; none if it is absent or holds words."""
    found = _column(table, column) if column in table else pd.Series(dtype=float)
    return list(dict.fromkeys(found[np.isfinite(found)]))


def _range(numbers: list[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,.0f}" + (f" to {high:,.0f}" if high > low else "")


def _baselines(table: pd.DataFrame, by: list[str], metrics: Mapping[str, Metric]) -> str:
    """The cells outside the grid, at the coordinate "baseline"."""
    if "baseline" not in table.columns or "baseline" in by:
        return ""
    found = {value: summary(table, ["baseline"], value).set_index("baseline") for value in metrics}
    sentences = []
    for name in table["baseline"].dropna().unique():
        shown = [
            f"{metrics[v].short} {mean_sd(rows.loc[name, 'mean'], rows.loc[name, 'sd'], metrics[v].digits)}"
            for v, rows in found.items()
            if name in rows.index
        ]
        if shown:
            sentences.append(f" {str(name).capitalize()}: {', '.join(shown)}.")
    return "".join(sentences)
