"""Files that are either complete or absent.

A results folder may come from another person, so these functions follow no symbolic link, wait for no FIFO, and do not
empty a file that they only lock. The folder itself may be a link, for example to another disk.
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

from ablation.spec import StorageError

ABANDONED = 24 * 3600  # seconds after which another machine's unfinished file is considered abandoned


def open_file(path: Path | str, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a regular file. Raises OSError for anything else, such as a link or a FIFO."""
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
    """A new file for writing and reading; replaces anything of that name, such as a link, but not the link's target."""
    path.unlink(missing_ok=True)
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "w+b")


def open_lock(path: Path) -> IO[bytes]:
    """A file for locking, created if missing; its content stays untouched. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(open_file(path, os.O_RDWR | os.O_CREAT), "r+b")


def write_file(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Writes all or nothing, even on a full disk, and with `flush` even if the machine stops meanwhile. Replaces a link
    of that name, but not its target."""
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
    """Also removes partial files of killed processes."""
    for leftover, _ in _unfinished(path):
        leftover.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def no_folder(path: Path) -> str | None:
    """A sentence if the path is something other than a folder; None for a folder, or if nothing is there."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return None if stat.S_ISDIR(mode) else f"{path} is a link or a file where a folder belongs"


def clear(path: Path) -> None:
    """Removes anything of this name: a folder with its content, or a link but not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_folder(option: str, folder: Path) -> None:
    """Raises StorageError unless the folder, which need not exist yet, is writable. Leaves no file or folder behind."""
    created = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    probe = folder / f".ablation-{os.getpid()}"
    try:
        write_file(probe, b"-")
        probe.unlink()
    except OSError as error:
        raise cannot_write(option, folder, error) from error
    finally:
        for each in created:
            with contextlib.suppress(OSError):
                each.rmdir()


def cannot_write(option: str, folder: Path, error: OSError) -> StorageError:
    """The error for a full disk, a missing permission, or a folder in a file's place."""
    cure = {
        errno.ENOSPC: "Make room",
        errno.EDQUOT: "Make room",
        errno.EISDIR: f"Remove {error.filename2 or error.filename}",
        errno.ELOOP: f"Remove {error.filename}",
        errno.EINVAL: f"Remove {error.filename}",
    }.get(error.errno, f"Name another folder: {option} FOLDER")
    name = str(error.filename2 or error.filename or "")
    where = f" ({name})" if name and not name.endswith(".part") else ""
    return StorageError(
        f"{option} must be a writable folder, but {folder}/ is not: {error.strerror or error}{where}. "
        f"No finished work is lost. {cure}; the same command continues."
    )


def _unfinished(path: Path) -> Iterator[tuple[Path, bool]]:
    """Temporary files of that name, each with whether its process has ended."""
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
