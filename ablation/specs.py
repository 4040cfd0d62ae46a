"""What a run is: frozen, keyword-only dataclasses, how they are described, and the identity of each.

A spec says everything that determines a result and nothing else. `describe` turns it into plain JSON
values; `identity` is the first 12 hexadecimal digits of the SHA-256 of that JSON. Two specs with the same
identity compute the same numbers, so a result on disk is found by its identity alone. Specs are written
to JSON for people and for pandas and are never read back into objects.

Our own classes carry a `version`, raised when what they compute changes. A class from a user's file
carries a digest of its source instead, so that an edited operator never fills its cells with old numbers.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import json
import math
import re
import reprlib
import sys
import sysconfig
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

PRECISIONS = ("float32", "bfloat16")
COMPUTED = ("mean", "sd", "n", "error", "reach", "among_best")  # what statistics call their columns; no axis may
RESERVED = ("curves", "images", "views", "test", "importance")  # end names of files beside a table; no figure has one
EXPERIMENT = "experiment_file_"  # what the names of the modules of loaded experiment files begin with
FORMAT = 1  # of the tables; raised when an older version could not read them


class InvalidSpec(ValueError):
    """A field breaks its rule. The message names object, field, rule, value and cure."""


def _fields_of(cls: type) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Base of everything that is described in a run's identity."""

    version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any):
        """NumPy's numbers in the fields of a spec become Python's before its own checks."""
        super().__init_subclass__(**kwargs)
        inherited = {item.name for base in cls.__mro__[1:] for item in _fields_of(base)}
        for name in sorted(inherited & set(vars(cls)) - set(inspect.get_annotations(cls))):
            value = vars(cls)[name]
            if hasattr(value, "__get__"):  # a slot, a property, a method: no default
                continue
            raise InvalidSpec(
                f"{cls.__name__}.{name} must be given with its type to be another default of the field, but "
                f"`{name} = {value!r}` has none and is passed over. Write {name}: {type(value).__name__} = {value!r}."
            )
        check = cls.__post_init__

        @functools.wraps(check)
        def __post_init__(self):
            for item in dataclasses.fields(self):
                object.__setattr__(self, item.name, plain(getattr(self, item.name)))
            check(self)

        if "__post_init__" in vars(cls) or check is Spec.__post_init__:
            cls.__post_init__ = __post_init__

    def __post_init__(self):
        pass

    def require(self, name: str, holds: bool, rule: str, cure: str = "") -> None:
        """Raises InvalidSpec ("Blur.p must lie in [0, 1], but got 2.0. ...") unless `holds`."""
        if not holds:
            message = f"{type(self).__name__}.{name} must {rule}, but got {getattr(self, name)!r}."
            raise InvalidSpec(f"{message} {cure}".rstrip())

    def require_number(self, name: str, low: float, high: float = math.inf, *, above: bool = False) -> None:
        """The field is a finite number in [low, high], or in (low, high] if `above`."""
        value = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        inside = number and (value > low if above else value >= low) and value <= high
        upper = "be a finite number" if math.isinf(high) else f"lie in {'(' if above else '['}{low:g}, {high:g}]"
        lower = f" {'above' if above else 'of at least'} {low:g}" if math.isinf(high) else ""
        self.require(name, inside, upper + lower)

    def require_count(self, name: str, low: int = 1) -> None:
        """The field is a whole number of at least `low`."""
        value = getattr(self, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        self.require(name, whole and value >= low, f"be a whole number of at least {low}")

    def require_range(self, name: str, low: float, high: float = math.inf) -> None:
        """The field is a pair (smallest, largest) with low <= smallest <= largest <= high."""
        value = getattr(self, name)
        pair = isinstance(value, tuple) and len(value) == 2
        pair = pair and all(isinstance(x, (int, float)) and math.isfinite(x) for x in value)
        limits = f"[{low:g}, {high:g}]" if math.isfinite(high) else f"[{low:g}, infinity)"
        self.require(
            name,
            pair and low <= value[0] <= value[1] <= high,
            f"be a pair (smallest, largest) inside {limits}",
            "Write the smaller number first.",
        )

    def require_numbers(self, name: str, low: float, cure: str, *, kind: type | tuple = (int, float)) -> None:
        """The field is a tuple of different finite numbers of at least `low`."""
        value = getattr(self, name)
        good = isinstance(value, tuple) and len(value) > 0
        good = good and all(isinstance(x, kind) and not isinstance(x, bool) and math.isfinite(x) for x in value)
        good = good and all(x >= low for x in value) and len(set(value)) == len(value)
        what = "whole numbers" if kind is int else "numbers"
        self.require(name, good, f"be a tuple of different {what} of at least {low:g}", cure)

    def require_choice(self, name: str, choices: tuple[str, ...]) -> None:
        self.require(name, getattr(self, name) in choices, f"be one of {', '.join(map(repr, choices))}")

    def replace(self, **changes: Any):
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)


