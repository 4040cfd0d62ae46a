"""Where a search is kept: SQLite in a file, or PostgreSQL for several machines; and the gate to the start of a trial.

Optuna starts a trial in several steps, and a process may be killed between any two of them, or two may start at
once. So the start of a trial is behind a gate that one process passes at a time, on whatever machine: a file
lock beside the SQLite file, an advisory lock in PostgreSQL. Both are let go by the system when their process dies.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from ablation.files import open_lock
from ablation.specs import InvalidSpec

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats are, since 2021
RETRIES = 3  # of a trial whose worker dies: one that always kills its worker must end some time
SILENT = 4  # heartbeats that may be missed before a trial is taken from its worker
BUSY = 60.0  # seconds that SQLite waits for another's transaction


class Retry(RetryHeartbeatStaleTrialCallback):
    """Optuna's retry of a trial whose worker fell silent, without what that worker wrote of itself."""

    def __call__(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        again = copy.deepcopy(trial)
        again.user_attrs = {}
        super().__call__(study, again)


class _Database(RDBStorage):
    def record_heartbeat(self, trial_id: int) -> None:
        """One that fails is one missed; by default it would be the last of its trial."""
        with contextlib.suppress(optuna.exceptions.StorageInternalError):
            super().record_heartbeat(trial_id)


class Storage:
    """An opened storage. `shown` is its address without the password; no other form of it may be printed."""

    def __init__(self, address: str, heartbeat: int = 15):
        """Raises InvalidSpec where it cannot be reached or is none. heartbeat: seconds."""
        self.url = _url(address)
        self.shown = _shown(self.url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.heartbeat = heartbeat
        if self.sqlite:
            self.file = Path(self.url.database)
            if os.path.lexists(self.file) and not stat.S_ISREG(os.lstat(self.file).st_mode):
                rule = f"the storage must be a file, but {self.file} is a link or no file"
                raise InvalidSpec(f"{rule}. Name the file itself: --storage sqlite:///PLACE.")
            _explained(self.shown, lambda: self.file.parent.mkdir(parents=True, exist_ok=True))
        else:
            _explained(self.shown, self._gates)
        with self.gate():  # two processes must not make the tables at once
            self.optuna = _explained(self.shown, self._open)

    def _gates(self) -> None:
        self.gates = sqlalchemy.create_engine(self.url, poolclass=NullPool, connect_args={"connect_timeout": 10})

    def _open(self) -> RDBStorage:
        options = {"connect_args": {"timeout": BUSY}} if self.sqlite else {"connect_args": {"connect_timeout": 10}}
        storage = _Database(
            self.url.render_as_string(hide_password=False),
            engine_kwargs={**options, "pool_pre_ping": not self.sqlite},
            heartbeat_interval=self.heartbeat,
            grace_period=SILENT * self.heartbeat,
            heartbeat_stale_trial_callback=Retry(max_retry=RETRIES),
        )
        if self.sqlite:
            _serialize(storage.engine)
        return storage

    @staticmethod
    def is_there(address: str) -> bool:
        """Whether opening it makes no file."""
        url = _url(address)
        return url.get_backend_name() != "sqlite" or Path(url.database).exists()

    @staticmethod
    def shown_of(address: str) -> str:
        return _shown(_url(address))

    @contextmanager
    def gate(self) -> Iterator[None]:
        """Held by one process at a time; others wait."""
        if self.sqlite:
            with _explained(self.shown, lambda: open_lock(Path(f"{self.file}.gate"))) as file:
                self._pass_one_at_a_time(file)
                yield
            return
        key = int.from_bytes(hashlib.sha256(b"ablation search").digest()[:8], signed=True)
        connection = _explained(self.shown, self.gates.connect)
        with connection, connection.begin():  # the lock ends with the transaction
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield

    def _pass_one_at_a_time(self, file: IO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise InvalidSpec(
                f"--storage must lie where files can be locked, but {self.file} cannot: {error.strerror}. Name a file "
                "on this machine's own disk, or PostgreSQL."
            ) from error


def _serialize(engine: sqlalchemy.Engine) -> None:
    """Transactions of SQLite one after the other, also where they begin by reading.

    By default SQLite takes its write lock at the first write, so that two workers may both have read that a trial is
    waiting, and both take it.
    """
    engine.dispose()

    @event.listens_for(engine, "connect")
    def _connected(connection, record):
        connection.isolation_level = None  # the driver begins nothing of its own
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _begun(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


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
    if backend == "postgresql" and "@" in f"{url.host}{url.database}":  # a part of the password would be shown
        raise InvalidSpec("--storage must have one @, before its host. Write an @ or / in a password as %40 or %2F.")
    return url if backend == "sqlite" else url.set(drivername="postgresql+psycopg")


def _shown(url: sqlalchemy.URL) -> str:
    """Without password and without options, which may hold one."""
    return url.set(query={}, drivername=url.get_backend_name()).render_as_string(hide_password=True)


def _explained(shown: str, call):
    """What goes wrong with a storage, in a sentence that holds no password."""
    try:
        return call()
    except ImportError as error:
        raise InvalidSpec(
            "--storage names PostgreSQL, but its driver is not installed. Run in the suite's folder: "
            "pip install -e '.[postgres]'"
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, OSError, RuntimeError) as error:
        raise InvalidSpec(
            f"--storage must be reachable, but {shown} is not: {reason(error)} Check that it runs."
        ) from None


def reason(error: BaseException) -> str:
    """The first line of what a storage's driver says, which names no password."""
    origin = getattr(error, "orig", None) or error.__cause__ or error
    origin = getattr(origin, "orig", None) or origin
    return str(origin).strip().splitlines()[0].rstrip(".") + "."
