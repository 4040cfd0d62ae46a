"""What a user's classes use, as it stands in memory.

The digest in an identity is that of source files. If code changes a name that a class uses after its file was imported,
the digest does not show it, and two results could share one id. Such changes are refused.
"""

from __future__ import annotations

import collections
import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablation.spec.base import Spec
from ablation.spec.errors import InvalidSpec
from ablation.spec.user_code import folders_of_experiments, is_library, is_ours, names_used

Name = tuple[str, str]  # of a module, and of what it holds
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_CACHES = {"__abstractmethods__", "__annotations__", "__doc__", "__weakref__", "__dict__", "_abc_impl"}


@contextmanager
def nothing_used_changes(what: str) -> Iterator[None]:
    """Raises InvalidSpec if the block changes a name that a user's class uses, in a module that was imported before.
    what: the code in the block, for the message."""
    before = _states()
    yield
    after = _states(before)
    for (module, name), (users, state) in before.items():
        if after[module, name][1] != state:
            file, user = vars(sys.modules[module])["__file__"], min(users)
            raise InvalidSpec(
                f"{what} changes {name} of {file}, which {user} uses. Runs with different values would have one "
                f"identity, because it counts the file alone. Make the value a field of {user}, or set it at the top "
                f"level of {file}."
            )


def _states(names: Any = ()) -> dict[Name, tuple[set[str], Any]]:
    """By name, the classes that use it and its state; those of `names` in any case."""
    own = folders_of_experiments()
    users: dict[Name, set[str]] = {name: set() for name in names}
    for cls in _users_classes(Spec, own):
        for name in names_used(cls):
            users.setdefault(name, set()).add(cls.__qualname__)
    return {
        (module, name): (classes, _state(getattr(sys.modules.get(module), name, None), set(), own))
        for (module, name), classes in users.items()
    }


def _users_classes(cls: type, own: frozenset[Path]) -> Iterator[type]:
    for each in cls.__subclasses__():
        module = sys.modules.get(each.__module__)
        if module and vars(module).get(each.__qualname__) is each and not is_ours(each) and not is_library(module, own):
            yield each
        yield from _users_classes(each, own)


def _state(value: Any, seen: set[int], own: frozenset[Path]) -> Any:
    """Equal for the same objects with the same content. seen: ids of objects that are described already."""
    if isinstance(value, _PLAIN):
        return type(value), repr(value)
    if id(value) in seen:
        return id(value)
    seen.add(id(value))
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = [each for item in value.items() for each in item]
    elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        parts = value
    elif isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, vars(value), *cells]
    elif isinstance(value, type):
        if is_ours(value) or not is_library(sys.modules.get(value.__module__), own):
            parts = [each for item in vars(value).items() if item[0] not in _CACHES for each in item]
    elif hasattr(value, "tobytes"):  # an array of NumPy
        parts = [value.tobytes()]
    elif not isinstance(value, types.ModuleType):
        parts = [getattr(value, "_version", None), getattr(value, "__dict__", None)]  # _version: of a tensor
    return id(value), [_state(part, seen, own) for part in parts]
