"""From a name or a path to an experiment, here and in every worker alike.

An experiment file is Python. It is run from its bytes, which are kept: workers are handed these bytes, so
they run what the owner runs even if the file is edited meanwhile, and the identity of a user's operator is
that of the source that was run.
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ablation.files import read_file
from ablation.scales import SCALES, Scale, name_and_place, scale_named
from ablation.specs import EXPERIMENT, Cell, Experiment, InvalidSpec, Spec, imported_names


@dataclass(frozen=True)
class Source:
    """All that a worker needs to build the experiment again."""

    path: str
    code: bytes
    scale: str
    data: str | None
    precision: str | None = None
    asked: str = field(default="", compare=False)  # the name or path that was typed

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def cells(self) -> tuple[Cell, ...]:
        """What there is to run."""
        return load(self).cells


def experiment_folders() -> list[Path]:
    """Where a bare name is looked up: ./experiments, then the suite's own."""
    own = Path(__file__).resolve().parent.parent / "experiments"
    here = Path.cwd() / "experiments"
    return [here] if here.resolve() == own or not own.is_dir() else [here, own]


def find(name: str, function: str | None = None) -> Path:
    """The file of an experiment or of a search, given by path or by name."""
    path = Path(name).expanduser()
    if path.suffix == ".py" or path.is_file():
        if not path.is_file():
            raise InvalidSpec(
                f"the {function or 'experiment'} file must exist, but {name} is not there. Check the path."
            )
        return path.resolve()
    known = names()
    if name in known:
        return known[name]
    beside = f"did you mean the file {name}.py? " if Path(f"{name}.py").is_file() else ""
    near, known = beside or _nearest(name, known), names(function)
    raise InvalidSpec(f"unknown {function or 'experiment'} {name!r}; {near}known are {', '.join(sorted(known))}.")


def names(function: str | None = None) -> dict[str, Path]:
    """Every experiment and search that has a name; the current folder's come first. function: only files that define
    it, "experiment" or "search"; what defines neither, such as a broken file, counts as an experiment."""
    found: dict[str, Path] = {}
    for folder in experiment_folders():
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith("_"):
                found.setdefault(path.stem, path.resolve())
    if function is None:
        return found
    searches = re.compile(rb"^def search\(", re.MULTILINE)
    return {n: path for n, path in found.items() if bool(searches.search(path.read_bytes())) == (function == "search")}


def figures(source: Source, csv: Path) -> Mapping[str, Any]:
    """The figures of an experiment, or of a search with the table `csv`."""
    if not is_search(source):
        return load(source).figures
    from ablation.plots.trials import figures_of
    from ablation.tables import read_table

    tested = csv.with_name(f"{csv.stem}-test.csv")
    columns = read_table(tested).dropna(axis=1, how="all").columns if tested.is_file() else ()
    return figures_of(read_table(csv), columns)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def read(
    name: str, scale: str, data: str | None = None, function: str | None = None, precision: str | None = None
) -> Source:
    """function: "experiment" or "search", whose known names an error lists. precision: instead of the scale's."""
    if scale not in SCALES:
        raise InvalidSpec(f"unknown scale {scale!r}; {_nearest(scale, SCALES)}known are {', '.join(SCALES)}.")
    path = find(name, function)
    if data:  # a worker may have another working directory
        label, place = name_and_place(data)
        place = str(Path(place).resolve()) if Path(place).exists() else place
        data = f"{label}={place}" if label else place
    return Source(str(path), path.read_bytes(), scale, data, precision, asked=name)


