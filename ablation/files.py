"""Files that are whole or not there."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def write_file(path: Path, content: bytes, *, flush: bool = True) -> None:
    """All or nothing, also when the disk is full, and with `flush` when the machine stops in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """With what a process that was killed may have left of it unfinished."""
    for leftover in path.parent.glob(f".{path.name}.*.part"):
        leftover.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
