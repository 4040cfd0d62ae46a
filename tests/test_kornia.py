"""Kornia's augmentations as operators, and the truth of docs/kornia.md."""

import json
import pickle
import random
import runpy
from concurrent.futures import ThreadPoolExecutor

import kornia
import kornia.augmentation as K
import numpy as np
import pytest
import torch
from helpers import ROOT, SMALL_EXPERIMENT, ablation, finished, small_training

from ablation.contracts.base import by_a_user, with_extremes
from ablation.contracts.operators import check_operator, check_views
from ablation.operators import Crop, FromKornia
from ablation.operators.pipeline import make_views
from ablation.spec import InvalidSpec, describe, identity
from ablation.spec.randomness import generator_at, global_draws_at
from ablation.study.experiment_file import load, read
from ablation.training.compile import compiled_transform

CPU = torch.device("cpu")
# Kinds of parameters: of an image, of a batch (order), the rows' own numbers, pixels, none, of the padded image.
MODULES = {
    "planckian": lambda: K.RandomPlanckianJitter(),
    "jitter": lambda: K.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "dropout": lambda: K.RandomChannelDropout(),
    "motion": lambda: K.RandomMotionBlur((3, 7), 35.0, 0.5),
    "salt": lambda: K.RandomSaltAndPepperNoise(),
    "invert": lambda: K.RandomInvert(),
    "crop": lambda: K.RandomCrop((32, 32), padding=4),
    "rotation": lambda: K.RandomRotation(15.0),
}


@pytest.fixture(params=MODULES)
def module(request):
    return MODULES[request.param]()


def tried(operator):
    stored = torch.randint(256, (13, 3, 32, 32), dtype=torch.uint8, generator=generator_at("test"))
    check_views(stored, (), ((operator,), ()))


def test_draws_and_pixels_are_kornias(module, images):
    """The module's draws under a seed, replayed under another seed, give the same result bit for bit."""
    operator = FromKornia(module)
    module.p = 1.0
    with global_draws_at(CPU, "seed"):
        theirs = module.forward_parameters(images.shape)
    ours = operator.augmentation.draw(8, 3, 32, "seed")
    assert ours
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    torch.manual_seed(99)
    assert torch.equal(operator.augmentation.replay(images, ours), module(images, params=theirs))


def test_what_it_draws_belongs_to_its_version():
    """Other numbers need another version: the id has both versions. tests/versions.json has no row for it,
    since a row would fit only one version of Kornia."""
    drawn = FromKornia(K.RandomRotation(15.0)).sample(8, 32, generator_at("version"))
    assert FromKornia.version == 1
    assert drawn["degrees"][:4].tolist() == pytest.approx([4.401, -5.823, -6.575, -5.973], abs=2e-3)


def test_the_contract_holds(module, images):
    check_operator(FromKornia(module, p=1.0), with_extremes((255 * images).byte()))


def test_global_generators_are_left_alone(module, images):
    states = lambda: (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: E731
    before = states()
    operator = FromKornia(module, p=1.0)
    operator.transform(images, operator.draw(8, 32, generator_at(1)))
    operator.describe(32)
    assert states() == before


def test_batches_made_together_are_those_made_alone(module, images):
    """Also if a batch shares a draw, and if the gate skips images."""
    operator = FromKornia(module, p=0.5)
    draws = [operator.draw(8, 32, generator_at(number)) for number in range(3)]
    apart = torch.cat([operator.transform(images, each) for each in draws])
    together = {name: torch.cat([each[name] for each in draws]) for name in draws[0]}
    torch.testing.assert_close(operator.transform(images.repeat(3, 1, 1, 1), together), apart, rtol=0, atol=2e-6)


def test_modules_probability_is_the_operators_gate(images):
    operator = FromKornia(K.RandomInvert(p=0.3))
    assert operator.p == 0.3
    assert FromKornia(K.RandomInvert(p=0.3), p=0.9).p == 0.9
    draws = operator.draw(8, 32, generator_at(3))
    assert 0 < draws["gate"].sum() < 8
    expected = torch.where(draws["gate"][:, None, None, None], 1 - images, images)
    assert torch.equal(operator.transform(images, draws), expected)


def test_pickled_and_in_threads_it_makes_the_same(module, images):
    operator = FromKornia(module, label="mine", p=1.0)
    other = pickle.loads(pickle.dumps(operator))
    assert (other, hash(other), identity(other)) == (operator, hash(operator), identity(operator))
    draws = [operator.draw(8, 32, generator_at(number)) for number in range(6)]
    expected = [operator.transform(images, each) for each in draws]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda each: other.transform(images, each), draws))
    assert all(map(torch.equal, made, expected))


