"""Text for people: counts, durations, and foreign text made safe for a terminal."""

from __future__ import annotations

from typing import Any


def printable(text: Any) -> str:
    """A foreign name or message for a terminal, in one line, without escape sequences or direction marks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def printable_lines(text: str) -> str:
    """As `printable`, for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def many(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def hours(seconds: float) -> str:
    """ "12.34"; for less than an hour "0.0123"."""
    return f"{seconds / 3600:.{2 if seconds >= 3600 else 4}f}"


def time_left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"{duration(seconds)} left"
