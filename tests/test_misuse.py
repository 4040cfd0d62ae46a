"""What a method cannot take is refused when the run is built: each message names object, value and cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kornia.augmentation as K
import pytest
from helpers import numbers, small_training
from trainings import HEAD, LARGE, MASKED, MSN_VIEWS, SMALLER, TRAININGS, VIT

from ablation import (
    Crop,
    CropFlip,
    Flip,
    FromKornia,
    ImageData,
    Initialization,
    InvalidSpec,
    PatchMask,
    Queue,
    Resize,
    Rotate,
    SmallResNet,
    SMoG,
    SwAV,
)
from ablation.spec import check_sizes

MASK = PatchMask(ratio=0.15)
MASKED_LARGE = (*LARGE, MASK)
RESNET = SmallResNet(channels=4)


def training(name: str, **changes: Any) -> Callable:
    """The method's training with changes."""
    return lambda: small_training(**TRAININGS[name] | changes)


def method(name: str, **changes: Any) -> Callable:
    return lambda: TRAININGS[name]["method"].replace(**changes)


CALLED = {name: type(each["method"]).__name__ for name, each in TRAININGS.items()}
MULTI_CROP = {name: getattr(each["method"], "multi_crop", False) for name, each in TRAININGS.items()}
SEVERAL = [name for name in TRAININGS if name not in ("MAE", "SimMIM", "supervised")]  # that need several views
UNMASKED = [name for name in TRAININGS if name not in ("MAE", "SimMIM", "MSN", "PMSN")]

# (what is wrong, how to write it, what the message names)
CASES: list[tuple[str, Callable, tuple[str, ...]]] = [
    *(
        (f"{name}, one view", training(name, views=TRAININGS[name].get("views", (LARGE,))[:1]),
         ("Training.views", CALLED[name], "2 views", "got 1", "views=(view, view)"))
        for name in SEVERAL
    ),
    *(
        (f"{name}, two views", training(name, views=2 * TRAININGS[name]["views"]),
         ("Training.views", name, "1 view,", "got 2", "views=(view,)"))
        for name in ("MAE", "SimMIM")
    ),
    *(
        (f"{name}, views of two sizes", training(name, views=((Crop(),), SMALLER)),
         ("Training.views", CALLED[name], "16, 8 px", "(Resize(size=128),)"))
        for name in UNMASKED if not MULTI_CROP[name]
    ),
    *(
        (f"{name}, one large view", training(name, views=((Crop(),), SMALLER)),
         ("Training.views", CALLED[name], "16, 8 px", "two views of 16 px first"))
        for name in UNMASKED if MULTI_CROP[name]
    ),
    *(
        (f"{name}, the small view first", training(name, views=(SMALLER, LARGE, LARGE)),
         ("Training.views", CALLED[name], "8, 16, 16 px", "two views of 16 px first"))
        for name in UNMASKED if MULTI_CROP[name]
    ),
    ("MSN, the small view first", training("MSN", views=(SMALLER, MASKED_LARGE, LARGE)),
     ("Training.views", "MSN", "8, 16, 16 px", "two views of 16 px first")),
    # Patches
    ("patches beyond the border", training("SimCLR", encoder=VIT.replace(patch=5)),
     ("ViT.patch", "16 px", "5", "patch=4")),
    ("patches larger than the image", training("SimCLR", encoder=VIT.replace(patch=32)),
     ("ViT.patch", "16 px", "32", "patch=16")),
    ("patches that a small view has not", training("DINO", encoder=VIT, views=(LARGE, LARGE, (Crop(size=6),))),
     ("ViT.patch", "6 px", "4", "patch=3")),
    ("blocks beyond the border", training("SimMIM", views=((Crop(), PatchMask(block=12)),)),
     ("PatchMask.block", "16 px", "12", "Change it")),
    *(
        (f"{name} with a ResNet", training(name, encoder=RESNET),
         ("Training.encoder", name, RESNET.label, "ViT(patch=4)"))
        for name in ("MAE", "SimMIM", "MSN", "PMSN")
    ),
    ("VICRegL with a ViT", training("VICRegL", encoder=VIT),
     ("Training.encoder", "VICRegL", VIT.label, "ResNet(depth=18)")),
    # Masks
    *(
        (f"{name}, {len(view) - 1} masks", training(name, views=(view,)),
         ("Training.views[0]", name, "exactly one", f"has {len(view) - 1}", "(Crop(), PatchMask())"))
        for name in ("MAE", "SimMIM") for view in ((Crop(),), (*MASKED, PatchMask()))
    ),
    ("a shared mask beside the view's", training("MAE", shared=(PatchMask(),)),
     ("Training.views[0]", "MAE", "has 2", "Training.shared", "(Crop(), PatchMask())")),
    *(
        (f"{name}, other patches", training(name, views=views),
         ("Training.encoder", name, "4 px", "2 px", "PatchMask(patch=4)"))
        for name, views in (
            ("MAE", ((Crop(), PatchMask(patch=2)),)), ("SimMIM", ((Crop(), PatchMask(patch=2)),)),
            ("MSN", (LARGE, (*LARGE, PatchMask(patch=2)))),
        )
    ),
    *(
        (f"{name}, nothing masked, {mask}", training(name, views=((Crop(), mask),)),
         ("Training.views[0]", name, f"ratio={mask.ratio:g}", f"strength={mask.strength:g}", "Raise"))
        for name in ("MAE", "SimMIM") for mask in (PatchMask(strength=0.0), PatchMask(ratio=0.0))
    ),
    ("a mask of the images before a crop", training("MAE", views=((PatchMask(), *SMALLER),)),
     ("Training.views[0]", "PatchMask", "16 px", "8", "last")),
    *(
        (f"{name}, no mask", training(name, views=(LARGE, LARGE, SMALLER)),
         ("Training.views[1]", name, "exactly one", "has 0", "(Crop(), PatchMask())"))
        for name in ("MSN", "PMSN")
    ),
    ("MSN, two masks", training("MSN", views=(LARGE, (*MASKED_LARGE, MASK))),
     ("Training.views[1]", "MSN", "exactly one", "has 2", "(Crop(), PatchMask())")),
    ("MSN, the teacher's view masked", training("MSN", views=(MASKED_LARGE, LARGE)),
     ("Training.views[0]", "MSN", "has 1", "Remove PatchMask", "views[1]")),
    ("MSN, a small view masked", training("MSN", views=(LARGE, MASKED_LARGE, (*SMALLER, MASK))),
     ("Training.views[2]", "MSN", "has 1", "Remove PatchMask", "views[1]")),
    ("MSN, all views masked", training("MSN", shared=(MASK,), views=(LARGE, LARGE)),
     ("Training.views[0]", "MSN", "has 1", "Training.shared", "Remove PatchMask", "views[1]")),
    *(
        (f"{name}, a mask that it does not read", training(name, views=(MASKED_LARGE, LARGE)),
         ("Training.views[0]", "PatchMask", CALLED[name], "Remove it"))
        for name in UNMASKED
    ),
    ("a shared mask that it does not read", training("SimCLR", shared=(MASK,)),
     ("Training.shared", "PatchMask", "SimCLR", "Remove it")),
    # Places
    *(
        (f"VICRegL with {type(operator).__name__}", training("VICRegL", views=((CropFlip(), operator), (CropFlip(),))),
         ("Training.views[0]", "VICRegL", type(operator).__name__, "Remove it"))
        for operator in (Rotate(), FromKornia(K.RandomAffine(10)))
    ),
    ("VICRegL with a shared Rotate", training("VICRegL", shared=(Rotate(),)),
     ("Training.shared", "VICRegL", "Rotate", "Remove it")),
    # Numbers
    *(
        (f"{name}, {field} = {value}", method(name, **{field: value}),
         (f"{CALLED[name]}.{field}", f"at least {least}", f"got {value}"))
        for name, field, least in (
            ("SwAV", "prototypes", 2), ("DINO", "prototypes", 2), ("MSN", "prototypes", 2), ("PMSN", "prototypes", 2),
            ("SMoG", "groups", 2), ("MoCo v2", "queue", 1), ("NNCLR", "queue", 1),
        )
        for value in (least - 1, -3)
    ),
    ("SMoG, a bank smaller than its groups", lambda: SMoG(**HEAD, groups=5, bank=4),
     ("SMoG.bank", "5 groups", "got 4", "lower groups")),
    ("labels that are not there", training("supervised", dataset=ImageData(path="loose", labels=False)),
     ("Training.method", "'supervised'", "'loose'", "SimCLR()")),
]  # fmt: skip


