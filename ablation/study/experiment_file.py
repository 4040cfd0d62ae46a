"""Finds an experiment by name or path and loads it, in the main process and in workers.

An experiment file is Python. The main process keeps its bytes and hands them to workers, so they run the same
code even if someone edits the file meanwhile, and the identity of a user's operator is that of the executed source.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import linecache
import multiprocessing
import re
import reprlib
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from ablation.spec import (
    EXPERIMENT,
    AblationError,
    Cell,
    Experiment,
    InvalidSpec,
    Run,
    Spec,
    UserCodeError,
    imported_names,
)
from ablation.study.scales import SCALES, Scale, name_and_place, scale_named
from ablation.system.files import read_file


@dataclass(frozen=True)
class Source:
    """Everything a worker needs to rebuild the experiment."""

    path: str
    code: bytes
    scale: str
    data: str | None
    precision: str | None = None
    asked: str = field(default="", compare=False)  # the name or path on the command line

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def cells(self) -> tuple[Cell, ...]:
        """The experiment's cells."""
        return load(self).cells


def experiment_folders() -> list[Path]:
    """The folders searched for a name: ./experiments, then the suite's own."""
    package = Path(__file__).resolve().parent.parent
    own = [folder / "experiments" for folder in (package, package.parent)]  # of a wheel, of the repository
    here = Path.cwd() / "experiments"
    return [here, *(folder for folder in own if folder.is_dir() and folder != here.resolve())]


def find(name: str, function: str | None = None) -> Path:
    """The file of an experiment or a search, by path or name."""
    path = Path(name).expanduser()
    if path.suffix == ".py" or path.is_file():
        if not path.is_file():
            raise InvalidSpec(f"the {function or 'experiment'} file {name} does not exist. Check the path.")
        return path.resolve()
    known = names()
    if name in known:
        return known[name]
    beside = f"did you mean the file {name}.py? " if Path(f"{name}.py").is_file() else ""
    near, known = beside or _nearest(name, known), names(function)
    raise InvalidSpec(f"unknown {function or 'experiment'} {name!r}; {near}known are {', '.join(sorted(known))}.")


def names(function: str | None = None) -> dict[str, Path]:
    """The files of all named experiments and searches; the current folder's take precedence. function: only files that
    define it, "experiment" or "search"; a file that defines neither, such as a broken one, counts as an experiment."""
    found: dict[str, Path] = {}
    for folder in experiment_folders():
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith("_"):
                found.setdefault(path.stem, path.resolve())
    if function is None:
        return found
    searches = re.compile(rb"^def search\(", re.MULTILINE)
    return {n: path for n, path in found.items() if bool(searches.search(path.read_bytes())) == (function == "search")}


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def read(
    name: str, scale: str, data: str | None = None, function: str | None = None, precision: str | None = None
) -> Source:
    """function: "experiment" or "search"; errors list its known names. precision: replaces the scale's."""
    if scale not in SCALES:
        raise InvalidSpec(f"unknown scale {scale!r}; {_nearest(scale, SCALES)}known are {', '.join(SCALES)}.")
    path = find(name, function)
    if data:  # a worker may have another working directory
        label, place = name_and_place(data)
        place = str(Path(place).resolve()) if Path(place).exists() else place
        data = f"{label}={place}" if label else place
    return Source(str(path), path.read_bytes(), scale, data, precision, asked=name)


