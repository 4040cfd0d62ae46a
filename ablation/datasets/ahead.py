"""Batches of images that do not lie on the device, read by a thread while the device computes."""

from __future__ import annotations

import ctypes
import mmap
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

DEPTH = 2  # batches in advance, one that is read and one that waits; with the one in use memory is that of three


def read_ahead(images: Tensor, rows: Sequence[Tensor], device: torch.device, depth: int = DEPTH) -> Iterator[Tensor]:
    """`images[r]` on `device` for every r of `rows`, in order, each asked for `depth` batches before it is wanted.

    images: (N, 3, S, S) uint8 in the host's memory or mapped from a file; rows: indices, on any device. What goes wrong
    in the thread is raised here, at its batch. The thread ends with the iterator, also where that is closed early.
    """
    # A device's indices are waited for once, before the first batch.
    rows = torch.cat(list(rows)).cpu().split([len(each) for each in rows])
    fetch = _ToDevice(device) if device.type == "cuda" else _select
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        asked = deque()
        try:
            for each in rows:
                asked.append(thread.submit(fetch, images, each))
                if len(asked) > depth:
                    yield _arrived(asked.popleft().result())
            while asked:
                yield _arrived(asked.popleft().result())
        finally:
            for future in asked:
                future.cancel()


def _select(images: Tensor, rows: Tensor, out: Tensor | None = None) -> Tensor:
    """`images[rows]`. Which pages that needs is said first, so that the disk is asked for all of them at once: one page
    fault after the other read 400 images of 160 px a second where this reads 5,000."""
    size, page = images.stride(0) * images.element_size(), mmap.PAGESIZE
    for row in rows.tolist():
        start = images.data_ptr() + row * size
        first = start // page * page
        _madvise(first, start + size - first, mmap.MADV_WILLNEED)  # no matter if it cannot be followed
    return torch.index_select(images, 0, rows, out=out)


_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class _ToDevice:
    """The same into pinned memory, and from there to a GPU on a stream of its own."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def __call__(self, images: Tensor, rows: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        pinned = torch.empty((len(rows), *images.shape[1:]), dtype=images.dtype, pin_memory=True)
        _select(images, rows, out=pinned)
        with torch.cuda.stream(self.stream):
            # torch gives the pinned memory away again only when the copy is done.
            return pinned.to(self.device, non_blocking=True), self.stream.record_event()


def _arrived(fetched: Tensor | tuple[Tensor, torch.cuda.Event]) -> Tensor:
    """The batch, for use on the device's current stream; the host does not wait."""
    if isinstance(fetched, Tensor):
        return fetched
    batch, copied = fetched
    stream = torch.cuda.current_stream(batch.device)
    stream.wait_event(copied)
    batch.record_stream(stream)  # its memory belongs to the copying stream, which must not reuse it before
    return batch
