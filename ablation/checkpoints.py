"""A training under way, in a file from which it can be continued.

    FOLDER/<training id>.checkpoint    a line with its format, a line that says how far the training is, the SHA-256
                                       of the rest, and tensors and numbers as `torch.save` writes them and
                                       `torch.load(weights_only=True)` reads them

Written under another name, flushed and renamed, so it is whole or not there. Two processes that train the same run, as
one that was given up and goes on, write the same states, so either's file may be continued.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.documents import printable
from ablation.files import open_file, read_file, remove, write_file
from ablation.specs import InvalidSpec

if TYPE_CHECKING:  # `ablation status` waits for no torch
    import torch

HEAD = b"ablation checkpoint 2\n"
LONGEST = 200  # bytes of the line that says how far


def path_of(folder: Path, training_id: str) -> Path:
    return folder / f"{training_id}.checkpoint"


def folder_of(options: Any) -> Path:
    """Of the command line: beside the results, unless another is named."""
    if options.checkpoints:
        return Path(options.checkpoints).resolve()
    beside = Path(options.results) / "checkpoints"
    if beside.is_symlink():
        raise InvalidSpec(f"{beside} must be a folder, but is a link. Name the place itself: --checkpoints FOLDER.")
    return beside.resolve()


def how_far(folder: Path, training_id: str) -> str | None:
    """ "epoch 15 of 40", of a training that was begun and is kept in `folder`; None where none is."""
    try:
        with open(open_file(path_of(folder, training_id)), "rb") as file:
            head, said = file.readline(len(HEAD)), file.readline(LONGEST)
    except OSError:
        return None
    return printable(said.decode(errors="replace").strip()) if head == HEAD else None


class Checkpoint:
    """every: seconds from one to the next, and from the start to the first. keep: one is written at the end too."""

    def __init__(self, folder: Path, training_id: str, every: float, *, keep: bool = False):
        self.path = path_of(folder, training_id)
        self.training_id, self.every, self.keep = training_id, every, keep
        self.last = time.monotonic()

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """The state that was written last, on `device`; None where there is none, or it is damaged, which is said."""
        try:
            content = read_file(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._refused(str(error))
        import torch

        if not content.startswith(HEAD):
            return self._refused("it is of another format")
        _, _, rest = content.removeprefix(HEAD).partition(b"\n")
        digest, payload = rest[:32], rest[32:]
        if hashlib.sha256(payload).digest() != digest:
            return self._refused("it is truncated or damaged")
        try:
            state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
        except Exception as error:  # whatever the reader finds wrong
            return self._refused(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        if state.get("training_id") != self.training_id:
            return self._refused("it is of another training")
        return state

    def _refused(self, reason: str) -> None:
        print(f"ablation: {self.path} is not continued ({reason}); the training starts anew.", file=sys.stderr)

    def due(self) -> bool:
        return time.monotonic() - self.last >= self.every

    def write(self, said: str, **state: Any) -> None:
        """Replaces the one before. Where it cannot be written the training goes on, and that is told. said: how far."""
        import torch

        payload = io.BytesIO()
        torch.save({"training_id": self.training_id, **state}, payload)
        content = payload.getvalue()
        try:
            write_file(self.path, HEAD + f"{said}\n".encode() + hashlib.sha256(content).digest() + content)
        except OSError as error:
            print(f"ablation: {self.path} was not written ({error}); the training goes on.", file=sys.stderr)
        self.last = time.monotonic()


def forget(folder: Path, training_id: str) -> None:
    """When the result is written. One that cannot be removed is of no harm."""
    with contextlib.suppress(OSError):
        remove(path_of(folder, training_id))