def check_owner(document: Path, source: Source, trainings: Iterable[str], option: str) -> None:
    """Raises InvalidSpec if the settings belong to another experiment of the same name: this one would overwrite its
    table and figures.

    Same experiment means the same file, however edited; or a file with the same text; or, if the recorded file is gone
    (moved, or on another machine), a file that shares a training with it.
    """
    try:
        known = json.loads(read_file(document))
        file = (document.parent / known["file"]).resolve()
        ran = {cell["training"] for cell in known["cells"]} if "cells" in known else set(known["trainings"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # nothing was found, or it has no file
    if file == Path(source.path) or (file.is_file() and file.read_bytes() == source.code):
        return
    if file.is_file() or not ran & set(trainings):
        raise InvalidSpec(
            f"{option}: {document} belongs to {file}, and {source.path} has the same name, but a folder can hold only "
            f"one experiment of each name. Rename one file, or use another folder: {option} FOLDER. (If you moved and "
            f"changed the file, remove {document}.)"
        )


def check_data_is_used(source: Source, runs: Iterable[Run]) -> None:
    """Raises InvalidSpec if no run uses the images of --data."""
    if source.data:
        place = name_and_place(source.data)[1]
        if not any(getattr(dataset, "path", None) == place for run in runs for dataset in run.datasets):
            raise InvalidSpec(
                f"--data replaces the scale's images, but no run of {source.path} uses {place}: the file has its own "
                "data. Omit --data, or use scale.dataset in the file."
            )


def load(source: Source) -> Experiment:
    """Runs the file and calls its `experiment(scale)`. Raises AblationError with the file and line of a mistake."""
    if is_search(source):
        if not is_experiment(source):
            raise InvalidSpec(
                f"{source.path} defines a search, not an experiment. Type: ablation search {source.asked}."
            )
        raise InvalidSpec(BOTH.format(source.path))
    experiment = asked(source, "experiment", "Experiment(cells=..., figures=...)")
    if not isinstance(experiment, Experiment):
        raise InvalidSpec(
            f"{source.path}: experiment(scale) must return an Experiment, but returned {reprlib.repr(experiment)}. "
            "Write: return Experiment(cells=..., figures=...)"
        )
    check_data_is_used(source, (cell.run for cell in experiment.cells))
    return experiment


BOTH = (
    "{} defines an experiment and a search, whose tables and figures would have the same names. Move the search to "
    "its own file."
)


def is_search(source: Source) -> bool:
    return callable(getattr(_module(source), "search", None))


def is_experiment(source: Source) -> bool:
    return callable(getattr(_module(source), "experiment", None))


def asked(source: Source, function: str, returned: str):
    """The result of the file's function for the scale. Raises AblationError with the file and line of a mistake."""
    make = getattr(_module(source), function, None)
    if not callable(make):
        raise InvalidSpec(
            f"{source.path} does not define {function}(scale). Add: def {function}(scale): return {returned}"
        )
    try:
        inspect.signature(make).bind(None)
    except TypeError as error:
        raise InvalidSpec(
            f"{source.path}: {function} must be a function of the scale alone, but is "
            f"{function}{inspect.signature(make)}. Write: def {function}(scale):"
        ) from error
    scale: Scale = scale_named(source.scale, source.data, source.precision)
    made = explained(source, lambda: make(scale))
    _check_dtype(source)
    return made


def docstring(code: bytes) -> str:
    """The docstring of an experiment file; "" if it is not valid Python."""
    try:
        return (ast.get_docstring(ast.parse(code)) or "").strip()
    except (SyntaxError, ValueError):
        return ""


_importable: list[str] = []  # folders that this module put on sys.path, the last experiment's first


def make_importable(folder: Path) -> None:
    """Makes the files beside an experiment importable, ahead of earlier experiments' files of the same name."""
    known = [each for each in _importable if each in sys.path]
    for name, module in [each for each in list(sys.modules.items()) if "." not in each[0]]:
        file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
        package = bool(file) and Path(file).name == "__init__.py"
        place = str(Path(file).parents[1 if package else 0]) if file else ""
        if place in known and place != str(folder) and ((folder / f"{name}.py").is_file() or (folder / name).is_dir()):
            for each in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
                del sys.modules[each]
    wanted = [str(folder), *(str(each.parent) for each in experiment_folders())]
    for each in reversed([each for each in wanted if each in known or each not in sys.path]):
        if each in sys.path:
            sys.path.remove(each)
            known.remove(each)
        sys.path.insert(sys.path.index(known[0]) if known else len(sys.path), each)
        known.insert(0, each)
    _importable[:] = known


def _module(source: Source) -> types.ModuleType:
    name = f"{EXPERIMENT}{source.name}"
    kept = sys.modules.get(name)
    if kept is not None and getattr(kept, "__ablation_key__", None) == (source.path, source.code):
        return kept
    make_importable(Path(source.path).parent)
    module = types.ModuleType(name)
    module.__file__ = source.path
    text = explained(source, lambda: source.code.decode())
    module.__ablation_source__ = text
    module.__ablation_key__ = (source.path, source.code)
    linecache.cache[source.path] = (len(text), None, text.splitlines(keepends=True), source.path)
    sys.modules[name] = module
    try:
        explained(source, lambda: exec(compile(text, source.path, "exec", dont_inherit=True), module.__dict__))
    except BaseException:
        del sys.modules[name]
        raise
    _check_dtype(source)
    _warn_of_hidden_files(source, text)
    return module


def _check_dtype(source: Source) -> None:
    torch = sys.modules.get("torch")
    if torch and torch.get_default_dtype() != torch.float32:
        wrong = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        raise UserCodeError(f"{source.path} changes torch's default dtype from float32 to {wrong}. Remove that.")


def _warn_of_hidden_files(source: Source, text: str) -> None:
    """Warns of files beside the experiment, or below this folder, that an installed module of the same name hides."""
    for name in sorted(imported_names(text)) if multiprocessing.parent_process() is None else ():
        taken = getattr(sys.modules.get(name), "__file__", None)
        places = [folder.joinpath(*name.split(".")) for folder in (Path(source.path).parent, Path.cwd())]
        files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
        meant = next(filter(Path.is_file, files), None)
        if taken and meant and meant.resolve().with_suffix("") != Path(taken).resolve().with_suffix(""):
            print(f"ablation: {source.path}: import {name} loads {taken}, not {meant}; rename yours.", file=sys.stderr)


def explained(source: Source, call, *, passing: tuple[type[Exception], ...] = ()):
    """Runs the user's code and turns its mistakes into one sentence with file and line. passing: exceptions with a
    meaning for the caller, which are raised as they are."""
    try:
        return call()
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}" if error.filename else source.path
        raise UserCodeError(f"{place}: {error.msg}") from error
    except SystemExit as error:
        raise UserCodeError(f"{source.path} ends the program when it runs (exit or quit). Remove that.") from error
    except passing:
        raise
    except Exception as error:
        lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == source.path]
        place = f"{source.path}:{lines[-1].lineno}" if lines else source.path
        if isinstance(error, AblationError):
            raise type(error)(f"{place}: {error}") from error
        if not lines and not isinstance(error, UnicodeDecodeError):
            raise  # not the file's mistake
        raise UserCodeError(f"{place}: {type(error).__name__}: {_with_cure(error)}") from error


def _with_cure(error: Exception) -> str:
    """The error's text; of an unknown keyword of one of the suite's classes also similar and known fields, of a class
    that is not frozen its name and the line to write."""
    if "cannot inherit non-frozen dataclass" in str(error):
        names = [each.__name__ for each in _kinds(Spec) if not each.__dataclass_params__.frozen]
        where = f"class {' or '.join(names)}" if names else "the class"
        return f"{error}. Write @dataclass(frozen=True, kw_only=True) above {where}."
    match = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    cls = next((c for c in _kinds(Spec) if match and c.__name__ == match[1]), None)
    if cls is None:
        return str(error)
    known = [field.name for field in fields(cls) if field.init]
    return f"{match[0]}; {_nearest(match[2], known)}its fields are {', '.join(known)}"


def _kinds(cls: type) -> Iterator[type]:
    for each in cls.__subclasses__():
        yield each
        yield from _kinds(each)
