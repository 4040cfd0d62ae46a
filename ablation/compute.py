"""One run, computed: from specs to the content of its files. Writes nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights

from ablation.checkpoints import Checkpoint
from ablation.datasets import Data, loaded
from ablation.evaluate import Evaluated, evaluate_each
from ablation.machine import Meter, provenance
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
    checkpoint: Checkpoint | None = None,
    share: float = 1.0,
) -> Iterator[Files | Exception]:
    """The files of a training (unless its `weights` are given, the content of WEIGHTS), then those of each of its
    `evaluations`, or what it raised. Raises what the training raises.

    compiled: the training's steps go through `torch.compile`. checkpoint: where it is continued from and kept.
    share: of the device's energy, see `Meter`.
    """
    data = loaded(training.dataset, device)
    if weights is None:
        files: Files = {}
        meter = Meter(device, share)
        trained = pretrain(
            training, data, progress, compiled=compiled, on_epoch=on_epoch, checkpoint=checkpoint, meter=meter
        )
        learner = trained.learner
        for name, part in zip(WEIGHTS, (learner.encoder, learner.head), strict=True):
            files[name] = save_weights({key: value.cpu().contiguous() for key, value in part.state_dict().items()})
        files["history.csv"] = pd.DataFrame(trained.history).to_csv(index=False).encode()
        beside = ("epoch", "learning_rate", "validation_knn", "validation_linear")
        last = {k: v for k, v in (trained.history or [{}])[-1].items() if k not in beside}
        files["training.json"] = training_document(
            training,
            dict(files),
            seconds=sum(each["seconds"] for each in trained.sittings),
            peak_memory_bytes=max(each["peak_memory_bytes"] for each in trained.sittings),
            energy_joules=_sum([each["energy_joules"] for each in trained.sittings]),
            sittings=trained.sittings,
            last=last,
            diagnostics=trained.diagnostics,
            images={split: len(part) for split, part in data.splits().items()},
            classes=list(data.classes),
            normalization={"mean": data.mean.tolist(), "std": data.std.tolist()},
            compiled=trained.compiled,
            provenance=provenance(device),
        )
        yield files
    else:
        learner = build_learner(training, len(data.classes)).to(device, memory_format=torch.channels_last)
        for name, part in zip(WEIGHTS, (learner.encoder, learner.head), strict=True):
            part.load_state_dict(load_weights(weights[name]))
    training_id = identity(training)
    meter = Meter(device, min(1.0, share))  # several devices train, one evaluates
    precision = training.optimization.precision
    found = evaluate_each(evaluations, learner.encoder, data, precision, learner.head, training.seed)
    for evaluation, result in zip(evaluations, found, strict=True):
        try:
            yield result if isinstance(result, Exception) else _files(evaluation, training_id, result, data, meter)
        except Exception as error:
            yield error


def _files(evaluation, training_id: str, result: Evaluated, data: Data, meter: Meter) -> Files:
    """meter: of this process since the evaluation before."""
    predictions = io.BytesIO()
    np.savez_compressed(predictions, **result.predictions, **_labels(data))
    joules = meter.joules()
    meter.used = 0.0
    return evaluation_files(
        evaluation,
        training_id,
        predictions.getvalue(),
        metrics=result.metrics,
        notes=result.notes,
        seconds=result.seconds,
        energy_joules=joules,
        provenance=provenance(meter.device),
    )


def _sum(parts: list[float | None]) -> float | None:
    return None if None in parts else sum(parts)


def _labels(data: Data) -> dict[str, np.ndarray]:
    return {f"{split}_labels": part.labels.cpu().numpy().astype(np.int16) for split, part in data.splits().items()}
