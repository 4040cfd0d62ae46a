"""A user's class that breaks its contract is refused before training, with the rule, the observation and a cure."""

import copy
import random
import re
import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import SMALL, SMALL_EXPERIMENT, small_run, small_training
from PIL import Image
from torch import nn

from ablation.cli import main
from ablation.contracts.base import by_a_user
from ablation.contracts.learners import check_loss
from ablation.contracts.operators import check_views
from ablation.contracts.training import check_contracts
from ablation.data import Data, ImageData, Shapes, Split, loaded
from ablation.evaluate import Linear
from ablation.evaluate.base import Evaluation
from ablation.evaluate.evaluator import evaluate
from ablation.methods import Learner, Method, SimCLR
from ablation.methods.momentum import Momentum
from ablation.operators import Color, ColorJitter, Crop, Cutout, Noise, Operator, Resize, Sobel, Solarize
from ablation.operators.base import per_image, uniform
from ablation.spec import DataError, InvalidSpec, Spec
from ablation.training.loop import build_learner, compute_gradients, pretrain

STORED = torch.randint(256, (13, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def tried(operator: Operator) -> None:
    check_views(STORED, (), ((operator,), ()))


@dataclass(frozen=True, kw_only=True)
class Plain(Operator):
    """A valid user's operator; each one below breaks one rule."""

    label = "plain"

    def sample(self, batch, size, generator):
        return {"factor": uniform(batch, 0.5, 1.0, generator)}

    def apply(self, images, params):
        return images * per_image(params["factor"])


def plain(**methods) -> Operator:
    """A copy with other methods, as in a user's file, so that the class is not ours."""
    cls = type("Broken", (Plain,), {"__module__": __name__, **methods})
    return cls()


COUNT = [0.0]
OWN = np.random.default_rng(0)


def counting(self, images, params):
    COUNT[0] += 0.01
    return (images * 0.5 + COUNT[0]).clamp(0, 1)


def over_the_batch(self, images, params):
    return (images - images.mean()).abs().clamp(0, 1)


def stretched(self, images, params):
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low)  # 0 / 0 for a black image


def in_place(self, images, params):
    images.mul_(0.5)
    return images


OPERATORS = {
    "bytes": ({"apply": lambda s, x, p: (x * 255).to(torch.uint8)}, "apply must return float32.*uint8.*255"),
    "double": ({"apply": lambda s, x, p: x.double()}, "apply must return float32.*float64"),
    "too large": ({"apply": lambda s, x, p: x * 255}, r"values in \[0, 1\], but returned 0 to 255.*clamp"),
    "negative": ({"apply": lambda s, x, p: x * 3 - 1}, r"values in \[0, 1\], but returned -1 to 2"),
    "no number": ({"apply": stretched}, "finite numbers, but 2 of 16 images.*black"),
    "one row less": ({"apply": lambda s, x, p: x[..., 1:, :]}, r"shape \(16, 3, 16, 16\), but.*15, 16\).*output_size"),
    "grey": ({"apply": lambda s, x, p: x[:, :1]}, r"shape \(16, 3, 16, 16\)"),
    "an unknown name": (
        {"apply": lambda s, x, p: x * p["amount"]}, "apply may read only .*'amount', and sample returned 'factor'",
    ),
    "nothing": ({"apply": lambda s, x, p: None}, "apply must return images, but returned None.*return images"),
    "an array": ({"apply": lambda s, x, p: x.numpy()}, "apply must return images, but returned a ndarray"),
    "draws": ({"apply": lambda s, x, p: (x + torch.randn_like(x)).clamp(0, 1)}, "apply .*generator of torch.*`sample`"),
    "draws with NumPy": (
        {"apply": lambda s, x, p: (x * float(np.random.rand())).clamp(0, 1)}, "apply .*generator of NumPy",
    ),
    "draws with Python": ({"apply": lambda s, x, p: x * random.random()}, "apply .*generator of Python's random"),
    "a generator of its own": ({"apply": lambda s, x, p: x * float(OWN.random())}, "second call differs.*`sample`"),
    "state": ({"apply": counting}, "second call differs.*keep no state"),
    "mean of the batch": ({"apply": over_the_batch}, "another result alone .*last dimensions"),
    "a little of the batch": ({"apply": lambda s, x, p: x * 0.9 + 0.01 * x.mean()}, "another result alone"),
    "neighbour": ({"apply": lambda s, x, p: x.roll(1, 0) * 0.5}, "another result in another order"),
    "mixup": ({"apply": lambda s, x, p: (x + x.flip(0)) / 2}, "another result in another order"),
    "samples nothing": ({"sample": lambda s, b, n, g: None}, "sample must return a dict.*returned None.*return {}"),
    "samples numbers": ({"sample": lambda s, b, n, g: {"factor": 0.5}}, "'factor' is 0.5"),
    "one for all": ({"sample": lambda s, b, n, g: {"factor": torch.rand(1, generator=g)}}, r"\(16 here\).*\(1,\)"),
    "a scalar": ({"sample": lambda s, b, n, g: {"factor": torch.tensor(0.5)}}, r"'factor' is a tensor \(\)"),
    "global draws": ({"sample": lambda s, b, n, g: {"factor": torch.rand(b)}}, "sample .*generator of torch"),
    "a seed of its own": (
        {"sample": lambda s, b, n, g: {"factor": torch.rand(b, generator=torch.Generator().manual_seed(7))}},
        "sample must draw from .*generator.*another seed.*generator=generator",
    ),
    "a seed of its own for one of two": (
        {"sample": lambda s, b, n, g: {
            "factor": torch.rand(b, generator=torch.Generator().manual_seed(7)), "other": torch.rand(b, generator=g)
        }},
        "sample must draw from .*generator.*'factor' varies .*another seed",
    ),
    "own draws": (
        {"sample": lambda s, b, n, g: {"factor": torch.from_numpy(OWN.random(b)).float()}},
        "same numbers from the same seed, but 'factor' differs.*generator=generator",
    ),
    "a gate": ({"sample": lambda s, b, n, g: {"gate": torch.ones(b)}}, "must not return a draw named 'gate'"),
    "works in place": (
        {"transform": in_place, "draw": lambda s, b, n, g: {}}, "transform must not change its images.*copy",
    ),
    "no gate": ({"draw": lambda s, b, n, g: {}}, "draw must return the gate"),
    "size and p": (
        {"apply": lambda s, x, p: x[..., :8, :8], "output_size": lambda s, n: 8, "p": 0.5}, "p must be 1 if",
    ),
}  # fmt: skip


@pytest.mark.parametrize("error", [KeyError("mode"), KeyError()])
def test_a_key_error_of_its_own_is_not_explained_away(error):
    def fails(self, images, params):
        raise error

    with pytest.raises(KeyError) as raised:
        tried(plain(apply=fails))
    assert raised.value is error


@pytest.mark.parametrize("name", OPERATORS)
def test_a_broken_operator_is_named(name):
    methods, words = OPERATORS[name]
    operator = plain(**{key: value for key, value in methods.items() if key != "p"})
    if "p" in methods:
        operator = operator.replace(p=methods["p"])
    with pytest.raises(InvalidSpec, match=words) as raised:
        tried(operator)
    assert re.match(r"Broken \('plain'\): ", str(raised.value))
    assert "\n" not in str(raised.value)
    assert "learning rate" not in str(raised.value)


def rounded(self, images, params):
    """A threshold, which amplifies rounding."""
    return (images.float() @ torch.full((16, 16), 1 / 16) > 0.5).float()


@pytest.mark.parametrize(
    "operator",
    [
        Plain(),
        Plain(p=0.5),
        Plain(p=0.0),
        plain(apply=in_place),  # which gets a copy
        plain(apply=rounded),
        plain(apply=lambda s, x, p: x, sample=lambda s, b, n, g: {}),
        plain(apply=lambda s, x, p: nn.functional.avg_pool2d(x, 2), output_size=lambda s, n: n // 2),
        plain(apply=lambda s, x, p: x[:, :, :, torch.arange(15, -1, -1)]),
        type("Mine", (Noise,), {"__module__": __name__})(strength=0.5),
        type("Mine", (Color,), {"__module__": __name__})(),
        type("Mine", (Resize,), {"__module__": __name__})(size=8),
    ],
    ids=repr,
)
def test_a_sound_operator_passes_and_leaves_everything_alone(operator):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    check_views(STORED, (), ((operator,),))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    """Clears this process's memory of warnings and comparisons."""
    for name in ("base._said", "learners._seeded", "learners._viewed"):
        monkeypatch.setattr(f"ablation.contracts.{name}", set())
    monkeypatch.setattr("ablation.contracts.operators._first", {})
    monkeypatch.setattr("ablation.evaluate.evaluator._repeated", set())


def test_an_operator_that_changes_nothing_is_named_once(capsys):
    nothing = plain(apply=lambda self, images, params: images)
    for _ in range(2):
        tried(nothing)
    assert capsys.readouterr().err.count("'plain' changes none of 16 images") == 1
    tried(plain())
    assert capsys.readouterr().err == ""


def test_an_operator_that_makes_one_color_is_named(capsys):
    tried(plain(apply=lambda self, images, params: images.mean((1, 2, 3), keepdim=True).expand_as(images).clone()))
    assert "'plain' makes every image one color" in capsys.readouterr().err


@pytest.mark.parametrize("divisor", [255, 20])
def test_an_operator_that_darkens_everything_is_named(divisor, capsys):
    tried(plain(apply=lambda self, images, params: images / divisor))
    assert re.search("'plain' .*darker than 0.1.*255", capsys.readouterr().err)


def test_an_operator_that_saturates_everything_is_named(capsys):
    """Noise with a deviation meant for 0 to 255."""

    def apply(self, images, params):
        return (images + 25 * params["a"].view(-1, 1, 1, 1) * torch.linspace(-1, 1, images.shape[-1])).clamp(0, 1)

    def sample(self, batch, size, generator):
        return {"a": torch.randn(batch, generator=generator)}

    tried(plain(apply=apply, sample=sample))
    assert re.search(r"9\d% of the values from 'plain'.*divide them by 255", capsys.readouterr().err)


DARKENING = [Solarize(), Solarize(threshold=0.1), Cutout(), ColorJitter(), Noise(), Sobel()]


@pytest.mark.parametrize("operator", DARKENING, ids=repr)
def test_an_operator_of_its_own_law_is_no_dark_one(operator, capsys):
    tried(type("Mine", (type(operator),), {"__module__": __name__})(**vars(operator)))
    assert capsys.readouterr().err == ""


def dimmed(self, images, params):
    return images * (1 - self.p / 2) * per_image(params["factor"])


SECOND_GATES = {
    "a mask": {"sample": lambda s, b, n, g: {"factor": (torch.rand(b, generator=g) < s.p).float()}},
    "in apply": {"apply": dimmed},
    "another key": {"sample": lambda s, b, n, g: {"factor": torch.rand(b, generator=g), f"at {s.p}": torch.ones(b)}},
}  # fmt: skip


@pytest.mark.parametrize("how", [*SECOND_GATES, "none"])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_a_probability_that_counts_twice_is_named(how, p, capsys):
    """At p = 1 the error has no effect yet."""
    tried(plain(**SECOND_GATES.get(how, {})).replace(p=p))
    assert ("base class already applies p" in capsys.readouterr().err) == (how != "none" and p < 1)


def test_a_gate_of_its_own_counts_once(capsys):
    def draw(self, batch, size, generator):
        return {"gate": torch.rand(batch, generator=generator) < self.p, **self.sample(batch, size, generator)}

    def transform(self, images, params):
        return torch.where(per_image(params["on"]), 1 - images, images)

    tried(plain(draw=draw).replace(p=0.3))
    on = lambda self, batch, size, generator: {"on": torch.rand(batch, generator=generator) < self.p}  # noqa: E731
    tried(plain(draw=on, transform=transform).replace(p=0.3))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "drawn",
    [
        lambda self, batch, size, generator: {"factor": torch.rand(1, generator=generator).expand(batch)},
        lambda self, batch, size, generator: {"factor": torch.full((batch,), torch.rand((), generator=generator))},
        lambda self, batch, size, generator: {"gate_of_all": (torch.randn(1, generator=generator) > 0).repeat(batch)},
    ],
)
def test_one_draw_for_a_batch_is_named(drawn, capsys):
    tried(plain(sample=drawn, apply=lambda self, images, params: 1 - images))
    assert "is one draw for the whole batch" in capsys.readouterr().err


def test_a_constant_and_a_rare_draw_are_none_for_a_batch(capsys):
    tried(plain(sample=lambda self, batch, size, generator: {"factor": torch.full((batch,), 0.5)}))
    rare = lambda self, batch, size, generator: {"factor": (torch.rand(batch, generator=generator) < 0.05).float()}  # noqa: E731
    tried(plain(sample=rare, apply=lambda self, images, params: 1 - images * per_image(1 - params["factor"])))
    assert "one draw" not in capsys.readouterr().err


def test_a_folder_that_changes_between_runs_of_a_process_is_no_operator_that_changes(tmp_path, monkeypatch):
    """As in a notebook."""
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
    for seed in range(2):
        for number in range(40):
            pixels = np.random.default_rng([seed, number]).integers(0, 100 + 100 * seed, (16, 16, 3), dtype=np.uint8)
            (tmp_path / "set" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "set" / "ab"[number % 2] / f"{number}.png")
        data_set = ImageData(path=str(tmp_path / "set"), test=0.2, validation=0.2)
        training = small_training(dataset=data_set, views=((plain(),), ()))
        check_contracts(training, data_set.load(), lambda: None)


def test_an_operator_that_changes_between_runs_of_a_process_is_named():
    """A counter that passes its limit between two runs shows in neither."""
    calls = [0]
    dimming = plain(apply=lambda self, images, params: images * (0.5 if calls[0] else 1))
    trained(views=((dimming,), ()))
    calls[0] = 1
    with pytest.raises(InvalidSpec, match=r"'plain'.*same result.*, but in a later run"):
        trained(views=((dimming,), ()), seed=1)


def test_an_operator_is_tried_on_what_those_before_it_make():
    """At the size of the previous result, inside other operators, and in every branch."""
    broken = plain(apply=lambda s, x, p: x * 2)
    for shared, views in [
        ((broken,), ((), ())),
        ((), ((), (Crop(size=8), broken))),
        ((Color(jitter=type("Mine", (ColorJitter,), {"__module__": __name__, "apply": lambda *_: None})()),), ((),)),
    ]:
        with pytest.raises(InvalidSpec, match=r"Broken \('plain'\)|Mine \('jitter'\)"):
            check_views(STORED, shared, views)
    sizes = []
    seen = plain(apply=lambda s, x, p: sizes.append(x.shape[-1]) or x)
    check_views(STORED, (), ((Crop(size=8), seen),))
    assert set(sizes) == {8}


def test_only_a_users_classes_are_tried(monkeypatch):
    assert not by_a_user(small_run())
    assert by_a_user(small_training(views=((Plain(),), ())))
    assert by_a_user(Color(jitter=type("Mine", (ColorJitter,), {"__module__": __name__})()))
    data = loaded(SMALL, "cpu")
    monkeypatch.setattr("ablation.contracts.training.check_views", lambda *_: pytest.fail("ours was tried"))
    check_contracts(small_training(), data, lambda: pytest.fail("it was built"))


# --------------------------------------------------------------------------------------------------
# Before the first step


def trained(**changes) -> None:
    pretrain(small_training(**changes), loaded(SMALL, "cpu"))


def test_training_tries_an_operator_first(monkeypatch):
    monkeypatch.setattr("ablation.training.loop.compute_gradients", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(InvalidSpec, match=r"Broken \('plain'\): apply must return values in \[0, 1\]"):
        trained(views=((Crop(), plain(apply=lambda s, x, p: x + 1)), ()))


class Rare(Plain):
    """Not finite for one image in thirty, none in the first batch."""

    def sample(self, batch, size, generator):
        return {"draw": torch.rand(batch, generator=generator)}

    def apply(self, images, params):
        return torch.where(per_image(params["draw"]) > 0.97, torch.nan, images)


def test_an_operator_whose_numbers_fail_later_is_named_and_the_rate_is_not(monkeypatch):
    monkeypatch.setattr("ablation.training.loop.check_contracts", lambda *_: None)
    for views in ((Crop(), Rare()), ()), ((), (Rare(),)):
        with pytest.raises(InvalidSpec, match=r"Rare \('plain'\): apply must return finite numbers.*batch \d"):
            trained(views=views)
    with pytest.raises(InvalidSpec, match="Rare"):
        trained(shared=(Rare(),), views=((), ()))


LATER = []


@pytest.mark.parametrize("where", ["shared", "views", "inside another"])
def test_an_operator_that_changes_while_it_trains_is_named_at_the_end(where, monkeypatch):
    def step(*given):
        LATER.append(True)
        return compute_gradients(*given)

    LATER.clear()
    monkeypatch.setattr("ablation.training.loop.compute_gradients", step)
    operator = plain(apply=lambda self, images, params: 1 - images if LATER else images)
    operator = Both(inner=operator) if where == "inside another" else operator
    shared, views = ((operator,), ((), ())) if where == "shared" else ((), ((operator,), ()))
    with pytest.raises(InvalidSpec, match=r"(Broken|Both) \('plain'\): .*always .*same result.*clock"):
        trained(shared=shared, views=views)
    assert LATER


@dataclass(frozen=True, kw_only=True)
class Both(Plain):
    """An operator that contains another one."""

    inner: Operator

    def sample(self, batch, size, generator):
        return {}

    def apply(self, images, params):
        return self.inner.apply(images, params)


@dataclass(frozen=True, kw_only=True)
class Of24(Plain):
    """An encoder for images of one size."""

    def apply(self, images, params):
        return images * torch.ones(24)


def test_an_operator_is_compared_on_the_images_that_those_before_it_make():
    trained(views=((Resize(size=24), Of24()), (Resize(size=24),)))


@dataclass(frozen=True, kw_only=True)
class MyEncoder(Spec):
    """Whatever `make` builds."""

    label = "mine"
    make: str = "sound"

    def build(self):
        body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        body.features = 4
        if self.make == "no features":
            del body.features
        elif self.make == "features as text":
            body.features = "4"
        elif self.make == "another dimension":
            body.features = 5
        elif self.make == "a map":
            body = nn.Conv2d(3, 4, 3)
            body.features = 4
        elif self.make == "fixed size":
            body = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
            body(torch.zeros(2, 3, 8, 8))
            body.features = 4
        elif self.make == "no number":
            body.append(Called(lambda x: x / 0))
        elif self.make == "dropout":
            body.append(Called(lambda x: nn.functional.dropout(x + 1, 0.5, training=True)))
        elif self.make == "NumPy":
            body[0].weight.data.copy_(torch.from_numpy(np.random.randn(4, 3, 3, 3)))
        elif self.make == "a seed":
            torch.manual_seed(0)
            body[0].reset_parameters()
        elif self.make == "a fixed start":
            body[0].weight.data.copy_(torch.linspace(-1, 1, 108).view(4, 3, 3, 3))
        elif self.make == "neighbours":
            body.append(Called(lambda x: (x - x.mean(0)) / (x.std(0) + 1e-5)))
        elif self.make == "another order":
            body.append(Called(lambda x: x.flip(0)))
        elif self.make == "tied":
            layer = nn.Linear(4, 4)
            body.extend([layer, layer])
        elif self.make == "nothing":
            return None
        return body


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            "no features",
            r"MyEncoder \('mine'\): build\(\) must .* `features`.*Sequential has none.*encoder.features = ",
        ),
        ("features as text", "features = '4'"),
        ("another dimension", r"shape \(32, 5\), but returned a tensor \(32, 4\)"),
        ("a map", r"shape \(32, 4\), but returned a tensor \(32, 4, 14, 14\).*flatten"),
        ("no number", "finite numbers"),
        ("dropout", "evaluation mode the encoder must give the same h.*self.training"),
        ("neighbours", "h of each image from that image alone"),
        ("another order", "h of each image from that image alone"),
        ("NumPy", "same weights for the same seed, but encoder.0.weight differs.*torch"),
        ("a seed", "MyEncoder.*must keep torch's seed, .*manual_seed"),
        ("tied", r"MyEncoder \('mine'\): .*weights of the learner's encoder.*own tensor"),
        ("nothing", r"build\(\) must return a torch.nn.Module, but returned None"),
    ],
)
def test_a_broken_encoder_is_named(make, words):
    with pytest.raises(InvalidSpec, match=words):
        trained(encoder=MyEncoder(make=make))


