"""The contract of all operators, and the law of each.

Statistical tests are seeded; without a seed, each would fail falsely with its stated probability.
"""

import colorsys
import math
import random
import statistics
from dataclasses import dataclass

import kornia
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from ablation import SimCLR, operators
from ablation.operators import (
    Blur,
    Color,
    ColorDrop,
    ColorJitter,
    Crop,
    CropFlip,
    Cutout,
    Flip,
    FromKornia,
    Noise,
    Operator,
    PatchMask,
    Resize,
    Rotate,
    Sobel,
    Solarize,
)
from ablation.operators.blur import effective_sigma, kernel_side
from ablation.operators.color import saturate_hsv, shift_hue
from ablation.operators.pipeline import make_views
from ablation.operators.resample import DENSE
from ablation.spec import InvalidSpec, check_sizes

OPERATORS = [
    Crop(),
    Crop(law="tensorflow", interpolation="bicubic"),
    CropFlip(),
    Flip(),
    ColorJitter(),
    ColorJitter(variant="simclr-additive"),
    ColorJitter(variant="torchvision"),
    ColorDrop(),
    Color(),
    Blur(),
    Blur(border="constant"),
    Cutout(),
    Cutout(fill="mean"),
    Sobel(),
    Rotate(),
    Noise(),
    Solarize(),
]
DRAWS = 20_000
Z = 4.5  # a two-sided test of a normal mean fails falsely with probability 7e-6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def apply(operator, images, seed=0):
    return operator.transform(images, operator.draw(len(images), images.shape[-1], generator(seed)))


def assert_mean(sample: torch.Tensor, expected: float) -> None:
    sample = sample.double()
    error = sample.std().item() / math.sqrt(len(sample))
    assert abs(sample.mean().item() - expected) < Z * error + 1e-9


def assert_uniform(sample: torch.Tensor, low: float, high: float) -> None:
    """Kolmogorov-Smirnov distance below 2.4 / sqrt(n): a false alarm has probability 2e-5."""
    ordered = ((sample.double() - low) / (high - low)).sort().values
    assert ordered[0] >= -1e-6
    assert ordered[-1] <= 1 + 1e-6
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    assert (ordered - steps).abs().max() < 2.4 / math.sqrt(len(ordered))


# --------------------------------------------------------------------------------------------------
# The contract


