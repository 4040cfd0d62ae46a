"""Scales: on what a question is asked, and with which strengths.

A scale gives an experiment its data set, encoder, epochs and batch, and the settings of operators and
methods that fit them, so that an experiment file states only its question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablation.datasets import DataSet, ImageData, Shapes
from ablation.encoders import ResNet, SmallResNet
from ablation.evaluate import KNN, Linear
from ablation.methods import BarlowTwins, Initialization, Method, SimCLR, Supervised
from ablation.operators import Color, ColorDrop, ColorJitter
from ablation.optimizers import LARS, SGD, AdamW
from ablation.specs import InvalidSpec, Optimization, Run, Spec, Training


@dataclass(frozen=True, kw_only=True)
class Scale(Spec):
    """What an experiment is built on. The rate of `optimizer` was chosen for the method SimCLR; `optimizers` may give a
    method, by its label, an optimizer of its own. Tables note where a method takes a rate chosen for another."""

    name: str
    dataset: DataSet
    encoder: Any
    epochs: int
    batch: int
    optimizer: Any
    optimizers: Mapping[str, Any] = field(default_factory=dict)
    warmup: float = 0.1
    precision: str = "float32"
    curve_every: int = 5
    shared: tuple = ()
    color_settings: Color = Color()
    simclr_settings: SimCLR = SimCLR()
    barlow_twins_settings: BarlowTwins = BarlowTwins()
    evaluations: tuple = (KNN(), Linear())

    def color(self, **changes: Any) -> Color:
        """Color distortion in this scale's strength."""
        return self.color_settings.replace(**changes)

    def simclr(self, **changes: Any) -> SimCLR:
        return self.simclr_settings.replace(**changes)

    def barlow_twins(self, **changes: Any) -> BarlowTwins:
        return self.barlow_twins_settings.replace(**changes)

    def supervised(self, **changes: Any) -> Supervised:
        return Supervised(**changes)

    def initialization(self) -> Initialization:
        return Initialization()

    def optimization(self, method: Method, **changes: Any) -> Optimization:
        """How this scale trains a method; changes are fields of Optimization."""
        settings = {
            "epochs": self.epochs,
            "batch": self.batch,
            "optimizer": self.optimizers.get(method.label, self.optimizer),
            "rate_chosen_for": method.label if method.label in self.optimizers else "SimCLR",
            "warmup": self.warmup,
            "precision": self.precision,
            "curve_every": self.curve_every,
        }
        return Optimization(**settings).replace(**changes)

    def run(self, method: Method, *, views: tuple, seed: int = 0, **changes: Any) -> Run:
        """A run at this scale; changes are fields of Training (dataset=, shared=, encoder=, optimization=)."""
        settings = {
            "dataset": self.dataset,
            "shared": self.shared,
            "encoder": self.encoder,
            "optimization": self.optimization(method),
        }
        training = Training(method=method, views=views, seed=seed, **{**settings, **changes})
        return Run(training=training, evaluations=self.evaluations)


def tiny() -> Scale:
    """The synthetic control and the small encoder: a cell takes half a minute on one CPU core.

    Color is stronger than SimCLR's (jitter always, all hues, grey with p = 0.3): with p = 0.8 one pair in six
    would not be recolored, and the shortcut that color distortion removes would stay in those. These strengths,
    the rate and the temperature are an earlier prototype's and are not tuned on these images; the images
    themselves (palettes, texture, noise) were settled on validation accuracy of seed 0.
    """
    return Scale(
        name="tiny",
        dataset=Shapes(),
        encoder=SmallResNet(),
        epochs=10,
        batch=128,
        optimizer=AdamW(learning_rate=3e-3),
        color_settings=Color(jitter=ColorJitter(hue=0.5), drop=ColorDrop(p=0.3)),
        simclr_settings=SimCLR(hidden=128, dimension=64),
        barlow_twins_settings=BarlowTwins(hidden=256, dimension=256),
    )


