"""Every scale has every method's settings: heads, optimizer, published views."""

import math
from dataclasses import dataclass
from operator import attrgetter

import pandas as pd
import pytest
import torch
from helpers import ROOT, numbers

from ablation.contracts.steps import first_batch
from ablation.data import Data, Split
from ablation.methods.base import Method, Progress
from ablation.spec import InvalidSpec
from ablation.study.published_views import RECIPES, published_views
from ablation.study.scales import KEPT, SCALES, VIT_SMALL
from ablation.training.loop import build_learner, take_step

CPU_SCALES = ("tiny", "cifar10-small")
EVERY = [(name, method.label) for name, scale in SCALES.items() for method in scale().methods]
TRIED = [each for each in EVERY if each[0] != "imagenet100-resnet50"]  # imagenet1k has the same networks and views


def of(scale, label):
    [method] = [each for each in scale.methods if each.label == label]
    return method


def random_images(size: int, count: int) -> Data:
    """Pixels of a large and a small scale, so that crops of one image differ."""
    coarse = numbers(count, 3, 4, 4).repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    images = (110 + 50 * coarse + 20 * numbers(count, 3, size, size, seed=1)).clamp(0, 255).byte()
    split = Split(images, torch.arange(count) % 10)
    return Data(train=split, validation=split, test=split, classes=tuple("abcdefghij"))


def test_every_scale_knows_every_method():
    for make in SCALES.values():
        assert {type(method) for method in make().methods} == set(RECIPES)


# lightly's scripts: rate at the scale's batch, weight decay, epochs of warm-up, and fields of the method. BYOL's rate
# under SGD is a quarter and its decay four times lightly's, whose loss has a quarter of the gradient.
RECIPES_OF_LIGHTLY = {
    ("cifar10", "SimCLR"): (0.24, 5e-4, 0, {"hidden": 512, "output_norm": "batch", "batch_norm": "separate"}),
    ("cifar10", "Barlow Twins"): (0.24, 5e-4, 0, {"layers": 2}),
    ("cifar10", "BYOL"): (0.06, 2e-3, 0, {"hidden": 1024, "momentum": 0.99, "momentum_end": 0.99}),
    ("cifar10", "DINO"): (0.24, 5e-4, 0, {"momentum": 0.99, "evaluated": "student", "clip": None, "frozen": 0}),
    ("cifar10", "MoCo v2"): (0.24, 5e-4, 0, {"queue": 8192, "temperature": 0.1, "momentum": 0.99, "splits": 8}),
    ("cifar10", "NNCLR"): (0.24, 5e-4, 0, {"queue": 8192, "temperature": 0.5, "negatives": "both"}),
    ("cifar10", "SimSiam"): (0.06, 5e-4, 0, {"layers": 2, "bottleneck": 512}),
    ("cifar10", "SMoG"): (0.01, 1e-6, 0, {"groups": 300, "bank": 10000}),
    ("cifar10", "SwAV"): (4e-3, 1e-6, 0, {"prototypes": 512, "frozen": 0}),
    ("cifar10", "VICReg"): (0.6, 1e-4, 10, {}),
    ("imagenette", "SimCLR"): (0.06, 5e-4, 0, {"hidden": 512}),
    ("imagenette", "BYOL"): (0.015, 2e-3, 0, {"hidden": 4096}),
    ("imagenette", "MAE"): (1.5e-4, 0.05, 40, {}),
    ("imagenette", "MSN"): (1.5e-4, 0.05, 15, {"momentum": 0.996}),
    ("imagenette", "SimMIM"): (8e-4, 0.05, 40, {}),
    ("imagenette", "TiCo"): (0.3, 1e-4, 40, {"hidden": 1024}),
    ("imagenette", "VICReg"): (0.3, 1e-4, 40, {}),
    ("imagenette", "VICRegL"): (0.3, 1e-4, 20, {"matches": (16, 4)}),
    ("imagenet100", "BYOL"): (0.2, 1.5e-6, 10, {"momentum": 0.999}),
    ("imagenet100", "DINO"): (0.3, 1e-6, 10, {"momentum": 0.999, "layers": 3}),
    ("imagenet100", "MoCo v2"): (0.03, 1e-4, 0, {"temperature": 0.07, "queue": 65536, "momentum": 0.999}),
    ("imagenet100", "NNCLR"): (0.3, 1e-6, 0, {"hidden": 4096, "queue": 65536}),
    ("imagenet100", "SimSiam"): (0.05, 1e-4, 0, {"hidden": 512}),
    ("imagenet100", "SwAV"): (4.8, 1e-6, 10, {"prototypes": 3000}),
    ("imagenet1k", "SimCLR"): (1.2, 1e-6, 10, {"hidden": 2048, "output_norm": "batch"}),
    ("imagenet1k", "Barlow Twins"): (0.2, 1.5e-6, 10, {"hidden": 8192, "batch_norm": "joint"}),
    ("imagenet1k", "BYOL"): (0.45, 1e-6, 10, {"momentum": 0.99, "momentum_end": 1.0}),
    ("imagenet1k", "DINO"): (0.03, 1e-4, 10, {"prototypes": 65536, "norm": None, "clip": None}),
    ("imagenet1k", "MAE"): (1.5e-4, 0.05, 40, {}),
    ("imagenet1k", "MoCo v2"): (0.03, 1e-4, 0, {"temperature": 0.2, "queue": 65536, "momentum": 0.999}),
    ("imagenet1k", "SwAV"): (0.6, 1e-6, 10, {"queue": 3840, "prototypes": 3000, "batch_norm": "separate"}),
    ("imagenet1k", "TiCo"): (0.2, 1.5e-6, 10, {}),
    ("imagenet1k", "VICReg"): (0.5, 1e-6, 10, {"layers": 2, "hidden": 8192, "batch_norm": "joint"}),
    ("imagenet100-resnet50", "VICReg"): (0.8, 1e-6, 10, {}),
}


