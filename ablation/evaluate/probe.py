"""Probes: can a transformation be predicted from the representation (Chen et al. 2020, Table 3)?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ablation.evaluate.accuracy import accuracies
from ablation.evaluate.base import Evaluation, Features
from ablation.evaluate.features import represent_views
from ablation.models.representation import NAMES
from ablation.spec.randomness import generator_at, global_draws_at


@dataclass(frozen=True, kw_only=True)
class Probe(Evaluation):
    """An MLP on h or z predicts which of several versions of an image it sees.

    task: the name in the table. versions: one view each, `()` for the image itself. Every image appears in every
    version, so chance is 1 / number of versions. The MLP has one hidden layer of `hidden` units with batch norm;
    AdamW trains it on the standardized representation of the training images; the last epoch is the result.
    """

    name: ClassVar[str] = "probe"
    needs_labels: ClassVar[bool] = False
    version: ClassVar[int] = 2

    task: str
    versions: tuple
    hidden: int = 256
    epochs: int = 20
    batch: int = 256
    learning_rate: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        self.require("task", bool(self.task) and self.task.isidentifier(), "be an identifier, as columns contain it")
        free = NAMES.fullmatch(self.task.split("_")[0]) is None
        self.require("task", free, "not begin with the name of a representation, as columns would show it as one")
        several = isinstance(self.versions, tuple) and len(self.versions) > 1
        self.require("versions", several, "be a tuple of at least two views", "Write ((), (Sobel(),)).")
        for name in ("hidden", "epochs"):
            self.require_count(name)
        self.require_count("batch", 2)
        self.require_number("learning_rate", 0, above=True)

    @property
    def label(self) -> str:
        return f"{super().label}_{self.task}"

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(f"{split}_top1" for split in ("train", "validation", "test"))

    def evaluate(self, features: Features) -> tuple[dict[str, float], dict[str, Tensor], list[str]]:
        """Metrics "train_top1" and so on in percent, predictions per split (version after version), no notes."""
        x, y = {}, {}
        for split, clean in features.h.items():
            versions = represent_views(self, features, split, self.versions, ("probe", self.task, split))
            x[split] = torch.cat(versions)
            y[split] = torch.arange(len(versions), device=x[split].device).repeat_interleave(len(clean))
        deviation, mean = torch.std_mean(x["train"], 0)
        x = {split: (each - mean) / deviation.clamp(min=1e-6) for split, each in x.items()}
        mlp = self._fit(x["train"], y["train"], features.seed)
        metrics, predictions = {}, {}
        with torch.no_grad():
            for split, inputs in x.items():
                logits = mlp(inputs)
                predictions[split] = logits.argmax(1)
                metrics[f"{split}_top1"] = accuracies(logits, y[split])["top1"]
        return metrics, predictions, []

    def _fit(self, x: Tensor, y: Tensor, seed: int) -> nn.Module:
        with global_draws_at(torch.device("cpu"), seed, "probe", self.task, "weights"):
            mlp = nn.Sequential(
                nn.Linear(x.shape[1], self.hidden),
                nn.BatchNorm1d(self.hidden),
                nn.ReLU(inplace=True),
                nn.Linear(self.hidden, len(self.versions)),
            ).to(x.device)
        optimizer = torch.optim.AdamW(mlp.parameters(), lr=self.learning_rate, fused=True)
        for epoch in range(self.epochs):
            order = torch.randperm(len(x), generator=generator_at(seed, "probe", self.task, epoch)).to(x.device)
            for rows in order.split(self.batch):
                if len(rows) > 1:  # batch norm needs two
                    cross_entropy(mlp(x[rows]), y[rows]).backward()
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
        return mlp.eval()
