"""The published views of each method."""

import pytest
import torch
from helpers import small_training
from trainings import TRAININGS, VIT

from ablation import (
    MAE,
    MSN,
    PMSN,
    Blur,
    Color,
    Crop,
    InvalidSpec,
    PatchMask,
    Shapes,
    SimCLR,
    SimMIM,
    Solarize,
    Supervised,
)
from ablation.methods import Initialization
from ablation.operators.pipeline import make_views
from ablation.study.published_views import RECIPES, SIZES, published_views, two_views

METHODS = {name: each["method"] for name, each in TRAININGS.items() if name != "supervised"}


def test_two_views_are_those_that_a_method_masks():
    first, second = (Crop(),), (Color(),)
    assert two_views(SimCLR(), first, second) == (first, second)
    assert two_views(MSN(), first, second, 8) == (first, (*second, PatchMask(ratio=0.15, patch=8)))
    assert two_views(PMSN(), first, second)[0] == first
    assert two_views(MAE(), first, second) == ((*first, PatchMask(ratio=0.75, patch=4)),)
    assert two_views(SimMIM(), first, second) == ((*first, PatchMask(ratio=0.6, patch=4, block=8)),)


def test_every_method_has_views():
    assert {type(method) for method in METHODS.values()} == set(RECIPES)
    for method in (Supervised(), Initialization()):
        with pytest.raises(InvalidSpec, match=rf"no views of {type(method).__name__}.*views=\(view, view\)"):
            published_views(method, 32)
    with pytest.raises(InvalidSpec, match=r"published_views.size must be one of 32, 128, 224, but got 64"):
        published_views(METHODS["BYOL"], 64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", METHODS)
def test_views_fit_their_method(name, size):
    """In number, sizes and masks; images of each view come out."""
    method, views = METHODS[name], published_views(METHODS[name], size)
    encoder = VIT.replace(patch=4 if size == 32 else 16) if isinstance(method, MAE | MSN) or name == "SimMIM" else None
    data = Shapes(train=140, validation=40, test=60, size=size)
    small_training(method=method, views=views, dataset=data, **({"encoder": encoder} if encoder else {}))
    images = torch.randint(256, (2, 3, size, size), dtype=torch.uint8)
    made = make_views(images, (), views, (0,))
    small = {"SwAV", "DINO", "MSN", "PMSN"} if size > 32 else {"MSN", "PMSN"}
    side = {32: 16, 128: 64, 224: 96}[size] if name in small else 98 if (name, size) == ("LeJEPA", 224) else size
    assert [image.shape[-1] for image in made] == [size] * 2 + [side] * (len(views) - 2) or side == size
    assert side != size or {image.shape[-1] for image in made} == {size}
    assert all(image.min() >= 0 and image.max() <= 1 for image in made)


def test_blur_and_small_views_are_for_larger_images():
    for name, method in METHODS.items():
        kinds = {type(operator) for view in published_views(method, 32) for operator in view}
        assert (Blur in kinds) == (name == "EMP-SSL")
    assert len(published_views(METHODS["SwAV"], 32)) == 2
    assert len(published_views(METHODS["SwAV"], 128)) == 8
    second = published_views(METHODS["BYOL"], 32)[1]
    assert [type(operator).__name__ for operator in second] == ["CropFlip", "Color", "Solarize"]
    assert isinstance(second[-1], Solarize)
    names = [type(operator).__name__ for operator in published_views(METHODS["VICReg"], 128)[0]]
    assert names == ["CropFlip", "Color", "Solarize", "Blur"]
    assert sum(isinstance(o, PatchMask) for view in published_views(METHODS["MSN"], 32) for o in view) == 1