@pytest.mark.parametrize("operator", OPERATORS, ids=repr)
class TestContract:
    def test_shape_type_range(self, operator, images):
        for picture in (images, torch.zeros_like(images), torch.ones_like(images)):
            out = apply(operator, picture)
            assert out.shape == images.shape
            assert out.dtype == torch.float32
            assert out.isfinite().all()
            assert out.min() >= 0
            assert out.max() <= 1

    def test_input_is_left_alone(self, operator, images):
        before = images.clone()
        apply(operator, images)
        assert torch.equal(images, before)

    def test_same_draw_same_pixels(self, operator, images):
        assert torch.equal(apply(operator, images), apply(operator, images))

    def test_other_sizes(self, operator):
        for size in (16, 33, 96):
            picture = torch.rand(2, 3, size, size, generator=generator())
            assert apply(operator, picture).shape == picture.shape

    def test_identity_when_never_applied(self, operator, images):
        assert torch.equal(apply(operator.replace(p=0.0), images), images)

    def test_identity_at_strength_zero(self, operator, images):
        assert torch.equal(apply(operator.replace(strength=0.0), images), images)

    def test_images_are_independent(self, operator, images):
        """A row's result is the same alone, among others, and at another place."""
        params = operator.draw(len(images), 32, generator(3))
        whole = operator.transform(images, params)
        order = torch.tensor([5, 2, 7])
        part = operator.transform(images[order], {name: value[order] for name, value in params.items()})
        torch.testing.assert_close(part, whole[order], rtol=0, atol=2e-6)

    def test_autocast_does_not_reach_it(self, operator, images):
        """bfloat16 operators are wrong by up to 0.1."""
        plain = apply(operator, images)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(apply(operator, images), plain)

    def test_gate_is_drawn_per_image_and_costs_no_draws(self, operator, images):
        half = operator.replace(p=0.5)
        always, sometimes = operator.draw(DRAWS, 32, generator(1)), half.draw(DRAWS, 32, generator(1))
        for name in always:
            if name != "gate":
                assert torch.equal(always[name], sometimes[name])
        assert_mean(sometimes["gate"].float(), 0.5)
        draws = half.draw(8, 32, generator(2))
        full = operator.transform(images, {**draws, "gate": torch.ones(8, dtype=torch.bool)})
        mixed = half.transform(images, draws)
        gate = draws["gate"]
        assert 0 < gate.sum() < 8
        torch.testing.assert_close(mixed[gate], full[gate], rtol=0, atol=2e-6)
        assert torch.equal(mixed[~gate], images[~gate])

    def test_every_parameter_has_a_row_per_image(self, operator, images):
        assert all(len(value) == 7 for value in operator.draw(7, 32, generator()).values())

    def test_global_random_state_is_untouched(self, operator, images):
        before = torch.get_rng_state()
        apply(operator, images)
        assert torch.equal(torch.get_rng_state(), before)

    def test_inside_kornia(self, operator, images):
        sequence = kornia.augmentation.AugmentationSequential(operator.module(), operator.replace(p=0.5).module())
        torch.manual_seed(3)
        first = sequence(images)
        replayed = sequence(images, params=sequence._params)
        assert first.shape == images.shape
        assert first.min() >= 0
        assert first.max() <= 1
        torch.testing.assert_close(first, replayed)
        torch.manual_seed(3)
        assert torch.equal(sequence(images), first)

    def test_describes_itself(self, operator):
        assert len(operator.describe(32)) > 10


@pytest.mark.parametrize("operator", [Crop(size=20), CropFlip(size=20), Resize(size=20)], ids=repr)
def test_another_size_inside_kornia(operator, images):
    sequence = kornia.augmentation.AugmentationSequential(operator.module(), Blur().module())
    first = sequence(images)
    assert first.shape == (8, 3, 20, 20)
    torch.testing.assert_close(sequence(images, params=sequence._params), first)


def test_every_operator_says_what_it_takes_from_kornia():
    """And inside Kornia's containers: OPERATORS and Resize here, FromKornia in test_kornia.py."""
    known = {getattr(operators, name) for name in operators.__all__}
    known = {cls for cls in known if issubclass(cls, Operator) and cls is not Operator}
    assert known == {*map(type, OPERATORS), Resize, PatchMask, FromKornia}
    assert all("\n    Kornia: " in cls.__doc__ for cls in known - {FromKornia})


