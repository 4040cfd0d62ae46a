"""The worker processes of a search. Each takes the next trial from the storage until the budget is used up.

The same command on another machine starts more of them; the storage is all that they share.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ablation.engines import Setup, environment_of_a_worker, obituary, settle_in, setup_of_a_worker
from ablation.loading import Source
from ablation.results import Results
from ablation.search.attempt import STORAGE_FAULTS, next_trial
from ablation.search.load import load_searches
from ablation.search.spec import Search
from ablation.search.storage import Storage, reason
from ablation.search.study import open_study
from ablation.specs import InvalidSpec

DEATHS = 10  # of workers, after which a search stops: something kills them


@dataclass(frozen=True)
class Task:
    """All that a worker process is given. address: of the storage; studies: names by case; worker i is
    on devices[i % len(devices)]."""

    source: Source
    address: str
    heartbeat: int
    studies: Mapping[str, str]
    sampler: str
    trials: int | None
    results: Path
    setup: Setup
    devices: Sequence[str]

    def searches(self) -> dict[str, Search]:
        found = load_searches(self.source)
        return {case: s.replace(trials=self.trials) if self.trials else s for case, s in found.items()}


def in_workers(task: Task, workers: int, report: Callable[[int, str, Any], None]) -> None:
    """Returns when every trial of every study has ended. Raises InvalidSpec with what stopped a worker.

    A worker that dies is replaced; its trial is taken up by another when it has been silent for a while.
    """
    context = multiprocessing.get_context("spawn")
    crew: dict[Connection, tuple[int, multiprocessing.process.BaseProcess]] = {}
    deaths = 0

    def start(number: int) -> None:
        ours, theirs = context.Pipe()
        device = task.devices[number % len(task.devices)]
        own = replace(task, setup=setup_of_a_worker(task.setup, number, workers, task.devices))
        process = context.Process(target=_work, args=(theirs, own), daemon=True)
        with environment_of_a_worker(device):
            process.start()
        theirs.close()
        crew[ours] = (number, process)

    try:
        for number in range(workers):
            start(number)
        while crew:
            for connection in wait(list(crew)):
                number, process = crew[connection]
                try:
                    kind, content = connection.recv()
                except (EOFError, OSError):
                    del crew[connection]
                    process.join()
                    deaths += 1
                    report(number, "died", f"{obituary(process.exitcode).strip()}")
                    if deaths >= DEATHS:
                        raise InvalidSpec(
                            f"the search must keep its workers, but {deaths} died, the last: "
                            f"{obituary(process.exitcode).strip()}. Look for what ends them (often a lack of memory: "
                            "try fewer --workers); the same command continues."
                        ) from None
                    start(number)
                    continue
                if kind == "done":
                    del crew[connection]
                    process.join()
                elif kind == "refused":
                    raise InvalidSpec(content)
                else:
                    report(number, kind, content)
    finally:
        _stop(crew)


def _stop(crew: dict) -> None:
    """Lets workers put their trials back, and kills those that do not answer."""
    for connection, (_, process) in crew.items():
        process.terminate()
        connection.close()
    for _, process in crew.values():
        process.join(timeout=20)
        if process.is_alive():
            process.kill()
            process.join()


def _work(connection: Connection, task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to handle

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    threading.excepthook = lambda _: None  # a heartbeat that fails is seen by those who miss it

    def report(kind: str, content: Any) -> None:
        connection.send((kind, content))
        if stopping.is_set():  # here and nowhere else, where no transaction is under way
            raise KeyboardInterrupt

    try:
        settle_in(task.setup.device)
        message = ("done", None)
        try:
            storage, results = Storage(task.address, task.heartbeat), Results(task.results)
            with results.shared("searches"):
                for case, search in task.searches().items():
                    study = open_study(storage, task.studies[case], task.sampler, search)
                    while next_trial(search, study, storage, results, task.setup, report):
                        pass
        except InvalidSpec as error:
            message = ("refused", str(error))
        except STORAGE_FAULTS as error:
            shown = Storage.shown_of(task.address)
            message = ("refused", f"the storage {shown} stopped answering: {reason(error)} The same command continues.")
        except (BrokenPipeError, ConnectionError, KeyboardInterrupt):
            raise
        except Exception:
            message = ("refused", traceback.format_exc())
        connection.send(message)
    except (BrokenPipeError, ConnectionError, KeyboardInterrupt):
        pass  # the owner is gone, or stops the search
