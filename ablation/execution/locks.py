"""Locks on a results folder: one process, or the shards of one experiment side by side, may write.

    results/.lock                  exclusive for a single process, shared by shards
    results/.locks/shards          locked while a shard begins; holds the number of shards while any runs
    results/.locks/shard-I-of-N    exclusive for each shard

The system releases a lock when its process ends in any way. No lock file is removed, followed as a link, or emptied.
(`filelock` has no shared locks, and no clear error on a file system without locks.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from ablation.spec import InvalidSpec, StorageError
from ablation.system.files import cannot_write, no_folder, open_lock


@contextmanager
def owned(root: Path) -> Iterator[None]:
    """Holds the lock. Raises StorageError if another process writes into the folder."""
    with _opened(root, ".lock") as lock:
        _lock(root, lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def owned_shard(root: Path, index: int, count: int) -> Iterator[None]:
    """Holds the lock of a shard, after waiting for another process of the same shard. Raises InvalidSpec if a process
    that is no shard is writing, or a shard of another `count`, which would compute the same runs."""
    with ExitStack() as held:
        lock = held.enter_context(_opened(root, ".lock"))
        with _opened(root, ".locks/shards") as shards:
            if _lock(root, shards, fcntl.LOCK_EX):  # one shard begins at a time
                _begin(root, lock, shards, index, count)
        own = held.enter_context(_opened(root, f".locks/shard-{index}-of-{count}"))
        with contextlib.suppress(OSError):  # a file system without locks; `_lock` has warned
            fcntl.flock(own, fcntl.LOCK_EX)
        yield


def _begin(root: Path, lock: IO, shards: IO, index: int, count: int) -> None:
    """Shares the folder's lock with the other shards; the first one records the `count`."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _lock(root, lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        others = shards.read(20)
        if others != str(count).encode():
            number = others.decode() if others.isdigit() else "another number"
            raise InvalidSpec(
                f"--shard must be I/N with the N of the shards that are running into {root}/, {number}, but got "
                f"{index}/{count}. Wait for their end, or name another folder: --results FOLDER."
            ) from None
    else:
        shards.truncate(0)
        shards.write(str(count).encode())
        shards.flush()
        _lock(root, lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


@contextmanager
def _opened(root: Path, name: str) -> Iterator[IO]:
    path = root / name
    try:
        if path.parent != root and no_folder(path.parent):
            raise OSError(errno.EINVAL, "it is a link or a file where a folder belongs", str(path.parent))
        file = open_lock(path)
    except OSError as error:
        raise cannot_write("--results", root, error) from error
    with file:
        yield file


def _lock(root: Path, lock: IO, how: int) -> bool:
    """Locks the file; False, with a warning, on a file system without locks, such as Lustre without `-o flock`."""
    try:
        fcntl.flock(lock, how)
    except BlockingIOError as error:
        raise StorageError(
            f"--results allows one writing process at a time, but another one is writing into {root}/. Wait "
            f"(`ablation status --results {root}` shows its process), or name another folder: --results FOLDER."
        ) from error
    except OSError as error:
        print(
            f"ablation: {root}/ cannot be locked ({error.strerror}): make sure yourself that only one process at a "
            "time, or one per shard, writes there.",
            file=sys.stderr,
        )
        return False
    return True
