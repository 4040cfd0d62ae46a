"""A digest of a user's class: its source, the names it uses from its own file, and the local files it imports."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from pathlib import Path
from typing import Any

from ablation.spec.code_used import Imports, digest_of_file, used_by
from ablation.spec.errors import InvalidSpec

EXPERIMENT = "experiment_file_"  # prefix of the modules of loaded experiment files


def is_ours(cls: type) -> bool:
    """Whether a class belongs to this package and not to an experiment file."""
    return cls.__module__.split(".")[0] == "ablation" and not cls.__module__.startswith("ablation.experiments.")


def source_digest(cls: type) -> str:
    """Digest of a user's class, over:

    - its syntax tree, and the names of its own file that it uses, recursively (functions, constants, imports);
    - its base classes, except ours and a library's;
    - the files that these import, whole and recursively, except a library's;
    - other files that its file imports, if importing them has side effects.

    Comments, docstrings, formatting, the location of a file and the rest of the class's own file do not count. The
    digest misses everything that code reads at run time: files, the environment, modules with computed names.
    """
    own = _folders_of_experiments()
    bases = [base for base in cls.__mro__[1:] if not is_ours(base) and not _is_library(base, own)]
    parts, imported, beside = [], set(), set()
    for base in (cls, *bases):
        module = sys.modules.get(base.__module__)
        text, imports, others = _class_source(_source_of(module), base)
        parts.append(text)
        imported |= _absolute(imports, getattr(module, "__package__", ""))
        beside |= _absolute(others, getattr(module, "__package__", ""))
    files = _imported_files(beside, own, acting=True) | _imported_files(imported, own)
    parts += [f"{name} is {digest}" for name, digest in sorted(files.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _is_library(cls: type, own: frozenset[Path]) -> bool:
    return _belongs_to_library(cls.__module__, getattr(sys.modules.get(cls.__module__), "__file__", None), own)


def _folders_of_experiments() -> frozenset[Path]:
    """Files in an experiment's folder never belong to a library, whatever else lies there."""
    loaded = (vars(each).get("__file__") for name, each in list(sys.modules.items()) if name.startswith(EXPERIMENT))
    return frozenset(Path(each).resolve().parent for each in loaded if each)


def refuse_hidden_state(value: Any) -> None:
    """Refuses attributes that are not fields: objects that differ only in those would share one identity."""
    cls = type(value)
    names = {f.name for f in dataclasses.fields(value)}
    beside = [name for name in getattr(value, "__dict__", {}) if name not in names]
    own = getattr(cls.__init__, "__code__", None)  # a dataclass compiles its own from a string
    taken = {n for n, f in cls.__dataclass_fields__.items() if n not in names and "InitVar" in str(f.type)}
    if beside and (taken or (own and own.co_filename != "<string>")):
        raise InvalidSpec(
            f"the __init__ of {cls.__name__} sets {', '.join(map(repr, beside))}, which is not a field and so not "
            "part of a run's identity. Write each as a field of the dataclass (name: type = default)."
        )


@functools.lru_cache(maxsize=1024)
def _belongs_to_library(module: str, file: str | None, beside: frozenset[Path]) -> bool:
    """Whether a module is Python's own or installed, also in a folder of packages on PYTHONPATH. beside: folders whose
    files never count as a library."""
    if file is None:
        return module in sys.builtin_module_names
    path = Path(file).resolve()
    places = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    if any(path.is_relative_to(Path(place).resolve()) for place in places):
        return True
    inside = module.count(".") + (path.stem == "__init__")
    root = path.parents[min(inside, len(path.parents) - 1)]
    if root in beside:
        return False
    return root.name in ("site-packages", "dist-packages") or any(root.glob("*.dist-info"))


def _source_of(module: Any) -> str | bytes:
    """The source of a loaded module. Experiments keep the bytes they ran. Other modules keep theirs from the first
    request until they are reloaded, because the file may change while its old code runs."""
    if hasattr(module, "__ablation_source__"):
        return module.__ablation_source__
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    kept = vars(spec).get("ablation_source") if spec else None
    if kept is None:
        try:
            kept = Path(file).read_bytes() if file else inspect.getsource(module).encode()
        except (OSError, TypeError):
            return ""
        if spec:
            spec.ablation_source = kept
    return kept


def _class_source(source: str | bytes, cls: type) -> tuple[str, Imports, Imports]:
    """See `code_used.used_by`."""
    fields = {f.name for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    annotations = inspect.get_annotations(cls)
    missing = [n for n in annotations if n not in fields and "ClassVar" not in str(annotations[n])]
    used = used_by(source, cls.__qualname__)
    if used is None:
        raise InvalidSpec(
            f"the class {cls.__qualname__} is not at the top level of a file, so its runs have no identity. "
            "Move it to the top level of the experiment file."
        )
    if missing:
        raise InvalidSpec(
            f"{cls.__qualname__}.{missing[0]} must be a dataclass field, but the class has no decorator. "
            "Write @dataclass(frozen=True, kw_only=True) above the class."
        )
    return used


def _absolute(imports: Imports, package: str) -> set[str]:
    names = set()
    for dots, name in imports:
        with contextlib.suppress(ImportError):  # a relative import above the package, which would fail anyway
            names.add(importlib.util.resolve_name(f"{'.' * dots}{name}", package))
    return names


def _imported_files(names: set[str], own: frozenset[Path], *, acting: bool = False) -> dict[str, str]:
    """By module, digests of the files behind the names and of the files that these import, without libraries. own: the
    folders of experiments. acting: only files that act on import, see `code_used.digest_of_file`."""
    digests: dict[str, str] = {}
    seen: set[str] = set()
    waiting = sorted(names)
    while waiting:
        parts = waiting.pop().split(".")
        for name in (".".join(parts[: i + 1]) for i in range(len(parts))):  # a package runs before its modules
            file = _file_of(name)
            if file and (name.split(".")[0] == __name__.split(".")[0] or _belongs_to_library(name, file, own)):
                break
            if file is None or name in seen or not Path(file).is_file():
                continue
            seen.add(name)
            module = sys.modules.get(name)
            digest, imports, acts = digest_of_file(_source_of(module) if module else Path(file).read_bytes())
            if acts or not acting:
                digests[name] = digest
            package = name if Path(file).stem == "__init__" else name.rpartition(".")[0]
            waiting += sorted(_absolute(imports, package) - seen)
    return digests


def _file_of(module: str) -> str | None:
    """None for a folder without `__init__.py`, and for a name that is no module, such as a function."""
    try:
        if module in sys.modules:
            return sys.modules[module].__file__
        spec = importlib.util.find_spec(module)
        return spec.origin if spec.has_location else None
    except Exception:  # the lookup runs the package, which may raise anything
        return None