def test_weights_that_are_the_same_for_every_seed_are_named_once(capsys):
    """Like a pretrained network; the spread over seeds then misses the initialization."""
    for seed in range(2):
        trained(encoder=MyEncoder(make="a fixed start"), seed=seed)
    assert capsys.readouterr().err.count("MyEncoder: all seeds start with equal weights") == 1
    trained(encoder=MyEncoder())
    assert "equal weights" not in capsys.readouterr().err


def test_an_encoder_that_cannot_take_the_whole_images_fails_before_the_training(monkeypatch):
    monkeypatch.setattr("ablation.training.loop.compute_gradients", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trained(encoder=MyEncoder(make="fixed size"), views=((Crop(size=8),), (Crop(size=8),)))


@dataclass(frozen=True, kw_only=True)
class MyMethod(Method):
    label = "mine"

    def build(self, encoder, classes):
        return MyLearner(encoder, nn.Linear(encoder.features, 3))


class MyLearner(Learner):
    pass


def test_a_method_that_builds_no_learner_is_named(monkeypatch):
    monkeypatch.setattr(MyMethod, "build", lambda self, encoder, classes: nn.Sequential(encoder))
    with pytest.raises(InvalidSpec, match=r"MyMethod \('mine'\): build\(.* must return a Learner.*inherit"):
        trained(method=MyMethod())


def test_a_head_that_does_not_fit_the_encoder_is_named(monkeypatch):
    build = lambda self, encoder, classes: MyLearner(encoder, nn.Linear(7, 3))  # noqa: E731
    monkeypatch.setattr(MyMethod, "build", build)
    with pytest.raises(InvalidSpec, match=r"MyMethod \('mine'\): project .*multiplied.* 16 features.*encoder.features"):
        trained(method=MyMethod())


@pytest.mark.parametrize("name", ["metrics", "branches"])
def test_what_a_method_states_does_not_belong_in_its_learner(monkeypatch, name):
    monkeypatch.setattr(MyLearner, name, ("cosine",), raising=False)
    with pytest.raises(
        InvalidSpec, match=rf"MyMethod .*'{name}'.* MyLearner does. Move the line to the class MyMethod"
    ):
        trained(method=MyMethod())


class Near(MyLearner):
    def loss(self, views, labels):
        one, other = self.embed(views)
        apart = (one - other).square().mean()
        return apart, {"apart": apart.detach()}


def test_a_sound_method_trains_as_if_it_was_not_tried(monkeypatch):
    monkeypatch.setattr(MyMethod, "build", lambda self, encoder, classes: Near(encoder, nn.Linear(encoder.features, 3)))
    data, training = loaded(SMALL, "cpu"), small_training(method=MyMethod(), encoder=MyEncoder())
    tried = pretrain(training, data).history
    monkeypatch.setattr("ablation.training.loop.check_contracts", lambda *_: None)
    assert tried == pretrain(training, data).history
    assert tried[0]["apart"] == tried[0]["loss"]


class Detached(Near):
    """Trains only its head."""

    def loss(self, views, labels):
        z = self.head(self.encoder(torch.cat(views)).detach())
        return z.square().mean(), {}


class Copied(Near):
    """Trains another encoder than the evaluated one."""

    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        self.other = copy.deepcopy(encoder)

    def loss(self, views, labels):
        return self.head(self.other(torch.cat(views))).square().mean(), {}


class Once(Near):
    """Uses the first view twice."""

    def loss(self, views, labels):
        return super().loss([views[0], views[0] * 0.9], labels)


class Coupled(Near):
    """Embeds both views as one batch, but uses only the first."""

    def loss(self, views, labels):
        first, _ = self.embed(views)
        return (first - first.roll(1, 0)).square().mean() / (1 + first.var()), {}


def test_a_view_that_no_loss_reads_is_named(monkeypatch, capsys):
    def said(learner):
        monkeypatch.setattr(
            MyMethod, "build", lambda self, encoder, classes: learner(encoder, nn.Linear(encoder.features, 3))
        )
        trained(method=MyMethod())
        return capsys.readouterr().err

    assert "MyMethod: the loss does not depend on view 2 of 2" in said(Once)
    monkeypatch.setattr("ablation.contracts.learners._viewed", set())
    assert "view" not in said(Near)
    monkeypatch.setattr("ablation.contracts.learners._viewed", set())
    assert "depends on view 2 of 2 only through the statistics of batch norm" in said(Coupled)


def test_views_are_tried_once_for_a_method(monkeypatch):
    """As in the cells of a grid."""
    built = []
    monkeypatch.setattr(
        MyMethod, "build", lambda self, encoder, classes: built.append(1) or Near(encoder, nn.Linear(4, 3))
    )
    counts = []
    for seed in range(2):
        trained(method=MyMethod(), encoder=MyEncoder(), seed=seed)
        counts.append(len(built))
    assert counts[1] - counts[0] < counts[0] - 2  # skips the learners for three losses and for two seeds


class Hidden(Near):
    """Has a layer in a plain list."""

    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        self.layers = [nn.Linear(3, 3)]

    def loss(self, views, labels):
        return self.layers[0](self.head(self.encoder(torch.cat(views)))).square().mean(), {}


class Nothing(Near):
    """Its gradient is 0."""

    def loss(self, views, labels):
        apart, metrics = super().loss(views, labels)
        return apart.detach() + 0 * apart, metrics


class Private(Near):
    """Draws from its own, unseeded generator."""

    def loss(self, views, labels):
        apart, metrics = super().loss(views, labels)
        return apart * random.Random().random(), metrics


class Seeding(Near):
    """Drops the same units at every step."""

    def loss(self, views, labels):
        torch.manual_seed(0)
        apart, metrics = super().loss(views, labels)
        return nn.functional.dropout(apart.expand(100), 0.1).mean(), metrics


class Counted(Near):
    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        self.seen = 0

    def after_step(self, progress):
        self.seen += 1


class Queued(Near):
    """Negatives in a plain tensor."""

    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        self.queue = torch.zeros(4, 3)

    def loss(self, views, labels):
        self.queue = torch.cat([self.queue[1:], self.project(views[0])[:1].detach()])
        apart, metrics = super().loss(views, labels)
        return apart + self.queue.mean(), metrics


class Unsaved(Near):
    """Negatives in a buffer that a checkpoint leaves out."""

    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        self.register_buffer("queue", torch.zeros(4, 3), persistent=False)
        self.register_buffer("table", torch.arange(5), persistent=False)  # constant, so it may be left out

    def after_step(self, progress):
        self.queue.add_(1)


class Teaching(Near):
    """A teacher in a list."""

    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        self.teacher = [copy.deepcopy(head).requires_grad_(False)]

    def after_step(self, progress):
        with torch.no_grad():
            self.teacher[0].weight.lerp_(self.head.weight, 0.1)


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        (Detached, r"every parameter of the encoder a gradient, but (\d+) of \1 get none.*detach"),
        (Copied, r"every parameter of the encoder a gradient, but (\d+) of \1 get none.*copy"),
        (Nothing, "steps must change the encoder's weights, but 3 steps change none.*factors of 0"),
        (Private, r"same for the same weights, views and draws, but it differs by up to \d.*torch's functions"),
        (Seeding, "a step must keep torch's seed.*manual_seed"),
        (Counted, r"learner.seen changes from step to step and is not in the checkpoint.*register_buffer"),
        (Queued, r"learner.queue changes from step to step"),
        (Unsaved, r"learner.queue changes from step to step and is not in the checkpoint"),
        (Teaching, r"learner.teacher changes from step to step"),
        (Hidden, r"2 are in none of its modules .shape .*\(3, 3\).*nn.ModuleList"),
    ],
)
def test_a_loss_that_does_not_train_the_encoder_is_named(learner, words, monkeypatch):
    monkeypatch.setattr(
        MyMethod, "build", lambda self, encoder, classes: learner(encoder, nn.Linear(encoder.features, 3))
    )
    with pytest.raises(InvalidSpec, match=rf"MyMethod \('mine'\): .*{words}"):
        trained(method=MyMethod())


