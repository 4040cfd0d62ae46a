"""Builds the settings of a table (see `settings.py`) from the experiment's source and cells."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation.analysis.settings import Settings
from ablation.data import loaded
from ablation.execution.store import Identified
from ablation.spec import is_ours
from ablation.study.experiment_file import Source, docstring
from ablation.study.scales import name_and_place


def settings_of(
    source: Source, notes: Mapping[str, str], cells: Sequence[Identified], folder: Path, command: str = "run",
    options: Sequence[str] = (),
) -> Settings:  # fmt: skip
    """notes: for captions, by figure. folder: of the table. options: of the command, beside the source's."""
    settings = Settings(
        name=source.name,
        scale=source.scale,
        title=(docstring(source.code).splitlines() or [""])[0],
        command=" ".join(
            [f"ablation {command} {_typed(source)} --scale {source.scale}", *_options_of(source, cells), *options]
        ),
        file=Path(os.path.relpath(source.path, folder.resolve())).as_posix(),
        notes=dict(notes),
    )
    datasets = dict.fromkeys(item.cell.run.training.dataset for item in cells)
    sizes = {each: size_of(each) for each in datasets}
    settings.add([(item.cell, item.training_id, item.evaluation_ids) for item in cells], sizes)
    return settings


def _options_of(source: Source, cells: Sequence[Identified]) -> list[str]:
    """The options that determine the cells; the word PLACE stands for a path on this machine."""
    options = [f"--precision {source.precision}"] if source.precision else []
    datasets = {dataset for item in cells for dataset in item.cell.run.datasets}
    named = all(getattr(dataset, "images", None) for dataset in datasets)  # the same at any place
    if source.data and not named:
        name, place = name_and_place(source.data)
        place = "PLACE" if Path(place).exists() else place
        options += [f"--data {name}={place}" if name else f"--data {place}"]
    return options


def _typed(source: Source) -> str:
    """The experiment as typed; a file relative to the working directory, since its full path differs by machine."""
    if Path(source.asked).suffix != ".py":
        return source.asked or source.name
    path = Path(source.path)
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.name


def size_of(dataset: Any) -> int:
    """The side of a data set's images; in a user's class, a field `size` may mean something else."""
    stated = getattr(dataset, "size", None) if is_ours(type(dataset)) else None
    return stated or loaded(dataset, "cpu").size
