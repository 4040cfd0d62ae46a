"""The tables, figures and verdict of a search."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ablation.analysis.cell_settings import settings_of
from ablation.analysis.results import table
from ablation.analysis.settings import write_tables
from ablation.analysis.statistics import difference, paired, spread
from ablation.analysis.tables import to_csv
from ablation.execution.store import identified
from ablation.plots import draw_all
from ablation.plots.drawing import table_of
from ablation.plots.trials import figures_of, on_test_images
from ablation.search.holdout import NAMES
from ablation.search.session import Session
from ablation.search.tables import curves, importances, trials
from ablation.spec import Experiment, Measures, Metric


def write(session: Session, compared: Experiment, csv: Path, options: Sequence[str] = ()) -> tuple[list[Path], int]:
    """Writes tables and figures of a search and prints the verdict; returns the paths and the number of failed figures.

    compared: the runs with fresh seeds; options: as typed on the command line.
    """
    studies, source = session.studies(), session.source
    searched = trials(studies)
    tested = table(compared, session.results)
    figures = figures_of(searched, tested.dropna(axis=1, how="all").columns)
    notes = {name: figure.note for name, figure in figures.items() if getattr(figure, "note", "")}
    settings = settings_of(source, notes, identified(compared), csv.parent, "search", options)
    settings.searched = {
        study.study_name: {**study.user_attrs["definition"], "trials": study.user_attrs.get("budget")}
        for study in studies.values()
    }
    found = {"test": tested, "importance": importances(studies), "curves": curves(studies, session.results)}
    axes = ["case", "sampler", "settings", "seed"]
    beside = {name: to_csv(rows, axes) for name, rows in found.items() if len(rows)}
    paths = write_tables(csv, {"": to_csv(searched, ["case", "sampler"]), **beside}, settings)
    drawn, text, wrong = draw_all({n: f for n, f in figures.items() if table_of(f, csv) in paths}, csv)
    for sentence in wrong:
        print(f"ablation: {sentence}", file=sys.stderr)
    metrics = {case: search.metric for case, search in session.searches.items()}
    print("\n\n".join(filter(None, [text, verdict(tested, metrics, settings.measures)])))
    return paths + drawn, len(wrong)


def verdict(tested: pd.DataFrame, metrics: Mapping[str, str], measures: Measures | None = None) -> str:
    """A line per case: the best settings minus the default, on test images, with fresh seeds, by the case's metric."""
    lines = []
    for metric in dict.fromkeys(metrics.values()):
        cases = [case for case, each in metrics.items() if each == metric]
        rows = tested[tested["case"].isin(cases)] if "case" in tested else tested
        lines += _compared(rows, Metric.of(on_test_images(metric), measures))
    return "\n".join(lines) or "no run with fresh seeds is finished, so there is no comparison with the default"


def _compared(tested: pd.DataFrame, metric: Metric) -> list[str]:
    """The verdict on the column of a metric; the cells of all cases share one spread."""
    value, digits = metric.name, metric.digits
    if value not in tested or tested[value].isna().all():
        return []

    def shown(found: Mapping[str, float]) -> str:
        difference, low, high = (f"{found[name]:.{digits}f}" for name in ("difference", "low", "high"))
        return f"{difference} (95 %: {low} to {high})"

    by = [axis for axis in ("case", "settings") if axis in tested]
    pooled = spread(tested, by, value)
    lines = []
    for case, cells in pooled.cells.groupby("case", sort=False) if "case" in by else [("", pooled.cells)]:
        cells = cells.set_index("settings")
        rows = tested[tested["case"] == case] if case else tested
        for label in (label for label in NAMES.values() if label in cells.index):
            if "default" not in cells.index:
                lines.append(f"{case + ': ' if case else ''}no run of the default is finished, so no comparison")
                break
            one, other = cells.loc[label], cells.loc["default"]
            d = difference(one["mean"], other["mean"], one["error"], other["error"], pooled.freedom)
            p = paired(rows, "settings", value, label, "default")
            lines.append(
                f"{case + ': ' if case else ''}{label} {one['mean']:.{digits}f} against the default's "
                f"{other['mean']:.{digits}f}, {metric.label}: {shown(d)}, "
                f"n = {int(one['n'])} fresh seeds; paired over seeds {shown(p)}"
            )
    return lines