class Sometimes(Near):
    """Returns a metric in the first step only."""

    def loss(self, views, labels):
        apart, metrics = super().loss(views, labels)
        first, self.seen = not hasattr(self, "seen"), True
        return apart, metrics if first else {}


class Tied(Near):
    """Two names for one tensor."""

    def __init__(self, encoder, head):
        super().__init__(encoder, nn.ModuleDict({"a": head, "b": head}))

    def project(self, images):
        return self.head["a"](self.encoder(images))


class Unsaved(Near):
    """Evaluates a teacher with two names for one tensor."""

    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        self.teacher = Momentum(encoder, nn.Sequential(head, nn.Linear(3, 3), nn.Linear(3, 3)))
        self.teacher.copies[1][2].weight = self.teacher.copies[1][1].weight

    def evaluated(self):
        return self.teacher.copies


class Alone(Near):
    def evaluated(self):
        return self.head


class Tokens(Near):
    """Evaluates an encoder that keeps the places of an image."""

    def evaluated(self):
        return nn.Sequential(self.encoder, nn.Unflatten(1, (2, -1))), self.head


class WithExtraState(nn.Linear):
    def get_extra_state(self):
        return {"seen": 1}

    def set_extra_state(self, state):
        pass


class Extra(Near):
    def __init__(self, encoder, head):
        super().__init__(encoder, WithExtraState(head.in_features, head.out_features))