def test_no_image_and_one_image(module):
    for p in (0.5, 1.0):
        operator = FromKornia(module, p=p)
        for count in (0, 1):
            draws = operator.draw(count, 32, generator_at(0))
            assert operator.transform(torch.rand(count, 3, 32, 32), draws).shape == (count, 3, 32, 32)


def test_inside_kornias_container(module, images):
    sequence = K.AugmentationSequential(FromKornia(module, p=0.5).module())
    first = sequence(images)
    assert first.shape == images.shape
    torch.testing.assert_close(sequence(images, params=sequence._params), first)


def test_masked_rows_and_compilers(module, images, monkeypatch):
    """As on a GPU: computes all rows, and does not compile Kornia's code."""
    operator = FromKornia(module, p=0.5)
    draws = operator.draw(8, 32, generator_at(3))
    expected = operator.transform(images, draws)
    assert torch.equal(compiled_transform()(operator, images, draws), expected)
    monkeypatch.setattr("ablation.operators.base.fixed_shapes", lambda images: True)
    torch.testing.assert_close(operator.transform(images, draws), expected, rtol=0, atol=2e-6)


def test_autocast_does_not_reach_it(images):
    operator = FromKornia(K.RandomGaussianBlur(5, (0.5, 2.0)), p=1.0)
    draws = operator.draw(8, 32, generator_at(3))
    plain = operator.transform(images, draws)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(operator.transform(images, draws), plain)


# --------------------------------------------------------------------------------------------------
# Identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: K.RandomGamma((0.5, 1.5)), lambda: K.RandomGamma((0.5, 1.4))),
        (lambda: K.RandomPlanckianJitter("blackbody"), lambda: K.RandomPlanckianJitter("CIED")),
        (lambda: K.RandomPlanckianJitter(), lambda: K.RandomPlanckianJitter(select_from=[1, 2])),
        (lambda: K.RandomThinPlateSpline(0.2), lambda: K.RandomThinPlateSpline(0.3)),
        (lambda: K.RandomAffine(15.0), lambda: K.RandomAffine(15.0, padding_mode="border")),
        (lambda: K.RandomPosterize(3), lambda: K.RandomPosterize((2, 4))),
        (lambda: K.RandomInvert(), lambda: K.RandomInvert(same_on_batch=True)),
        (lambda: K.RandomErasing(value=0.0), lambda: K.RandomErasing(value=0.5)),
        (lambda: K.ColorJitter(0.4, 0.4, 0.4, 0.1), lambda: K.ColorJitter(0.4, 0.4, 0.4, 0.1, order=[0, 1, 2, 3])),
        (lambda: K.RandomInvert(p=0.2), lambda: K.RandomInvert(p=0.3)),
        (lambda: K.RandomHorizontalFlip(), lambda: K.RandomVerticalFlip()),
        (lambda: K.RandomMotionBlur(3, 35.0, 0.5), lambda: K.RandomMotionBlur(3, 35.0, 0.5, resample="bilinear")),
    ],
)
def test_settings_are_the_identity(one, other):
    assert FromKornia(one()) == FromKornia(one())
    assert identity(FromKornia(one())) == identity(FromKornia(one()))
    assert identity(FromKornia(one())) != identity(FromKornia(other()))
    assert FromKornia(one()) != FromKornia(other())


