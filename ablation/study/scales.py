"""Scales: data, model and budget of an experiment.

A scale gives an experiment its data set, encoder, epochs and batch, and matching settings of operators and
methods, so that an experiment file states only its question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ablation.data import DataSet, ImageData, Shapes
from ablation.evaluate import KNN, Linear
from ablation.methods import BarlowTwins, Initialization, Method, SimCLR, Supervised
from ablation.models.resnet import ResNet, SmallResNet
from ablation.models.vit import ViT
from ablation.operators import Color, ColorDrop, ColorJitter
from ablation.spec import InvalidSpec, Optimization, Run, Spec, Training
from ablation.study.recipes import (
    OURS_AT_32_PX,
    SMALL_METHODS,
    SMALL_RATES,
    cifar10_methods,
    cifar10_optimizers,
    imagenet100_methods,
    imagenet100_optimizers,
    imagenet_methods,
    imagenet_optimizers,
    imagenette_methods,
    imagenette_optimizers,
    warmups,
)
from ablation.training.optimizers import AdamW

KEPT = {"SimCLR": 9e-3, "Barlow Twins": 3e-3, "supervised": 9e-3}  # the rates of the first study at cifar10-small
VIT_SMALL = ViT(patch=16, width=384, blocks=12, heads=6)


@dataclass(frozen=True, kw_only=True)
class Scale(Spec):
    """Data, model and budget of an experiment. seeds: of a full grid, as many as the budget allows.

    The rate of `optimizer` was chosen for SimCLR. By a method's label, `optimizers` gives its own optimizer, `rates` a
    learning rate for each kind of views, and `optimizations` other fields of Optimization. Tables note if a method uses
    a rate chosen for another. transformer: the encoder of methods that need patches.
    """

    name: str
    dataset: DataSet
    encoder: Any
    epochs: int
    batch: int
    optimizer: Any
    optimizers: Mapping[str, Any] = field(default_factory=dict)
    optimizations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    warmup: float = 0.1
    precision: str = "float32"
    seeds: int = 3
    curve_every: int = 5
    shared: tuple = ()
    color_settings: Color = Color()
    methods: tuple[Method, ...] = ()
    transformer: ViT = ViT()
    evaluations: tuple = (KNN(), Linear())

    def color(self, **changes: Any) -> Color:
        """Color distortion at this scale's strength."""
        return self.color_settings.replace(**changes)

    def method(self, kind: type[Method], **changes: Any) -> Method:
        """A method at this scale's size, as in `methods`, e.g. SimCLR(hidden=128); other classes get their defaults."""
        known = {type(method): method for method in self.methods}
        return known[kind].replace(**changes) if kind in known else kind(**changes)

    def __getattr__(self, name: str) -> Any:
        """`scale.simclr(...)` and the like, for experiment files of version 0.1."""
        kinds = {
            "simclr": SimCLR,
            "barlow_twins": BarlowTwins,
            "supervised": Supervised,
            "initialization": Initialization,
        }
        if name not in kinds:
            raise AttributeError(f"a scale has no {name!r}; for a method write scale.method(SimCLR), say")
        return partial(self.method, kinds[name])

    def optimization(self, method: Method, **changes: Any) -> Optimization:
        """This scale's optimization of a method; changes are fields of Optimization."""
        if not hasattr(method, "label"):
            raise InvalidSpec(
                f"{type(method).__name__} must have a label, its name on axes and figures, but has none. Write "
                f'label = "{type(method).__name__}" in the class.'
            )
        settings = {
            "epochs": self.epochs,
            "batch": self.batch,
            "optimizer": self.optimizers.get(method.label, self.optimizer),
            "rate_chosen_for": method.label if method.label in self.optimizers else "SimCLR",
            "warmup": self.warmup,
            "precision": self.precision,
            "curve_every": self.curve_every,
        }
        return Optimization(**{**settings, **self.optimizations.get(method.label, {})}).replace(**changes)

    def rated(self, method: Method, views: str) -> Optimization:
        """This scale's optimization of a method, at the rate that was chosen for it with views of this name. At a scale
        that states no rates for views, the method's own. Raises InvalidSpec if others are stated, but not this one."""
        usual = self.optimization(method)
        if not self.rates:
            return usual
        known = self.rates.get(method.label, {})
        if views not in known:
            stated = f"only for {', '.join(known)}" if known else "none"
            raise InvalidSpec(
                f"the scale {self.name!r} must state a rate of {method.label} for the views {views!r}, but states "
                f"{stated}. Write scale.optimization(method, optimizer=...) with a rate."
            )
        optimizer = usual.optimizer.replace(learning_rate=known[views])
        return usual.replace(optimizer=optimizer, rate_chosen_for=method.label)

    @property
    def size(self) -> int:
        """Side of the images, px."""
        return getattr(self.dataset, "size", None) or 32

    def run(self, method: Method, *, views: tuple, seed: int = 0, **changes: Any) -> Run:
        """A run at this scale; changes are fields of Training (dataset=, shared=, encoder=, optimization=)."""
        settings = {
            "dataset": self.dataset,
            "shared": self.shared,
            "encoder": self.transformer if method.transformer else self.encoder,
            "optimization": self.optimization(method),
        }
        training = Training(method=method, views=views, seed=seed, **{**settings, **changes})
        return Run(training=training, evaluations=self.evaluations)