class Beside(Near):
    """Keeps learned values outside state_dict."""

    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        self.centre = torch.zeros(3)

    def loss(self, views, labels):
        apart, metrics = super().loss(views, labels)
        self.centre = self.centre + 1
        return apart, metrics

    def project(self, images):
        return super().project(images) - self.centre


class Ending(Beside):
    """Changes only at the end."""

    loss = Near.loss

    def after_step(self, progress):
        if progress.fraction == 1:
            self.centre = self.centre + 1


class Earlier(Beside):
    """Changes between the backward pass and the optimizer's step."""

    loss = Near.loss

    def before_update(self, progress):
        self.centre = self.centre + 1


class Named(Near):
    def loss(self, views, labels):
        apart, _ = super().loss(views, labels)
        return apart, {"alignment": apart.detach()}


class Buffered(Beside):
    def __init__(self, encoder, head):
        super().__init__(encoder, head)
        del self.centre
        self.register_buffer("centre", torch.zeros(3))


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        (Sometimes, "same metrics at every step.*returned apart and then none"),
        (Tied, "weights of the learner's head, but.*memory"),
        (Unsaved, "weights of the evaluated head, but.*memory"),
        (Alone, r"evaluated\(\) must return an encoder and a head.*but returned a Linear"),
        (Tokens, r"the evaluated encoder must return floating-point numbers of shape \(61, dimension\), but returned"),
        (Extra, "weights of the learner's head, but.*contiguous"),
        (Beside, r"learner.centre changes from step to step"),
        (Earlier, r"learner.centre changes from step to step"),
        (Ending, r"stored with the weights, but z differs by up to \d.*register_buffer"),
        (Named, "names of columns, but one is named 'alignment'"),
        (Buffered, None),
    ],
)
def test_what_cannot_be_kept_is_named(learner, words, monkeypatch):
    monkeypatch.setattr(
        MyMethod, "build", lambda self, encoder, classes: learner(encoder, nn.Linear(encoder.features, 3))
    )
    with pytest.raises(InvalidSpec, match=words) if words else nullcontext():
        trained(method=MyMethod())


