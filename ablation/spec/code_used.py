"""What a class uses of its own file, read from the syntax tree: names, statements that change them, and imports.

Nothing is imported or run. The text of a tree (`_shape`) is the same on every Python version, without comments,
docstrings and positions.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

Imports = frozenset[tuple[int, str]]  # the number of dots before a name, and the name
Top = dict[str, list[ast.stmt]]  # for each name of a file, the top-level statements that bind or change it
Links = dict[str, set[str]]  # for each name, others


@functools.lru_cache(maxsize=64)
def used_by(source: str | bytes, class_name: str) -> tuple[str, Imports, Imports] | None:
    """The code of its file that a class uses, the imports of that code, and all imports of the file."""
    tree = ast.parse(source)
    top = _top_level_names(tree)
    if class_name not in top:
        return None
    uses = {name: {other for part in parts for other in _names(part)} for name, parts in top.items()}
    used = _reached({class_name}, uses)
    statements = {statement for name in used for statement in top[name]}
    more = [s for s in _affecting(tree, top, uses, used) if s not in statements]
    stars = [s for s in tree.body for n in ast.walk(s) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
    text = [f"{name}={_shape([_binding(statement, name) for statement in top[name]])}" for name in sorted(used)]
    text += [_shape(statement) for statement in more]
    return "\n".join(text), _imports([*statements, *more, *stars]), _imports(tree.body)


_ANY_NAME = {"exec", "eval", "globals", "locals", "__import__"}  # calls that may read or bind any name
_ON_DERIVING = {"__init_subclass__", "__set_name__", "__mro_entries__", "metaclass"}  # run when a class is derived
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


def _binding(statement: ast.stmt, name: str) -> ast.stmt:
    """A statement that binds a name; an import without the other names that it binds."""
    if isinstance(statement, ast.ImportFrom):
        own = [each for each in statement.names if (each.asname or each.name) == name]
        return ast.ImportFrom(module=statement.module, names=own, level=statement.level)
    return statement


def _names(*nodes: ast.AST) -> set[str]:
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def _reached(names: set[str], links: Links) -> set[str]:
    """The names that have links, from `names` on."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in links and name not in found:
            found.add(name)
            waiting += links[name]
    return found


def _affecting(tree: ast.Module, top: Top, uses: Links, used: set[str]) -> list[ast.stmt]:
    """The statements of the file, in order, that bind or may alter what `used` names, and all that those use. A file
    that computes names (`exec`, `globals`) counts whole."""
    if _ANY_NAME & _names(tree):
        return [s for s in tree.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    if any(isinstance(n, ast.ImportFrom) and n.names[0].name == "*" for n in tree.body):  # it may bind any name
        top = {name: [] for name in _names(tree) - set(dir(builtins))} | top
        uses = {name: set() for name in top} | uses
        used = _reached(used, uses)
    imports = {name for name, parts in top.items() if parts and all(isinstance(part, _IMPORTS) for part in parts)}
    defined = {part.name for part in tree.body if isinstance(part, _DEFINITIONS)}
    classes = {s.name for s in tree.body if isinstance(s, ast.ClassDef) and not _names(*s.decorator_list) - imports}
    classes -= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    words = {str(getattr(n, key, "")) for n in ast.walk(tree) for key in ("name", "id", "attr", "arg")}
    on_call = any(word.startswith("__") or word in ("default_factory", "metaclass") for word in words)
    silent = {"print"} - top.keys() | (set() if on_call else classes)  # calls of these run no code of the file
    bases = imports | (_names(tree) - top.keys()) | (set() if words & _ON_DERIVING else classes)
    setters = _setters(tree)
    # For each name, others whose object it may hold or change: no import that its code only calls.
    may_be = {
        name: {n for s in parts for n in (_names(s) - imports if isinstance(s, _DEFINITIONS) else _passed(s, imports))}
        for name, parts in top.items()
    }
    altered = {}
    for s in tree.body:
        direct = _altered(s, imports, defined, silent, bases) | _altered_in_functions(s, imports, setters)
        altered[s] = _reached(direct, may_be)
    names, affecting = set(used), set()
    while new := {s for s in tree.body if s not in affecting and altered[s] & names}:
        affecting |= new
        names |= _reached({name for s in new for name in (*_bound(s), *_names(s))}, uses)
    affecting |= {statement for name in names for statement in top[name]}
    return [s for s in tree.body if s in affecting]


def _passed(node: ast.AST, imports: set[str]) -> set[str]:
    """Names in code, without imports that it only calls, such as `torch` in `torch.ones(1)`."""
    called = set()
    for part in (n.func for n in ast.walk(node) if isinstance(n, ast.Call)):
        while isinstance(part, (ast.Attribute, ast.Subscript)):
            part = part.value
        called.add(part)
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not (n.id in imports and n in called)}