@pytest.mark.parametrize(("write", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_misuse_is_refused_before_a_training(write, words):
    with pytest.raises(InvalidSpec) as error:
        write()
    said = str(error.value)
    assert all(word in said for word in words), said
    assert said.endswith(".")


def test_sizes_that_only_the_images_show_are_refused_with_the_first_batch():
    """`training_views` asks again."""
    assert small_training(**TRAININGS["SwAV"] | {"dataset": ImageData(path="loose"), "views": (SMALLER, LARGE)})
    with pytest.raises(InvalidSpec, match=r"SwAV.* 8, 16 px"):
        check_sizes(SwAV(), [8, 16])


USES = {
    "a crop and a flip with places": training("VICRegL", views=((Crop(), Flip()), (Flip(), Resize(size=16)))),
    "no patch dropped": training("MSN", views=(LARGE, (*LARGE, PatchMask(strength=0.0)))),
    "a mask before a flip": training("MAE", views=((PatchMask(), Flip()),)),
    "large views alone": training("SwAV", views=(LARGE, LARGE)),
    "masked views for the untrained encoder": lambda: small_training(method=Initialization(), views=(MASKED,)),
    "MSN's views for the untrained encoder": lambda: small_training(method=Initialization(), views=MSN_VIEWS[:2]),
    **{f"{name}, a queue smaller than a batch": method(name, queue=5) for name in ("MoCo v2", "NNCLR", "SwAV")},
}


@pytest.mark.parametrize("use", USES)
def test_unusual_uses_are_allowed(use):
    assert USES[use]()


def test_a_queue_smaller_than_a_batch_holds_its_newest_rows():
    queue, rows = Queue(5, 3), numbers(8, 3)
    queue.push(rows)
    assert queue.rows.equal(rows[:5])