def test_an_encoder_that_is_frozen_on_purpose_passes(monkeypatch):
    def build(self, encoder, classes):
        return Near(encoder.requires_grad_(False), nn.Linear(encoder.features, 3))

    monkeypatch.setattr(MyMethod, "build", build)
    trained(method=MyMethod())


LOSS = torch.ones((), requires_grad=True)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (LOSS, r"loss must return \(loss, metrics\).*returned a tensor \(\).*return loss, {}"),
        ((LOSS, None), "None"),
        ((LOSS.expand(3), {}), r"a tensor \(3,\).*mean"),
        ((torch.ones(()), {}), "without a gradient"),
        ((LOSS * float("nan"), {}), "finite number, but it is nan on the first batch"),
        ((LOSS, {"accuracy": 0.5}), "'accuracy' is 0.5"),
        ((LOSS, {"accuracy": LOSS * 2}), r"'accuracy' is a tensor \(\) .* with a gradient.*detach"),
        ((LOSS, {"accuracy": torch.ones(3)}), r"'accuracy' is a tensor \(3,\)"),
        ((LOSS, {"loss": torch.ones(())}), "names of columns, but one is named 'loss'"),
    ],
    ids=range(9),
)
def test_a_broken_loss_is_named(returned, words):
    with pytest.raises(InvalidSpec, match=rf"(?s)MyMethod \('mine'\): .*{words}"):
        check_loss(MyMethod(), returned)
    check_loss(MyMethod(), (LOSS, {"accuracy": torch.ones(())}))