@pytest.mark.parametrize("operator", OPERATORS, ids=repr)
def test_bad_fields(operator):
    with pytest.raises(InvalidSpec, match=rf"{type(operator).__name__}.p must lie in \[0, 1\], but got 2.0"):
        operator.replace(p=2.0)
    with pytest.raises(InvalidSpec, match="strength"):
        operator.replace(strength=-1.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Crop(area=(1.0, 0.08)), "Crop.area must be a pair .smallest, largest.*Write the smaller"),
        (lambda: Crop(area=()), "Crop.area"),
        (lambda: Crop(law="pil"), "Crop.law must be one of 'torchvision', 'tensorflow', but got 'pil'"),
        (lambda: Crop(strength=1.0869), "Crop.strength"),
        (lambda: Blur(sigma=(2.0, 0.1)), "Blur.sigma"),
        (lambda: Noise(std=(0.2, 0.1)), "Noise.std"),
        (lambda: Cutout(area=0.0), "Cutout.area"),
        (lambda: Cutout(strength=5.0), "Cutout.strength"),
        (lambda: ColorJitter(hue=0.7), "ColorJitter.hue must lie in"),
        (lambda: ColorJitter(variant="x"), "ColorJitter.variant"),
        (lambda: Solarize(threshold=float("nan")), "Solarize.threshold"),
        (lambda: Sobel(strength=2.0), "Sobel.strength"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(InvalidSpec, match=words):
        make()


# --------------------------------------------------------------------------------------------------
# Addresses


def test_a_draw_does_not_change_with_another_operators_settings(images):
    stored = (images * 255).byte()
    for other in (Color(), Color(strength=0.3), Color(p=0.1), Blur()):
        views = make_views(stored, (Crop(),), ((other, Cutout()), (Rotate(),)), (0, 1, 2))
        if other == Color():
            first = views
        erased = (views[0] == 0.5).all(1)
        assert torch.equal(erased, (first[0] == 0.5).all(1))
        assert torch.equal(views[1], first[1])


def test_an_operator_that_works_in_place_harms_no_other_branch(images):
    class Darken(Operator):
        label = "darken"

        def sample(self, batch, size, generator):
            return {}

        def apply(self, images, params):
            return images.mul_(0.5)

    stored = (images * 255).byte()
    dark, plain = make_views(stored, (), ((Darken(),), ()), (0,))
    assert torch.equal(plain, stored.float() / 255)
    assert torch.equal(dark, plain / 2)


def test_addresses_differ(images):
    stored = (images * 255).byte()
    first, second = make_views(stored, (), ((Crop(),), (Crop(),)), (0, 0, 0))
    assert not torch.equal(first, second)
    again, _ = make_views(stored, (), ((Crop(),), (Crop(),)), (0, 0, 0))
    assert torch.equal(first, again)
    later, _ = make_views(stored, (), ((Crop(),), (Crop(),)), (0, 0, 1))
    assert not torch.equal(first, later)


# --------------------------------------------------------------------------------------------------
# Laws: geometry


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [32, DENSE + 3])  # matrices multiplied, rows copied
def test_crop_is_crop_then_resize(interpolation, size):
    """torch's antialiased interpolation is PIL's resize."""
    crop = Crop(interpolation=interpolation)
    images = torch.rand(8, 3, size, size, generator=generator())
    params = crop.draw(8, size, generator(5))
    out = crop.transform(images, params)
    for i in range(8):
        top, left, height, width = (int(params[n][i]) for n in ("top", "left", "height", "width"))
        box = images[i : i + 1, :, top : top + height, left : left + width]
        expected = interpolate(box, size=(size, size), mode=interpolation, antialias=True).clamp(0, 1)
        torch.testing.assert_close(out[i : i + 1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "out"), [(40, 24), (160, 128), (50, 16), (24, 40)])
@pytest.mark.parametrize("dense", [0, DENSE])
def test_a_crop_to_another_size_is_pils(interpolation, size, out, dense, monkeypatch):
    """PIL's resize of the cropped image, in its floating-point mode: boxes longer and shorter than the output."""
    monkeypatch.setattr("ablation.operators.resample.DENSE", dense)
    images = torch.rand(4, 3, size, size, generator=generator())
    law = Image.Resampling[interpolation.upper()]
    for operator in (Crop(size=out, interpolation=interpolation), Resize(size=out, interpolation=interpolation)):
        params = operator.draw(4, size, generator(5))
        whole = {"top": torch.zeros(4), "left": torch.zeros(4), "height": torch.full((4,), size)}
        boxes = {**whole, "width": whole["height"], **params}
        made = operator.transform(images, params)
        assert made.shape == (4, 3, out, out)
        for i in range(4):
            top, left, height, width = (int(boxes[n][i]) for n in ("top", "left", "height", "width"))
            for c in range(3):
                picture = Image.fromarray(images[i, c].numpy()).crop((left, top, left + width, top + height))
                expected = torch.from_numpy(np.array(picture.resize((out, out), law))).clamp(0, 1)
                torch.testing.assert_close(made[i, c], expected, rtol=0, atol=1e-5)


def test_a_size_that_is_the_images_changes_nothing(images):
    for interpolation in ("bilinear", "bicubic"):
        plain = apply(Crop(interpolation=interpolation), images)
        assert torch.equal(apply(Crop(interpolation=interpolation, size=32), images), plain)