def tiny() -> Scale:
    """The synthetic control and the small encoder: a cell takes half a minute on one CPU core.

    Color is stronger than SimCLR's (jitter always, all hues, grey with p = 0.3): with p = 0.8 one pair in six
    would keep its colors, and with them the shortcut that color distortion removes. These strengths, the rate
    and the temperature come from an earlier prototype and are not tuned on these images; the images themselves
    (palettes, texture, noise) were chosen by validation accuracy of seed 0.
    """
    return Scale(
        name="tiny",
        dataset=Shapes(),
        encoder=SmallResNet(),
        epochs=10,
        batch=128,
        optimizer=AdamW(learning_rate=3e-3),
        color_settings=Color(jitter=ColorJitter(hue=0.5), drop=ColorDrop(p=0.3)),
        methods=SMALL_METHODS,
        transformer=ViT(patch=4, width=48, blocks=2, heads=2),
    )


def cifar10_small() -> Scale:
    """5,000 + 1,000 images of CIFAR-10 and the small encoder: real images on two CPU cores.

    Color strength 0.5, as in SimCLR's CIFAR-10 experiments (Chen et al. 2020, App. B.9). SimCLR, Barlow Twins and the
    supervised method have the rate of experiments/learning_rates.py with the best mean on validation images over its
    three views (for the supervised method, three times that rate is as good), other methods that of
    experiments/method_rates.py for the stronger views, or for their published ones; `rated` has one for each kind of
    views. The heads are the tiny scale's, not tuned here.
    """
    usual = {label: rates.get("crop + color", rates["published"]) for label, rates in SMALL_RATES.items()} | KEPT
    return Scale(
        name="cifar10-small",
        dataset=ImageData(path="uoft-cs/cifar10", images="cifar10-lossless-5k"),
        encoder=SmallResNet(),
        epochs=20,
        batch=128,
        optimizer=AdamW(learning_rate=9e-3),
        optimizers={label: AdamW(learning_rate=rate) for label, rate in usual.items()},
        rates=SMALL_RATES,
        seeds=5,
        curve_every=10,
        color_settings=Color(strength=0.5),
        methods=SMALL_METHODS,
        transformer=ViT(patch=4, width=48, blocks=2, heads=2),
    )


def cifar10(batch: int = 512, epochs: int = 200) -> Scale:
    """CIFAR-10 and ResNet-18 with the CIFAR stem on one GPU, as lightly's benchmark of 2023 trains it.

    It publishes batch 128 with 200 epochs, and batch 512 with 200 and 800.
    """
    ours = dict.fromkeys(OURS_AT_32_PX, 0.05 * epochs)
    return Scale(
        name="cifar10",
        dataset=ImageData(path="uoft-cs/cifar10"),
        encoder=ResNet(depth=18, stem="cifar"),
        epochs=epochs,
        batch=batch,
        optimizer=cifar10_optimizers(batch)["SimCLR"],
        optimizers=cifar10_optimizers(batch),
        optimizations=warmups(epochs, ours),
        warmup=0.0,
        precision="bfloat16",
        curve_every=20,
        color_settings=Color(strength=0.5),
        methods=cifar10_methods(batch),
        transformer=ViT(patch=4, width=384, blocks=12, heads=6),
    )


