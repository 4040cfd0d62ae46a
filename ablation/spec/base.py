"""The base class of specs: frozen, keyword-only dataclasses that describe a run.

A spec holds everything that determines a result, except the machine: another processor, a GPU (which draws other
noise) or `torch.compile` give other numbers, within the spread over seeds; tables name the device and whether steps
were compiled. `describe` turns a spec into plain JSON values; `identity` is the first 12 hexadecimal digits of the
SHA-256 of that JSON, and finds a result on disk. Specs are written to JSON for people and for pandas and are never read
back into objects.

Our own classes carry a `version`; raise it when their results change. A class from a user's file
carries a digest of its source instead, so an edited operator never reuses old numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ablation.spec.errors import InvalidSpec

FORMAT = 1  # of the tables; raise it when older versions cannot read them


def _fields_of(cls: type) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Base of everything that a run's identity describes."""

    version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any):
        """Converts NumPy scalars in fields to Python numbers before the class's own checks run."""
        super().__init_subclass__(**kwargs)
        inherited = {item.name for base in cls.__mro__[1:] for item in _fields_of(base)}
        for name in sorted(inherited & set(vars(cls)) - set(inspect.get_annotations(cls))):
            value = vars(cls)[name]
            if hasattr(value, "__get__"):  # a slot, a property, a method: no default
                continue
            raise InvalidSpec(
                f"{cls.__name__}.{name} must have a type to change the field's default; "
                f"`{name} = {value!r}` would be ignored. Write {name}: {type(value).__name__} = {value!r}."
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
        numbers = "whole numbers" if kind is int else "numbers"
        self.require(name, good, f"be a tuple of different {numbers} of at least {low:g}", cure)

    def require_choice(self, name: str, choices: tuple[str, ...]) -> None:
        self.require(name, getattr(self, name) in choices, f"be one of {', '.join(map(repr, choices))}")

    def replace(self, **changes: Any):
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)


def plain(value: Any) -> Any:
    """Converts NumPy scalars to Python numbers, also inside tuples; returns anything else unchanged."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    return tuple(map(plain, value)) if type(value) is tuple else value


def outside_identity(**kwargs: Any) -> Any:
    """A dataclass field excluded from the identity: a location or a name."""
    return field(metadata={"identity": False}, **kwargs)


def added_later(*, default: Any) -> Any:
    """A dataclass field that earlier versions lacked. Its default must give their results: the description omits a
    field at its default, so earlier results keep their identity."""
    return field(default=default, metadata={"identity": "unless default"})


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """A label as tables store it: composed (NFC), no control characters, no spaces around it."""
    return CONTROL.sub("", unicodedata.normalize("NFC", text)).strip()