@pytest.mark.parametrize("stated", [("apart", "agreement"), ("part",)])
def test_metrics_that_a_class_states_are_those_of_its_loss(stated, monkeypatch):
    """Else a figure of a metric that does not exist would be refused only after the training."""
    monkeypatch.setattr(MyMethod, "build", lambda self, encoder, classes: Near(encoder, nn.Linear(encoder.features, 3)))
    monkeypatch.setattr(MyMethod, "metrics", stated)
    with pytest.raises(InvalidSpec, match=r"MyMethod.*the metrics that the class states, but `metrics` has (ap|p)art"):
        trained(method=MyMethod())
    monkeypatch.setattr(MyMethod, "metrics", ("apart",))
    trained(method=MyMethod())


class Slow(torch.optim.SGD):
    """Keeps weights outside state_dict."""

    slow = None

    def step(self, closure=None):
        super().step(closure)
        self.slow = self.param_groups[0]["params"][0].detach().clone()


@dataclass(frozen=True, kw_only=True)
class MyOptimizer(Spec):
    of: str = "others"
    learning_rate: float | None = None

    def build(self, module):
        if self.of == "others":
            return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        if self.of == "the head's rate":  # differs from the encoder's
            groups = [{"params": module.head.parameters()}, {"params": module.encoder.parameters(), "lr": 0.5}]
            return torch.optim.SGD(groups, lr=self.learning_rate)
        parts = {"head": module.head, "no rate": module, "another rate": module, "slow weights": module}
        if self.of not in parts:
            return self.of
        kind = Slow if self.of == "slow weights" else torch.optim.SGD
        rate = {"no rate": 0.0, "another rate": 0.5}.get(self.of, 1e-3)
        return kind(parts[self.of].parameters(), lr=rate)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("others", "learner's own parameters.*module.parameters"),
        ("none", "must return a torch.optim.Optimizer.*'none'"),
        ("another rate", "the field learning_rate, which tables .*it is 0.003 and the groups have 0.5"),
        ("no rate", "steps must change the encoder's weights"),
        ("slow weights", "optimizer.slow changes from step to step.*self.state"),
        ("head", r"every parameter.*\d+ of \d+ are in none, among them encoder\..*requires_grad"),
    ],
)
def test_a_broken_optimizer_is_named(of, words):
    optimizer = MyOptimizer(of=of, learning_rate=0.003 if of == "another rate" else None)
    optimization = small_training().optimization.replace(optimizer=optimizer)
    with pytest.raises(InvalidSpec, match=f"MyOptimizer: .*{words}"):
        trained(optimization=optimization)


def test_a_rate_that_the_encoder_does_not_have_is_named(capsys):
    optimizer = MyOptimizer(of="the head's rate", learning_rate=0.003)
    trained(optimization=small_training().optimization.replace(optimizer=optimizer))
    assert "captions show the rate 0.003, but the encoder has [0.5]" in capsys.readouterr().err


@dataclass(frozen=True, kw_only=True)
class MySchedule(Spec):
    label = "mine"
    shape: str

    def factor(self, step, steps):
        return SCHEDULES[self.shape][0](step / steps)


SCHEDULES = {
    "absolute": (lambda at: 3e-4 + at * 2, r"from 0 to 1, but returned 1\.\d+ at step \d+ of \d+"),
    "negative": (lambda at: 0.5 - at, "returned -0"),
    "nan": (lambda at: float("nan"), "returned nan at step 0"),
    "tensor": (lambda at: torch.tensor(1.0), "returned a tensor .*Python float"),
    "nothing": (lambda at: None, "returned None"),
    "zero": (lambda at: 0.0, "returned 0 at all"),
    "random": (lambda at: random.random(), "random numbers must be.*Python's random"),
    "clock": (lambda at: time.perf_counter() % 1, "same for the same step"),
}


@pytest.mark.parametrize("shape", SCHEDULES)
def test_a_broken_schedule_is_named(shape, monkeypatch):
    monkeypatch.setattr("ablation.training.loop.compute_gradients", lambda *_: pytest.fail("a step was taken"))
    optimization = small_training().optimization.replace(schedule=MySchedule(shape=shape))
    with pytest.raises(InvalidSpec, match=rf"MySchedule \('mine'\): .*{SCHEDULES[shape][1]}"):
        trained(optimization=optimization)


def test_a_schedule_that_never_has_the_stated_rate_is_named(monkeypatch, capsys):
    monkeypatch.setitem(SCHEDULES, "small", (lambda at: 1e-3 * (1 - at), ""))
    trained(optimization=small_training().optimization.replace(schedule=MySchedule(shape="small")))
    assert "its largest factor is 0.001, so no step reaches the rate" in capsys.readouterr().err


BROKEN = (
    SMALL_EXPERIMENT
    + """
@dataclass(frozen=True, kw_only=True)
class Late(Operator):
    label = "late"

    def sample(self, batch, size, generator):
        return {}

    def apply(self, images, params):
        return images + 1

def experiment(scale):
    scale = small(scale)
    make = lambda view: scale.run(scale.method(SimCLR), views=(view, ()))
    return Experiment(cells=pairwise((Crop(), Late()), make, seeds=range(1)), figures={})
"""
)


@pytest.mark.parametrize(
    "command", [["run", "question.py", "--dry-run"], ["preview", "question.py"]], ids=lambda c: c[0]
)
def test_a_dry_run_and_a_preview_try_it_too(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place(BROKEN))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert re.search(
        r"question.py: Late \('late'\): apply must return values in \[0, 1\], but returned 1 to 2\. .*clamp", said
    )
    assert "Traceback" not in said


# --------------------------------------------------------------------------------------------------
# Evaluations


@dataclass(frozen=True, kw_only=True)
class MyEvaluation(Evaluation):
    name = "mine"

    def evaluate(self, features):
        return RETURNED[0](features)