def _altered(statement: ast.stmt, imports: set[str], defined: set[str], silent: set[str], bases: set[str]) -> set[str]:
    """Names whose objects a statement may alter when the file runs: everything that it mentions, except in definitions
    and assignments. Those alter what they pass to calls and decorators and where they set attributes or items."""
    names: set[str] = set()
    printed = isinstance(statement, ast.Expr) and getattr(getattr(statement.value, "func", None), "id", "") in silent
    if not printed and not isinstance(statement, (ast.Assign, ast.AnnAssign, *_DEFINITIONS)):
        return _passed(statement, imports)
    for node in _outside_functions(statement):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") not in silent:
            names |= _passed(node, imports)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            names |= _names(node.value) - (defined if isinstance(node.value, ast.Name) else set())
        elif isinstance(node, _DEFINITIONS):
            runs = _names(*node.decorator_list) - imports
            runs |= _names(*node.bases, *node.keywords) - bases if isinstance(node, ast.ClassDef) else set()
            names |= runs | ({node.name} if runs else set())
    return names


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement that run with it: all except the bodies of functions."""
    yield node
    parts = [*node.decorator_list, node.args] if isinstance(node, _FUNCTIONS) else ast.iter_child_nodes(node)
    for part in [] if isinstance(node, ast.Lambda) else parts:
        yield from _outside_functions(part)


def _set_in(function: ast.AST) -> set[str]:
    """Names of what a function sets attributes of, except its own object."""
    nodes = [n for n in ast.walk(function) if isinstance(n, ast.Attribute) and not isinstance(n.ctx, ast.Load)]
    return _names(*(n.value for n in nodes)) - {"self"}


def _setters(tree: ast.Module) -> set[str]:
    """Functions that set attributes of something, by themselves or through others."""
    functions = [s for s in tree.body if isinstance(s, _FUNCTIONS)]
    setters = {"setattr", "delattr"}
    while new := {f.name for f in functions if _set_in(f) or setters & _names(f)} - setters:
        setters |= new
    return setters


def _altered_in_functions(statement: ast.stmt, imports: set[str], setters: set[str]) -> set[str]:
    """Names of the file that a function in the statement alters when called. One that sets attributes of something may
    set them of everything that it mentions."""
    altered: set[str] = set()
    for function in ast.walk(statement):
        if isinstance(function, _FUNCTIONS):
            inside = [n for part in function.body for n in ast.walk(part)]
            own = {n.arg for n in ast.walk(function.args) if isinstance(n, ast.arg)}
            own |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            altered |= {name for part in function.body for name in _bound(part)} - own - imports
            if _set_in(function) or setters & _names(function):
                altered |= _set_in(function) | _names(function) - imports
    return altered


def _imports(nodes: list[ast.stmt]) -> Imports:
    """Names that statements import, also inside functions. `from a import b` gives a and a.b, which may be a file."""
    imports = set()
    for node in (n for each in nodes for n in ast.walk(each)):
        if isinstance(node, ast.Import):
            imports |= {(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(".".join(filter(None, (node.module, alias.name))) for alias in node.names)]
            imports |= {(node.level, name) for name in names if not name.endswith("*")}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))  # importlib.import_module("name")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                imports.add((0, node.args[0].value))
    return frozenset(imports)


def imported_names(text: str) -> set[str]:
    """Names that a file imports absolutely."""
    return {name for dots, name in _imports(ast.parse(text).body) if not dots}


@functools.lru_cache(maxsize=64)
def digest_of_file(source: str | bytes) -> tuple[str, Imports, bool]:
    """The digest of a file, its imports, and whether it acts on import. A file that is not Python source, such as a
    compiled one, gets the digest of its bytes."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        content = source if isinstance(source, bytes) else source.encode()
        return hashlib.sha256(content).hexdigest()[:12], frozenset(), False
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    return hashlib.sha256(_shape(body).encode()).hexdigest()[:12], _imports(tree.body), any(map(_acts, body))


def _acts(statement: ast.stmt) -> bool:
    """Whether a statement does more than bind names of its file: it may change another module."""
    if isinstance(statement, (*_IMPORTS, *_DEFINITIONS)):
        return False
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return not all(isinstance(n, (ast.Name, ast.Tuple, ast.List, ast.Starred)) for n in targets)
    return not isinstance(statement, ast.Pass) and not isinstance(getattr(statement, "value", None), ast.Constant)


def _top_level_names(tree: ast.Module) -> Top:
    names: Top = {}
    for statement in tree.body:
        for name in dict.fromkeys(_bound(statement)):
            names.setdefault(name, []).append(statement)
    return names


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a statement binds, or changes by an attribute, an item or a method call."""
    if isinstance(node, _DEFINITIONS):
        yield node.name  # names inside are local, except global ones
        yield from (name for n in ast.walk(node) if isinstance(n, ast.Global) for name in n.names)
        return
    if isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    if isinstance(node, _IMPORTS):
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
