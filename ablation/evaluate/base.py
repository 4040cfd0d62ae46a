"""The contract of an evaluation, and what it is given: features, and the training of the encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ablation.data import Data
from ablation.models.representation import NAMES
from ablation.spec import InvalidSpec, Spec, Training, added_later
from ablation.spec.metric import SPLITS, STATISTICS
from ablation.training.checkpoint import Checkpoint
from ablation.training.loop import Start

# What columns say in the place of a data set: a representation, a split, a share of the labels, "linear_sgd".
TAKEN = re.compile(rf"{NAMES.pattern}|{'|'.join(SPLITS)}|[\de-]+|sgd")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Spec):
    """Base of the evaluations.

    on: "h", the encoder's output, "z", the projection head's, or pooled feature maps of the encoder: "stem",
    "stage1", ...; the maps themselves, "map1", ..., in a class with takes_maps = True. dataset: the images and labels
    to evaluate on, None for the training's.

    `name` starts the columns of the table; a representation other than h and images other than the training's follow
    it ("linear_z_test_top1_recalibrated"). `evaluate(features)` returns metrics, predictions per split, and notes; it
    is called once for each of the batch norms' `statistics`, "running", "recalibrated" or both. A class that trains
    its own weights reads `features.subject` and has statistics = ("tuned",); its batch is checked before the run, and
    a dry run estimates its time, if it has `training(pretraining, seed)` and `labelled_part(data)` as `FineTune` has.
    needs_labels: whether it uses labels; data sets without labels then refuse it. chooses_on_validation: whether it
    chooses a setting by validation images; a training with them then refuses it.
    """

    name: ClassVar[str]
    statistics: ClassVar[tuple[str, ...]] = STATISTICS
    needs_labels: ClassVar[bool] = True
    chooses_on_validation: ClassVar[bool] = False
    takes_maps: ClassVar[bool] = False

    on: str = "h"
    dataset: Any = added_later(default=None)

    def __post_init__(self):
        known = isinstance(self.on, str) and NAMES.fullmatch(self.on) is not None
        self.require("on", known, "be 'h', 'z', 'stem' or a stage of the encoder such as 'stage3'")
        if self.on.startswith("map") and not self.takes_maps:
            pooled = self.on.replace("map", "stage")
            self.require("on", False, "be vectors, not maps", f"Write on={pooled!r}, which averages the same maps.")
        if self.dataset is None:
            return
        ours = hasattr(self.dataset, "load") and isinstance(getattr(self.dataset, "label", None), str)
        self.require("dataset", ours, "be a data set with a label", 'Write ImageData(path="...").')
        if not self._images or TAKEN.fullmatch(self._images):
            seen = f"reads as {self._images!r}, which means something else" if self._images else "has no Latin letter"
            raise InvalidSpec(
                f"{type(self).__name__}.dataset must have a label that names it in columns, but "
                f'{self.dataset.label!r} {seen}. Write ImageData(path="...", name="pets"), or a label in your class.'
            )

    @property
    def _images(self) -> str:
        """The data set's label as columns show it; "" for the training's."""
        return "" if self.dataset is None else re.sub(r"[^A-Za-z0-9]+", "-", self.dataset.label).strip("-")

    @property
    def label(self) -> str:
        return "_".join(filter(None, [self.name, self.on if self.on != "h" else "", self._images]))

    @property
    def metrics(self) -> tuple[str, ...] | Mapping[str, tuple[str, str]]:
        """The names of all metrics that `evaluate` may return; () if unknown in advance. A user's class may state the
        unit of each and which value is the best, {"test_miou": ("%", "highest"), "test_shift": ("px", "lowest")}; ""
        for none. Without it an accuracy, "test_top1", is in percent, the highest the best, and of others nothing is
        known."""
        return ()

    def columns(self) -> list[str]:
        """Its numeric columns in a table, as far as they are known in advance."""
        return [f"{self.label}_{metric}_{statistics}" for metric in self.metrics for statistics in self.statistics]


@dataclass(frozen=True)
class Subject:
    """The training of the evaluated encoder, its weights as the start of another training, and the checkpoint of an
    evaluation that trains."""

    training: Training
    start: Start
    checkpoint: Callable[[str], Checkpoint | None] = lambda evaluation_id: None


@dataclass(frozen=True)
class Features:
    """One representation: h (or z, ...) of each split, (N, D) float32, and labels (N,), {} without labels. All are on
    the device; the images, `data`, may not be. Maps are (N, C, H, W): 10 GB for 50,000 images at (256, 14, 14).

    represent: the same representation for other images, (N, C, S, S) float32 in [0, 1]. model: makes a copy of its
    module, with these batch-norm statistics, for evaluations that train through it. seed: the run's; addresses of
    an evaluation's draws start with it, so the spread over seeds includes their noise. subject: for evaluations that
    train.
    """

    h: dict[str, Tensor]
    labels: dict[str, Tensor]
    classes: int
    represent: Callable[[Tensor], Tensor] | None = None
    data: Data | None = None
    seed: int = 0
    model: Callable[[], nn.Module] | None = None
    subject: Subject | None = None


def need_images(spec: Spec, features: Features) -> tuple[Callable[[Tensor], Tensor], Data]:
    """The representation as a function, and the data, for evaluations of changed images."""
    if features.represent is None or features.data is None:
        raise InvalidSpec(f"{type(spec).__name__} needs features with images and encoder. Compute them by `extract`.")
    return features.represent, features.data


def need_subject(spec: Spec, features: Features) -> tuple[Subject, Data]:
    """The subject and the data, for evaluations that train."""
    if features.subject is None or features.data is None:
        raise InvalidSpec(f"{type(spec).__name__} needs the training of the encoder. Pass `subject`.")
    return features.subject, features.data