def test_a_smaller_size_does_not_alias():
    """Stripes of one pixel become uniform grey; without a wider kernel, stripes would remain."""
    stripes = torch.arange(160).remainder(2).float().expand(1, 3, 160, 160)
    smaller = apply(Resize(size=80), stripes)
    assert (smaller[..., 2:-2] - 0.5).abs().max() < 1e-5
    assert (apply(Crop(size=80, strength=0.0), stripes) - smaller).abs().max() < 1e-6  # the box is the whole image


def test_where_the_size_changes_no_image_is_left_alone():
    with pytest.raises(InvalidSpec, match=r"Crop.p must be 1 if size is given, but got 0.5"):
        Crop(size=16, p=0.5)
    with pytest.raises(InvalidSpec, match=r"Resize.p must be 1, .* but got 0.5"):
        Resize(p=0.5)
    with pytest.raises(InvalidSpec, match=r"Crop.size must be a whole number of at least 1, but got 0"):
        Crop(size=0)


def test_another_size_in_every_container(images):
    """Masked rows (a GPU's way), Kornia's sequence, gradients."""
    for operator in (CropFlip(size=20), Resize(size=20)):
        made = apply(operator, images)
        compiled = torch.compile(lambda *a, o=operator: o.transform(*a), backend="eager", fullgraph=True, dynamic=False)
        torch.testing.assert_close(compiled(images, operator.draw(8, 32, generator())), made, rtol=0, atol=5e-6)
        assert kornia.augmentation.AugmentationSequential(operator.module())(images).shape == (8, 3, 20, 20)
        leaf = images.clone().requires_grad_()
        apply(operator, leaf).sum().backward()
        assert leaf.grad.isfinite().all()


def test_operators_after_a_crop_draw_for_its_size():
    """A square of a quarter of the cropped image, not of the stored one."""
    white = torch.full((50, 3, 64, 64), 255, dtype=torch.uint8)
    (view,) = make_views(white, (Crop(size=32),), ((Cutout(),),), (0,))
    assert view.shape == (50, 3, 32, 32)
    assert ((view[:, 0] < 0.9).sum((1, 2)).max()) == 16 * 16


def test_views_of_different_sizes(images):
    """The training refuses them if the data set states no size."""
    stored = (255 * images).byte()
    sizes = [view.shape[-1] for view in make_views(stored, (), ((Crop(size=20),), ()), (0,))]
    with pytest.raises(InvalidSpec, match=r"Training.views must have the same size, but got 20, 32 px.*Resize"):
        check_sizes(SimCLR(), sizes)
    assert [v.shape[-1] for v in make_views(stored, (), ((Crop(size=20),), (Resize(size=20),)), (0,))] == [20, 20]


def test_torchvision_boxes():
    p = Crop().draw(DRAWS, 224, generator())
    area, aspect = p["height"] * p["width"] / 224**2, p["width"] / p["height"]
    # Large boxes with a large aspect do not fit and are redrawn, so only small ones are uniform.
    small = area[(area > 0.1) & (area < 0.7)]
    assert_uniform(small, 0.1, 0.7)
    assert abs(aspect[area < 0.7].log().mean()) < 0.01
    assert aspect.max() < 4 / 3 + 0.03
    assert aspect.min() > 3 / 4 - 0.03
    for start, length in (("top", "height"), ("left", "width")):
        assert p[start].min() >= 0
        assert (p[start] + p[length]).max() <= 224


def test_tensorflow_crops_are_smaller():
    """Mean area and P(area < 0.25) at 32 px, against an independent simulation by plain loops (below)."""
    expected = {"torchvision": (0.49, 0.214), "tensorflow": tensorflow_by_hand()}
    for law, (mean, small) in expected.items():
        p = Crop(law=law).draw(DRAWS, 32, generator())
        area = p["height"] * p["width"] / 1024
        assert area.mean() == pytest.approx(mean, abs=0.012)
        assert (area < 0.25).float().mean() == pytest.approx(small, abs=0.015)
        assert (p["top"] + p["height"]).max() <= 32