RETURNED = [None]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda f: {"test_top1": 1.0}, r"must return \(metrics, predictions, notes\), but returned a dict"),
        (lambda f: ({"test_top1": torch.tensor(1.0)}, {}, []), r"'test_top1' is a tensor \(\).*item"),
        (lambda f: ({"test_top1": np.float32(1)}, {}, []), "'test_top1' is a float32"),
        (lambda f: ({"test_top1": float("inf")}, {}, []), "'test_top1' is inf"),
        (lambda f: ({1: 1.0}, {}, []), "1 is 1.0"),
        (lambda f: ({}, {"test": f.labels["test"].float()}, []), "'test' is a tensor .* of float32"),
        (lambda f: ({}, {"test": f.labels["test"][:-1]}, []), r"'test' is a tensor \(59,\) .* for 60 images"),
        (lambda f: ({}, {"exam": f.labels["test"]}, []), r"splits \(train, validation, test\).*'exam'"),
        (lambda f: ({}, {"test": f.labels["test"] + 3}, []), "from 0 to 9, but 'test' holds 3 to 12"),
        (lambda f: ({}, {"test": f.labels["test"] - 1}, []), "from 0 to 9, but 'test' holds -1 to 8"),
        (lambda f: ({}, {"test": f.labels["test"].repeat(2) + 40_000}, []), "from 0 to 32767"),
        (lambda f: ({}, {"test": f.labels["test"].numpy()}, []), "'test' is a ndarray"),
        (lambda f: ({"test_top1": 99.0}, {"test": f.labels["test"] * 0}, []), r"in percent, but it is 99, and 6 of 60"),
        (
            lambda f: ({"test_top1": 1.0}, {"test": f.labels["test"]}, []),
            "is 1, and 60 of 60 predictions are right, 100",
        ),
        (lambda f: ({}, {}, "a note"), "notes as a list of strings, but returned 'a note'"),
    ],
    ids=range(15),
)
def test_a_broken_evaluation_is_named(returned, words):
    RETURNED[0] = returned
    data = loaded(SMALL, "cpu")
    encoder = small_training().encoder.build()
    with pytest.raises(InvalidSpec, match=rf"MyEvaluation \('mine'\): .*{words}"):
        evaluate([MyEvaluation()], encoder, data, "float32")


@pytest.mark.parametrize("statistics", [("ema",), ("running", "tuned"), "running", (), ("running", "running"), None])
def test_unknown_statistics_are_refused_when_the_run_is_built(statistics):
    """Their columns could not be read, or no features exist for them."""
    cls = type("Mine", (MyEvaluation,), {"__module__": __name__, "statistics": statistics})
    words = rf"Run.evaluations\[0\]: Mine.statistics must be some of .*but got {re.escape(repr(statistics))}. Write"
    with pytest.raises(InvalidSpec, match=words):
        small_run().replace(evaluations=(cls(),))


@pytest.mark.parametrize("statistics", [("tuned",), ("recalibrated",), ("recalibrated", "running")])
def test_known_statistics_are_taken(statistics):
    cls = type("Mine", (MyEvaluation,), {"__module__": __name__, "statistics": statistics})
    small_run().replace(evaluations=(cls(),))


def test_a_sound_evaluation_passes():
    """Not-a-number means that the metric was not measured."""
    predicted = torch.arange(60) % 10
    RETURNED[0] = lambda f: ({"test_top1": float("nan"), "n": 3}, {"test": predicted}, ["a note"])
    [found] = evaluate([MyEvaluation()], small_training().encoder.build(), loaded(SMALL, "cpu"), "float32")
    assert found.metrics["n_running"] == 3


def test_an_evaluation_that_draws_where_no_seed_reaches_is_named():
    encoder, data = small_training().encoder.build(), loaded(SMALL, "cpu")
    for draw in (lambda f: np.random.default_rng().random(), lambda f: random.Random().random()):
        RETURNED[0] = lambda f, draw=draw: ({"score": draw(f)}, {}, [])
        for _ in range(2):  # also in the next cell
            with pytest.raises(InvalidSpec, match=r"Repeated.*same result for.*'score' differs.*features.seed"):
                evaluate([Repeated(draw=str(draw))], encoder, data, "float32")
    RETURNED[0] = lambda f: ({}, {"test": torch.randint(10, (60,), generator=torch.Generator().manual_seed(0))}, [])
    evaluate([Repeated()], encoder, data, "float32")
    seeds = iter(range(9))
    RETURNED[0] = lambda f: (
        {}, {"test": torch.randint(10, (60,), generator=torch.Generator().manual_seed(next(seeds)))}, []
    )  # fmt: skip
    with pytest.raises(InvalidSpec, match="'test' differs at a second call"):
        evaluate([Repeated(draw="another")], encoder, data, "float32")
    RETURNED[0] = lambda f: ({"images_per_second": 1 / time.perf_counter()}, {}, [])  # a measurement may vary
    evaluate([Repeated(draw="a clock")], encoder, data, "float32")
    RETURNED[0] = lambda f: ({"a": torch.rand(()).item(), "b": random.random(), "c": np.random.rand()}, {}, [])
    evaluate([Repeated(draw="of the global generators")], encoder, data, "float32")


@dataclass(frozen=True, kw_only=True)
class Repeated(MyEvaluation):
    draw: str = ""


@pytest.mark.parametrize(("value", "named"), [(0.15, True), (15.0, False), (0.0, False)])
@pytest.mark.parametrize(("name", "is_accuracy"), [("test_top1", True), ("test_acc", True), ("jaccard", False)])
def test_an_accuracy_that_reads_like_a_share_of_one_is_named(value, named, name, is_accuracy, capsys):
    RETURNED[0] = lambda f: ({name: value}, {}, [])
    evaluate([MyEvaluation()], small_training().encoder.build(), loaded(SMALL, "cpu"), "float32")
    said = f"{name} is at most 1. If it is a fraction, multiply it by 100" in capsys.readouterr().err
    assert said == (named and is_accuracy)


@pytest.mark.parametrize(("value", "named"), [(100.5, True), (-0.1, True), (100.0, False), (0.0, False)])
@pytest.mark.parametrize(("name", "is_accuracy"), [("test_top1", True), ("val_acc", True), ("gain", False)])
def test_an_accuracy_outside_of_0_to_100_is_named_once(value, named, name, is_accuracy, capsys):
    RETURNED[0] = lambda f: ({name: value}, {}, [])
    for _ in range(2):
        evaluate([MyEvaluation()], small_training().encoder.build(), loaded(SMALL, "cpu"), "float32")
    said = capsys.readouterr().err.count(f"MyEvaluation: {name} is {value:g}, but an accuracy is 0 to 100 percent")
    assert said == (named and is_accuracy)


def nearest(h, bank, labels):
    return labels[torch.cdist(h, bank).argmin(1)]


def of_train(f):
    return nearest(f.h["test"], f.h["train"], f.labels["train"])


def of_test(f):
    return nearest(f.h["test"], f.h["test"], f.labels["test"])


