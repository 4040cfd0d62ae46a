"""One run, computed: from specs to the content of its files. Writes nothing."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import platform
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights

import ablation
from ablation.datasets import Data, loaded
from ablation.evaluate import evaluate
from ablation.pretrain import OnEpoch, Progress, build_learner, pretrain
from ablation.results import WEIGHTS, Files, evaluation_files, training_document
from ablation.specs import Training, identity


def compute(
    training: Training,
    evaluations: Sequence,
    weights: Mapping[str, bytes] | None,
    device: str,
    compiled: bool = False,
    progress: Progress = lambda fraction: None,
    on_epoch: OnEpoch = lambda row: None,
) -> Files:
    """The files of a training (unless its `weights` are given, the content of WEIGHTS) and of its `evaluations`.

    compiled: the training's steps go through `torch.compile`.
    """
    data = loaded(training.dataset, device)
    reset_peak_memory(device)
    files: Files = {}
    if weights is None:
        trained = pretrain(training, data, progress, compiled=compiled, on_epoch=on_epoch)
        learner = trained.learner
        for name, part in zip(WEIGHTS, (learner.encoder, learner.head), strict=True):
            files[name] = save_weights({key: value.cpu().contiguous() for key, value in part.state_dict().items()})
        files["history.csv"] = pd.DataFrame(trained.history).to_csv(index=False).encode()
        beside = ("epoch", "learning_rate", "validation_knn")
        last = {k: v for k, v in (trained.history or [{}])[-1].items() if k not in beside}
        files["training.json"] = training_document(
            training,
            dict(files),
            seconds=trained.seconds,
            peak_memory_bytes=peak_memory(device),
            last=last,
            diagnostics=trained.diagnostics,
            images={split: len(part) for split, part in data.splits().items()},
            classes=list(data.classes),
            compiled=compiled,
            provenance=provenance(device),
        )
    else:
        learner = build_learner(training, len(data.classes)).to(device, memory_format=torch.channels_last)
        for name, part in zip(WEIGHTS, (learner.encoder, learner.head), strict=True):
            part.load_state_dict(load_weights(weights[name]))
    training_id = identity(training)
    found = evaluate(evaluations, learner.encoder, data, training.optimization.precision, learner.head)
    for evaluation, result in zip(evaluations, found, strict=True):
        predictions = io.BytesIO()
        np.savez_compressed(predictions, **result.predictions, **_labels(data))
        files |= evaluation_files(
            evaluation,
            training_id,
            predictions.getvalue(),
            metrics=result.metrics,
            notes=result.notes,
            seconds=result.seconds,
            provenance=provenance(device),
        )
    return files


def _labels(data: Data) -> dict[str, np.ndarray]:
    return {f"{split}_labels": part.labels.cpu().numpy().astype(np.int16) for split, part in data.splits().items()}


def reset_peak_memory(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # Linux: start the process's high-water mark anew
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str) -> int:
    """Bytes allocated on the GPU, or resident in this process, at the most since `reset_peak_memory`."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def provenance(device: str) -> dict[str, str | int]:
    """Where and with what a number was computed."""
    import kornia

    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "kornia": kornia.__version__,
        "ablation": ablation.__version__,
        "commit": _commit(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


@functools.cache
def _commit() -> str:
    """The suite's commit, with + where its files differ from it; "" outside a repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
