"""Files that are whole or not there.

A folder of results may be anybody's, so nothing here follows a symbolic link, waits for a FIFO, or empties a file that
it only locks. A folder's own name may be a link: people keep results on another disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ablation.specs import InvalidSpec

ABANDONED = 24 * 3600  # seconds after which an unfinished file of another machine is nobody's


def open_file(path: Path | str, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a regular file. Raises OSError where something else has its name, such as a link or a FIFO."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket, or a FIFO without a reader
            raise _not_regular(path, error.errno) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path, errno.EINVAL)
    return descriptor


def _not_regular(path: Path | str, number: int) -> OSError:
    return OSError(number, "it is a link, a folder or a device where a regular file belongs", str(path))


def read_file(path: Path | str, limit: int | None = None) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError."""
    with open(open_file(path), "rb") as file:
        if limit is not None and os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
        return file.read()


def create_file(path: Path) -> IO[bytes]:
    """A new file, to be written and read; what has its name, such as a link, is removed, and its target stays."""
    path.unlink(missing_ok=True)
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "w+b")


def open_lock(path: Path) -> IO[bytes]:
    """A file to lock, made where there is none; its content is not touched. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(open_file(path, os.O_RDWR | os.O_CREAT), "r+b")


def write_file(path: Path, content: bytes, *, flush: bool = True) -> None:
    """All or nothing, also when the disk is full, and with `flush` when the machine stops in the middle. A link of that
    name is replaced, and its target stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover, abandoned in _unfinished(path):
        if abandoned:
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        with create_file(temporary) as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Also removes what a process that was killed may have left of it unfinished."""
    for leftover, _ in _unfinished(path):
        leftover.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def clear(path: Path) -> None:
    """Removes whatever has this name: a folder with all that is in it, or a link but not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_folder(option: str, folder: Path) -> None:
    """Raises InvalidSpec unless files can be written into a folder, which need not be there yet. Leaves nothing."""
    made = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    probe = folder / f".ablation-{os.getpid()}"
    try:
        write_file(probe, b"-")
        probe.unlink()
    except OSError as error:
        raise cannot_write(option, folder, error) from error
    finally:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()


def cannot_write(option: str, folder: Path, error: OSError) -> InvalidSpec:
    """A full disk, a missing right, a folder in a file's place: the sentence for it."""
    cure = {
        errno.ENOSPC: "Make room",
        errno.EDQUOT: "Make room",
        errno.EISDIR: f"Remove {error.filename2 or error.filename}",
        errno.ELOOP: f"Remove {error.filename}",
        errno.EINVAL: f"Remove {error.filename}",
    }.get(error.errno, f"Name another folder: {option} FOLDER")
    name = str(error.filename2 or error.filename or "")
    where = f" ({name})" if name and not name.endswith(".part") else ""
    return InvalidSpec(
        f"{option} must be a folder that can be written, but {folder}/ cannot: {error.strerror or error}{where}. "
        f"Nothing that was finished is lost. {cure}; the same command continues."
    )


def _unfinished(path: Path) -> Iterator[tuple[Path, bool]]:
    """Temporary files of that name, and whether the process that wrote each is gone."""
    begin, end = f".{path.name}.", ".part"
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(begin) and entry.name.endswith(end):
                host, _, process = entry.name[len(begin) : -len(end)].rpartition(".")
                if host == platform.node():
                    abandoned = process.isdecimal() and not _lives(int(process))
                else:
                    abandoned = time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED
                yield Path(entry.path), abandoned


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