@pytest.mark.parametrize(("name", "label"), RECIPES_OF_LIGHTLY)
def test_recipes_are_lightlys(name, label):
    rate, decay, warmup, fields = RECIPES_OF_LIGHTLY[name, label]
    scale = SCALES[name]()
    method = of(scale, label)
    optimization = scale.optimization(method)
    optimizer = optimization.optimizer
    assert optimizer.learning_rate == pytest.approx(rate)
    assert optimizer.weight_decay == pytest.approx(decay)
    assert optimization.warmup * optimization.epochs == pytest.approx(warmup)
    assert {field: getattr(method, field) for field in fields} == fields


@pytest.mark.parametrize(
    ("name", "label", "setting", "value"),
    [
        ("imagenette", "VICReg", "optimizer.adapts_all", True),
        ("imagenette", "VICReg", "schedule.floor", 1e-3),
        ("imagenet100", "SimCLR", "optimizer.adapts_all", True),
        ("imagenet100", "BYOL", "optimizer.adapts_all", True),
        ("imagenet1k", "SimCLR", "optimizer.adapts_all", False),
        ("imagenet1k", "SimCLR", "schedule.floor", 1e-3),
        ("imagenet1k", "Barlow Twins", "optimizer.exempt_rate", 0.024),
        ("imagenet1k", "DINO", "clip", 3.0),
        ("imagenet1k", "SwAV", "schedule.floor", 6e-4),
        ("imagenet1k", "VICReg", "schedule.floor", 1e-2),
        ("cifar10", "EMP-SSL", "optimizer.clips", True),  # the authors'
    ],
)
def test_other_settings_are_lightlys(name, label, setting, value):
    scale = SCALES[name]()
    assert attrgetter(setting)(scale.optimization(of(scale, label))) == pytest.approx(value)