def tensorflow_by_hand(draws=6000):
    """GenerateRandomCrop, one crop at a time, for a square image of 32 px and min_object_covered = 0.1."""
    rng, areas = random.Random(0), []
    while len(areas) < draws:
        aspect = rng.uniform(3 / 4, 4 / 3)
        low, high = round(math.sqrt(0.08 * 1024 / aspect)), round(math.sqrt(1024 / aspect))
        if round(high * aspect) > 32:
            high = int((32.5 - 1e-7) / aspect)
            high -= round(high * aspect) > 32
        high = min(high, 32)
        height = min(low, high)
        height += rng.randrange(high - height + 1)
        if round(height * aspect) * height < 0.08 * 1024:
            height += 1
        if round(height * aspect) * height > 1024:
            height -= 1
        width = round(height * aspect)
        if 0.1 * 1024 <= width * height <= 1024 and max(width, height) <= 32:
            areas.append(width * height / 1024)
    return statistics.mean(areas), statistics.mean(area < 0.25 for area in areas)


@pytest.mark.parametrize("dense", [0, DENSE])
def test_crop_flip_is_crop_then_flip(images, dense, monkeypatch):
    monkeypatch.setattr("ablation.operators.resample.DENSE", dense)
    params = CropFlip().draw(8, 32, generator(2))
    flip = params.pop("flip")
    expected = torch.where(
        flip[:, None, None, None], Crop().transform(images, params).flip(-1), Crop().transform(images, params)
    )
    torch.testing.assert_close(CropFlip().transform(images, {**params, "flip": flip}), expected, rtol=0, atol=1e-6)
    assert_mean(CropFlip().draw(DRAWS, 32, generator())["flip"].float(), 0.5)


def test_flip(images):
    params = Flip().draw(8, 32, generator(2))
    out = Flip().transform(images, params)
    for image, flipped, result in zip(images, params["flip"], out, strict=True):
        assert torch.equal(result, image.flip(-1) if flipped else image)
    assert_mean(Flip().draw(DRAWS, 32, generator())["flip"].float(), 0.5)


def test_rotation_is_exact_and_uniform_over_three_turns(images):
    params = Rotate().draw(8, 32, generator(1))
    out = Rotate().transform(images, params)
    for image, k, result in zip(images, params["turns"].tolist(), out, strict=True):
        assert torch.equal(result, image.rot90(k, (1, 2)))
    turns = Rotate().draw(DRAWS, 32, generator())["turns"]
    assert set(turns.tolist()) == {1, 2, 3}
    for k in (1, 2, 3):
        assert_mean((turns == k).float(), 1 / 3)
    assert_mean((Rotate(strength=0.4).draw(DRAWS, 32, generator())["turns"] > 0).float(), 0.4)


@pytest.mark.parametrize("operator", [Blur(), Noise(), Color(), Sobel(), Cutout()], ids=repr)
def test_rotation_commutes_in_law(operator, images):
    """Turning before or after gives the same distribution: for pointwise and isotropic operators
    the same result of each draw, for cutout and noise the same statistics over 20,000 draws (false alarm 7e-6 each)."""
    turns = {"gate": torch.ones(8, dtype=torch.bool), "turns": torch.full((8,), 1)}
    params = operator.draw(8, 32, generator(4))
    if isinstance(operator, (Blur, Color, Sobel)):
        one = Rotate().transform(operator.transform(images, params), turns)
        other = operator.transform(Rotate().transform(images, turns), params)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        return
    grey = torch.full((DRAWS, 3, 8, 8), 0.5) if isinstance(operator, Noise) else torch.ones(DRAWS, 3, 8, 8)
    out = apply(operator, grey)
    rotated = out.rot90(1, (2, 3))
    for statistic in (lambda x: x[:, 0, 0, 0], lambda x: x[:, 0, 2, 5], lambda x: x.std((1, 2, 3))):
        difference = (statistic(out) - statistic(rotated)).double()
        assert abs(difference.mean()) < Z * difference.std() / math.sqrt(DRAWS) + 1e-12


