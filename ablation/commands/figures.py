"""`ablation figures`: draw figures again from their tables, without training."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ablation.analysis.settings import Settings, path_of, read_settings
from ablation.analysis.tables import read_table
from ablation.plots import Heatmap, draw_all
from ablation.plots.drawing import cause, table_of
from ablation.plots.figures import figures as figures_of
from ablation.plots.file_names import Artifact, tables_in
from ablation.spec import InvalidSpec, StorageError
from ablation.study.experiment_file import names, read
from ablation.system.files import read_file


def shown(path: Path, settings: Settings | None) -> pd.DataFrame:
    """The table of a figure, with the optimizers from its settings."""
    table = read_table(path)
    return settings.with_optimizers(table) if settings else table


def figures(options: argparse.Namespace) -> int:
    """Draws the named tables, or every table in the folder whose experiment is known. A failure is reported and stops
    no other; the exit code is then 1, or 2 if nothing was drawn."""
    own = [Path(name) for name in options.experiment if name.endswith(".csv")]
    asked = [name for name in options.experiment if not name.endswith(".csv")]
    tables = _asked(asked, options.scale, Path(options.figures or "figures")) if asked or not own else {}
    drawn, wrong = 0, []
    for path in own:
        try:
            paths, text = _own(path, options, own)
        except Exception as error:
            wrong.append(cause(error))
            continue
        drawn += _print(text, paths)
    for csv, file in tables.items():
        try:
            paths, failed = _experiment(csv, file)
        except Exception as error:  # a user's file may raise anything
            wrong.append(f"{csv} is not drawn: {cause(error)}")
            continue
        drawn += _print("", paths)
        wrong += failed
    for sentence in wrong:
        print(f"ablation: {sentence}", file=sys.stderr)
    return 0 if not wrong else 1 if drawn else 2


def _experiment(csv: Path, file: str | None) -> tuple[list[Path], list[str]]:
    """Draws the figures of an experiment's table; returns their files and the failures. file: of the experiment, if
    given."""
    artifact = Artifact.of(csv.stem)
    source = read(file or _file(csv, artifact.name), artifact.scale)
    drawable = {n: figure for n, figure in figures_of(source, csv).items() if table_of(figure, csv).is_file()}
    settings = read_settings(csv) if path_of(csv).is_file() else None  # tables of earlier versions have none
    if settings is None and "training" in read_table(csv):
        print(
            f"ablation: {csv} is drawn without a check: its settings {path_of(csv).name} are missing, so a change of "
            "the table cannot be noticed. Run the experiment again to write them.",
            file=sys.stderr,
        )
    if settings:  # the captions at the time of the runs
        drawable = {n: figure.replace(note=settings.notes.get(n, "")) for n, figure in drawable.items()}
    paths, _, failed = draw_all(drawable, csv, lambda path: shown(path, settings))
    return paths, failed


def _asked(asked: list[str], scale: str | None, folder: Path) -> Mapping[Path, str | None]:
    """The named tables, or all if none is named, each with the file of its experiment if that was given. Raises
    InvalidSpec if there is no such table, StorageError if the folder cannot be read."""
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise StorageError(f"--figures must be a readable folder, but {folder}/ is not: permission denied.")
    tables = tables_in(folder)
    chosen: dict[Path, str | None] = {}
    for name in asked:
        chosen |= _named(name, scale, folder, tables)
    if not asked:
        chosen = {csv: None for stem, csv in tables.items() if scale in (None, Artifact.of(stem).scale)}
        if not chosen:
            raise InvalidSpec(_nothing(folder, "any experiment"))
    return chosen


def _named(name: str, scale: str | None, folder: Path, tables: Mapping[str, Path]) -> dict[Path, str | None]:
    """The tables of an experiment, given as NAME, NAME-SCALE or PATH/NAME.py."""
    if Path(name).suffix not in ("", ".py") and Path(name).is_file():
        raise InvalidSpec(
            f"your own table must be a file NAME.csv, separated by commas, but got {name}. Save it as one."
        )
    file = name if name.endswith(".py") else None
    artifact = None if file else Artifact.of(name)
    if artifact and scale not in (None, artifact.scale):
        raise InvalidSpec(f"--scale must be the table's, {artifact.scale}, but got {scale}. Write {artifact.name}.")
    wanted = Path(name).stem if file else artifact.name if artifact else name
    scales = {artifact.scale} if artifact else {scale} if scale else None
    known = {stem: Artifact.of(stem) for stem in tables}
    matching = {
        tables[stem]: file
        for stem, each in known.items()
        if each.name == wanted and (not scales or each.scale in scales)
    }
    if not matching:
        near = difflib.get_close_matches(name, {each.name for each in known.values()}, 3)
        raise InvalidSpec(_nothing(folder, wanted) + (f" Did you mean {' or '.join(near)}?" if near else ""))
    return matching


def _nothing(folder: Path, name: str) -> str:
    return f"--figures: {folder}/ has no table of {name} (EXPERIMENT-SCALE.csv). Run the experiment first."


def _file(csv: Path, name: str) -> str:
    """The file of a table's experiment: from its settings, by name, or in the current folder."""
    try:
        recorded = csv.parent / json.loads(read_file(csv.with_suffix(".json").resolve()))["file"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        recorded = None
    for path in (recorded, names().get(name), Path(f"{name}.py")):
        if path and path.is_file():
            return str(path)
    raise InvalidSpec(f"its experiment's file is not known. Name it: ablation figures PATH/{name}.py.")


def _own(path: Path, options: argparse.Namespace, own: list[Path]) -> tuple[list[Path], str]:
    from ablation.commands.plot_csv import draw

    alike = [each for each in own if each.stem == path.stem]
    if options.figures and len(alike) > 1:
        raise InvalidSpec(
            f"--figures takes one picture of each name, but {' and '.join(map(str, alike))} have the same name. Omit "
            "--figures to draw each beside its table."
        )
    folder = Path(options.figures) if options.figures else path.parent
    figure = Heatmap(
        highest_is_best=True,
        rows=options.rows,
        columns=options.columns,
        where=_where(options.where),
        reference=options.reference,
    )
    return draw(path, figure, options.value, folder, fractions=options.fractions)


def _where(pairs: list[str] | None) -> dict[str, str]:
    labels = {}
    for pair in pairs or ():
        column, equals, label = pair.partition("=")
        if not equals or column in labels:
            raise InvalidSpec(
                f"--where must be COLUMN=LABEL, once per column, but got {pair!r}. Write --where method=SimCLR, say."
            )
        labels[column] = label
    return labels


def _print(text: str, paths: list[Path]) -> int:
    print(f"{text}\n\n" if text else "", *(f"{path}\n" for path in paths), sep="", end="", flush=True)
    return len(paths)
