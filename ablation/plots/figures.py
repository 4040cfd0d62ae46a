"""The figures of an experiment file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablation.analysis.tables import read_table
from ablation.plots.trials import figures_of
from ablation.study.experiment_file import Source, is_search, load


def figures(source: Source, csv: Path) -> Mapping[str, Any]:
    """The figures of an experiment, or of a search with the table `csv`."""
    if not is_search(source):
        return load(source).figures
    tested = csv.with_name(f"{csv.stem}-test.csv")
    columns = read_table(tested).dropna(axis=1, how="all").columns if tested.is_file() else ()
    return figures_of(read_table(csv), columns)
