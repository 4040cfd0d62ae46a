"""What a class uses of its own file, read from the syntax tree: names, statements that change them, and imports.

Nothing is imported or run. The text of a tree (`_shape`) is the same on every Python version, without comments,
docstrings and positions.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
    uses = {name: _names(*parts) for name, parts in top.items()}
    used = reached(source, class_name)
    statements = {statement for name in used for statement in top[name]}
    acting = _acting(tree, top)
    acting |= {statement for name in _reached(_names(*acting), uses) for statement in top[name]}
    more = [s for s in tree.body if s in acting - statements]
    stars = [s for s in tree.body for n in ast.walk(s) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
    text = [f"{name}={_shape(top[name])}" for name in sorted(used)] + [_shape(statement) for statement in more]
    return "\n".join(text), _imports([*statements, *more, *stars]), _imports(tree.body)


@functools.lru_cache(maxsize=64)
def reached(source: str | bytes, class_name: str) -> frozenset[str]:
    """The top-level names of its file that a class uses, directly or through others, and its own."""
    uses = {name: _names(*parts) for name, parts in _top_level_names(ast.parse(source)).items()}
    return frozenset(_reached({class_name}, uses))


# Packages whose functions change nothing of a file that they are not given.
_LIBRARIES = {
    "__future__", "ablation", "abc", "collections", "copy", "dataclasses", "datetime", "enum", "fractions", "functools",
    "itertools", "json", "kornia", "math", "matplotlib", "numbers", "numpy", "optuna", "os", "pandas", "pathlib", "PIL",
    "random", "re", "scipy", "seaborn", "statistics", "string", "time", "timm", "torch", "typing",
}  # fmt: skip
_ANY_NAME = {"exec", "eval", "globals", "locals", "vars", "setattr", "delattr", "__import__"}  # may change any name
_PURE = {"bool", "dict", "float", "frozenset", "int", "len", "list", "print", "range", "set", "str", "tuple", "zip"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


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


def _acting(tree: ast.Module, top: Top) -> set[ast.stmt]:
    """Statements that may change what the file's names stand for: all except imports, definitions, and assignments of
    constants, names, and what a library or a plain class of the file constructs of constants."""
    imported = {
        (alias.asname or alias.name).split(".")[0]: (getattr(n, "module", None) or alias.name).split(".")[0]
        for n in tree.body if isinstance(n, _IMPORTS) and not getattr(n, "level", 0) for alias in n.names
    }  # fmt: skip
    bound = Counter(name for statement in tree.body for name in _bound(statement, changed=False))
    literal = {s.targets[0] for s in tree.body if isinstance(s, ast.Assign) and _is_literal(s.value)}
    rules = _Rules(
        libraries={name for name, root in imported.items() if root in _LIBRARIES and bound[name] == 1},
        builtins=set() if "*" in imported else set(dir(builtins)) - top.keys(),
        constants={n.id for n in literal if isinstance(n, ast.Name) and bound[n.id] == 1},
        plain=set(),
        special=_has_special_methods(tree),
    )
    for statement in tree.body if not rules.special else ():
        if isinstance(statement, ast.ClassDef) and bound[statement.name] == 1 and rules.inert(statement):
            rules.plain.add(statement.name)
    return {s for s in tree.body if not rules.inert(s)}


def _has_special_methods(tree: ast.Module) -> bool:
    """Whether the file defines or sets methods that expressions run without their name."""
    words = {getattr(n, key, None) for n in ast.walk(tree) for key in ("name", "attr", "arg", "id")}
    words = {word for word in words if isinstance(word, str)} - {"__name__", "__file__", "__future__"}
    return any(word.startswith("__") or word in ("property", "default_factory", "metaclass") for word in words)


def _is_literal(node: ast.expr) -> bool:
    """Whether a value is a number, a text, or a tuple of such."""
    allowed = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.unaryop, ast.operator, ast.expr_context)
    return all(isinstance(n, allowed) for n in ast.walk(node))


@dataclass(frozen=True)
class _Rules:
    """What a statement may mention without acting."""

    libraries: set[str]  # names bound once, by an import of a library
    builtins: set[str]
    constants: set[str]
    plain: set[str]  # classes of the file whose construction runs no code of the file
    special: bool  # whether the file has special methods, which any expression may run

    def inert(self, statement: ast.stmt) -> bool:
        """Whether a statement only binds names, and its expressions run no code that may change other names."""
        if _docstring(statement) or _is_main(statement) or isinstance(statement, (*_IMPORTS, ast.Pass)):
            return True
        if isinstance(statement, ast.ClassDef):
            bases = all(self._library(base) or getattr(base, "id", "") in self.plain for base in statement.bases)
            return (
                self._decorated(statement) and bases and not statement.keywords and all(map(self.inert, statement.body))
            )
        if isinstance(statement, _FUNCTIONS) and not self._decorated(statement):
            return False
        nodes = list(_outside_functions(statement))
        calls = [n for n in nodes if isinstance(n, ast.Call)]
        if calls and not self._constructs(nodes, calls):
            return False
        return all(self._quiet(node) for node in nodes)

    def _decorated(self, definition: Any) -> bool:
        return all(self._library(getattr(each, "func", each)) for each in definition.decorator_list)

    def _library(self, node: ast.expr) -> bool:
        """Whether an expression is a name or an attribute of a library, or a built-in name."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.libraries | self.builtins - _ANY_NAME

    def _quiet(self, node: ast.AST) -> bool:
        """Whether a part of a statement changes no object."""
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            return isinstance(node.ctx, ast.Load) and not self.special
        if isinstance(node, ast.Expr):
            return getattr(getattr(node.value, "func", None), "id", "") == "print"
        if isinstance(node, (ast.BinOp, ast.Compare, ast.UnaryOp, ast.JoinedStr)):
            return not self.special
        return not isinstance(node, (ast.AugAssign, ast.Delete)) and getattr(node, "id", "") not in _ANY_NAME

    def _constructs(self, nodes: list[ast.AST], calls: list[ast.Call]) -> bool:
        """Whether calls in a statement only make objects of constants: no callback, no object of the file is passed."""
        called = {id(call.func) for call in calls}
        local = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        free = self.libraries | self.builtins | self.constants | local
        names = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        known = all(n.id in (free | self.plain if id(n) in called else free) for n in names)
        return known and not any(isinstance(n, ast.Lambda) for n in nodes) and all(self._makes(c.func) for c in calls)

    def _makes(self, function: ast.expr) -> bool:
        """Whether a call is of a library's function, of a method of what one made, or of a plain class."""
        if isinstance(function, ast.Name):
            return function.id in self.plain | self.libraries | (_PURE & self.builtins)
        if not isinstance(function, ast.Attribute) or "seed" in function.attr or function.attr.startswith("set"):
            return False
        return self._library(function) or (isinstance(function.value, ast.Call) and self._makes(function.value.func))