# --------------------------------------------------------------------------------------------------
# Laws: color


def test_jitter_factors():
    params = ColorJitter().draw(DRAWS, 32, generator())
    for name in ("brightness", "contrast", "saturation"):
        assert_uniform(params[name], 0.2, 1.8)
    assert_uniform(params["hue"], -0.2, 0.2)
    additive = ColorJitter(variant="simclr-additive").draw(DRAWS, 32, generator())
    assert_uniform(additive["brightness"], -0.8, 0.8)
    assert_uniform(ColorJitter(strength=0.25).draw(DRAWS, 32, generator())["contrast"], 0.8, 1.2)


def test_jitter_order_is_drawn_per_image():
    order = ColorJitter().draw(24_000, 32, generator())["order"]
    codes = (order * torch.tensor([1000, 100, 10, 1])).sum(1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == 24
    chi_square = ((counts - 1000.0) ** 2 / 1000).sum()
    assert chi_square < 71  # 23 degrees of freedom: a false alarm has probability 1e-6


def by_hand(image, factors, order, variant):
    """The jitter of one image, (3, H, W), by Python's colorsys and plain loops."""
    x = image.double().clone()
    for step in order:
        if step == 0:
            x = x + factors[0] if variant == "simclr-additive" else x * factors[0]
        elif step == 1 and variant == "torchvision":
            mean = (0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]).mean()
            x = factors[1] * x + (1 - factors[1]) * mean
        elif step == 1:
            x = torch.stack([(c - c.mean()) * factors[1] + c.mean() for c in x])
        elif step == 2 and variant == "torchvision":
            grey = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
            x = factors[2] * x + (1 - factors[2]) * grey
        else:
            for i in range(x.shape[1]):
                for j in range(x.shape[2]):
                    h, s, v = colorsys.rgb_to_hsv(*x[:, i, j].tolist())
                    if step == 2:
                        s = min(1.0, s * factors[2])
                    else:
                        h = (h + factors[3]) % 1
                    x[:, i, j] = torch.tensor(colorsys.hsv_to_rgb(h, s, v), dtype=torch.float64)
        x = x.clamp(0, 1)
    return x


@pytest.mark.parametrize("variant", ["simclr", "simclr-additive", "torchvision"])
def test_jitter_against_its_definition(variant, images):
    small = images[:, :, ::4, ::4].contiguous()
    jitter = ColorJitter(variant=variant)
    params = jitter.draw(8, 8, generator(6))
    out = jitter.transform(small, params)
    names = ("brightness", "contrast", "saturation", "hue")
    for i in range(8):
        factors = [params[name][i].item() for name in names]
        expected = by_hand(small[i], factors, params["order"][i].tolist(), variant)
        torch.testing.assert_close(out[i].double(), expected, rtol=0, atol=2e-5)


def test_color_steps_against_kornia(images):
    """Kornia's own functions, which follow torchvision, one factor per image."""
    factor = torch.linspace(0.2, 1.8, 8)
    hue = torch.linspace(-0.5, 0.5, 8)
    shifted = kornia.enhance.adjust_hue(images, hue * 2 * math.pi)
    torch.testing.assert_close(shift_hue(images, hue[:, None, None, None]), shifted, rtol=0, atol=1e-5)
    hsv = kornia.enhance.adjust_saturation(images, factor)
    torch.testing.assert_close(saturate_hsv(images, factor[:, None, None, None]), hsv, rtol=0, atol=1e-5)


