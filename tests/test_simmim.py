"""SimMIM against its equation."""

import numpy as np
import pytest
import torch
from helpers import numbers, small_training
from trainings import VIT

from ablation import Crop, InvalidSpec, PatchMask, SimMIM, SmallResNet
from ablation.methods.patches import patchify
from ablation.operators.pipeline import annotate, sample

MASK = PatchMask(ratio=0.5, block=8)
IMAGES = numbers(6, 3, 16, 16)


def learner():
    torch.manual_seed(0)
    return SimMIM().build(VIT.build(3, 16), 0).train()


def masks():
    return annotate(sample((), ((MASK,),), [(1,)], 6, 16, torch.device("cpu")))


def test_the_loss_is_the_mean_over_masked_pixels():
    built, [said] = learner(), masks()
    tokens = built.encoder.tokens(IMAGES, mask=said["mask"], fill=built.mask_token)
    predicted, target = built.decoder(tokens[:, 1:]).detach(), patchify(IMAGES, 4)
    errors = [
        abs(predicted[i, n, pixel].item() - target[i, n, pixel].item())
        for i in range(6) for n in range(16) if said["mask"][i, n] for pixel in range(48)
    ]  # fmt: skip
    assert len(errors) == 6 * 8 * 48
    assert built.loss([IMAGES], None, [said])[0].item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_masked_pixels_do_not_enter():
    built, [said] = learner().eval(), masks()
    changed = IMAGES.clone()
    hidden = said["mask"][0].view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
    changed[0, :, hidden] += 5
    tokens = [built.encoder.tokens(x, mask=said["mask"], fill=built.mask_token) for x in (IMAGES, changed)]
    assert torch.equal(*tokens)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": ((Crop(),),)}, ("PatchMask", "SimMIM", "views[0]")),
        ({"encoder": SmallResNet()}, ("SimMIM", "ViT(patch=4)")),
        ({"views": ((PatchMask(patch=8),),)}, ("SimMIM", "4 px", "8 px")),
    ],
)
def test_what_simmim_cannot_take_is_refused(changes, words):
    with pytest.raises(InvalidSpec) as error:
        small_training(**{"method": SimMIM(), "encoder": VIT, "views": ((MASK,),)} | changes)
    assert all(word in str(error.value) for word in words), str(error.value)
