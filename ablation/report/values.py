"""The values of a report: `values.py` runs once, over a folder of tables that records the files it reads.

A value is a lower-case public name bound to text, a number, a table of cells, a heatmap, or a dictionary or list of
these. Tables, functions, modules, upper-case names and names that begin with _ are internal to the file.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from ablation.analysis.settings import Settings, settings_beside
from ablation.analysis.tables import read_table
from ablation.report.elements import Cells, ClickableHeatmap, Record
from ablation.spec import InvalidSpec
from ablation.study.experiment_file import Source, explained, make_importable
from ablation.system.files import read_file

VALUE = (str, int, float, Cells, ClickableHeatmap, dict, list, tuple)


class Figures:
    """A folder of tables and figures. `used`: the files read so far."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.used: set[Path] = set()
        self._tables: dict[Path, pd.DataFrame] = {}
        self._settings: dict[Path, Settings | None] = {}

    def path(self, file: str) -> Path:
        """A file of the folder, recorded as used. Raises InvalidSpec for a name that leads out of the folder."""
        if Path(file).name != file:
            raise InvalidSpec(
                f"a table must lie in {self.folder}/, but its name is {file!r}. Name it without a folder."
            )
        path = self.folder / file
        self.used.add(path)
        return path

    def table(self, name: str) -> pd.DataFrame:
        """The table NAME.csv as text. Raises DataError if it is missing, or changed since it was written."""
        path = self.path(f"{name}.csv")
        if path not in self._tables:
            self._settings[path] = settings_beside(path)
            self._tables[path] = read_table(path)
        return self._tables[path]

    def settings(self, name: str) -> Settings | None:
        """The settings beside a table; None for a user's own."""
        self.table(name)
        return self._settings[self.folder / f"{name}.csv"]


_current: ContextVar[Figures | None] = ContextVar("figures of the report that is loaded", default=None)


def current() -> Figures:
    """The folder of the report whose values are being computed; ./figures outside of a report, as in a notebook."""
    return _current.get() or Figures("figures")


def load(path: Path, figures: Figures) -> dict[str, Any]:
    """Runs values.py and returns its values by name. Raises UserCodeError with file and line of an
    error in it, InvalidSpec if it is missing."""
    if not path.is_file():
        raise InvalidSpec(f"{path}, which computes the values of the report, is not there. Write it; it may be empty.")
    source = Source(str(path), read_file(path), scale="", data=None)
    make_importable(path.resolve().parent)
    module = types.ModuleType("values")
    module.__file__ = str(path)
    token = _current.set(figures)
    try:
        explained(source, lambda: exec(compile(source.code, str(path), "exec", dont_inherit=True), module.__dict__))
    finally:
        _current.reset(token)
    public = {name: value for name, value in vars(module).items() if name.islower() and not name.startswith("_")}
    return {name: distinct(value) for name, value in public.items() if isinstance(value, VALUE)}


class _Text(str):
    pass


class _Whole(int):
    pass


class _Real(float):
    pass


def distinct(value: Any) -> Any:
    """The value, copied so that each text and number in it is an object of its own: `leaves` tells shown ones by their
    identity, and Python may give two equal numbers one object."""
    if isinstance(value, dict):
        return type(value)((key, distinct(inner)) for key, inner in value.items())
    if type(value) in (list, tuple):
        return type(value)(map(distinct, value))
    if isinstance(value, Markup):
        return Markup(value)
    own = {str: _Text, int: _Whole, float: _Real}.get(type(value))
    return own(value) if own else value


def leaves(value: Any, name: str) -> Iterator[tuple[str, set[int]]]:
    """The parts of a value: each name with the identities of its objects. The report must show one of them."""
    if isinstance(value, Record):
        yield name, {id(inner) for inner in value.values()}
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{name}[{number}]")
    else:
        yield name, {id(value)}
