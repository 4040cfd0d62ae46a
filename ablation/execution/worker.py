"""The computation of jobs in a process, shared by all executors."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Iterator

from ablation.execution.executor import Job, JobOptions, Part, Work
from ablation.execution.store import Stored, unchanged_content
from ablation.spec import DataError, identity
from ablation.study.experiment_file import Source
from ablation.system.failures import failure_of


def compute_job(
    job: Job,
    options: JobOptions,
    progress: Callable[[float], None],
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> Iterator[Part]:
    """The parts of a job; a failed evaluation is a part with its failure. Raises the training's errors."""
    from ablation.execution.job import compute
    from ablation.training.checkpoint import Checkpoint

    weights = read_weights(job.weights)
    checkpoint = None
    if options.checkpoints:
        checkpoint = Checkpoint(options.checkpoints, job.training_id, options.every, keep=options.keep)
    computed = compute(
        job.work.training,
        job.evaluations,
        weights,
        options.device,
        compiled=options.compiled,
        progress=progress,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )
    for evaluation_id, files in zip(job.parts, computed, strict=True):
        if isinstance(files, Exception):
            yield Part(evaluation_id, failure=failure_of(files))
        else:
            yield Part(evaluation_id, files)


def read_weights(weights: dict[str, Stored | bytes] | None) -> dict[str, bytes] | None:
    """The content of the weights. Raises DataError if a file was changed."""
    if weights is None:
        return None
    contents = {}
    for name, stored in weights.items():
        contents[name], wrong = (stored, None) if isinstance(stored, bytes) else unchanged_content(*stored)
        if wrong:
            raise DataError(f"{wrong}. Repeat the command, which trains it again.")
    return contents


def works_of(source: Source) -> dict[str, Work]:
    """The work of a file by training id; cells with the same training share it, with all their evaluations."""
    works: dict[str, Work] = {}
    for cell in source.cells():
        training_id = identity(cell.run.training)
        works[training_id] = works.get(training_id, Work(cell.run.training, ())).and_of(cell.run)
    return works


_works = functools.lru_cache(maxsize=1)(works_of)  # a worker process serves one experiment


def work_for(source: Source, order: Job) -> Work:
    """The specs of a job, built from the owner's bytes. Raises RuntimeError if their id differs."""
    work = _works(source).get(order.training_id) if not order.origins else None
    for origin in order.origins:
        run = origin.run(source)
        work = (work or Work(run.training, ())).and_of(run)
    if work is None or identity(work.training) != order.training_id:
        raise RuntimeError(
            f"the worker does not find the training {order.training_id} in {source.path}: the file gives other runs "
            "to the worker than to the owner. It must not depend on time, environment or random numbers; the images, "
            "the imported files and the versions of the suite must be the same."
        )
    return work


def configure_worker(device: str) -> None:
    """Prepares a process for its first job: one thread, and on a CPU reuse of freed memory.

    Beside a GPU, too, the host's operations are small: threads only wait for each other there, and those of several
    workers compete for the cores (`benchmarks/gpu.py` measures both).
    """
    import torch

    from ablation.system.provenance import commit

    commit()
    torch.set_num_threads(1)
    if device == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Lets glibc's malloc reuse the memory of freed tensors instead of returning it to the system.

    Every step allocates the same tensors. By default tensors of a megabyte and more get fresh pages from the system,
    whose page faults cost more time than many operators (`python -m benchmarks step`). Does nothing without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        largest_from_the_heap = 32 * 2**20  # the most that glibc accepts
        mallopt(-3, largest_from_the_heap)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
        mallopt(-2, 64 * 2**20)  # M_TOP_PAD


def throttle(send: Callable[[float], None]) -> Callable[[float], None]:
    """Forwards a finished fraction at most twice a second."""
    last = 0.0

    def sparse(fraction: float) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last > 0.5:
            last = now
            send(fraction)

    return sparse