@pytest.mark.parametrize("name", [name for name in SCALES if name not in CPU_SCALES])
def test_the_docs_state_simclrs_rate(name):
    page = (ROOT / "docs" / "experiments.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    scale = SCALES[name]()
    optimizer = scale.optimization(of(scale, "SimCLR")).optimizer
    assert (
        f"{scale.epochs} epochs, batch {scale.batch}, {type(optimizer).__name__} {optimizer.learning_rate:.2g}" in row
    )


def test_temperatures_of_imagenet():
    temperatures = {name: of(SCALES[name](), "SimCLR").objective.temperature for name in SCALES}
    assert temperatures["imagenet100"] == temperatures["imagenet1k"] == 0.1
    assert temperatures["cifar10"] == temperatures["imagenette"] == 0.5


@pytest.mark.parametrize(("name", "label"), [each for each in EVERY if each[0] not in CPU_SCALES])
def test_every_method_has_its_own_optimizer_at_a_published_scale(name, label):
    scale = SCALES[name]()
    assert label in scale.optimizers
    assert scale.optimization(of(scale, label)).rate_chosen_for == label


def test_a_rate_for_views_that_the_scale_lacks_is_refused():
    scale = SCALES["tiny"]().replace(rates={"BYOL": {"crop": 0.004}})
    byol, dino = of(scale, "BYOL"), of(scale, "DINO")
    assert scale.rated(byol, "crop").optimizer.learning_rate == 0.004
    assert scale.rated(byol, "crop").rate_chosen_for == "BYOL"
    with pytest.raises(InvalidSpec, match=r"'tiny' must state a rate of BYOL for the views 'crops', .* only for crop"):
        scale.rated(byol, "crops")
    with pytest.raises(InvalidSpec, match=r"a rate of DINO for the views 'crop', but states none"):
        scale.rated(dino, "crop")
    assert SCALES["tiny"]().rated(dino, "crop") == SCALES["tiny"]().optimization(dino)
    assert SCALES["tiny"]().rated(dino, "crop").rate_chosen_for == "SimCLR"


def test_rates_of_cifar10_small_are_those_of_the_table():
    """For each kind of views the rate with the best linear accuracy on validation images; the three stronger kinds, and
    published views that are one of them, share the rate with the best mean. The method's own is that of the stronger
    ones, but for those whose rate is of experiments/learning_rates.py."""
    table = pd.read_csv(ROOT / "figures" / "method_rates-cifar10-small.csv")
    scale, together = SCALES["cifar10-small"](), {"crop + color", "SimCLR's", "BYOL's"}
    assert set(scale.rates) == set(table["method"]) == {method.label for method in scale.methods}
    for label, rows in table.groupby("method"):
        found = rows.pivot(index="view", columns="rate", values="linear_validation_top1_recalibrated")
        stronger = found[found.index.isin(together)]
        best = found.drop(index=stronger.index).idxmax(axis=1).to_dict()
        if len(stronger):
            shared = stronger.mean(skipna=False).idxmax()
            best = {"published": shared, **best, **dict.fromkeys(together, shared)}
        assert scale.rates[label] == best, label
        if label not in KEPT:
            own = scale.optimization(of(scale, label)).optimizer.learning_rate
            assert own == best.get("crop + color", best["published"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "label"), TRIED)
def test_two_steps_with_published_views(name, label):
    """The scale's encoder, heads, optimizer and views on eight random images of its size, two of more than 32 px."""
    scale = SCALES[name]()
    method, count = of(scale, label), 8 if scale.size == 32 else 2
    optimization = scale.optimization(method, batch=count, precision="float32")
    views = published_views(method, scale.size)
    training = scale.run(method, views=views, optimization=optimization).training
    data = random_images(scale.size, count)
    learner = build_learner(training, data).to(memory_format=torch.channels_last).train()
    optimizer = optimization.optimizer.build(learner)
    before = [parameter.clone() for parameter in learner.encoder.parameters()]
    images, labels, beside = first_batch(training, data)
    for step in range(2):
        progress = Progress(step, 0, step / 1000)
        found = take_step(learner, optimizer, (images, *(beside or [None])), labels, training, progress)
        learner.after_step(Progress(step + 1, 0, (step + 1) / 1000))
        assert math.isfinite(found["loss"])
    assert any(not torch.equal(was, now) for was, now in zip(before, learner.encoder.parameters(), strict=True))


def test_masked_methods_get_the_scales_transformer():
    scale = SCALES["imagenette"]()
    for method in scale.methods:
        encoder = scale.run(method, views=published_views(method, scale.size)).training.encoder
        assert (encoder == VIT_SMALL) == (method.label in ("MAE", "MSN", "PMSN", "SimMIM"))


def test_a_method_without_a_label_is_named():
    @dataclass(frozen=True, kw_only=True)
    class Unnamed(Method):
        pass

    with pytest.raises(InvalidSpec, match=r'Unnamed must have a label.* Write label = "Unnamed"'):
        SCALES["tiny"]().run(Unnamed(), views=((), ()))