def imagenette() -> Scale:
    """Ten classes of ImageNet at 128 px and ResNet-18 on one GPU, as in lightly's benchmark of 2023."""
    forty, fifteen = ("VICReg", "TiCo", "MAE", "SimMIM", "LeJEPA"), ("MSN", "PMSN")
    return Scale(
        name="imagenette",
        dataset=ImageData(path="frgfm/imagenette", config="160px", size=128, test="validation"),
        encoder=ResNet(depth=18),
        epochs=800,
        batch=256,
        optimizer=imagenette_optimizers(256)["SimCLR"],
        optimizers=imagenette_optimizers(256),
        optimizations=warmups(800, {"VICRegL": 20} | dict.fromkeys(forty, 40) | dict.fromkeys(fifteen, 15)),
        warmup=0.0,
        precision="bfloat16",
        curve_every=20,
        color_settings=Color(strength=0.5),
        methods=imagenette_methods(),
        transformer=VIT_SMALL,
    )


def imagenet100() -> Scale:
    """100 classes of ImageNet at 224 px and ResNet-18, as in lightly's benchmark of 2022."""
    return Scale(
        name="imagenet100",
        dataset=ImageData(path="clane9/imagenet-100", size=224, test="validation"),
        encoder=ResNet(depth=18),
        epochs=200,
        batch=256,
        optimizer=imagenet100_optimizers(256)["SimCLR"],
        optimizers=imagenet100_optimizers(256),
        optimizations=warmups(200, dict.fromkeys(("MoCo v2", "NNCLR", "SimSiam", "FastSiam"), 0)),
        warmup=10 / 200,
        precision="bfloat16",
        curve_every=10,
        methods=imagenet100_methods(),
        transformer=VIT_SMALL,
    )


def imagenet100_resnet50() -> Scale:
    """The same images and ResNet-50: the settings of `imagenet1k` at batch 512. Ours."""
    return imagenet1k(512).replace(name="imagenet100-resnet50", dataset=imagenet100().dataset)


def imagenet1k(batch: int = 256) -> Scale:
    """ImageNet at 224 px and ResNet-50, as in lightly's benchmark of 2025. For several large GPUs."""
    methods = imagenet_methods(batch)
    floors = {method.label: 1e-3 for method in methods} | {"VICReg": 1e-2, "SwAV": 6e-4 * batch / 256}
    warmup = dict.fromkeys(("MoCo v2", "SimSiam", "FastSiam"), 0) | {"MAE": 40}
    optimizations = warmups(100, warmup, floors)
    optimizations["DINO"]["clip"] = 3.0
    return Scale(
        name="imagenet1k",
        dataset=ImageData(path="ILSVRC/imagenet-1k", size=224, test="validation"),
        encoder=ResNet(depth=50),
        epochs=100,
        batch=batch,
        optimizer=imagenet_optimizers(batch)["SimCLR"],
        optimizers=imagenet_optimizers(batch),
        optimizations=optimizations,
        warmup=10 / 100,
        precision="bfloat16",
        curve_every=10,
        methods=methods,
        transformer=VIT_SMALL,
    )


SCALES: dict[str, Callable[[], Scale]] = {
    "tiny": tiny,
    "cifar10-small": cifar10_small,
    "cifar10": cifar10,
    "imagenette": imagenette,
    "imagenet100": imagenet100,
    "imagenet100-resnet50": imagenet100_resnet50,
    "imagenet1k": imagenet1k,
}


def scale_named(name: str, data: str | None = None, precision: str | None = None) -> Scale:
    """The scale, with another precision or images if given. data: a folder, a parquet file or a Hub name, or
    NAME=PLACE with a name for figures."""
    scale = SCALES[name]()
    scale = scale.replace(precision=precision) if precision else scale
    if data is None:
        return scale
    if not isinstance(scale.dataset, ImageData):
        raise InvalidSpec(
            f"--data gives the location of a scale's images, but the scale {name!r} generates its images. "
            "Omit --data, or choose another scale."
        )
    name, place = name_and_place(data)
    return scale.replace(dataset=scale.dataset.replace(path=place, **({"name": name} if name else {})))


def name_and_place(data: str) -> tuple[str, str]:
    """Splits NAME=PLACE; the name is "" for a place alone, even if its path contains an equals sign."""
    name, _, place = data.partition("=")
    return ("", data) if not place or "/" in name or Path(data).exists() else (name, place)
