"""The computation of one run, from specs to the content of its files. Writes no files."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights

from ablation.data import Data, loaded
from ablation.evaluate.alignment import alignment_and_uniformity
from ablation.evaluate.base import Subject
from ablation.evaluate.curve import best_on_test, curve_points
from ablation.evaluate.evaluator import Evaluated, evaluate_each, images_of
from ablation.evaluate.trace import trace_of_evaluation
from ablation.execution.store import WEIGHTS, Files, evaluation_files, training_document
from ablation.models.encoder import view_size
from ablation.spec import Training, check_fit, identity, stated
from ablation.system import distributed
from ablation.system.meter import Meter
from ablation.system.provenance import provenance
from ablation.training.checkpoint import Checkpoint
from ablation.training.loop import OnEpoch, OnStep, Start, Trained, build_learner, pretrain


def compute(
    training: Training,
    evaluations: Sequence,
    weights: Mapping[str, bytes] | None,
    device: str,
    compiled: bool = False,
    progress: OnStep = lambda fraction: None,
    on_epoch: OnEpoch = lambda row: None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Files | Exception]:
    """The files of a training, unless its `weights` (the content of WEIGHTS) are given, then the files of each of its
    `evaluations`, or its exception. Raises the training's errors.

    compiled: the training's steps use `torch.compile`. checkpoint: the resume point; resuming is bit-exact on a CPU.
    """
    with distributed.in_step() if weights is None else nullcontext():
        data = loaded(training.dataset, device)
    own = lambda dataset: (data.channels, data.labelled) if dataset == training.dataset else stated(dataset)  # noqa: E731
    check_fit(training, tuple(evaluations), own)
    if weights is None:
        optimization = training.optimization
        curve = partial(curve_points, data=data, precision=optimization.precision, on_test=optimization.curve_on_test)
        trained = pretrain(
            training, data, progress, compiled=compiled, on_epoch=on_epoch, curve=curve, checkpoint=checkpoint,
            meter=Meter(device),
        )  # fmt: skip
        learner = trained.learner
        yield _files_of_training(training, trained, data, device)
    else:
        learner = build_learner(training, data).to(device, memory_format=torch.channels_last)
        for name, part in zip(WEIGHTS, learner.evaluated(), strict=True):
            part.load_state_dict(load_weights(weights[name]))
    precision = training.optimization.precision
    encoder, head = learner.evaluated()
    start = Start(encoder.state_dict(), view_size(training, data))
    subject = Subject(training, start, checkpoint.of if checkpoint else lambda evaluation_id: None)
    results = evaluate_each(evaluations, encoder, data, precision, head, training.seed, subject)
    for evaluation, result in zip(evaluations, results, strict=True):
        try:
            images = images_of(getattr(evaluation, "dataset", None), data)
            yield result if isinstance(result, Exception) else _files(evaluation, training, result, images, device)
        except Exception as error:
            yield error


def _files_of_training(training: Training, trained: Trained, data: Data, device: str) -> Files:
    files: Files = {}
    for name, part in zip(WEIGHTS, trained.learner.evaluated(), strict=True):
        files[name] = save_weights({key: value.cpu().contiguous() for key, value in part.state_dict().items()})
    files["history.csv"] = pd.DataFrame(trained.history).to_csv(index=False).encode()
    beside = ("epoch", "learning_rate", "validation_knn", "validation_linear")
    files["training.json"] = training_document(
        training,
        dict(files),
        seconds=sum(each["seconds"] for each in trained.sittings),
        peak_memory_bytes=max(each["peak_memory_bytes"] for each in trained.sittings),
        sittings=trained.sittings,
        last={name: v for name, v in (trained.history or [{}])[-1].items() if name not in beside},
        diagnostics=_diagnostics(trained, training, data) | best_on_test(trained.history),
        images={split: len(part) for split, part in data.splits().items()},
        classes=list(data.classes),
        normalization={"mean": data.mean.tolist(), "std": data.std.tolist()},
        **_if_any(trace=trained.trace),
        compiled=trained.compiled,
        provenance=provenance(device),
    )
    return files


def _diagnostics(trained: Trained, training: Training, data: Data) -> dict[str, float]:
    """{}, with a message, if they fail: the training is worth more, and its evaluations need less memory."""
    try:
        return alignment_and_uniformity(trained.learner, training, data)
    except Exception as error:
        cause = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        print(f"ablation: {identity(training)} has no alignment and uniformity: {cause}", file=sys.stderr)
        return {}


def _files(evaluation, training: Training, result: Evaluated, data: Data, device: str) -> Files:
    predictions = io.BytesIO()
    np.savez_compressed(predictions, **result.predictions, **result.labels)
    return evaluation_files(
        evaluation,
        identity(training),
        predictions.getvalue(),
        metrics=result.metrics,
        **_if_any(trace=_trace_of(evaluation, training, data)),
        notes=result.notes,
        classes=result.classes,
        images=result.images,
        seconds=result.seconds,
        provenance=provenance(device),
    )


_untraced: Counter[tuple] = Counter()  # how often an evaluation had no trace in this process: it may take long


def _trace_of(evaluation, training: Training, data: Data) -> Mapping:
    """{} without a trial after two in vain, since the first may have had a slow moment."""
    key = (evaluation, getattr(evaluation, "dataset", None) or training.dataset)
    trace = {} if _untraced[key] > 1 else trace_of_evaluation(evaluation, data)
    _untraced[key] += not trace
    return trace


def _if_any(**facts: Mapping) -> dict[str, Mapping]:
    return {name: fact for name, fact in facts.items() if fact}
