"""The cache: decoded images and surveys of sources. Files are computed once and may be deleted at any time.

They are in the folder ABLATION_CACHE (the command line uses `cache` in the folder of results), or else in the user's
cache folder. KEY.u8 holds images, (N, C, S, S) uint8 and nothing else; KEY.json, written last, describes them. Every
JSON file carries its own digest, which reveals a damaged or foreign file, and nothing is unpickled.

The images' digest is computed when the file is written, and again if its size, inode or times differ from the last
check; every write through the file system changes those. So a file is read in full once, not by every process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from ablation.data.dataset import Data, Split, count_values
from ablation.spec import StorageError, canonical_json
from ablation.system.files import create_file, open_file, open_lock, read_file, write_file

LAYOUT = 3  # of these files; raise it when older versions cannot read them or stored less about the images
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python has the name since 3.13
_regions: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()  # mapped files, by address
ANNOUNCED = 64 * 2**20  # bytes of images; decoding more takes a while and is announced


def folder() -> Path:
    named = os.environ.get("ABLATION_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ablation"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Admits one process at a time; others wait. The system releases the lock of a process that dies."""
    path = folder() / f"{name}.lock"
    with disk_errors(f"the lock {path.name}"):
        lock = open_lock(path)
    with lock:
        with contextlib.suppress(OSError):  # a file system without locks; the folder of results warns about it
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def disk_errors(content: str) -> Iterator[None]:
    """Turns a failure to write into the cache (no space, no permission) into one sentence."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"ABLATION_CACHE must be a folder with space for {content}, but writing into {str(folder())!r} failed: "
            f"{error.strerror or error}. Free some space, or name another folder: ABLATION_CACHE=PLACE."
        ) from error


# --------------------------------------------------------------------------------------------------
# Documents


def recall(name: str) -> tuple[dict[str, Any] | None, str]:
    """The content stored under a name; or None and the reason that the file is invalid, "" if it does not exist."""
    path = folder() / f"{name}.json"
    try:
        document = json.loads(read_file(path))
        content, digest = document["content"], document["digest"]
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return None, f"{path} cannot be read ({error})"
    if digest != _digest(name, content):
        return None, f"{path} is damaged or from another version"
    return content, ""


def remember(name: str, content: Mapping[str, Any]) -> None:
    text = json.dumps({"content": content, "digest": _digest(name, content)}, separators=(",", ":"))
    with disk_errors(f"{name}.json"):
        write_file(folder() / f"{name}.json", text.encode())


def _digest(name: str, content: Any) -> str:
    return hashlib.sha256(canonical_json([LAYOUT, name, content]).encode()).hexdigest()


# --------------------------------------------------------------------------------------------------
# Images


@dataclass(frozen=True)
class Stored:
    """images: (N, C, S, S) uint8, mapped. facts: passed by the writer. counts: `count_values` of the training images,
    which come first."""

    images: Tensor
    facts: dict[str, Any]
    counts: Tensor


def open_images(key: str, *, tell: bool = False) -> Stored | None:
    """The images of that key, or None if the file is missing or differs from the written one.

    tell: print a line about an invalid file, which the caller then writes again.
    """
    stored, fault = _opened(key)
    if fault and tell:
        print(f"ablation: {fault}; decoding the images again.", file=sys.stderr, flush=True)
    return stored


def _opened(key: str) -> tuple[Stored | None, str]:
    content, fault = recall(key)
    path = folder() / f"{key}.u8"
    if content is None:
        return None, fault
    try:
        with open(open_file(path), "rb") as file:
            state = _state(file)
            if state[0] != content["bytes"]:
                return None, f"{path} has {state[0]} bytes, not {content['bytes']}: it is truncated or another file"
            if state != content["checked"]:
                if hashlib.file_digest(file, "sha256").hexdigest() != content["sha256"]:
                    return None, f"{path} has changed since it was written: its checksum differs"
                with contextlib.suppress(StorageError):  # if the cache is read-only, the next opening checks again
                    remember(key, {**content, "checked": state})
            images = _mapped(file, content["shape"])
    except OSError as error:
        return None, f"{path} cannot be read ({error.strerror})"
    return Stored(images, content["facts"], torch.tensor(content["counts"])), ""


def write_images(key: str, writer: Writer, facts: Mapping[str, Any], counted: int) -> Stored:
    """Gives the writer's file its final name, and stores its facts. counted: how many images, from the first, enter
    `counts`."""
    with disk_errors(writer.path.name):
        _to_disk(writer.file)
        images = _mapped(writer.file, writer.shape)
        writer.file.seek(0)
        sha256 = hashlib.file_digest(writer.file, "sha256").hexdigest()
        counts = count_values(images[:counted])
        os.replace(writer.partial, writer.path)
        state = _state(writer.file)
    content = {"shape": writer.shape, "bytes": images.nbytes, "sha256": sha256, "facts": dict(facts)}
    try:
        remember(key, {**content, "counts": counts.tolist(), "checked": state})
    except StorageError:
        writer.path.unlink()  # useless without its facts, and the disk may be full
        raise
    return Stored(images, dict(facts), counts)


class Writer:
    """A partial file of `count` images; the end of the context removes it unless `write_images` renamed it.

    The lock of the key allows one writer, which overwrites the file of a killed one.
    """

    def __init__(self, key: str, count: int, label: str):
        self.path = folder() / f"{key}.u8"
        self.partial = self.path.with_name(f"{key}.u8.partial")
        self.count, self.label, self.shape = count, label, []

    def __enter__(self) -> Writer:
        with disk_errors(self.path.name):
            self.file = create_file(self.partial)
        return self

    def put(self, slot: int, image: np.ndarray) -> None:
        """image: (C, S, S) uint8, the same shape for all."""
        if not self.shape:
            self.shape = [self.count, *image.shape]
            total = self.count * image.nbytes
            self.label = f"the {self.count:,} images of {self.label} ({total / 1e9:.2g} GB)"
            if total >= ANNOUNCED:
                print(f"ablation: decoding {self.label}, once, into {self.path}", file=sys.stderr, flush=True)
            with disk_errors(self.label):
                os.posix_fallocate(self.file.fileno(), 0, total)  # fails now on a full disk, not in an hour
        with disk_errors(self.label):
            os.pwrite(self.file.fileno(), np.ascontiguousarray(image), slot * image.nbytes)

    def __exit__(self, *_) -> None:
        self.file.close()
        self.partial.unlink(missing_ok=True)


def _state(file) -> list[int]:
    """Size, inode and times of the file; every write changes them."""
    stat = os.fstat(file.fileno())
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def _to_disk(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _mapped(file, shape: list[int]) -> Tensor:
    """The file as a tensor. All processes share its pages; the system reads them on use and drops them when memory is
    short. A process that writes to a page gets its own copy, and the file stays unchanged; writing to a read-only
    mapping would kill the process."""
    # Without NORESERVE the system refuses writable mappings larger than its memory.
    region = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE)
    images = torch.frombuffer(region, dtype=torch.uint8).view(shape)
    _regions[images.data_ptr()] = region
    return images


@contextmanager
def lent(data: Data) -> Iterator[Data]:
    """The data for code that may write into them: copies of everything except mapped images, which the end of the
    context resets to the file's content."""
    splits, regions = {}, []
    for name, split in data.splits().items():
        region = _regions.get(split.images.untyped_storage().data_ptr())
        regions += [] if region is None else [region]
        images = split.images.clone() if region is None else split.images
        splits[name] = Split(images, None if split.labels is None else split.labels.clone())
    try:
        yield replace(data, **splits, counts=data.counts.clone())
    finally:
        for region in regions:
            region.madvise(mmap.MADV_DONTNEED)
