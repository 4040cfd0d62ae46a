"""Checkpoints: files from which an interrupted training resumes.

    FOLDER/<training id>.checkpoint    a line with its format, a line with the training's progress, the SHA-256 of the
                                       rest, and tensors and numbers as `torch.save` writes them and
                                       `torch.load(weights_only=True)` reads them

A file is written under another name, flushed and renamed, so it is complete or absent. Two processes that train the
same run, such as one that was presumed dead and its replacement, write the same states, so either file will do.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.spec import StorageError
from ablation.system.files import open_file, read_file, remove, write_file
from ablation.system.terminal import printable

if TYPE_CHECKING:  # `ablation status` should not import torch
    import torch

HEAD = b"ablation checkpoint 3\n"
LONGEST = 200  # bytes of the progress line


def path_of(folder: Path, training_id: str, evaluation_id: str | None = None) -> Path:
    """evaluation_id: of an evaluation that trains."""
    return folder / f"{'-'.join(filter(None, (training_id, evaluation_id)))}.checkpoint"


def folder_of(checkpoints: str | None, results: str) -> Path:
    """The folder of checkpoints: by default in that of the results."""
    if checkpoints:
        return Path(checkpoints).resolve()
    beside = Path(results) / "checkpoints"
    if beside.is_symlink():
        raise StorageError(f"{beside} must be a folder, but is a link. Name its target: --checkpoints FOLDER.")
    return beside.resolve()


def how_far(folder: Path, training_id: str) -> str | None:
    """The progress of a training's checkpoint in `folder`, such as "epoch 15 of 40", or None."""
    try:
        with open(open_file(path_of(folder, training_id)), "rb") as file:
            head, progress = file.readline(len(HEAD)), file.readline(LONGEST)
    except OSError:
        return None
    return printable(progress.decode(errors="replace").strip()) if head == HEAD else None


class Checkpoint:
    """every: seconds between checkpoints, and before the first. keep: write one at the end too. evaluation_id: of an
    evaluation that trains."""

    def __init__(
        self, folder: Path, training_id: str, every: float, *, keep: bool = False, evaluation_id: str | None = None
    ):
        self.path = path_of(folder, training_id, evaluation_id)
        self.training_id, self.every, self.keep = training_id, every, keep
        self.last = time.monotonic()

    def of(self, evaluation_id: str) -> Checkpoint:
        """The one of an evaluation of this training."""
        return Checkpoint(self.path.parent, self.training_id, self.every, evaluation_id=evaluation_id)

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """The last written state, on `device`; None if missing or damaged (warns)."""
        try:
            content = read_file(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._refused(str(error))
        import torch

        if not content.startswith(HEAD):
            return self._refused("it has another format")
        _, _, rest = content.removeprefix(HEAD).partition(b"\n")
        digest, payload = rest[:32], rest[32:]
        if hashlib.sha256(payload).digest() != digest:
            return self._refused("it is truncated or damaged")
        try:
            state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
        except Exception as error:  # the reader may raise anything
            return self._refused(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        if state.get("training_id") != self.training_id:
            return self._refused("it belongs to another training")
        return state

    def _refused(self, reason: str) -> None:
        print(f"ablation: cannot resume from {self.path} ({reason}); training from the start.", file=sys.stderr)

    def due(self) -> bool:
        return time.monotonic() - self.last >= self.every

    def write(self, progress: str, **state: Any) -> None:
        """Replaces the previous checkpoint; on failure warns and continues. progress: the line for `how_far`."""
        import torch

        payload = io.BytesIO()
        torch.save({"training_id": self.training_id, **state}, payload)
        content = payload.getvalue()
        try:
            write_file(self.path, HEAD + f"{progress}\n".encode() + hashlib.sha256(content).digest() + content)
        except OSError as error:
            print(f"ablation: cannot write {self.path} ({error}); the training continues.", file=sys.stderr)
        self.last = time.monotonic()


def forget(folder: Path, training_id: str, evaluation_id: str | None = None) -> None:
    """Removes a checkpoint after its result is written. Failure does no harm."""
    with contextlib.suppress(OSError):
        remove(path_of(folder, training_id, evaluation_id))
