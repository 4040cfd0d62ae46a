"""Errors that the user can cure. Each message is a sentence with object, field, value and cure.

Every other exception that leaves the suite is a bug, of the suite or of a user's class.
"""

from __future__ import annotations

from typing import ClassVar


class AblationError(Exception):
    """Base of the five kinds. `kind` is written into the record of a failed part (`system.failures.Failure`)."""

    kind: ClassVar[str]


class InvalidSpec(AblationError, ValueError):
    """A field or an option breaks its rule, or a class its contract."""

    kind = "spec"


class DataError(AblationError, ValueError):
    """A data set or a table is missing or unreadable, or contradicts its description."""

    kind = "data"


class StorageError(AblationError):
    """A folder or a database cannot be used: full, not writable, locked by another process, not reachable."""

    kind = "storage"


class WorkerError(AblationError):
    """A computing process or a cluster does not answer, or has died."""

    kind = "worker"


class UserCodeError(AblationError):
    """A user's file raised an exception while it stated cells or a trial's settings."""

    kind = "user code"