def test_the_identity_is_made_of_plain_values():
    """Class, version and settings; no memory address, and no label."""
    operator = FromKornia(K.ColorJiggle(0.4, 0.4, 0.4, 0.1), label="mine")
    described = describe(operator)
    assert " at 0x" not in json.dumps(described)
    assert described["augmentation"]["name"] == "ColorJiggle"
    assert described["augmentation"]["kornia"] == kornia.__version__
    assert "brightness=0.4" in described["augmentation"]["settings"]
    assert identity(operator) == identity(operator.replace(label="other"))
    assert len({identity(operator.replace(**each)) for each in ({}, {"clamp": True}, {"channels": 1}, {"p": 0.5})}) == 4


def test_calls_and_changes_of_the_users_module_have_no_effect(module, images):
    operator = FromKornia(module)
    before = identity(operator)
    draws = operator.draw(8, 32, generator_at(0))
    pixels = operator.transform(images, draws)
    module(images)
    assert identity(FromKornia(module)) == before  # state from a call does not count
    module.p, module.flags = 0.0, {}
    assert torch.equal(operator.transform(images, draws), pixels)
    assert identity(operator) == before


def test_labels():
    assert FromKornia(K.RandomPlanckianJitter()).label == "planckian jitter"
    assert FromKornia(K.RandomPlanckianJitter(), label="p").label == "p"
    views = ((FromKornia(K.RandomInvert(), label="a"),), ())
    assert small_training(views=views).views[0][0].label == "a"
    assert by_a_user(small_training(views=views))


# --------------------------------------------------------------------------------------------------
# Strength, size, channels, range


def test_strength_scales_what_is_drawn():
    full = FromKornia(K.RandomRotation(15.0), p=1.0, scaled=(("degrees", 0.0),))
    half = full.replace(strength=0.5)
    one, other = (each.draw(9, 32, generator_at(4)) for each in (full, half))
    assert torch.equal(other["degrees"], one["degrees"] / 2)
    bright = FromKornia(K.RandomBrightness((0.5, 1.5)), scaled=(("brightness_factor", 1.0),))
    one, other = (each.sample(9, 32, generator_at(4)) for each in (bright, bright.replace(strength=0.5)))
    torch.testing.assert_close(other["brightness_factor"], 1 + (one["brightness_factor"] - 1) / 2)
    tried(half)
    assert identity(half) != identity(full)
    images = torch.rand(9, 3, 32, 32)
    assert torch.equal(full.replace(strength=0).transform(images, full.draw(9, 32, generator_at(4))), images)


def test_what_moves_pixels():
    moving = (K.RandomRotation(15.0), K.RandomElasticTransform(), K.RandomHorizontalFlip(), K.RandomThinPlateSpline())
    assert all(FromKornia(each).moves_pixels for each in moving)
    still = (K.RandomInvert(), K.RandomErasing(), K.RandomPlanckianJitter())
    assert not any(FromKornia(each).moves_pixels for each in still)


def test_another_size(images):
    crop = FromKornia(K.RandomResizedCrop((20, 20)))
    assert (crop.output_size(32), crop.output_size(64), crop.output_size(None)) == (20, 20, None)
    assert FromKornia(K.RandomInvert()).output_size(32) == 32
    (view,) = make_views((255 * images).byte(), (), ((crop,),), (0,))
    assert view.shape == (8, 3, 20, 20)
    tried(crop)
    with pytest.raises(InvalidSpec, match="p must be 1 if the size changes"):
        tried(crop.replace(p=0.5))
    with pytest.raises(InvalidSpec, match="same size, but got 20, 16 px"):
        small_training(views=((crop,), ()))


def test_another_size_where_rows_are_masked(images, monkeypatch):
    monkeypatch.setattr("ablation.operators.base.fixed_shapes", lambda images: True)
    crop = FromKornia(K.RandomResizedCrop((20, 20)))
    assert crop.transform(images, crop.draw(8, 32, generator_at(0))).shape == (8, 3, 20, 20)


