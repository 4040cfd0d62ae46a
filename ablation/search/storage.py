"""The storage of a search: SQLite in a file, or PostgreSQL.

One process at a time owns the studies of a search. It holds a lock on a file beside the SQLite file, or an advisory
lock in PostgreSQL; the system releases both when the process ends.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool

from ablation.execution.store import Results
from ablation.spec import InvalidSpec, StorageError
from ablation.system.files import open_lock
from ablation.system.interrupts import uninterrupted

BUSY = 60.0  # seconds that SQLite waits for another process's transaction, such as the dashboard's
CREATIONS = 20  # attempts to open a storage whose tables another process is creating, such as `status` or the dashboard
_CREATED_MEANWHILE = re.compile("already exists|UNIQUE constraint|duplicate key")
FAULTS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)


class _WholeCalls(RDBStorage):
    """Ctrl-C waits for the end of a call. In the middle of one it would leave a connection that still holds a lock of
    SQLite, or that PostgreSQL's driver refuses to use again, and the trials could not be closed."""


for _name, _method in vars(RDBStorage).items():
    if isinstance(_method, FunctionType):
        setattr(_WholeCalls, _name, uninterrupted()(_method))


class Storage:
    """`shown` is the address without the password; print no other form of it."""

    def __init__(self, address: str):
        """Raises InvalidSpec for an invalid address. Opens nothing."""
        self.url = _url(address)
        self.shown = _shown(self.url)
        self.file = Path(self.url.database) if self.url.get_backend_name() == "sqlite" else None
        if self.file and os.path.lexists(self.file) and not stat.S_ISREG(os.lstat(self.file).st_mode):
            rule = f"the storage must be a regular file, but {self.file} is a link or something else"
            raise InvalidSpec(f"{rule}. Name the file itself: --storage sqlite:///PLACE.")

    @property
    def is_there(self) -> bool:
        """Whether it exists, so that opening it creates no file."""
        return self.file is None or self.file.exists()

    @functools.cached_property
    def optuna(self) -> RDBStorage:
        """The open storage, created if missing. Raises StorageError if it cannot be reached."""
        connect = {"timeout": BUSY} if self.file else {"connect_timeout": 10}
        options = {"connect_args": connect, "pool_pre_ping": not self.file}

        def open_it() -> RDBStorage:
            if self.file:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            url, left = self.url.render_as_string(hide_password=False), CREATIONS
            while True:
                try:
                    return _WholeCalls(url, engine_kwargs=options)
                except sqlalchemy.exc.SQLAlchemyError as error:
                    left -= 1
                    if not left or not _CREATED_MEANWHILE.search(str(error)):
                        raise
                    time.sleep(0.2)

        return _explained(self.shown, open_it)

    @contextmanager
    def owned(self, study: str) -> Iterator[None]:
        """Holds the lock. Raises StorageError if another process owns the studies with this prefix, or the SQLite
        file."""
        with self._file_lock() if self.file else self._advisory_lock(study) as free:
            if not free:
                raise StorageError(
                    f"the studies of {study} in {self.shown} must have one owner at a time, but another search is "
                    "running. Wait for its end, or begin other studies with --study NAME."
                )
            yield

    @contextmanager
    def _file_lock(self) -> Iterator[bool]:
        with _explained(self.shown, lambda: open_lock(Path(f"{self.file}.lock"))) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                raise StorageError(
                    f"--storage must be on a disk with file locks, but {self.file} cannot be locked: "
                    f"{error.strerror}. Name a file on this machine's own disk, or PostgreSQL."
                ) from error
            yield True

    @contextmanager
    def _advisory_lock(self, study: str) -> Iterator[bool]:
        key = int.from_bytes(hashlib.sha256(f"ablation search {study}".encode()).digest()[:8], signed=True)
        options = {"connect_args": {"connect_timeout": 10}, "isolation_level": "AUTOCOMMIT"}
        engine = _explained(self.shown, lambda: sqlalchemy.create_engine(self.url, poolclass=NullPool, **options))
        with _explained(self.shown, engine.connect) as connection:  # the lock ends with it
            with uninterrupted():
                free = connection.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar()
            yield free


def address_beside(results: Results) -> str:
    """The default address of the storage."""
    return f"sqlite:///{results.root / 'search.sqlite3'}"


def _url(address: str) -> sqlalchemy.URL:
    try:
        url = sqlalchemy.make_url(address)
        backend = url.get_backend_name()
    except (sqlalchemy.exc.ArgumentError, ValueError):  # their messages may hold the address
        url, backend = None, "something else"
    if backend not in ("sqlite", "postgresql") or (backend == "sqlite" and url.database in (None, "", ":memory:")):
        raise InvalidSpec(
            "--storage must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE, but its address is "
            f"of {'no file' if backend == 'sqlite' else backend}. Check it, or omit --storage for a SQLite file."
        )
    if backend == "postgresql" and "@" in f"{url.host}{url.database}":  # would print a part of the password
        raise InvalidSpec("--storage must have one @, before its host. Write an @ or / in a password as %40 or %2F.")
    return url if backend == "sqlite" else url.set(drivername="postgresql+psycopg")


def _shown(url: sqlalchemy.URL) -> str:
    """The address without the password, and without options, which may hold one."""
    return url.set(query={}, drivername=url.get_backend_name()).render_as_string(hide_password=True)


def _explained(shown: str, call):
    """Calls, and turns errors of a storage into a sentence without a password."""
    try:
        with uninterrupted():
            return call()
    except ImportError as error:
        raise StorageError(
            "--storage names PostgreSQL, but its driver is not installed. Run in the suite's folder: "
            "pip install -e '.[postgres]'"
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, OSError, RuntimeError) as error:
        raise StorageError(
            f"--storage must be reachable, but {shown} is not: {reason(error)} Check that it runs."
        ) from None


def reason(error: BaseException) -> str:
    """The first line of a storage driver's error, which holds no password."""
    origin = getattr(error, "orig", None) or error.__cause__ or error
    origin = getattr(origin, "orig", None) or origin
    return str(origin).strip().splitlines()[0].rstrip(".") + "."