def _docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_main(statement: ast.stmt) -> bool:
    """`if __name__ == "__main__":`, which does not run when the file is imported."""
    return isinstance(statement, ast.If) and not statement.orelse and _shape(statement.test) == _MAIN


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement that run with it: all except the bodies of functions."""
    yield node
    parts = [*node.decorator_list, node.args] if isinstance(node, _FUNCTIONS) else ast.iter_child_nodes(node)
    for part in [] if isinstance(node, ast.Lambda) else parts:
        yield from _outside_functions(part)


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


def _bound(node: ast.AST, *, changed: bool = True) -> Iterator[str]:
    """Names that a statement binds. changed: and those that it changes by an attribute, an item or a method call."""
    if isinstance(node, _DEFINITIONS):
        yield node.name  # names inside are local, except global ones
        yield from (name for n in ast.walk(node) if isinstance(n, ast.Global) for name in n.names)
        return
    if isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    if isinstance(node, _IMPORTS):
        yield from ((a.asname or a.name.split(".")[0]) for a in node.names)
    inside = isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del))
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.func
    if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
        yield node.id
    elif changed and (inside or isinstance(called, ast.Attribute)):
        base = called or node
        while isinstance(base, (ast.Attribute, ast.Subscript)):
            base = base.value
        if isinstance(base, ast.Name):
            yield base.id
    for child in ast.iter_child_nodes(node):
        yield from _bound(child, changed=changed)


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


_MAIN = _shape(ast.parse('__name__ == "__main__"', mode="eval").body)