def test_grey_images():
    grey = torch.rand(8, 1, 32, 32)
    noise = FromKornia(K.RandomSaltAndPepperNoise(), channels=1, p=1.0)
    assert noise.transform(grey, noise.draw(8, 32, generator_at(0))).shape == grey.shape
    three = noise.replace(channels=3)
    with pytest.raises(InvalidSpec, match=r"FromKornia.channels must be 1, .*images, but got 3.*channels=1"):
        three.transform(grey, three.draw(8, 32, generator_at(0)))
    with pytest.raises(InvalidSpec, match=r"RandomHue fails on images of shape \(1, 32, 32\)"):
        FromKornia(K.RandomHue((-0.1, 0.1)), channels=1).draw(8, 32, generator_at(0))


def test_what_leaves_the_range_is_refused_and_clipped_on_demand():
    noise = FromKornia(K.RandomGaussianNoise(), p=1.0)
    with pytest.raises(InvalidSpec, match=r"'gaussian noise'\): apply must return values in \[0, 1\].*clamp=True"):
        tried(noise)
    clipped = noise.replace(clamp=True)
    tried(clipped)
    assert identity(clipped) != identity(noise)
    images = torch.rand(8, 3, 32, 32)
    draws = noise.draw(8, 32, generator_at(0))
    assert torch.equal(clipped.transform(images, draws), noise.transform(images, draws).clamp(0, 1))


@pytest.fixture
def new_process(monkeypatch):
    monkeypatch.setattr("ablation.contracts.base._said", set())


@pytest.mark.usefixtures("new_process")
def test_a_draw_for_a_whole_batch_is_named(capsys):
    tried(FromKornia(K.ColorJitter(0.4, 0.4, 0.4, 0.1)))
    assert "'order' of 'color jitter' is one draw for the whole batch" in capsys.readouterr().err
    tried(FromKornia(K.RandomMotionBlur(3, 35.0, 0.5)))
    assert "one draw" not in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------
# Refusals


class Mine(K.RandomInvert):
    """A user's module, whose source is in no id."""


def undescribed():
    module = K.RandomInvert()
    module.flags["rule"] = object()
    return module


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FromKornia(K.AugmentationSequential(K.RandomInvert())), "got AugmentationSequential.*one by one"),
        (lambda: FromKornia(K.RandomMixUpV2()), "two-dimensional augmentation of Kornia, but got RandomMixUpV2"),
        (lambda: FromKornia(K.RandomRotation3D(15.0)), "but got RandomRotation3D"),
        (lambda: FromKornia(Mine()), "but got Mine.*as an Operator"),
        (lambda: FromKornia(Crop().module()), "but got KorniaOperator"),
        (lambda: FromKornia(K.RandomInvert), "but got type"),
        (
            lambda: FromKornia(K.RandomHorizontalFlip(p_batch=0.5)),
            "RandomHorizontalFlip has p_batch=0.5. Leave p_batch",
        ),
        (lambda: FromKornia(undescribed()), r"RandomInvert.rule is a object"),
        (lambda: FromKornia(K.RandomInvert(), strength=0.5), "FromKornia.strength must be 1.*scaled="),
        (lambda: FromKornia(K.RandomInvert(), channels=0), "FromKornia.channels"),
        (lambda: FromKornia(K.RandomInvert(), clamp=1), "FromKornia.clamp must be True or False"),
        (lambda: FromKornia(K.RandomInvert(), scaled=("degrees", 0.0)), "FromKornia.scaled must be a tuple of pairs"),
        (lambda: tried(FromKornia(K.RandomRotation(15.0), scaled=(("angle", 0.0),))), "RandomRotation draws degrees"),
        (
            lambda: tried(FromKornia(K.RandomPosterize(3), scaled=(("bits_factor", 8),))),
            "RandomPosterize draws nothing",
        ),
        (lambda: tried(FromKornia(K.RandomRain())), "RandomRain.*'coordinates_factor'.*number_of_drops"),
        (lambda: tried(FromKornia(K.RandomRain((9, 9), (40, 40)))), r"RandomRain fails on.*\(3, 32, 32\).*settings"),
        (lambda: tried(FromKornia(K.RandomResizedCrop((20, 24)))), r"square images.*\(3, 20, 24\)"),
    ],
)
def test_what_cannot_be_an_operator_is_named(make, words):
    with pytest.raises(InvalidSpec, match=words) as raised:
        make()
    assert "\n" not in str(raised.value)


