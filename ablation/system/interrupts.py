"""Ctrl-C between two steps of a program, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block, also if it raises; a second one does not. Also a decorator."""
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield
        return
    waiting: list[int] = []

    def wait(number: int, _frame: object) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append(number)

    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:  # as in a background job of a script
                before[number] = signal.signal(number, wait)
        yield
    finally:
        for number, handler in before.items():  # SIGINT last, whose usual handler raises
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])
