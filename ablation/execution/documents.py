"""The JSON documents of a results folder: writing, checking and reading.

A document ends in a SHA-256 of all its bytes before, so that a changed digit is noticed. This finds accidents, not
forgery, so a document is also checked against the forms below; an invalid one does not count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablation.system.failures import KINDS
from ablation.system.files import read_file

LAYOUT = 2  # of the documents; raise it when older versions cannot read them
LARGEST = 256 * 2**20  # bytes; a manifest has about 200 per cell
ID, DIGEST = re.compile("[0-9a-f]{12}"), re.compile("[0-9a-f]{64}")
FILE_NAME = re.compile(r"\w[\w.-]{0,200}", re.ASCII)
SEAL = b',\n "sha256": "'


class Refused(ValueError):
    """A document that does not count. The message names its file and the reason."""


# --------------------------------------------------------------------------------------------------
# Forms: a predicate, a list of one form, a mapping with fields ("name?" is optional), or Each.


class Each:
    """A mapping to values of a form; its names are texts that satisfy `names`, if given."""

    def __init__(self, value: Any, names: Callable[[Any], bool] | None = None):
        self.value, self.names = value, names


def a_text(value: Any) -> bool:
    return isinstance(value, str)


def a_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def a_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def a_finite_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18


def a_number_or_null(value: Any) -> bool:
    return value is None or a_finite_number(value)


def a_measured_value(value: Any) -> bool:
    """A number; NaN or null if it could not be measured."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and not _huge(value))


def _huge(value: float) -> bool:
    return isinstance(value, int) and abs(value) > 1e300


def a_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def a_moment(value: Any) -> bool:
    """Seconds since 1970, to the year 5138."""
    return a_finite_number(value) and 0 <= value < 1e11


def a_fraction(value: Any) -> bool:
    return a_finite_number(value) and 0 <= value <= 1


def a_coordinate(value: Any) -> bool:
    return value is None or isinstance(value, str) or a_measured_value(value) or isinstance(value, bool)


def an_id(value: Any) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def a_digest(value: Any) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def a_file_name(value: Any) -> bool:
    """The name of a file in the document's own folder."""
    return isinstance(value, str) and FILE_NAME.fullmatch(value) is not None


def a_kind_of_failure(value: Any) -> bool:
    return value in KINDS if isinstance(value, str) else False


FILES = Each({"bytes": a_count, "sha256": a_digest}, a_file_name)
TRACE = Each([[a_measured_value]])  # see contracts/trace.py
PROVENANCE = {"device": a_text, "torch": a_text, "kornia": a_text, "commit": a_text}
TRAINING = {
    "id": an_id, "training": a_mapping, "files": FILES, "last": Each(a_measured_value),
    "diagnostics": Each(a_measured_value), "images": Each(a_count), "trace?": TRACE, "seconds": a_finite_number,
    "peak_memory_bytes": a_count, "energy_joules?": a_number_or_null,
    "sittings": [{"seconds": a_finite_number, "processes?": a_count}], "classes": [a_text],
    "normalization": {"mean": [a_finite_number], "std": [a_finite_number]}, "provenance": PROVENANCE,
}  # fmt: skip
EVALUATION = {
    "id": an_id, "training_id": an_id, "evaluation": a_mapping, "label": a_text, "files": FILES,
    "metrics": Each(a_measured_value), "trace?": TRACE, "notes": [a_text], "seconds": a_finite_number,
    "classes?": [a_text], "images?": Each(a_count), "energy_joules?": a_number_or_null, "provenance": PROVENANCE,
}  # fmt: skip
FAILURE = {
    "training_id": an_id, "evaluation_id": a_text_or_null, "label": a_text_or_null, "cell": a_text,
    "kind": a_kind_of_failure, "message": a_text, "place": a_text_or_null, "traceback": a_text,
}  # fmt: skip
MANIFEST = {
    "name": a_text, "scale": a_text, "file": a_text,
    "cells": [{"coords": Each(a_coordinate), "training": an_id, "evaluations": [an_id]}],
}  # fmt: skip
RUNNING = {
    "host": a_text, "process": a_count, "updated": a_moment, "jobs": a_count, "done": a_count, "failed": a_count,
    "left": a_number_or_null,
    "running": [
        {"training": an_id, "name": a_text, "worker": a_text, "since": a_moment, "fraction": a_fraction,
         "epochs": a_count}
    ],
}  # fmt: skip


def misfit(value: Any, form: Any) -> str | None:
    """The place where a value misses a form ("sittings[0].seconds must be a finite number"); None if it fits."""
    wrong = _misfit(value, form)
    return wrong and wrong.removeprefix(".").removeprefix(" ")


def _misfit(value: Any, form: Any) -> str | None:
    if callable(form):
        return None if form(value) else f" must be {form.__name__.replace('_', ' ')}, but is {repr(value)[:100]}"
    if isinstance(form, list):
        if not isinstance(value, list):
            return " must be a list"
        for number, item in enumerate(value):
            if wrong := _misfit(item, form[0]):
                return f"[{number}]{wrong}"
        return None
    if not isinstance(value, dict):
        return " must be a mapping"
    if isinstance(form, dict):
        for name, inner in form.items():
            if name not in value:
                if name[-1] != "?":
                    return f" lacks {name}"
                name = name[:-1]
                if name not in value:
                    continue
            if wrong := _misfit(value[name], inner):
                return f".{name}{wrong}"
        return None
    for name, item in value.items():
        if form.names and not form.names(name):
            return f" must not hold the name {name[:100]!r}"
        known = type(item) is float and form.value is a_measured_value  # a shortcut: most values are floats
        if not known and (wrong := _misfit(item, form.value)):
            return f"[{name[:100]!r}]{wrong}"
    return None


# --------------------------------------------------------------------------------------------------
# Writing and reading


def sealed(document: dict[str, Any], form: dict) -> bytes:
    """The bytes of a document. Raises ValueError if it does not have the form."""
    document = {"format": LAYOUT, **document}
    if wrong := misfit(json.loads(json.dumps(document, default=str)), form):
        raise ValueError(f"a document cannot be written: {wrong}")
    content = json.dumps(document, indent=1, ensure_ascii=False, default=str).encode(errors="backslashreplace")
    content = content.removesuffix(b"\n}")
    return content + _seal(content)


def _seal(content: bytes) -> bytes:
    return SEAL + hashlib.sha256(content).hexdigest().encode() + b'"\n}\n'


def read(path: Path | str, form: dict) -> dict[str, Any]:
    """An unchanged document. Raises FileNotFoundError, or Refused with the reason."""
    try:
        content = read_file(path, LARGEST)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror or error})") from error
    body, seal, _ = content.rpartition(SEAL)
    try:
        if not seal:
            json.loads(content)
            if b"\r\n" in content:
                raise Refused(f"{path} was changed: it has other ends of lines")
            raise Refused(f"{path} holds no digest of itself, since an earlier version wrote it")
        if content != body + _seal(body):
            raise Refused(f"{path} was changed: its digest differs")
        document = json.loads(content)
        if not isinstance(document, dict) or document.get("format") != LAYOUT:
            raise Refused(f"{path} is not of format {LAYOUT}, which this version reads")
        if wrong := misfit(document, form):
            raise Refused(f"{path} is damaged: {wrong}")
    except Refused:
        raise
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} is no JSON document ({error})") from error
    return document