# --------------------------------------------------------------------------------------------------
# In a grid, and its page

GRID = SMALL_EXPERIMENT + (
    """
import kornia.augmentation as K
from ablation import FromKornia


def experiment(scale):
    scale = small(scale)
    operators = (Crop(), FromKornia(K.RandomPlanckianJitter(), label="planckian"))
    cells = pairwise(operators, lambda view: scale.run(scale.simclr(), views=(view, ())), seeds=range(1))
    return Experiment(cells=cells, figures={"heatmap": Heatmap(rows="first", columns="second")})
"""
)


def test_it_stands_in_a_grid(tmp_path):
    (tmp_path / "grid.py").write_text(GRID)
    cells = load(read(str(tmp_path / "grid.py"), "tiny")).cells
    assert {cell.coords["first"] for cell in cells} == {"crop", "planckian"}
    assert len({identity(cell.run) for cell in cells}) == 4


@pytest.mark.slow
def test_it_trains_in_workers(tmp_path):
    (tmp_path / "grid.py").write_text(GRID)
    ablation("run", "grid.py", "--scale", "tiny", "--workers", "2", cwd=tmp_path)
    assert len(finished(tmp_path)) == 4


@pytest.fixture(scope="module")
def page():
    page = runpy.run_path(str(ROOT / "docs" / "kornia_page.py"))
    if f"Kornia {kornia.__version__}." not in page["PAGE"].read_text():
        pytest.skip("the page is of another version of Kornia")
    return page


def test_the_page_lists_every_augmentation(page):
    text = page["PAGE"].read_text()
    assert list(page["speeds_of"](text)) == page["names"]()
    assert all(f"`{name}`" in text for name in page["mixing"]())
    assert len(page["names"]()) > 50
    assert page["PICTURE"].stat().st_size < 200_000


def rows_of(page) -> dict[str, str]:
    lines = [line for line in page["PAGE"].read_text().splitlines() if line.startswith("| `")]
    return {line.split("`")[1]: line for line in lines}


@pytest.mark.parametrize("name", ["ColorJiggle", "RandomGaussianNoise", "RandomHue", "RandomRain", "RandomDissolving"])
def test_the_pages_rows_are_true(page, name):
    row = page["law"](name) | {"images/s": page["speeds_of"](page["PAGE"].read_text())[name]}
    assert rows_of(page)[name] == f"| {' | '.join(row.values())} |"


@pytest.mark.slow
def test_the_whole_page_is_true(page):
    text = page["PAGE"].read_text()
    assert page["page"](page["speeds_of"](text), page["processor_of"](text)) == text


def test_the_zoo_holds_every_augmentation_that_is_fast_enough(page):
    """Those that change an image's content; the page lists their speeds."""
    cells = load(read(str(ROOT / "experiments" / "kornia_zoo.py"), "cifar10-small")).cells
    zoo = {operator.augmentation.name for cell in cells for operator in cell.run.training.views[0][2:]}
    speeds = page["speeds_of"](page["PAGE"].read_text())
    random_ones = {name for name in page["names"]() if not page["QUIRKS"].get(name, "").startswith("nothing is random")}
    assert zoo == {name for name in random_ones if int(speeds[name].replace(",", "") or 0) >= 1000}