def cifar10_small() -> Scale:
    """5,000 + 1,000 images of CIFAR-10 and the small encoder: real images on two CPU cores.

    Color strength 0.5, as in SimCLR's CIFAR-10 experiments (Chen et al. 2020, App. B.9). The rate of each method is
    the one of experiments/learning_rates.py with the best mean on validation images over its three views (for the
    supervised one three times it is as good). The heads are those of the tiny scale, not tuned here.
    """
    return Scale(
        name="cifar10-small",
        dataset=ImageData(path="uoft-cs/cifar10", images="cifar10-lossless-5k"),
        encoder=SmallResNet(),
        epochs=20,
        batch=128,
        optimizer=AdamW(learning_rate=9e-3),
        optimizers={"Barlow Twins": AdamW(learning_rate=3e-3), "supervised": AdamW(learning_rate=9e-3)},
        curve_every=10,
        color_settings=Color(strength=0.5),
        simclr_settings=SimCLR(hidden=128, dimension=64),
        barlow_twins_settings=BarlowTwins(hidden=256, dimension=256),
    )


def cifar10() -> Scale:
    """CIFAR-10 and ResNet-18 with the CIFAR stem on one GPU.

    Optimizer, rates, batch and sizes of the heads of Huang et al. (arXiv:2111.00743, second version). Theirs have
    other batch norms in the heads, no warm-up and 800 epochs.
    """
    return Scale(
        name="cifar10",
        dataset=ImageData(path="uoft-cs/cifar10"),
        encoder=ResNet(depth=18, stem="cifar"),
        epochs=200,
        batch=512,
        optimizer=SGD(learning_rate=0.06, weight_decay=5e-4),
        optimizers={"Barlow Twins": SGD(learning_rate=0.11, weight_decay=5e-4)},
        warmup=0.05,
        precision="bfloat16",
        curve_every=20,
        color_settings=Color(strength=0.5),
        simclr_settings=SimCLR(hidden=512, dimension=128),
        barlow_twins_settings=BarlowTwins(hidden=2048, dimension=2048),
    )


def imagenet100() -> Scale:
    """100 classes of ImageNet at 160 px and ResNet-50; optimizer of Chen et al. 2020 (section 2.3) at batch 512."""
    return Scale(
        name="imagenet100",
        dataset=ImageData(path="clane9/imagenet-100", size=160, test="validation"),
        encoder=ResNet(depth=50),
        epochs=100,
        batch=512,
        optimizer=LARS(learning_rate=0.3 * 512 / 256),
        precision="bfloat16",
        curve_every=10,
        color_settings=Color(),
        simclr_settings=SimCLR(hidden=2048, dimension=128),
        barlow_twins_settings=BarlowTwins(hidden=8192, dimension=8192),
    )


SCALES: dict[str, Callable[[], Scale]] = {
    "tiny": tiny,
    "cifar10-small": cifar10_small,
    "cifar10": cifar10,
    "imagenet100": imagenet100,
}


def scale_named(name: str, data: str | None = None, precision: str | None = None) -> Scale:
    """The scale; its precision exchanged and its images read from `data`, where those are given. data: a folder, a
    parquet file or a Hub name, or NAME=PLACE with the name that figures show."""
    scale = SCALES[name]()
    scale = scale.replace(precision=precision) if precision else scale
    if data is None:
        return scale
    if not isinstance(scale.dataset, ImageData):
        raise InvalidSpec(
            f"--data says where a scale's images lie, but the images of the scale {name!r} are generated. "
            "Omit --data, or name another scale."
        )
    name, place = name_and_place(data)
    return scale.replace(dataset=scale.dataset.replace(path=place, **({"name": name} if name else {})))


def name_and_place(data: str) -> tuple[str, str]:
    """NAME=PLACE in its parts; a place alone has no name, also where its path holds an equals sign."""
    name, _, place = data.partition("=")
    return ("", data) if not place or "/" in name or Path(data).exists() else (name, place)
