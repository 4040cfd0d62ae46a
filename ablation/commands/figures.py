"""`ablation figures`: drawn again from their tables, without training."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ablation.files import read_file
from ablation.loading import figures as figures_of
from ablation.loading import names, read
from ablation.plots import draw_all
from ablation.plots.base import cause, table_of
from ablation.scales import SCALES
from ablation.settings import Settings, path_of, read_settings
from ablation.specs import InvalidSpec
from ablation.tables import read_table


def shown(path: Path, settings: Settings | None) -> pd.DataFrame:
    """The table that a figure is drawn from, with what the settings say of its runs."""
    table = read_table(path)
    return settings.with_optimizers(table) if settings else table


def figures(options: argparse.Namespace) -> int:
    """Draws what was asked, or every table in the folder whose experiment is known. One that fails does not stop the
    others: it is named, and the exit code is 1, or 2 where nothing was drawn."""
    own = [Path(name) for name in options.experiment if name.endswith(".csv")]
    folder = Path(options.figures or "figures")
    asked = [name for name in options.experiment if not name.endswith(".csv")]
    tables = _asked(asked, options.scale, folder) if asked or not own else {}
    drawn, wrong = 0, []
    for path in own:
        try:
            paths, said = _own(path, options, own)
        except Exception as error:
            paths, said = [], ""
            wrong.append(cause(error))
        drawn += _print(said, paths)
    for csv, name in tables.items():
        stem, scale = split(csv.stem)
        try:
            source = read(name or _file(csv, stem), scale)
            there = {n: figure for n, figure in figures_of(source, csv).items() if table_of(figure, csv).is_file()}
            settings = read_settings(csv) if path_of(csv).is_file() else None  # one of earlier versions has none
            if settings is None and "training" in read_table(csv):
                print(f"ablation: {csv} is drawn, but {path_of(csv).name}, which would tell whether it was changed, is "
                      "not beside it. Run the experiment again to have it.", file=sys.stderr)  # fmt: skip
        except Exception as error:  # a user's file may raise any
            wrong.append(f"{csv} is not drawn: {cause(error)}")
            continue
        if settings:  # captions are those of the runs
            there = {n: figure.replace(note=settings.notes.get(n, "")) for n, figure in there.items()}
        paths, _, failed = draw_all(there, csv, lambda path, settings=settings: shown(path, settings))
        drawn += _print("", paths)
        wrong += failed
    for sentence in wrong:
        print(f"ablation: {sentence}", file=sys.stderr)
    return 0 if not wrong else 1 if drawn else 2


def split(stem: str) -> tuple[str, str]:
    """A table's name as its experiment's and its scale's; ("", "") where it is no such table's."""
    return next(((stem.removesuffix(f"-{scale}"), scale) for scale in SCALES if stem.endswith(f"-{scale}")), ("", ""))


def _asked(asked: list[str], scale: str | None, folder: Path) -> Mapping[Path, str | None]:
    """The tables to draw, all where none is asked for, each with the file of its experiment where one was given.
    Raises InvalidSpec where there is no such table."""
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise InvalidSpec(f"--figures must be a folder that may be read, but {folder}/ may not: permission denied.")
    there = {csv.stem: csv for csv in sorted(folder.glob("*.csv")) if split(csv.stem)[0]}
    found: dict[Path, str | None] = {}
    for name in asked:
        if Path(name).suffix not in ("", ".py") and Path(name).is_file():
            raise InvalidSpec(
                f"a table of one's own must be a file NAME.csv, separated by commas, but got {name}. Save it as one."
            )
        stem, of = split(name)
        if of and scale not in (None, of):
            raise InvalidSpec(f"--scale must be the table's, {of}, but got {scale}. Write {stem}.")
        file = name if name.endswith(".py") else None
        stem = stem or (Path(name).stem if file else name)
        wanted = [f"{stem}-{each}" for each in ([of] if of else SCALES) if scale in (None, each)]
        if not any(each in there for each in wanted):
            near = difflib.get_close_matches(name, {split(each)[0] for each in there}, 3)
            raise InvalidSpec(_nothing(folder, stem) + (f" Did you mean {' or '.join(near)}?" if near else ""))
        found |= {there[each]: file for each in wanted if each in there}
    if not asked:
        found = {csv: None for stem, csv in there.items() if scale in (None, split(stem)[1])}
        if not found:
            raise InvalidSpec(_nothing(folder, "any experiment"))
    return found


def _nothing(folder: Path, name: str) -> str:
    return (
        f"--figures must hold a table named EXPERIMENT-SCALE.csv, but {folder}/ has none of {name}. Run the experiment "
        "first."
    )


def _file(csv: Path, name: str) -> str:
    """Where the experiment of a table is: where its settings say, among those known by name, or here."""
    try:
        told = csv.parent / json.loads(read_file(csv.with_suffix(".json").resolve()))["file"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        told = None
    for path in (told, names().get(name), Path(f"{name}.py")):
        if path and path.is_file():
            return str(path)
    raise InvalidSpec(f"its experiment's file is not known. Name it: ablation figures PATH/{name}.py.")


def _own(path: Path, options: argparse.Namespace, own: list[Path]) -> tuple[list[Path], str]:
    from ablation.own_table import draw

    alike = [each for each in own if each.stem == path.stem]
    if options.figures and len(alike) > 1:
        raise InvalidSpec(
            f"--figures takes one picture of each name, but {' and '.join(map(str, alike))} have one name. Leave "
            "--figures out: each is then drawn beside its table."
        )
    folder = Path(options.figures) if options.figures else None
    return draw(
        path,
        options.rows,
        options.columns,
        options.value,
        options.reference,
        fractions=options.fractions,
        where=_where(options.where),
        folder=folder,
    )


def _where(pairs: list[str] | None) -> dict[str, str]:
    found = {}
    for pair in pairs or ():
        column, equals, label = pair.partition("=")
        if not equals or column in found:
            raise InvalidSpec(
                f"--where must be COLUMN=LABEL, once for a column, but got {pair!r}. Write --where method=SimCLR, say."
            )
        found[column] = label
    return found


def _print(said: str, paths: list[Path]) -> int:
    print(f"{said}\n\n" * bool(said), *(f"{path}\n" for path in paths), sep="", end="", flush=True)
    return len(paths)
