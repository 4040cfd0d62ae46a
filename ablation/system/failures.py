"""The cause of a failed training or evaluation, in fields, so that no decision depends on the text of a traceback."""

from __future__ import annotations

import functools
import os
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ablation
from ablation.spec import AblationError, DataError, InvalidSpec, StorageError, UserCodeError, WorkerError

ERRORS = {error.kind: error for error in (InvalidSpec, DataError, StorageError, WorkerError, UserCodeError)}
KINDS = ("diverged", "memory", "worker lost", *ERRORS, "error")
LONGEST = 100_000  # characters of a traceback; a message has at most a fiftieth


@dataclass(frozen=True)
class Failure:
    """kind: one of KINDS. message: a sentence, or "RuntimeError: no such exponent". place: FILE:LINE in the user's own
    file, if the error passed through one. traceback: as Python prints it, "" for a lost process."""

    kind: str
    message: str
    place: str | None = None
    traceback: str = ""

    @property
    def may_succeed_alone(self) -> bool:
        """Whether to retry alone: out of memory, or a lost process, which was often killed for its memory."""
        return self.kind in ("memory", "worker lost")

    @property
    def everywhere(self) -> bool:
        """Whether all processes of one training fail with it at the same step."""
        return self.kind in ("diverged", "data", "spec")

    def __str__(self) -> str:
        """ "RuntimeError: no such exponent (question.py:31)"."""
        return self.message + (f" ({os.path.basename(self.place)})" if self.place else "")


def failure_of(error: BaseException) -> Failure:
    """The failure of an exception, in the process that raised it."""
    place = next(_places(error), None)
    ours = isinstance(error, AblationError)
    message = str(error) if ours else "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error))
    return Failure(_kind(error, place), message[: LONGEST // 50], place, trace[-LONGEST:])


def _kind(error: BaseException, place: str | None) -> str:
    if lack_of_memory(error):
        return "memory"
    if isinstance(error, FloatingPointError):
        return "diverged"
    if isinstance(error, AblationError):
        return error.kind
    return "user code" if place else "error"


def lack_of_memory(error: BaseException) -> bool:
    import torch

    # The CPU allocator raises a plain RuntimeError, without a type of its own (torch 2.13).
    of_a_cpu = type(error) is RuntimeError and "DefaultCPUAllocator" in str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or of_a_cpu


def _places(error: BaseException) -> Iterator[str]:
    """FILE:LINE in files of the user, the innermost first; then those of the error's causes."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if is_users(frame.filename):
                yield f"{frame.filename}:{frame.lineno}"
        error = error.__cause__ or error.__context__


def is_users(file: str) -> bool:
    """Whether a file belongs neither to a library nor to the suite."""
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return not file.startswith("<") and not installed and not os.path.realpath(file).startswith(_libraries())


@functools.cache
def _libraries() -> tuple[str, ...]:
    known = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *ablation.__path__]
    return tuple(os.path.realpath(folder) + os.sep for folder in known)
