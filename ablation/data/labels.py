"""From the labels in a file to numbers of classes. Every value is checked."""

from __future__ import annotations

import unicodedata

from ablation.data.source import SourcePart, Wrong


class Labels:
    """The classes of a data set, and the number of each label.

    parts: for each role, its parts. If parts name their classes, each by its own table, labels are matched by name and
    numbered as in the first part. Otherwise the labels themselves are the classes, in sorted order.
    """

    def __init__(self, parts: dict[str, list[SourcePart]]):
        every = [part for each in parts.values() for part in each]
        named = [part for part in every if part.classes is not None]
        if named and len(named) < len(every):
            other = next(part for part in every if part.classes is None)
            raise Wrong(
                f"either all files must name their classes or none, but {named[0].name} does and {other.name} does "
                "not. Write the names as labels in all of them."
            )
        if named:
            by_part = {part.name: set(part.classes) for part in named}
            values = named[0].classes
        else:
            kinds: dict[type, str] = {}
            by_part = {
                role: {_checked(*label, kinds) for part in each for label in part.labels()}
                for role, each in parts.items()
            }
            values = sorted(by_part["train"])
        self.classes = tuple(map(str, values))
        self.rank = {value: number for number, value in enumerate(values)}
        _refuse_different(by_part)
        if len(self.classes) == 1:
            raise Wrong(
                f"there must be at least two classes, but the only one is {self.classes[0]!r}. Add another, set the "
                "path to the folder above the class folders, or train without labels: labels=False."
            )

    def number(self, part: SourcePart, where: str, value: object) -> int:
        return self.rank[_checked(where, value, {}) if part.classes is None else class_of(part, where, value)]


def _refuse_different(found: dict[str, set]) -> None:
    every = set.union(*found.values())
    lacking = {name: sorted(map(str, every - classes)) for name, classes in found.items()}
    shown = [f"{name} lacks {', '.join(map(repr, each[:5]))}" for name, each in lacking.items() if each]
    if shown:
        raise Wrong(
            f"all splits and files must have the same classes, but {'; '.join(shown)}. Give every class an image in "
            "every split, or remove it."
        )


def class_of(part: SourcePart, where: str, value: object) -> str:
    """The class name of a label."""
    if part.classes is None:
        return str(_checked(where, value, {}))
    if value is None or (type(value) is int and value == -1):
        raise Wrong(f"every image must have a label, but {where} has none (it is {value}). Label it, or remove it.")
    if type(value) is not int or not 0 <= value < len(part.classes):
        raise Wrong(
            f"labels must be numbers from 0 to {len(part.classes) - 1}, since {part.name} names {len(part.classes)} "
            f"classes, but {where} has {value!r}. Correct it."
        )
    return part.classes[value]


def _checked(where: str, value: object, kinds: dict[type, str]) -> str | int | float | bool:
    """A label that is itself a class: text, a whole number or a boolean. kinds: the types seen so far, and where."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise Wrong(f"every image must have a label, but {where} has none (it is {value!r}). Label it, or remove it.")
    if type(value) not in (str, int, float, bool) or (isinstance(value, float) and not value.is_integer()):
        raise Wrong(
            f"labels must be text or whole numbers, one per image, but {where} has {value!r}. Name another column "
            "with label_column, or change the labels."
        )
    if isinstance(value, str):
        if value != value.strip():
            raise Wrong(f"labels must not start or end with a space, but {where} has {value!r}. Correct it.")
        value = unicodedata.normalize("NFC", value)  # one class, however its accents are encoded
    kinds.setdefault(type(value), where)
    if len(kinds) > 1:
        (one, first), (other, second) = kinds.items()
        raise Wrong(
            f"labels must have one type, but {first} has {one.__name__} and {second} has {other.__name__}. "
            "Write all in the same way."
        )
    return value