def test_hue_keeps_grey_and_comes_back(images):
    grey = images.mean(1, keepdim=True).expand_as(images)
    turn = torch.full((8, 1, 1, 1), 0.3)
    torch.testing.assert_close(shift_hue(grey, turn), grey)
    torch.testing.assert_close(shift_hue(shift_hue(images, turn), -turn), images, rtol=0, atol=1e-5)
    red = torch.tensor([1.0, 0, 0])[None, :, None, None]
    green = shift_hue(red, torch.full((1, 1, 1, 1), 1 / 3))
    torch.testing.assert_close(green.flatten(), torch.tensor([0.0, 1, 0]), rtol=0, atol=1e-6)


def test_drop_is_luma(images):
    out = apply(ColorDrop(), images)
    torch.testing.assert_close(out, kornia.augmentation.RandomGrayscale(p=1.0)(images), rtol=0, atol=1e-6)
    luma = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    for channel in range(3):
        torch.testing.assert_close(out[:, channel], luma, rtol=0, atol=1e-6)


def test_color_is_jitter_then_drop_with_their_own_gates(images):
    params = Color().draw(8, 32, generator(9))
    own = {
        part: {n.removeprefix(f"{part}."): v for n, v in params.items() if n.startswith(part)}
        for part in ("jitter", "drop")
    }
    expected = ColorDrop(p=0.2).transform(ColorJitter(p=0.8).transform(images, own["jitter"]), own["drop"])
    assert torch.equal(Color().transform(images, params), expected)
    many = Color().draw(DRAWS, 32, generator())
    assert_mean(many["jitter.gate"].float(), 0.8)
    assert_mean(many["drop.gate"].float(), 0.2)


def test_solarize():
    ramp = torch.linspace(0, 1, 11).expand(1, 3, 11, 11).contiguous()
    out = apply(Solarize(), ramp)
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1, 0]))
    torch.testing.assert_close(out, kornia.enhance.solarize(ramp, 0.5))


# --------------------------------------------------------------------------------------------------
# Laws: neighbourhoods


def test_kernel_side():
    assert [kernel_side(size) for size in (32, 96, 224)] == [3, 9, 23]
    assert "identity" in Blur(strength=0.0).describe(32)
    assert "identity" in Blur().describe(16)
    assert effective_sigma(2.0, 32) == pytest.approx(0.80, abs=0.005)


@pytest.mark.parametrize("size", [32, 96])
def test_blur_against_kornia(size):
    picture = torch.rand(4, 3, size, size, generator=generator())
    params = Blur().draw(4, size, generator(1))
    out = Blur().transform(picture, params)
    sigma = params["sigma"][:, None].expand(4, 2)
    expected = kornia.filters.gaussian_blur2d(picture, (kernel_side(size),) * 2, sigma, "reflect")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    assert_uniform(Blur().draw(DRAWS, size, generator())["sigma"], 0.1, 2.0)


def test_cutout_squares():
    white = torch.ones(DRAWS, 3, 16, 16)
    params = Cutout().draw(DRAWS, 16, generator())
    erased = (Cutout().transform(white, params)[:, 0] == 0.5).float()
    # 8 px squares with a centre in [0, 16]: within 4 px of a border half of what lies beyond is lost, 2 px on average.
    side = statistics.mean([8] * 8 + [6] * 8)
    assert_mean(erased.mean((1, 2)), (side / 16) ** 2)
    rows, columns = erased.amax(2), erased.amax(1)
    assert torch.equal(erased, rows[:, :, None] * columns[:, None, :])
    assert rows.sum(1).max() == 8
    assert "0.19 on average after clipping" in Cutout().describe(32)


def test_cutout_mean_fill(images):
    out = apply(Cutout(fill="mean"), images)
    changed = (out != images).all(1)
    for i in range(8):
        inside = out[i][:, changed[i]]
        expected = images[i].mean((1, 2))[:, None].expand_as(inside)
        torch.testing.assert_close(inside, expected)


def test_sobel_against_its_definition(images):
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    gx = torch.nn.functional.conv2d(padded, kernel[None, None])
    gy = torch.nn.functional.conv2d(padded, kernel.T[None, None])
    expected = ((gx**2 + gy**2).sqrt() / math.sqrt(20)).view_as(images)
    torch.testing.assert_close(apply(Sobel(), images), expected, rtol=0, atol=1e-6)