def plain(value: Any) -> Any:
    """Python's number for a scalar of NumPy, also inside a tuple; everything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    return tuple(map(plain, value)) if type(value) is tuple else value


def outside_identity(**kwargs: Any) -> Any:
    """A dataclass field that says where something is or what it is called, not what is computed."""
    return field(metadata={"identity": False}, **kwargs)


def added_later(*, default: Any) -> Any:
    """A dataclass field that earlier versions lacked, and whose default computes what they computed: where it has its
    default it is left out of the description, so that earlier results keep their identity."""
    return field(default=default, metadata={"identity": "unless default"})


# --------------------------------------------------------------------------------------------------
# Description and identity


def describe(value: Any) -> Any:
    """Plain JSON values that determine what `value` computes.

    Numbers that are equal are described equally (1 and 1.0). Raises InvalidSpec for a value that has no
    faithful description: a function, an open file, not-a-number.
    """
    value = plain(value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise InvalidSpec(f"a spec holds the number {value!r}, which equals nothing; give a finite number")
        return int(value) if float(value).is_integer() else float(value)
    if isinstance(value, (tuple, list)):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _describe_dataclass(value)
    raise InvalidSpec(
        f"a spec holds {value!r} of type {type(value).__name__}, which cannot be described in a run's identity; "
        "use numbers, strings, tuples and frozen dataclasses"
    )


def _describe_dataclass(value: Any) -> dict[str, Any]:
    cls = type(value)
    described: dict[str, Any] = {"type": cls.__qualname__}
    if hasattr(cls, "version"):  # ours, also where a user's class inherits from it
        described["version"] = cls.version
    if not is_ours(cls):
        described["source"] = source_digest(cls)
        _refuse_hidden_state(value)
    for item in dataclasses.fields(value):
        counts, held = item.metadata.get("identity", True), getattr(value, item.name)
        if counts is True or (counts == "unless default" and held != item.default):
            described[item.name] = describe(held)
    if hasattr(value, "fingerprint"):  # data sets are what they contain, not where they lie
        described["content"] = content_of(value)
    return described


_contents: dict[Any, str] | None = None


@contextlib.contextmanager
def contents_read_once() -> Iterator[None]:
    """Within it a data set is asked for its content once, and not for each of a thousand cells: it takes 13 µs a file,
    0.65 s for 50,000 images. Outside it is asked each time, so that files that change change the identity."""
    global _contents
    outer, _contents = _contents, {} if _contents is None else _contents
    try:
        yield
    finally:
        _contents = outer


def content_of(dataset: Any) -> str:
    """The fingerprint of a data set, as far as it has one; "" otherwise."""
    if not hasattr(dataset, "fingerprint"):
        return ""
    if _contents is None:
        return dataset.fingerprint()
    if dataset not in _contents:
        _contents[dataset] = dataset.fingerprint()
    return _contents[dataset]


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(described: Any) -> str:
    return _CANONICAL.encode(described)


def identity_of_description(described: Any) -> str:
    return hashlib.sha256(canonical_json(described).encode()).hexdigest()[:12]


def identity(spec: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the spec's description."""
    return identity_of_description(describe(spec))


def is_ours(cls: type) -> bool:
    """Whether a class is part of this package, and not a user's."""
    return cls.__module__.split(".")[0] == "ablation"


