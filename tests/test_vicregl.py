"""VICRegL against its equations: matches, centres of cells, and its two parts."""

import math

import pytest
import torch
from helpers import numbers

from ablation import InvalidSpec, SmallResNet, VICRegL, ViT
from ablation.methods.vicreg import variance_and_covariance
from ablation.methods.vicregl import centres, matched

VIEWS = [numbers(6, 3, 16, 16, seed=seed) for seed in range(2)] + [numbers(6, 3, 8, 8, seed=2)]
WHOLE = {"box": torch.tensor([[0.0, 0.0, 16.0, 16.0]]).expand(6, 4), "flip": torch.zeros(6, dtype=torch.bool)}
CORNER = {"box": torch.tensor([[8.0, 4.0, 8.0, 8.0]]).expand(6, 4), "flip": torch.ones(6, dtype=torch.bool)}
PLACES = [WHOLE, CORNER, CORNER]


def learner(**changes):
    torch.manual_seed(0)
    settings = {"hidden": 8, "dimension": 5, "local_hidden": 4, "local_dimension": 3, "matches": (3, 2)} | changes
    return VICRegL(**settings).build(SmallResNet(channels=4).build(), 0).train()


def test_centres_by_hand():
    """Of a map of two cells a side: the whole image of 16 px, and a mirrored corner."""
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0], [8.0, 4.0, 8.0, 4.0]])
    found = centres(box, torch.tensor([False, True]), 2)
    assert found[0].tolist() == [[4, 4], [4, 12], [12, 4], [12, 12]]
    assert found[1].tolist() == [[10, 7], [10, 5], [14, 7], [14, 5]]


def test_matches_of_the_same_box_are_the_cells_themselves_or_mirrored():
    cells = numbers(2, 9, 4)
    box = torch.tensor([[3.0, 5.0, 10.0, 12.0]]).expand(2, 4)
    plain, mirrored = (centres(box, torch.full((2,), flip), 3) for flip in (False, True))
    for other, order in ((plain, range(9)), (mirrored, [2, 1, 0, 5, 4, 3, 8, 7, 6])):
        one, partner = matched(cells, cells, torch.cdist(plain, other), 9)
        assert torch.equal(one, cells)
        assert torch.equal(partner, cells[:, list(order)])


def test_matches_are_the_closest_pairs_in_their_order():
    one, other = numbers(1, 6, 3), numbers(1, 5, 3, seed=1)
    distances = torch.cdist(one, other)[0]
    nearest = [min(range(5), key=lambda m, n=n: distances[n, m]) for n in range(6)]
    kept = sorted(sorted(range(6), key=lambda n: distances[n, nearest[n]])[:4])
    found = matched(one, other, distances[None], 4)
    assert torch.equal(found[0][0], one[0, kept])
    assert torch.equal(found[1][0], other[0, [nearest[n] for n in kept]])


def terms(one, other):
    """25 invariance, 25 mean variance and mean covariance over the slots, as loops."""
    slots = [side[:, n] for side in (one, other) for n in range(side.shape[1])]
    invariance = ((one - other) ** 2).mean()
    variance, covariance = (sum(each) / len(slots) for each in zip(*map(variance_and_covariance, slots), strict=True))
    return (25 * invariance + 25 * variance + covariance).item()


def test_the_loss_is_the_equation_over_views_of_two_sizes():
    built = learner()
    maps = [built._last_map(view) for view in VIEWS]
    z = [built.head(each.mean((2, 3))).detach() for each in maps]
    cells = [built.local(each.flatten(2).mT).detach() for each in maps]
    places = [centres(p["box"], p["flip"], m.shape[-1]) for p, m in zip(PLACES, maps, strict=True)]
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2)]
    whole = sum(25 * ((z[a] - z[b]) ** 2).mean().item() for a, b in pairs) / 4
    whole += sum(25 * v.item() + c.item() for v, c in map(variance_and_covariance, z)) / 3
    local = 0.0
    for a, b in pairs:
        for distances in (torch.cdist(cells[a], cells[b]), torch.cdist(places[a], places[b])):
            there = terms(*matched(cells[a], cells[b], distances, 3))
            back = terms(*matched(cells[b], cells[a], distances.mT, 2))
            local += (there + back) / 2 / 4
    loss, metrics = learner().loss(VIEWS, None, PLACES)
    assert metrics["global"].item() == pytest.approx(whole, rel=1e-3)
    assert metrics["local"].item() == pytest.approx(local, rel=1e-3)
    assert loss.item() == pytest.approx(0.75 * whole + 0.25 * local, rel=1e-3)


def test_alpha_1_is_the_global_part_and_has_no_local_head():
    built = learner(alpha=1.0)
    loss, _ = built.loss(VIEWS[:2], None, PLACES[:2])
    assert built.local is None
    z = [built.head(built._last_map(view).mean((2, 3))) for view in VIEWS[:2]]
    vicreg = 25 * ((z[0] - z[1]) ** 2).mean() + sum((25 * v + c) / 2 for v, c in map(variance_and_covariance, z))
    torch.testing.assert_close(loss, vicreg, rtol=1e-3, atol=1e-4)


def test_an_encoder_without_maps_is_refused():
    """A user's, which states no patches, when it is built."""
    vit = ViT(patch=4, width=16, blocks=1, heads=2)
    with pytest.raises(InvalidSpec, match=r"VICRegL needs .* maps.*VisionTransformer.*ResNet"):
        VICRegL().build(vit.build(3, 16), 0)


def test_small_maps_have_fewer_matches():
    cells = numbers(2, 4, 3)
    assert matched(cells, cells, torch.cdist(cells, cells), 20)[0].shape == (2, 4, 3)
    assert math.isfinite(learner(matches=(20, 4)).loss(VIEWS, None, PLACES)[0].item())