def test_sobel_reaches_one():
    """The largest magnitude of all 3 x 3 images of zeros and ones is sqrt(20)."""
    patches = torch.tensor([[(n >> k) & 1 for k in range(9)] for n in range(512)]).float().view(512, 1, 3, 3)
    out = apply(Sobel(), patches.expand(512, 3, 3, 3))
    assert out[:, :, 1, 1].max() == pytest.approx(1.0, abs=1e-6)
    assert out.max() <= 1


def test_noise():
    grey = torch.full((64, 3, 32, 32), 0.5)
    params = Noise().draw(64, 32, generator())
    noise = Noise().transform(grey, params) - 0.5
    scaled = noise / params["std"][:, None, None, None]
    assert_mean(scaled.flatten(), 0.0)
    # 196,608 values: the standard error of the standard deviation is 0.0016.
    assert scaled.std().item() == pytest.approx(1.0, abs=Z * 0.0016)
    assert_uniform(Noise().draw(DRAWS, 32, generator())["std"], 0.05, 0.2)
    correlation = torch.corrcoef(scaled.flatten(1))
    off_diagonal = correlation[~torch.eye(64, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 6 / math.sqrt(3072)  # 2,016 pairs: a false alarm has probability 4e-6


def test_an_overridden_transform_is_what_training_uses():
    @dataclass(frozen=True, kw_only=True)
    class Black(Flip):
        def transform(self, images, params):
            return torch.zeros_like(images)

    stored = torch.full((4, 3, 8, 8), 200, dtype=torch.uint8)
    first, second = make_views(stored, (), ((Black(),), ()), (0,))
    assert first.max() == 0
    assert second.min() > 0


@pytest.mark.parametrize("operator", OPERATORS, ids=repr)
def test_gradients(operator):
    """As for Kornia's modules, also through the gate, for users' own containers."""
    images = torch.rand(9, 3, 32, 32, generator=generator()).requires_grad_()
    apply(operator.replace(p=0.5), images).sum().backward()
    assert torch.isfinite(images.grad).all()
    assert (images.grad.abs().amax((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("operator", OPERATORS, ids=repr)
@pytest.mark.parametrize("p", [1.0, 0.5])
def test_no_images_and_one_image(operator, p):
    operator = operator.replace(p=p)
    assert apply(operator, torch.zeros(0, 3, 32, 32)).shape == (0, 3, 32, 32)
    assert apply(operator, torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_views_in_pieces_are_those_of_the_batch(monkeypatch, images):
    """A CPU processes a large batch in pieces, each with its own rows of the draws."""
    stored = (255 * images).byte()
    shared, branches = (CropFlip(),), (tuple(o.replace(p=0.5) for o in OPERATORS), (Color(),))
    whole = make_views(stored, shared, branches, (0,))
    monkeypatch.setattr("ablation.operators.pipeline.CHUNK", 3 * images[0].numel())
    for one, other in zip(make_views(stored, shared, branches, (0,)), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", [ColorJitter, Color])
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_an_overridden_apply_is_honoured(kind, p, images):
    class Inverted(kind):
        def apply(self, images, params):
            return 1 - images

    operator = Inverted(p=p)
    draws = operator.draw(len(images), 32, generator(1))
    gate = draws["gate"][:, None, None, None]
    assert torch.equal(operator.transform(images, draws), torch.where(gate, 1 - images, images))


@pytest.mark.parametrize("allowed", ["high", "medium"])
def test_crop_is_exact_whatever_products_may_be(allowed, images):
    """The crop keeps full precision if the process rounds float32 products (`torch.set_float32_matmul_precision`)."""
    exact = apply(Crop(), images)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(allowed)
        assert torch.equal(apply(Crop(), images), exact)
        assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_float32_matmul_precision(before)


def test_no_images_give_no_views():
    (view,) = make_views(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), (), ((),), (0,))
    assert view.shape == (0, 3, 8, 8)