def source_digest(cls: type) -> str:
    """Digest of what a user's class computes: its syntax tree, the names of its own file that it uses
    (functions, constants, imports; followed further), its bases that are neither ours nor a library's, and the files
    that all these import and that belong to no library, whole and with what they import; of the other files that its
    file imports, those that do more when they are read than to bind names of their own: they may change something.

    Comments, docstrings, formatting, the place of a file and the rest of the class's own file do not count. What code
    reads while it runs (a file, the environment, a module whose name it puts together) is not seen.
    """
    bases = [base for base in cls.__mro__[1:] if not is_ours(base) and not _is_library(base)]
    parts, imported, beside = [], set(), set()
    for base in (cls, *bases):
        module = sys.modules.get(base.__module__)
        text, imports, others = _class_source(_source_of(module), base)
        parts.append(text)
        imported |= _absolute(imports, getattr(module, "__package__", ""))
        beside |= _absolute(others, getattr(module, "__package__", ""))
    files = _imported_files(beside, acting=True) | _imported_files(imported)
    parts += [f"{name} is {digest}" for name, digest in sorted(files.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _is_library(cls: type) -> bool:
    return _installed(cls.__module__, getattr(sys.modules.get(cls.__module__), "__file__", None))


def _installed(module: str, file: str | None) -> bool:
    """Whether a module belongs to a library. What lies beside an experiment never does, whatever else lies there."""
    loaded = (vars(each).get("__file__") for name, each in list(sys.modules.items()) if name.startswith(EXPERIMENT))
    return _belongs_to_library(module, file, frozenset(Path(each).resolve().parent for each in loaded if each))


def _refuse_hidden_state(value: Any) -> None:
    """Of two objects of a user that differ in what is no field, one would be given the other's results."""
    cls = type(value)
    names = {f.name for f in dataclasses.fields(value)}
    beside = [name for name in getattr(value, "__dict__", {}) if name not in names]
    own = getattr(cls.__init__, "__code__", None)  # that of a dataclass is compiled from a string
    taken = {n for n, f in cls.__dataclass_fields__.items() if n not in names and "InitVar" in str(f.type)}
    if beside and (taken or (own and own.co_filename != "<string>")):
        raise InvalidSpec(
            f"{cls.__name__} holds {', '.join(map(repr, beside))} beside its fields, given by its __init__, which "
            "is no part of a run's identity. Write each as a field of the dataclass (name: type = default)."
        )


@functools.lru_cache(maxsize=1024)
def _belongs_to_library(module: str, file: str | None, beside: frozenset[Path]) -> bool:
    """Of Python's own or installed, also to a folder of packages that PYTHONPATH names; beside: folders whose
    files never do."""
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
    """A loaded experiment keeps the bytes that were run; those of another file are kept when they are first asked for,
    for as long as the module is not loaded again: the file may change while its old code runs."""
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
    """See `_used`."""
    fields = {f.name for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    annotations = inspect.get_annotations(cls)
    missing = [n for n in annotations if n not in fields and "ClassVar" not in str(annotations[n])]
    used = _used(source, cls.__qualname__)
    if used is None:
        raise InvalidSpec(
            f"the source of the class {cls.__qualname__} was not found at the top level of a file, so its runs have "
            "no identity; move the class to the top level of the experiment file"
        )
    if missing:
        raise InvalidSpec(
            f"{cls.__qualname__}.{missing[0]} must be a dataclass field, but its class has no decorator; "
            "write @dataclass(frozen=True, kw_only=True) above the class"
        )
    return used


@functools.lru_cache(maxsize=64)
def _used(source: str | bytes, class_name: str) -> tuple[str, Imports, Imports] | None:
    """The text of what a class uses of its file, what that imports, and all that the file imports."""
    tree = ast.parse(source)
    top = _top_level_names(tree)
    if class_name not in top:
        return None
    used, open_names = {}, [class_name]
    while open_names:
        name = open_names.pop()
        if name in top and name not in used:
            used[name] = _shape(top[name])
            open_names += [n.id for part in top[name] for n in ast.walk(part) if isinstance(n, ast.Name)]
    statements = [statement for name in used for statement in top[name]]
    more = _changing(tree, top, statements)
    stars = [s for s in tree.body for n in ast.walk(s) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
    text = [f"{name}={used[name]}" for name in sorted(used)] + [_shape(statement) for statement in more]
    return "\n".join(text), _imports([*statements, *more, *stars]), _imports(tree.body)


# Calls that may read or bind any name of the file.
_ANY_NAME = {"exec", "eval", "globals", "locals", "__import__"}


def _changing(tree: ast.Module, top: dict[str, list[ast.stmt]], statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of the file, in its order, that may change what `statements` mean without binding a name of
    theirs: calls with it (`register(table)`), functions that change it and who calls or is decorated by those, and,
    where names are put together (`exec`, `globals`), all."""
    modules = {name for name, parts in top.items() if all(isinstance(p, (ast.Import, ast.ImportFrom)) for p in parts)}
    changes: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _changed_by_calls(statement) - modules:
            changes.setdefault(name, []).append(statement)
        inside = _changed_inside(statement) - modules
        if inside:
            callers = [other for other in tree.body if set(_bound(statement)) & _mentioned(other)]
            for name in inside:
                changes.setdefault(name, []).extend([statement, *callers])
    every = {name for statement in tree.body for name in _mentioned(statement)}
    reached = {id(statement) for statement in statements}
    open_statements = list(statements)
    while open_statements:
        statement = open_statements.pop()
        reached.add(id(statement))
        names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)} | set(_bound(statement))
        found = [each for name in names for each in (*top.get(name, ()), *changes.get(name, ()))]
        if _ANY_NAME & (names | every):
            found = [s for s in tree.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        open_statements += [each for each in found if id(each) not in reached]
    known = {id(statement) for statement in statements}
    return [statement for statement in tree.body if id(statement) in reached - known]


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """What of a statement runs where it stands: all but the bodies of functions."""
    yield node
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    parts = [node.decorator_list, node.args] if isinstance(node, functions[:2]) else ast.iter_child_nodes(node)
    for part in [] if isinstance(node, ast.Lambda) else parts:
        for child in part if isinstance(part, list) else [part]:
            yield from _outside_functions(child)


def _mentioned(statement: ast.stmt) -> set[str]:
    return {n.id for n in _outside_functions(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


# What changes a list, dict, set or deque, also where the call's result is kept.
_CHANGES = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove",
    "reverse", "setdefault", "sort", "update",
}  # fmt: skip


def _changed_by_calls(statement: ast.stmt) -> set[str]:
    """Names in an expression whose result is not kept, as it is there for what it changes, and those that a method in
    _CHANGES is called on."""
    nodes = list(_outside_functions(statement))
    parts = [
        n for n in nodes if isinstance(n, ast.Expr) and getattr(getattr(n.value, "func", None), "id", "") != "print"
    ]
    parts += [n.func for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "attr", None) in _CHANGES]
    return {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}


def _changed_inside(statement: ast.stmt) -> set[str]:
    """Names of the file that a function in the statement binds or changes when it is called."""
    found: set[str] = set()
    for function in ast.walk(statement):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = [n for part in function.body for n in ast.walk(part)]
            shared = {name for n in inside if isinstance(n, ast.Global) for name in n.names}
            own = {n.arg for n in ast.walk(function.args) if isinstance(n, ast.arg)}
            own |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} - shared
            found |= {name for part in function.body for name in _bound(part)} - own | shared
    return found


Imports = frozenset[tuple[int, str]]  # the dots before a name, and the name


def _imports(nodes: list[ast.stmt]) -> Imports:
    """What statements import, in functions too; of `from a import b`, a and a.b, which may be a file."""
    found = set()
    for node in (n for each in nodes for n in ast.walk(each)):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            of = [node.module or "", *(".".join(filter(None, (node.module, alias.name))) for alias in node.names)]
            found |= {(node.level, name) for name in of if not name.endswith("*")}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))  # importlib.import_module("name")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.add((0, node.args[0].value))
    return frozenset(found)


def imported_names(text: str) -> set[str]:
    """What a file imports by its whole name."""
    return {name for dots, name in _imports(ast.parse(text).body) if not dots}


def _absolute(imports: Imports, package: str) -> set[str]:
    found = set()
    for dots, name in imports:
        with contextlib.suppress(ImportError):  # above its package, which no import finds
            found.add(importlib.util.resolve_name(f"{'.' * dots}{name}", package))
    return found


def _imported_files(names: set[str], *, acting: bool = False) -> dict[str, str]:
    """By module: the digests of the files behind the names that belong to no library, and of those that they import.
    acting: only of those that act when they are read, see `_acts`."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = sorted(names)
    while waiting:
        parts = waiting.pop().split(".")
        for name in (".".join(parts[: i + 1]) for i in range(len(parts))):  # a package is run before what is in it
            file = _file_of(name)
            if file and (name.split(".")[0] == __name__.split(".")[0] or _installed(name, file)):
                break
            if file is None or name in seen or not Path(file).is_file():
                continue
            seen.add(name)
            module = sys.modules.get(name)
            digest, imports, acts = _whole(_source_of(module) if module else Path(file).read_bytes())
            if acts or not acting:
                found[name] = digest
            package = name if Path(file).stem == "__init__" else name.rpartition(".")[0]
            waiting += sorted(_absolute(imports, package) - seen)
    return found


def _file_of(module: str) -> str | None:
    """None for a folder without `__init__.py`, and for what is no module, such as a function of one."""
    try:
        if module in sys.modules:
            return sys.modules[module].__file__
        spec = importlib.util.find_spec(module)
        return spec.origin if spec.has_location else None
    except Exception:  # of a package that is run to look into it
        return None


@functools.lru_cache(maxsize=64)
def _whole(source: str | bytes) -> tuple[str, Imports, bool]:
    """The digest of a file, what it imports, and whether it acts; of one that is no Python, such as a compiled one, its
    bytes'."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        content = source if isinstance(source, bytes) else source.encode()
        return hashlib.sha256(content).hexdigest()[:12], frozenset(), False
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    return hashlib.sha256(_shape(body).encode()).hexdigest()[:12], _imports(tree.body), any(map(_acts, body))


def _acts(statement: ast.stmt) -> bool:
    """Whether a statement of a file does more than to bind names of the file: it may change another module."""
    if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return not all(isinstance(n, (ast.Name, ast.Tuple, ast.List, ast.Starred)) for n in targets)
    return not isinstance(statement, ast.Pass) and not isinstance(getattr(statement, "value", None), ast.Constant)


def _top_level_names(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    """For each name of a file, the top-level statements that bind or change it."""
    names: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in dict.fromkeys(_bound(statement)):
            names.setdefault(name, []).append(statement)
    return names


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a statement binds, or changes through an attribute, an item or a method call."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name  # what is inside is its own
        return
    if isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from ((a.asname or a.name.split(".")[0]) for a in node.names)
    changed = isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del))
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.func
    if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
        yield node.id
    elif changed or isinstance(called, ast.Attribute):
        base = called or node
        while isinstance(base, (ast.Attribute, ast.Subscript)):
            base = base.value
        if isinstance(base, ast.Name):
            yield base.id
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


def _shape(node: Any) -> str:
    """The syntax tree without positions and docstrings, the same on every Python version."""
    if isinstance(node, list):
        return "[" + ",".join(_shape(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            value = value[1:]
        if value not in (None, []):
            fields.append(f"{name}={_shape(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """A label as a table holds it: composed (NFC), without control characters and without spaces around it."""
    return CONTROL.sub("", unicodedata.normalize("NFC", text)).strip()


# --------------------------------------------------------------------------------------------------
# A run


def _require_part(where: str, value: Any, needs: tuple[str, ...], cure: str) -> None:
    """A part of a run is an object with these attributes, and frozen: two equal ones are told by their hash."""
    if isinstance(value, type):
        written = f"Write {value.__name__}(...), with parentheses, where it is a spec."
        raise InvalidSpec(f"{where} must be an object, but got the class {value.__name__}. {written} {cure}")
    lacks = [name for name in needs if not hasattr(value, name)]
    if not lacks and "label" in needs and not isinstance(value.label, str):
        raise InvalidSpec(f"{type(value).__name__}.label must be a string, but got {value.label!r}. {cure}")
    if lacks:
        raise InvalidSpec(f"{where} must have {', '.join(needs)}, but {value!r} has no {lacks[0]}. {cure}")
    try:
        hash(value)
    except TypeError as error:
        if not dataclasses.is_dataclass(value):
            raise InvalidSpec(f"{where} must be frozen, but {value!r} is not ({error}). {cure}") from error
        name = next((f.name for f in dataclasses.fields(value) if not _hashable(getattr(value, f.name))), None)
        if name is None:
            raise InvalidSpec(
                f"{where} must be frozen, but {type(value).__name__} is not. "
                "Write @dataclass(frozen=True, kw_only=True) above the class."
            ) from error
        raise InvalidSpec(
            f"{type(value).__name__}.{name} must be frozen, but got {getattr(value, name)!r}. Write a tuple for a list "
            "or a set, and a tuple of pairs for a dict."
        ) from error


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Cosine(Spec):
    """A half cosine from the full rate to `floor`, a fraction of it (Loshchilov and Hutter 2017, without restarts)."""

    floor: float = 0.0

    def __post_init__(self):
        self.require_number("floor", 0, 1)

    @property
    def label(self) -> str:
        return "cosine" + (f" to {self.floor:g}" if self.floor else "")

    def factor(self, step: int, steps: int) -> float:
        """The learning rate at `step` of the `steps` after the warm-up, as a fraction of the full rate."""
        falling = 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
        return self.floor + (1 - self.floor) * falling if self.floor else falling


@dataclass(frozen=True, kw_only=True)
class Constant(Spec):
    """The full rate to the end."""

    label: ClassVar[str] = "constant"

    def factor(self, step: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Steps(Spec):
    """The rate is multiplied by `decay` at each of the fractions `at` of the steps after the warm-up."""

    at: tuple[float, ...] = (0.6, 0.8)
    decay: float = 0.1

    def __post_init__(self):
        self.require_numbers("at", 0, "Write at=(0.6, 0.8).")
        self.require("at", list(self.at) == sorted(self.at) and self.at[-1] < 1, "rise and lie below 1")
        self.require_number("decay", 0, 1, above=True)

    @property
    def label(self) -> str:
        return f"times {self.decay:g} at {', '.join(f'{fraction:g}' for fraction in self.at)}"

    def factor(self, step: int, steps: int) -> float:
        return self.decay ** sum(step >= fraction * steps for fraction in self.at)


@dataclass(frozen=True, kw_only=True)
class Optimization(Spec):
    """Optimizer, schedule and length of a training.

    optimizer: a spec with `build(module)`; `batch` counts images of the data set (each gives one image per
    view). The learning rate rises linearly over `warmup` (a fraction of all steps), then follows `schedule`
    (Cosine, Constant, Steps). `precision` is that of the encoder's forward and backward pass; objectives are
    always computed in float32. Every `curve_every` epochs (0: never) the learning curve gets a validation point, by
    kNN and by a linear classifier. with_validation: the validation images are trained on too (nothing may then be
    chosen on them). rate_chosen_for: the method that the learning rate was chosen for; tables note where another
    method takes it.
    """

    epochs: int
    batch: int
    optimizer: Any
    warmup: float = 0.1
    schedule: Any = added_later(default=Cosine())
    precision: str = "float32"
    curve_every: int = 5
    with_validation: bool = False
    rate_chosen_for: str = outside_identity(default="")

    def __post_init__(self):
        self.require_count("epochs")
        self.require_count("batch", 2)
        self.require_number("warmup", 0, 1)
        self.require("schedule", hasattr(self.schedule, "factor"), "be a schedule", "Write Cosine(), say.")
        self.require_choice("precision", PRECISIONS)
        self.require_count("curve_every", 0)

    def replace(self, **changes: Any) -> Optimization:
        """A copy with other fields; a rate that is given anew was chosen for nobody else."""
        return super().replace(**{"rate_chosen_for": ""} | changes if "optimizer" in changes else changes)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at `step` of `steps`, as a fraction of the optimizer's."""
        rising = round(self.warmup * steps)
        return (step + 1) / rising if step < rising else self.schedule.factor(step - rising, steps - rising)


FIGURE = ("draw", "text", "source", "note", "replace")
OPERATOR = ("label", "draw", "transform", "output_size")
OPERATOR_CURE = 'Let the class inherit from ablation.operators.Operator, and write label = "name" in it.'
PARTS = (
    ("dataset", ("label", "load"), 'Write Shapes() or ImageData(path="..."); a class of your own needs a label.'),
    ("method", ("label", "build", "trains"), "Write SimCLR() or scale.simclr(); a class of your own needs a label."),
    ("encoder", ("label", "build"), "Write ResNet(depth=50) or SmallResNet(); a class of your own needs a label."),
    ("optimization", ("epochs", "batch", "optimizer"), "Write Optimization(...) or scale.optimization(method)."),
)


@dataclass(frozen=True, kw_only=True)
class Training(Spec):
    """Everything that determines the weights.

    shared: operators drawn once per image before the branches part; views: one tuple of operators per
    branch, `()` being the identity. `version` is that of the training loop.
    """

    version: ClassVar[int] = 1

    dataset: Any
    shared: tuple = ()
    views: tuple
    method: Any
    encoder: Any
    optimization: Optimization
    seed: int = 0

    def __post_init__(self):
        self.require_count("seed", 0)
        self.require("views", isinstance(self.views, tuple) and len(self.views) > 0, "be a tuple of at least one view")
        for name, view in [("shared", self.shared), *((f"views[{i}]", view) for i, view in enumerate(self.views))]:
            if not isinstance(view, tuple) or not all(hasattr(o, "apply") and not isinstance(o, type) for o in view):
                raise InvalidSpec(
                    f"Training.{name} must be a tuple of operators, but got {view!r}. "
                    "Write (Crop(), Blur()), with a comma after a single one: (Crop(),), or () for the identity."
                )
            for i, operator in enumerate(view):
                _require_part(f"Training.{name}[{i}]", operator, OPERATOR, OPERATOR_CURE)
        for name, needs, cure in PARTS:
            _require_part(f"Training.{name}", getattr(self, name), needs, cure)
        _require_part(
            "Optimization.optimizer", self.optimization.optimizer, ("build",), "Write AdamW(...) or SGD(...)."
        )
        expected = getattr(self.method, "branches", None)
        if expected is not None and len(self.views) != expected:
            raise InvalidSpec(
                f"Training.views must have {expected} views for {type(self.method).__name__}, but got "
                f"{len(self.views)}. Write views=(view, ()) for one branch, views=(view, view) for symmetric ones."
            )
        sizes = [self._size_of((*self.shared, *view)) for view in self.views]
        if None not in sizes and len(set(sizes)) > 1:
            raise InvalidSpec(one_size(sizes))

    def _size_of(self, view: tuple) -> int | None:
        """The side of a view's images; None where it depends on images that are not read yet."""
        size = getattr(self.dataset, "size", None)
        for operator in view:
            size = operator.output_size(size) if hasattr(operator, "output_size") else size
        return size


def one_size(sizes: list[int]) -> str:
    """What is wrong with views of different sizes."""
    return (
        f"Training.views must all have one size, but got {', '.join(map(str, sizes))} px. Give each branch the same: "
        "(Crop(size=128), ...) beside (Resize(size=128),)."
    )


@dataclass(frozen=True, kw_only=True)
class Run(Spec):
    """One training and how its encoder is evaluated."""

    training: Training
    evaluations: tuple

    def __post_init__(self):
        self.require("evaluations", isinstance(self.evaluations, tuple), "be a tuple of evaluations", "Write (KNN(),).")
        for i, evaluation in enumerate(self.evaluations):
            cure = 'Write KNN() or Linear(); let a class of your own inherit from Evaluation, with name = "mine".'
            _require_part(f"Run.evaluations[{i}]", evaluation, ("label", "on", "evaluate"), cure)
        labels = [getattr(evaluation, "label", None) for evaluation in self.evaluations]
        twice = [label for label in labels if label is not None and labels.count(label) > 1]
        if twice:
            raise InvalidSpec(
                "Run.evaluations must have different labels, which begin the columns of the table, but two are called "
                f"{twice[0]!r}. Write one with both settings, KNN(k=(200, 10)), which names the second's columns by "
                "its numbers; or give probes different tasks, a class of your own another name."
            )
        if self.training.optimization.with_validation:
            choosing = [type(e).__name__ for e in self.evaluations if getattr(e, "chooses_on_validation", False)]
            self.require(
                "evaluations",
                not choosing,
                "choose nothing on validation images that are trained on (Optimization.with_validation)",
                "Give Linear a single penalty.",
            )

    def with_seed(self, seed: int) -> Run:
        return self.replace(training=self.training.replace(seed=seed))


def written(label: Any) -> str:
    """A coordinate as tables and figures show and compare it: whole numbers without a point, since pandas makes 32 a
    32.0 beside a missing one."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(plain(label))


def check_labels(axis: str, labels: Iterable[Any]) -> None:
    """Raises InvalidSpec where two labels of an axis look the same: 0.5 and "0.5", or by Unicode's compatibility forms
    and by what cannot be seen (NFKC, spaces, format characters)."""
    seen: dict[str, Any] = {}
    for label in dict.fromkeys(labels):
        visible = (c for c in unicodedata.normalize("NFKC", written(label)) if unicodedata.category(c) != "Cf")
        key = " ".join("".join(visible).split())
        if key in seen:
            raise InvalidSpec(
                f"the labels of {axis!r} must look different, but there are {seen[key]!a} and {label!a}. "
                "Write them alike where they are the same, and differently where they are not."
            )
        seen[key] = label


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A run and its coordinates in a grid: numbers, or text that a table gives back as it is."""

    coords: Mapping[str, str | int | float]
    run: Run

    def __post_init__(self):
        object.__setattr__(self, "coords", {axis: plain(label) for axis, label in self.coords.items()})
        for axis, label in self.coords.items():
            for what, text in (("axes", axis), ("labels", label)):
                number = what == "labels" and isinstance(text, (int, float)) and math.isfinite(text)
                if not number and not (isinstance(text, str) and text and text == clean(text)):
                    raise InvalidSpec(
                        f"Cell.coords must have {what} that are text without control characters and without spaces at "
                        f"their ends, in Unicode's composed form (NFC), or finite numbers, but got {text!a} "
                        f"at {axis!r}. Rename it."
                    )

    @property
    def name(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.coords.items())


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The cells of a question, and the figures that answer it. Its name is its file's."""

    cells: tuple[Cell, ...]
    figures: Mapping[str, Any]

    def __post_init__(self):
        wrong = self.cells
        if isinstance(self.cells, (tuple, list)):
            wrong = next((cell for cell in self.cells if not isinstance(cell, Cell)), None)
        if wrong is not None:
            raise InvalidSpec(
                f"Experiment.cells must be a tuple of cells, but got {reprlib.repr(wrong)}. "
                "Write cells=pairwise(...) or sweep(...), or Cell(coords={'axis': value, 'seed': 0}, run=run) for each."
            )
        axes = {axis for cell in self.cells for axis in cell.coords}
        for axis in axes:
            check_labels(axis, (cell.coords[axis] for cell in self.cells if axis in cell.coords))
        seen: dict[tuple, Cell] = {}
        for cell in self.cells:
            key = tuple(sorted((k, written(v)) for k, v in cell.coords.items()))
            if key in seen:
                raise InvalidSpec(
                    f"Experiment.cells must have different coordinates, but two cells are at {cell.name}. "
                    "Give two operators of the same class different labels, or add the axis on which they differ."
                )
            seen[key] = cell
        if not isinstance(self.figures, Mapping):
            raise InvalidSpec(
                f"Experiment.figures must be a dict from names to figures, but got {reprlib.repr(self.figures)}. Write "
                "figures={'heatmap': Heatmap(rows='first', columns='second')}, or {} for none."
            )
        for name, figure in self.figures.items():
            lacking = [each for each in FIGURE if not hasattr(figure, each)]
            if isinstance(figure, type) or lacking:
                raise InvalidSpec(
                    f"Experiment.figures[{name!r}] must be a figure, but got {reprlib.repr(figure)}. "
                    "Write Heatmap(rows='first', columns='second'), say; a class of your own inherits from FigureSpec."
                )
            if name in RESERVED or not re.fullmatch(r"\w[\w .+-]*", str(name)):
                raise InvalidSpec(
                    f"Experiment.figures must have names of letters and digits other than {', '.join(RESERVED)}, which "
                    f"are tables and pictures of every experiment, but got {name!r}. Rename the figure."
                )
            wrong = [axis for axis in getattr(figure, "axes", ()) if axis not in axes]
            if self.cells and wrong:
                raise InvalidSpec(
                    f"Experiment.figures[{name!r}] must use coordinates of the cells, but got {wrong[0]!r}. "
                    f"They are {', '.join(sorted(axes))}."
                )
            if self.cells and hasattr(figure, "check"):
                figure.check(name, self.cells)
        if not self.cells:
            raise InvalidSpec(
                "Experiment.cells must hold at least one cell, but got (). Check the axes for an empty one."
            )
