"""Why a training or an evaluation failed, in fields: nothing is decided by the words of a traceback."""

from __future__ import annotations

import functools
import os
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ablation
from ablation.specs import InvalidSpec

KINDS = ("diverged", "memory", "worker lost", "data", "spec", "user code", "error")
LONGEST = 100_000  # characters of a traceback; of a message a fiftieth


@dataclass(frozen=True)
class Failure:
    """kind: of KINDS. message: a sentence, or "RuntimeError: no such exponent". place: FILE:LINE of the user's own
    file, if it went through one. traceback: as Python prints it, "" where a process was lost."""

    kind: str
    message: str
    place: str | None = None
    traceback: str = ""

    @property
    def may_succeed_alone(self) -> bool:
        """A lack of memory, or the end of a process, which is often the system's answer to one."""
        return self.kind in ("memory", "worker lost")

    @property
    def everywhere(self) -> bool:
        """Of processes that train together, all fail with it at the same step."""
        return self.kind in ("diverged", "data", "spec")

    def __str__(self) -> str:
        """ "RuntimeError: no such exponent (question.py:31)"."""
        return self.message + (f" ({os.path.basename(self.place)})" if self.place else "")


def failure_of(error: BaseException) -> Failure:
    """What an exception says, in the process where it was raised."""
    place = next(_places(error), None)
    message = str(error) if isinstance(error, InvalidSpec) else "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error))
    return Failure(_kind(error, place), message[: LONGEST // 50], place, trace[-LONGEST:])


def _kind(error: BaseException, place: str | None) -> str:
    from ablation.datasets import DataError

    if lack_of_memory(error):
        return "memory"
    if isinstance(error, FloatingPointError):
        return "diverged"
    if isinstance(error, InvalidSpec):
        return "data" if isinstance(error, DataError) else "spec"
    return "user code" if place else "error"


def lack_of_memory(error: BaseException) -> bool:
    import torch

    # The allocator of a CPU raises a plain RuntimeError, and has no type of its own for it (torch 2.13).
    of_a_cpu = type(error) is RuntimeError and "DefaultCPUAllocator" in str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or of_a_cpu


def _places(error: BaseException) -> Iterator[str]:
    """FILE:LINE in files of the user, the innermost first; then those of what caused the error."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if is_users(frame.filename):
                yield f"{frame.filename}:{frame.lineno}"
        error = error.__cause__ or error.__context__


def is_users(file: str) -> bool:
    """Whether code of a file is neither a library's nor the suite's."""
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return not file.startswith("<") and not installed and not os.path.realpath(file).startswith(_libraries())


@functools.cache
def _libraries() -> tuple[str, ...]:
    known = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *ablation.__path__]
    return tuple(os.path.realpath(folder) + os.sep for folder in known)