def of_the_data(f):
    return nearest(f.h["test"], f.h["test"], f.data.test.labels)


def scored(f, predicted):
    return {"test_top1": 100 * (predicted == f.labels["test"]).double().mean().item()}


@pytest.mark.parametrize("predict", [of_test, of_the_data])
def test_an_evaluation_that_predicts_from_test_labels_is_refused(predict, capsys):
    encoder, data = small_training().encoder.build(), loaded(SMALL, "cpu")
    RETURNED[0] = lambda f: (scored(f, predict(f)), {"test": predict(f)}, [])
    with pytest.raises(
        InvalidSpec, match=r"MyEvaluation \('mine'\): .*without their labels, but .* \d+ of 60 .*change\. .*train and"
    ):
        evaluate([MyEvaluation()], encoder, data, "float32")
    RETURNED[0] = lambda f: (scored(f, predict(f)), {}, [])
    evaluate([MyEvaluation()], encoder, data, "float32")
    assert "MyEvaluation: test_top1 is 100, and 100 with other test labels" in capsys.readouterr().err


@pytest.mark.parametrize("with_predictions", [True, False])
def test_an_evaluation_may_compare_with_test_labels(with_predictions, capsys):
    """Also if it is correct everywhere."""
    for number, predict in enumerate((of_train, lambda f: loaded(SMALL, "cpu").test.labels)):
        RETURNED[0] = lambda f, predict=predict: (
            scored(f, predict(f)), {"test": predict(f)} if with_predictions else {}, []
        )  # fmt: skip
        evaluate([Repeated(draw=str(number))], small_training().encoder.build(), loaded(SMALL, "cpu"), "float32")
    assert capsys.readouterr().err == ""


def test_a_representation_that_has_collapsed_is_noted():
    encoder = small_training().encoder.build()
    [usual] = evaluate([Linear()], encoder, loaded(SMALL, "cpu"), "float32")
    assert not any("collapsed" in note for note in usual.notes)
    for parameter in encoder.parameters():
        nn.init.zeros_(parameter)
    [found] = evaluate([Linear()], encoder, loaded(SMALL, "cpu"), "float32")
    assert "h is the same for all test images: it has collapsed" in found.notes


@dataclass(frozen=True, kw_only=True)
class Shown(MyEvaluation):
    operators: tuple = ()


def test_operators_of_an_evaluation_are_tried_before_it():
    RETURNED[0] = lambda f: pytest.fail("it was evaluated")
    evaluation = Shown(operators=(Crop(), plain(apply=lambda s, x, p: x * 2)))
    with pytest.raises(InvalidSpec, match=r"Broken \('plain'\): apply must return values"):
        evaluate([evaluation], small_training().encoder.build(), loaded(SMALL, "cpu"), "float32")


# --------------------------------------------------------------------------------------------------
# Data sets


class MyData(Shapes):
    def load(self):
        data = super().load()
        return CHANGED[0](data)


CHANGED = [None]


def changed(data, images=None, labels=None):
    """With another test split."""
    test = Split(data.test.images if images is None else images, data.test.labels if labels is None else labels)
    return Data(data.train, data.validation, test, data.classes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.train, "must return a Data, but returned a Split"),
        (lambda d: changed(d, images=d.test.images.float() / 255), r"uint8.*test.images is .* of torch.float32"),
        (lambda d: changed(d, images=d.test.images[..., :8]), r"test.images is \(60, 3, 16, 8\)"),
        (lambda d: changed(d, d.test.images[:0], d.test.labels[:0]), "at least one in each split"),
        (lambda d: changed(d, labels=d.test.labels[:-1]), r"a label .*test.labels is \(59,\)"),
        (lambda d: changed(d, labels=d.test.labels + 1), "labels from 0 to 9, .* those of test are 1 to 10"),
        (lambda d: changed(d, labels=d.test.labels - 1), "those of test are -1 to 8"),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_broken_data_set_is_named(change, words):
    CHANGED[0] = change
    loaded.cache_clear()
    with pytest.raises(DataError, match=rf"MyData \('shapes'\): load\(\) .*{words}"):
        loaded(MyData(train=140, validation=40, test=60, size=16), "cpu")


# --------------------------------------------------------------------------------------------------
# When the spec is built


@dataclass(frozen=True, kw_only=True)
class Listed(Plain):
    values: object = ()


@dataclass
class Thawed:
    label = "thawed"

    def build(self):
        return None


class NoLabel(Operator):
    def apply(self, images, params):
        return images


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small_training(encoder="resnet50"), r"Training.encoder must have.*'resnet50'.*ResNet\(depth=50\)"),
        (lambda: small_training(encoder=MyEncoder), r"Training.encoder must be an object.*write MyEncoder\(\.\.\.\)"),
        (lambda: small_training(encoder=nn.Linear(3, 3)), "Training.encoder must have label, build, but Linear"),
        (lambda: small_training(encoder=Thawed()), "Training.encoder must be frozen, but Thawed.*frozen=True"),
        (lambda: small_training(method="simclr"), r"Training.method must have.*'simclr'.*SimCLR\(\)"),
        (lambda: small_training(method=SimCLR), r"Training.method.*Write SimCLR\("),
        (lambda: small_training(dataset="cifar10"), "Training.dataset must have label, load.*'cifar10'.*ImageData"),
        (
            lambda: small_training(optimization=small_training().optimization.replace(optimizer="adam")),
            "Optimization.optimizer must have build, but 'adam'.*AdamW",
        ),
        (lambda: small_training(views=((NoLabel(),), ())), r"Training.views\[0\]\[0\] must have label.*label = "),
        (lambda: small_training(views=((Listed(values=[1]),), ())), r"Listed.values must be frozen.* \[1\].*tuple"),
        (lambda: small_training(shared=(Listed(values={"a": 1}),)), "Listed.values must be frozen.*pairs"),
        (lambda: small_run().replace(evaluations=("knn",)), r"Run.evaluations\[0\] must have label.*'knn'.*KNN\(\)"),
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_part_of_a_run_is_refused_when_it_is_built(make, words):
    with pytest.raises(InvalidSpec, match=words):
        make()


def test_a_learner_is_built_as_before():
    """Checking the encoder changes no weight."""
    training = small_training()
    learner = build_learner(training, loaded(SMALL, "cpu"))
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            learner.state_dict().values(),
            build_learner(training, loaded(SMALL, "cpu")).state_dict().values(),
            strict=True,
        )
    )


def test_a_wrong_kind_of_batch_norm_is_refused():
    with pytest.raises(InvalidSpec, match=r"Learner: batch_norm must be 'joint' or 'separate', but got 'seperate'"):
        Learner(nn.Identity(), nn.Identity(), "seperate")
