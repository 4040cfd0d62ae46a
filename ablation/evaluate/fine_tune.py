"""Fine-tuning with all or some labels (Chen et al. 2020, App. B.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ablation.data import Data
from ablation.evaluate.accuracy import accuracies
from ablation.evaluate.base import Evaluation, Features, need_subject
from ablation.evaluate.features import embed
from ablation.methods import Supervised
from ablation.operators import CropFlip
from ablation.spec import Optimization, Training, identity
from ablation.system import distributed
from ablation.training.loop import pretrain
from ablation.training.optimizers import SGD


@dataclass(frozen=True, kw_only=True)
class FineTune(Evaluation):
    """Trains the whole encoder and a linear layer, which starts at zero, with labels; the last epoch is the result.
    Batch norm trains too, so there is one result instead of two.

    fraction: the share of the training labels, drawn per class; for the same `subset`, a smaller share is part of a
    larger one, whatever the run's seed. learning_rate: for 256 images, scaled linearly with `batch` (Chen et al.:
    0.05, 60 epochs with 1 %, 30 with 10 %). frozen: train the linear layer alone, by steps on fresh views. views: of
    a training image; validation and test images stay unchanged.
    """

    name: ClassVar[str] = "fine_tune"
    statistics: ClassVar[tuple[str, ...]] = ("tuned",)

    fraction: float = 1.0
    subset: int = 0
    epochs: int = 30
    batch: int = 256
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    frozen: bool = False
    views: tuple = (CropFlip(),)

    def __post_init__(self):
        super().__post_init__()
        self.require("on", self.on == "h", "be 'h', since the evaluation trains the encoder")
        self.require_number("fraction", 0, 1, above=True)
        self.require_count("subset", 0)
        self.require_count("epochs")
        self.require_count("batch", 2)
        self.require_number("learning_rate", 0, above=True)
        self.require_number("momentum", 0, 1)
        self.require_number("weight_decay", 0)
        self.require("views", isinstance(self.views, tuple), "be a tuple of operators", "Write (CropFlip(),).")

    @property
    def label(self) -> str:
        share = f"_{100 * self.fraction:g}" if self.fraction < 1 else ""
        label = super().label.replace(self.name, "linear_sgd", 1) if self.frozen else super().label
        return label + share

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("steps", *(f"{split}_top{k}" for split in ("train", "validation", "test") for k in (1, 5)))

    def labelled_part(self, data: Data) -> Data:
        """The images to train on: a share of each class of the training images; other splits are whole."""
        return data.per_class(self.fraction, self.subset) if self.fraction < 1 else data

    def training(self, pretraining: Training, seed: int) -> Training:
        """The supervised training of this evaluation."""
        rate = self.learning_rate * self.batch / 256
        optimizer = SGD(
            learning_rate=rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )
        return Training(
            dataset=self.dataset or pretraining.dataset,
            views=(self.views,),
            method=Supervised(head="zeros", frozen=self.frozen),
            encoder=pretraining.encoder,
            optimization=Optimization(
                epochs=self.epochs,
                batch=self.batch,
                optimizer=optimizer,
                warmup=0,
                precision=pretraining.optimization.precision,
                curve_every=0,
            ),
            seed=seed,
        )

    def evaluate(self, features: Features) -> tuple[dict[str, float], dict[str, Tensor], list[str]]:
        """Metrics "test_top1" and so on in percent, the number of steps, predictions per split."""
        subject, whole = need_subject(self, features)
        training, data = self.training(subject.training, features.seed), self.labelled_part(whole)
        checkpoint = subject.checkpoint(identity(self))
        with distributed.alone():
            learner = pretrain(training, data, start=subject.start, checkpoint=checkpoint).learner
        model = nn.Sequential(learner.encoder, learner.classifier)
        metrics: dict[str, float] = {"steps": self.epochs * (len(data.train) // self.batch)}
        predictions = {}
        for split, part in data.splits().items():
            logits = embed(model, part.images, data, training.optimization.precision)
            metrics |= {f"{split}_{name}": value for name, value in accuracies(logits, part.labels).items()}
            predictions[split] = logits.argmax(1)
        if self.fraction < 1:
            del predictions["train"]  # these cover only a part of the training images
        return metrics, predictions, []