def check_owner(document: Path, source: Source, trainings: Iterable[str], option: str) -> None:
    """Raises InvalidSpec where a document of what was run is that of another experiment of the same name, whose table
    and figures this one would overwrite.

    The same experiment is the same file, however it was edited; a file with the same text; and, where the file of the
    document is gone (moved, or on another machine), one that shares a training with it.
    """
    try:
        known = json.loads(read_file(document))
        file = (document.parent / known["file"]).resolve()
        ran = {cell["training"] for cell in known["cells"]} if "cells" in known else set(known["trainings"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # there is none, or it does not say
    if file == Path(source.path) or (file.is_file() and file.read_bytes() == source.code):
        return
    if file.is_file() or not ran & set(trainings):
        raise InvalidSpec(
            f"{option} must be of one experiment of each name, but {document} is of {file}, and {source.path} is "
            f"another. Rename one file, or name another folder: {option} FOLDER. (If it is the same that was moved and "
            f"changed, remove {document}.)"
        )


def check_data_is_used(source: Source, datasets: Iterable[Any]) -> None:
    """Raises InvalidSpec where --data names images that no run has."""
    if source.data:
        place = name_and_place(source.data)[1]
        if not any(getattr(dataset, "path", None) == place for dataset in datasets):
            raise InvalidSpec(
                f"--data names the images of the scale, but no run of {source.path} has {place}: the file names data "
                "of its own. Omit --data, or let the file use scale.dataset."
            )


def load(source: Source) -> Experiment:
    """Runs the file and asks its `experiment(scale)`. Raises InvalidSpec with the file and line of a mistake."""
    if is_search(source):
        if not is_experiment(source):
            raise InvalidSpec(f"{source.path} holds a search and no experiment. Type: ablation search {source.asked}.")
        raise InvalidSpec(BOTH.format(source.path))
    experiment = asked(source, "experiment", "Experiment(cells=..., figures=...)")
    if not isinstance(experiment, Experiment):
        raise InvalidSpec(
            f"{source.path}: experiment(scale) must return an Experiment, but returned {reprlib.repr(experiment)}. "
            "Write: return Experiment(cells=..., figures=...)"
        )
    check_data_is_used(source, (cell.run.training.dataset for cell in experiment.cells))
    return experiment


BOTH = (
    "{} holds an experiment and a search, whose tables and figures would have the same names. Move the search to a "
    "file of its own."
)


def is_search(source: Source) -> bool:
    return callable(getattr(_module(source), "search", None))


def is_experiment(source: Source) -> bool:
    return callable(getattr(_module(source), "experiment", None))


def asked(source: Source, function: str, returned: str):
    """What the file's function answers for the scale. Raises InvalidSpec with the file and line of a mistake."""
    make = getattr(_module(source), function, None)
    if not callable(make):
        raise InvalidSpec(
            f"{source.path} must define {function}(scale), but does not. Add: def {function}(scale): return {returned}"
        )
    try:
        inspect.signature(make).bind(None)
    except TypeError as error:
        raise InvalidSpec(
            f"{source.path}: {function} must be a function of the scale alone, but is "
            f"{function}{inspect.signature(make)}. Write: def {function}(scale):"
        ) from error
    scale: Scale = scale_named(source.scale, source.data, source.precision)
    return explained(source, lambda: make(scale))


def docstring(code: bytes) -> str:
    """What an experiment file asks; "" where it cannot be read as Python."""
    try:
        return (ast.get_docstring(ast.parse(code)) or "").strip()
    except (SyntaxError, ValueError):
        return ""


_importable: list[str] = []  # folders that were put on sys.path here, that of the last experiment first


def _make_importable(folder: Path) -> None:
    """The files beside an experiment, before those of others that this process has loaded: two may have one name."""
    known = [each for each in _importable if each in sys.path]
    for name, module in list(sys.modules.items()):
        file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
        whole = file and Path(file).name == "__init__.py"
        place = str(Path(file).parents[int(whole)]) if file and "." not in name else ""
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
    _make_importable(Path(source.path).parent)
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
    torch = sys.modules.get("torch")
    if torch and torch.get_default_dtype() != torch.float32:
        wrong = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        raise InvalidSpec(f"{source.path} must leave torch's default dtype float32, but sets {wrong}. Remove that.")
    _tell_of_hidden_files(source, text)
    return module


def _tell_of_hidden_files(source: Source, text: str) -> None:
    """Prints a line for each file beside the experiment, or below this folder, whose name another module has: an import
    finds that one, and says nothing."""
    for name in sorted(imported_names(text)) if multiprocessing.parent_process() is None else ():
        taken = getattr(sys.modules.get(name), "__file__", None)
        places = [folder.joinpath(*name.split(".")) for folder in (Path(source.path).parent, Path.cwd())]
        files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
        meant = next(filter(Path.is_file, files), None)
        if taken and meant and meant.resolve().with_suffix("") != Path(taken).resolve().with_suffix(""):
            print(f"ablation: {source.path}: import {name} gives {taken}, not {meant}; rename yours.", file=sys.stderr)


def explained(source: Source, call):
    """Runs the user's code; its mistakes become one sentence with file and line."""
    try:
        return call()
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}" if error.filename else source.path
        raise InvalidSpec(f"{place}: {error.msg}") from error
    except SystemExit as error:
        raise InvalidSpec(f"{source.path} ends the program when it is read (exit or quit). Leave that out.") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("optuna", "sqlalchemy"):
            raise  # of a search: a trial that is pruned, a storage that is gone
        lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == source.path]
        place = f"{source.path}:{lines[-1].lineno}" if lines else source.path
        kind = "" if isinstance(error, InvalidSpec) else f"{type(error).__name__}: "
        if not lines and not isinstance(error, (InvalidSpec, UnicodeDecodeError)):
            raise  # it is not the file's
        raise InvalidSpec(f"{place}: {kind}{_with_fields(error)}") from error


def _with_fields(error: Exception) -> str:
    """What is wrong and, if a class of the suite does not have a keyword, what could have been meant."""
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    cls = next((c for c in _kinds(Spec) if found and c.__name__ == found[1]), None)
    if cls is None:
        return str(error)
    known = [field.name for field in fields(cls) if field.init]
    return f"{found[0]}; {_nearest(found[2], known)}its fields are {', '.join(known)}"


def _kinds(cls: type) -> Iterator[type]:
    for each in cls.__subclasses__():
        yield each
        yield from _kinds(each)
