"""Files that are computed once and may be deleted at any time: decoded images, and what was found out about a source.

They lie in the folder ABLATION_CACHE (the command line's is `cache` in the folder of the results), else in the user's
cache folder. KEY.u8 holds images, (N, 3, S, S) uint8 and nothing else; KEY.json, written last, says what they are.
Every JSON file carries a digest of itself, so nothing damaged or foreign is believed, and nothing is unpickled.

The images' digest is computed when the file is written and again whenever the file is not the one that was last
checked, by size, inode and times of change; every writing through the file system changes those, so a file is read
in full once, not by every process.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import json
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from ablation.datasets.base import Data, DataError, Split, count_values
from ablation.files import create_file, open_file, open_lock, read_file, write_file
from ablation.specs import canonical_json

LAYOUT = 3  # of these files; raised when an older version could not read them, or knew less of the images
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # which Python names since 3.13
_regions: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()  # what is mapped, by its address
SAID = 64 * 2**20  # bytes of images from which on a person is told of decoding, which then takes some time


def folder() -> Path:
    named = os.environ.get("ABLATION_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ablation"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time; the others wait. The system releases the lock of a process that dies."""
    path = folder() / f"{name}.lock"
    with explained(f"the lock {path.name}"):
        lock = open_lock(path)
    with lock:
        with contextlib.suppress(OSError):  # of a file system without locks, as the results' folder has told
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def explained(what: str) -> Iterator[None]:
    """A failure to write here, in one sentence: no room, no permission."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"ABLATION_CACHE must be a folder with room for {what}, but writing into {str(folder())!r} failed: "
            f"{error.strerror or error}. Make room, or name another folder: ABLATION_CACHE=PLACE."
        ) from error


# --------------------------------------------------------------------------------------------------
# Documents


def recall(name: str) -> tuple[dict[str, Any] | None, str]:
    """What was remembered under a name, or None and what is wrong with what lies there."""
    path = folder() / f"{name}.json"
    try:
        document = json.loads(read_file(path))
        content, digest = document["content"], document["digest"]
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return None, f"{path} cannot be read ({error})"
    if digest != _digest(name, content):
        return None, f"{path} is damaged, or of another version"
    return content, ""


def remember(name: str, content: Mapping[str, Any]) -> None:
    text = json.dumps({"content": content, "digest": _digest(name, content)}, separators=(",", ":"))
    with explained(f"{name}.json"):
        write_file(folder() / f"{name}.json", text.encode())


def _digest(name: str, content: Any) -> str:
    return hashlib.sha256(canonical_json([LAYOUT, name, content]).encode()).hexdigest()


# --------------------------------------------------------------------------------------------------
# Images


@dataclass(frozen=True)
class Stored:
    """images: (N, 3, S, S) uint8, mapped; facts: what was said when they were written;
    counts: those of `count_values`, of the first images, as many as was asked for."""

    images: Tensor
    facts: dict[str, Any]
    counts: Tensor


def open_images(key: str, *, tell: bool = False) -> Stored | None:
    """The images of that key, or None where there are none or they are not what was written.

    tell: say what is wrong with them, which are going to be written anew.
    """
    found, wrong = _opened(key)
    if wrong and tell:
        print(f"ablation: {wrong}; the images are decoded again.", file=sys.stderr, flush=True)
    return found


def _opened(key: str) -> tuple[Stored | None, str]:
    content, wrong = recall(key)
    path = folder() / f"{key}.u8"
    if content is None:
        return None, wrong
    try:
        with open(open_file(path), "rb") as file:
            state = _state(file)
            if state[0] != content["bytes"]:
                return None, f"{path} has {state[0]} bytes, not {content['bytes']}: it was cut or is of something else"
            if state != content["checked"]:
                if hashlib.file_digest(file, "sha256").hexdigest() != content["sha256"]:
                    return None, f"{path} is not what was written: its checksum differs"
                with contextlib.suppress(DataError):  # where nothing can be written it is checked again next time
                    remember(key, {**content, "checked": state})
            images = _mapped(file, content["shape"])
    except OSError as error:
        return None, f"{path} cannot be read ({error.strerror})"
    return Stored(images, content["facts"], torch.tensor(content["counts"])), ""


def write_images(key: str, writer: Writer, facts: Mapping[str, Any], counted: int) -> Stored:
    """Gives the writer's file its name, and what it is; counted: how many images, from the first, are counted."""
    with explained(writer.path.name):
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
    except DataError:
        writer.path.unlink()  # without its facts it is of no use, and the disk may be full
        raise
    return Stored(images, dict(facts), counts)


class Writer:
    """A file of `count` images that has no name yet; without one by the end of the context it is removed.

    Under the lock of its key there is one writer, and what a killed one left is overwritten.
    """

    def __init__(self, key: str, count: int, what: str):
        self.path = folder() / f"{key}.u8"
        self.partial = self.path.with_name(f"{key}.u8.partial")
        self.count, self.what, self.shape = count, what, []

    def __enter__(self) -> Writer:
        with explained(self.path.name):
            self.file = create_file(self.partial)
        return self

    def put(self, slot: int, image: np.ndarray) -> None:
        """image: (3, S, S) uint8, of one size for all."""
        if not self.shape:
            self.shape = [self.count, *image.shape]
            total = self.count * image.nbytes
            self.what = f"the {self.count:,} images of {self.what} ({total / 1e9:.2g} GB)"
            if total >= SAID:
                print(f"ablation: decoding {self.what}, once, into {self.path}", file=sys.stderr, flush=True)
            with explained(self.what):
                os.posix_fallocate(self.file.fileno(), 0, total)  # a full disk is noticed now, not in an hour
        with explained(self.what):
            os.pwrite(self.file.fileno(), np.ascontiguousarray(image), slot * image.nbytes)

    def __exit__(self, *_) -> None:
        self.file.close()
        self.partial.unlink(missing_ok=True)


def _state(file) -> list[int]:
    """What changes with every writing to a file."""
    stat = os.fstat(file.fileno())
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def _to_disk(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _mapped(file, shape: list[int]) -> Tensor:
    """The file as a tensor. Its pages are the system's, which takes them back where memory is short, and are shared by
    all processes; nothing is read before it is used. A page that is written to becomes the process's own, where a
    mapping that may only be read would end it; the file stays as it is."""
    # Without NORESERVE the system refuses a writable mapping that is larger than its memory.
    region = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE)
    images = torch.frombuffer(region, dtype=torch.uint8).view(shape)
    _regions[images.data_ptr()] = region
    return images


@contextmanager
def lent(data: Data) -> Iterator[Data]:
    """The data for code that may write into them: copies, and of mapped images themselves, which are afterwards again
    what the file holds."""
    own, regions = copy.copy(data), []
    for name, split in data.splits().items():
        region = _regions.get(split.images.untyped_storage().data_ptr())
        regions += [] if region is None else [region]
        images = split.images.clone() if region is None else split.images
        object.__setattr__(own, name, Split(images, split.labels.clone()))
    for name in ("mean", "std"):
        object.__setattr__(own, name, getattr(data, name).clone())
    try:
        yield own
    finally:
        for region in regions:
            region.madvise(mmap.MADV_DONTNEED)
