"""NNCLR against its equation, and its queue."""

import math

import numpy as np
import pytest
import torch
from helpers import numbers, unit

from ablation import NNCLR, InvalidSpec, SmallResNet
from ablation.methods.base import embed_and_predict
from ablation.methods.contrastive import nt_xent

VIEWS = [numbers(6, 3, 16, 16), numbers(6, 3, 16, 16, seed=1)]


def learner(**changes):
    torch.manual_seed(0)
    settings = {"hidden": 8, "dimension": 6, "predictor": 8, "queue": 20} | changes
    return NNCLR(**settings).build(SmallResNet(channels=4).build(), 0).train()


def neighbours(z, rows):
    return np.array([rows[max(range(len(rows)), key=lambda k, own=own: own @ rows[k])] for own in unit(z)])


@pytest.mark.parametrize("negatives", ["predictions", "both"])
def test_the_loss_is_the_equation_on_the_queue_before_the_step(negatives):
    built = learner(negatives=negatives)
    before = built.queue.rows.double().numpy().copy()
    z, p = ([each.detach() for each in some] for some in embed_and_predict(built, built.predictor, VIEWS))
    found = built.loss(VIEWS, None)[0].item()
    total = 0.0
    for a, b in ((0, 1), (1, 0)):
        rows, predictions = neighbours(z[a], before), unit(p[b])
        if negatives == "both":
            total += nt_xent(torch.tensor(rows), torch.tensor(predictions), 0.1)[0].item() / 2
            continue
        for i in range(6):
            logits = [rows[i] @ predictions[j] / 0.1 for j in range(6)]
            total += (math.log(sum(map(math.exp, logits))) - logits[i]) / 6 / 2
    assert found == pytest.approx(total, rel=1e-4)


def test_the_first_views_z_enter_the_queue():
    built = learner()
    before = built.queue.rows.clone()
    z, _ = embed_and_predict(built, built.predictor, VIEWS)
    built.loss(VIEWS, None)
    np.testing.assert_allclose(built.queue.rows[:6], unit(z[0].detach()), atol=1e-5)
    assert torch.equal(built.queue.rows[6:], before[:14])


def test_gradient_flows_through_predictions_only():
    """The same gradients as with neighbours that are constants."""
    gradients = []
    for constant in (False, True):
        built = learner().eval()
        z, _ = embed_and_predict(built, built.predictor, VIEWS)
        if constant:
            found = iter([built._neighbours(each).detach().clone() for each in z])
            built._neighbours = lambda _, found=found: next(found)
        built.loss(VIEWS, None)[0].backward()
        gradients.append([p.grad for p in built.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert all(gradient.abs().max() > 0 for gradient in gradients[0] if gradient.ndim > 1)


def test_an_unknown_choice_of_negatives_is_refused():
    with pytest.raises(InvalidSpec, match=r"NNCLR.negatives .*'queue'"):
        NNCLR(negatives="queue")
