"""Every method's loss beside lightly's, on the same input: `python -m benchmarks.peer_losses`.

Both losses see the same learner (weights, momentum copy, queue, prototypes, centre, groups), the same random views and
the same masks, in three steps, which change the state but no weight that learns. Compared are the losses, and the
gradients of their sum for all weights. Where lightly computes something else, `why` names it, and a second comparison
has that deviation on both sides or on neither. The result is benchmarks/peer_losses.csv, which docs/methods.py shows.

A peer is lightly's loss as lightly's own training scripts for ResNet-18 call it; it gets the learner's embeddings.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, normalize

from ablation.methods import (
    BYOL,
    DCL,
    DCLW,
    DINO,
    EMPSSL,
    MAE,
    MSN,
    NNCLR,
    PMSN,
    BarlowTwins,
    FastSiam,
    Learner,
    LeJEPA,
    Method,
    MoCo,
    Momentum,
    Progress,
    SimCLR,
    SimMIM,
    SimSiam,
    SMoG,
    SwAV,
    TiCo,
    VICReg,
    VICRegL,
)
from ablation.methods.base import mlp
from ablation.methods.moco import info_nce
from ablation.methods.momentum import rising
from ablation.methods.vicregl import centres
from ablation.models.resnet import SmallResNet
from ablation.models.vit import ViT
from ablation.operators import PatchMask
from ablation.operators.base import Annotations
from ablation.spec.randomness import generator_at

FILE = Path(__file__).with_suffix(".csv")
NEAR = 1e-5  # a relative difference of float32 that is rounding
IMAGES, STEPS = 16, 3
LARGE, SMALL = 32, 16  # px
MISSING = "The comparison needs lightly's losses, which cannot be imported. Run: pip install --no-deps 'lightly==1.6.*'"

Loss = Callable[[list[Tensor], list[Annotations]], Tensor]
Peer = Callable[[types.ModuleType, Learner], Loss]  # of lightly and a learner: lightly's loss with the learner's state


@dataclass(frozen=True)
class Comparison:
    """peer: lightly's loss. why: what lightly does otherwise, "" if nothing. Then one of these agrees with the other
    side: `method_with` or `ours_with`, ours with lightly's deviation; `peer_without`, lightly's without it."""

    method: Method
    peer: Peer
    sizes: tuple[int, ...] = (LARGE, LARGE)
    case: str = ""
    why: str = ""
    method_with: Method | None = None
    ours_with: Callable[[Learner], Loss] | None = None
    peer_without: Peer | None = None


@dataclass(frozen=True)
class Row:
    """difference, gradient: relative ones, of the losses and of the gradients; the same with the deviation if `why`
    names one. Numbers without a gradient have None."""

    method: str
    case: str
    ours: float
    lightly: float
    difference: float
    gradient: float | None = None
    why: str = ""
    difference_then: float | None = None
    gradient_then: float | None = None


def load() -> types.ModuleType:
    """lightly, with its losses. They use nothing of torchvision, but their package imports two names of it, and its
    wheels do not import beside every torch."""
    try:
        lightly = importlib.import_module("lightly")
        with_torchvision_or_two_names_of_it()
        for name in ("loss", "models.modules", "models.utils", "utils.scheduler"):
            importlib.import_module(f"lightly.{name}")
    except ImportError as error:
        raise SystemExit(f"{MISSING} ({error})") from None
    return lightly


def with_torchvision_or_two_names_of_it() -> None:
    try:
        importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError, OSError):
        operations = types.ModuleType("torchvision.ops")
        operations.roi_align = operations.StochasticDepth = None
        sys.modules.update({"torchvision": types.ModuleType("torchvision"), "torchvision.ops": operations})


# --------------------------------------------------------------------------------------------------
# lightly's losses


def on_z(name: str, *arguments: float) -> Peer:
    """A loss of the z of two views."""

    def peer(lightly, learner):
        loss = getattr(lightly.loss, name)(*arguments)
        return lambda views, notes: loss(*learner.embed(views))

    return peer


def moco(lightly, learner):
    loss = _ntxent_with_queue(lightly, learner)

    def step(views, notes):
        (q1, q2), (k1, k2) = learner.embed(views), [learner.teacher(view) for view in views]
        return (loss(q1, k2) + loss(q2, k1)) / 2

    return step


def _ntxent_with_queue(lightly, learner):
    """lightly overwrites its bank from the front, ours drops rows at the end."""
    rows = learner.queue.rows
    loss = lightly.loss.NTXentLoss(learner.method.temperature, memory_bank_size=tuple(rows.shape))
    loss.memory_bank.bank = rows.flip(0)
    return loss


def moco_with(learner):
    """The first half's keys enter the queue before the second half."""

    def step(views, notes):
        keys = [normalize(learner.teacher(view), dim=1) for view in views]
        halves = []
        for q, k in zip(learner.embed(views), keys[::-1], strict=True):
            halves.append(info_nce(q, k, learner.queue.rows.clone(), learner.method.temperature)[0])
            learner.queue.push(k)
        return sum(halves) / 2

    return step


def siamese(lightly, learner):
    loss = lightly.loss.NegativeCosineSimilarity()

    def step(views, notes):
        z = [each.detach() for each in learner.embed(views)]
        p = [learner.predictor(each) for each in learner.embed(views)]
        others = [torch.stack([each for j, each in enumerate(z) if j != i]).mean(0) for i in range(len(z))]
        return sum(loss(each, target) for each, target in zip(p, others, strict=True)) / len(z)

    return step


def byol(lightly, learner):
    loss = lightly.loss.NegativeCosineSimilarity()

    def step(views, notes):
        p1, p2 = (learner.predictor(z) for z in learner.embed(views))
        t1, t2 = (learner.teacher(view) for view in views)
        return (loss(p1, t2) + loss(p2, t1)) / 2

    return step


def byol_without(lightly, learner):
    step = byol(lightly, learner)
    return lambda views, notes: 4 + 4 * step(views, notes)


def nnclr(lightly, learner):
    rows = learner.queue.rows
    loss = lightly.loss.NTXentLoss(learner.method.temperature)
    neighbours = lightly.models.modules.nn_memory_bank.NNMemoryBankModule(tuple(rows.shape))
    neighbours.bank = rows.flip(0)

    def step(views, notes):
        z1, z2 = learner.embed(views)
        p1, p2 = learner.predictor(z1), learner.predictor(z2)
        first = neighbours(z1.detach(), update=False)
        second = neighbours(z2.detach(), update=True)
        return (loss(first, p2) + loss(second, p1)) / 2

    return step


def nnclr_with(learner):
    """The views exchanged, so that the other one's z enter the queue."""
    return lambda views, notes: learner.loss(views[::-1], None)[0]


def swav(lightly, learner, bias: bool = True):
    method, weight = learner.method, learner.prototypes.weight
    loss = lightly.loss.SwaVLoss(method.temperature, method.iterations, method.epsilon)
    scores = lightly.models.modules.heads.SwaVPrototypes(method.dimension, method.prototypes)
    scores.heads[0].weight = weight
    drawn = torch.rand(len(weight), generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores.heads[0].bias.data = drawn * method.dimension**-0.5 * bias  # as nn.Linear draws it
    banks = []
    for queue in learner.queues if method.queue else ():
        banks.append(lightly.models.modules.memory_bank.MemoryBankModule(tuple(queue.rows.shape)))
        banks[-1].bank = queue.rows.flip(0)

    def step(views, notes):
        z = [normalize(each, dim=1) for each in learner.embed(views)]
        queued = [scores(bank(z[i], update=True)[1].T) for i, bank in enumerate(banks)] or None
        s = [scores(each) for each in z]
        return loss(s[:2], s[2:], queued).squeeze()

    return step


def swav_without(lightly, learner):
    return swav(lightly, learner, bias=False)


def vicregl(lightly, learner, places=centres):
    method = learner.method
    weights = (method.invariance, method.variance, method.covariance, method.alpha)
    loss = lightly.loss.VICRegLLoss(*weights, num_matches=method.matches)

    def step(views, notes):
        features, grids = [], []
        for view, each in zip(views, notes, strict=True):
            *_, (_, last) = learner.encoder.maps(view)
            side = last.shape[-1]
            cells = learner.local(last.flatten(2).mT).unflatten(1, (side, side))
            features.append((learner.head(last.mean((2, 3))), cells))
            grids.append(places(each["box"], each["flip"], side).unflatten(1, (side, side)))
        return loss(features[:2], grids[:2], features[2:], grids[2:]).squeeze()

    return step


def vicregl_own_centres(lightly, learner):
    return vicregl(lightly, learner, centres_of_lightly)


def centres_of_lightly(box: Tensor, flip: Tensor, side: int) -> Tensor:
    """The places in lightly's grid, from transforms/random_crop_and_flip_with_grid.py, of a box without its images."""
    steps = torch.arange(side) / max(1, side - 1) + 0.5 / side
    top, left, height, width = (each[:, None] for each in box.unbind(1))
    rows, columns = top + steps * height, left + steps * width
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    grid = torch.stack([rows[:, :, None].expand(-1, -1, side), columns[:, None].expand(-1, side, -1)], 3)
    return grid.flatten(1, 2)


def by_distance(one: Tensor, other: Tensor, distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`vicregl.matched`, the closest pair first."""
    nearest = distances.min(2)
    kept = nearest.values.topk(min(count, one.shape[1]), dim=1, largest=False).indices
    rows = torch.arange(len(one))[:, None]
    return one[rows, kept], other[rows, nearest.indices.gather(1, kept)]


def vicregl_with(learner, places=centres):
    def step(views, notes):
        file = "ablation.methods.vicregl"
        with patch(f"{file}.matched", by_distance), patch(f"{file}.centres", places):
            return learner.loss(views, None, notes)[0]

    return step


def vicregl_with_centres(learner):
    return vicregl_with(learner, centres_of_lightly)


def tico(lightly, learner):
    loss = lightly.loss.TiCoLoss(learner.method.memory, learner.method.covariance)
    loss.C = learner.covariance.clone()
    return lambda views, notes: loss(learner.embed(views[:1])[0], learner.teacher(views[1]))


def dino(lightly, learner):
    method = learner.method
    loss = lightly.loss.DINOLoss(method.prototypes, student_temp=method.temperature, center_momentum=method.centre)
    loss.center = learner.centre[None, None].clone()
    encoder, head, prototypes = learner.teacher.copies

    def step(views, notes):
        with torch.no_grad():
            h = encoder(torch.cat(views[:2]))
            t = prototypes(head(h)).chunk(2)
        s = [learner.prototypes(z) for z in learner.embed(views)]
        return loss(list(t), s, teacher_temp=learner.teacher_temperature.item())

    return step


def msn(lightly, learner, kind: str = "MSNLoss", fixed: bool = True, reversed_divergence: bool = True):
    method = learner.method
    loss = getattr(lightly.loss, kind)(method.temperature, regularization_weight=method.regularization)
    if not reversed_divergence:
        prior = learner.prior
        loss.regularization_loss = lambda mean_anchor_probs: (
            mean_anchor_probs * (mean_anchor_probs / prior).log()
        ).sum()

    def step(views, notes):
        h = [learner.encoder(views[1], kept=notes[1]["kept"]), *map(learner.encoder, views[2:])]
        z, t = learner.head(torch.cat(h)), learner.teacher(views[0])
        prototypes = learner.prototypes.weight.detach() if fixed else learner.prototypes.weight
        sharpen = method.teacher_temperature / method.temperature
        return loss(z, t, prototypes, target_sharpen_temperature=sharpen)

    return step


def msn_without(lightly, learner):
    return msn(lightly, learner, fixed=False)


def pmsn(lightly, learner):
    return msn(lightly, learner, "PMSNLoss")


def pmsn_without(lightly, learner):
    return msn(lightly, learner, "PMSNLoss", fixed=False, reversed_divergence=False)


def smog(lightly, learner):
    method = learner.method
    groups = lightly.models.modules.heads.SMoGPrototypes(learner.groups.clone(), method.inertia)
    criterion, steps = nn.CrossEntropyLoss(), iter(range(STEPS))

    def step(views, notes):
        student, teacher = views[::-1] if next(steps) % 2 else views
        [z] = learner.embed([student])
        assigned = groups.assign_groups(learner.teacher(teacher))
        moved = groups.get_updated_group_features(z)
        logits = groups(learner.predictor(z), moved, method.temperature)
        groups.set_group_features(moved.detach())
        return criterion(logits, assigned)

    return step


def mae(lightly, learner, standardize: bool = False):
    def step(views, notes):
        [images], [view] = views, notes
        mask, side = view["mask"], learner.encoder.patch
        predicted = learner.decoder(learner.encoder.tokens(images, kept=view["kept"]), view["kept"], mask.shape[1])
        target = lightly.models.utils.patchify(images, side)
        target = lightly.models.utils.normalize_mean_var(target) if standardize else target
        return mse_loss(_channels_last(predicted, side)[mask], target[mask])

    return step


def mae_without(lightly, learner):
    return mae(lightly, learner, standardize=True)


def simmim(lightly, learner):
    def step(views, notes):
        [images], [view] = views, notes
        mask, side = view["mask"], learner.encoder.patch
        predicted = learner.decoder(learner.encoder.tokens(images, mask=mask, fill=learner.mask_token)[:, 1:])
        target = lightly.models.utils.patchify(images, side)
        return l1_loss(_channels_last(predicted, side)[mask], target[mask])

    return step


def _channels_last(patches: Tensor, side: int) -> Tensor:
    """Of pixels of a patch, in lightly's order."""
    return patches.unflatten(2, (-1, side, side)).movedim(2, 4).flatten(2)


def emp_ssl(lightly, learner, sign: int = 1):
    method, parts = learner.method, lightly.loss.emp_ssl_loss
    loss = parts.EMPSSLLoss(method.epsilon, method.invariance)

    def step(views, notes):
        z = [normalize(each, dim=1) for each in learner.embed(views)]
        return loss(z) + (sign - 1) * parts.tcr_loss(torch.stack(z), method.epsilon)

    return step


def emp_ssl_without(lightly, learner):
    return emp_ssl(lightly, learner, sign=-1)


def lejepa(lightly, learner):
    method = learner.method
    loss = lightly.loss.LeJEPALoss(method.trade_off, sigreg_num_vectors=method.directions)
    loss.sigreg._generate_unit_vectors = lambda *_: learner.directions.clone()

    def step(views, notes):
        z = torch.stack(learner.embed(views))
        return loss(local_proj=z[2:], global_proj=z[:2])

    return step


# --------------------------------------------------------------------------------------------------
# The comparisons

HEAD = {"hidden": 24, "dimension": 12}
CROPS = (LARGE, LARGE, SMALL, SMALL)
FIXED = "lightly's scripts give the loss prototypes without gradient, so they keep their random start"
SWAV_BIAS = "lightly's prototypes have a bias"
SLOTS = "lightly orders matched cells by distance, the authors and we by place, which changes variance and covariance"
VICREGL = VICRegL(**HEAD, local_hidden=16, local_dimension=8, matches=(6, 2))
PARTS = {"prototypes": 20, **HEAD}

COMPARISONS = (
    Comparison(SimCLR(**HEAD), on_z("NTXentLoss", 0.5)),
    Comparison(BarlowTwins(**HEAD), on_z("BarlowTwinsLoss")),
    Comparison(
        MoCo(**HEAD, queue=96, splits=0),
        moco,
        why="lightly's first half of the loss queues its keys, so the second half's queries meet their own view",
        ours_with=moco_with,
    ),
    Comparison(SimSiam(**HEAD, bottleneck=6), siamese),
    Comparison(FastSiam(**HEAD, bottleneck=6), siamese, sizes=(LARGE,) * 4),
    Comparison(
        BYOL(**HEAD),
        byol,
        why="lightly's scripts take -(cos + cos) / 2; the paper's 4 - 2 cos - 2 cos is 4 + 4 times that",
        peer_without=byol_without,
    ),
    Comparison(DCL(**HEAD), on_z("DCLLoss")),
    Comparison(DCLW(**HEAD), on_z("DCLWLoss")),
    Comparison(
        NNCLR(**HEAD, predictor=24, queue=96),
        nnclr,
        why="lightly has NT-Xent on (N, p), with other neighbours among the negatives, and queues the second view",
        method_with=NNCLR(**HEAD, predictor=24, queue=96, negatives="both"),
        ours_with=nnclr_with,
    ),
    Comparison(SwAV(**PARTS), swav, CROPS, why=SWAV_BIAS, peer_without=swav_without),
    Comparison(
        SwAV(**PARTS, queue=48, queue_from=0), swav, CROPS, "with a queue", SWAV_BIAS, peer_without=swav_without
    ),
    Comparison(VICReg(**HEAD), on_z("VICRegLoss")),
    Comparison(VICREGL, vicregl, (LARGE, LARGE, SMALL), "our centres of cells", SLOTS, ours_with=vicregl_with),
    Comparison(
        VICREGL,
        vicregl_own_centres,
        (LARGE, LARGE, SMALL),
        "lightly's centres of cells",
        "lightly's centres reach from edge to edge of the view, plus half a cell; the order of cells as above",
        ours_with=vicregl_with_centres,
    ),
    Comparison(
        TiCo(**HEAD),
        tico,
        why="lightly stops the gradient through this step's covariance",
        method_with=TiCo(**HEAD, through_covariance=False),
    ),
    Comparison(DINO(**PARTS), dino, CROPS),
    Comparison(MSN(**PARTS), msn, CROPS, why=FIXED, peer_without=msn_without),
    Comparison(
        PMSN(**PARTS),
        pmsn,
        CROPS,
        why=f"lightly has KL(pi, mean P), the paper KL(mean P, pi); {FIXED}",
        peer_without=pmsn_without,
    ),
    Comparison(SMoG(**HEAD, groups=10, bank=48), smog),
    Comparison(
        MAE(width=32, blocks=2, heads=4),
        mae,
        (LARGE,),
        why="lightly's scripts predict raw pixels; the authors recommend standardized patches",
        peer_without=mae_without,
    ),
    Comparison(SimMIM(), simmim, (LARGE,)),
    Comparison(
        EMPSSL(**HEAD),
        emp_ssl,
        (SMALL,) * 4,
        why="lightly adds the coding rate, so it minimizes it; the paper and the authors' code maximize it",
        peer_without=emp_ssl_without,
    ),
    Comparison(LeJEPA(**HEAD, directions=32), lejepa, CROPS),
)


def build(method: Method) -> Learner:
    """A seeded learner, whose momentum copy differs from the student, in training mode."""
    torch.manual_seed(0)
    spec = ViT(patch=4, width=24, blocks=2, heads=2) if method.transformer else SmallResNet(channels=4)
    learner = method.build(spec.build(3, LARGE), 2)
    with torch.no_grad():
        for weight in learner.parameters():
            if not weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    return learner.train()


def inputs(sizes: tuple[int, ...], step: int) -> tuple[list[Tensor], list[Annotations]]:
    """Views with their masks, boxes and flips."""
    generator, views, notes = generator_at(0, "peers", step), [], []
    for size in sizes:
        views.append(torch.randn(IMAGES, 3, size, size, generator=generator))
        box = 8 + 24 * torch.rand(IMAGES, 4, generator=generator)
        flip = torch.rand(IMAGES, generator=generator) < 0.5
        mask = PatchMask(ratio=0.6, patch=4)
        noted = mask.annotate({}, mask.sample(IMAGES, size, generator), size)
        notes.append({"box": box, "flip": flip, **noted})
    return views, notes


def ours(method: Method, learner: Learner) -> Loss:
    return lambda views, notes: learner.loss(views, None, *([notes] if method.annotations else []))[0]


def traced(method: Method, sizes: tuple[int, ...], make: Callable[[Learner], Loss]) -> tuple[Tensor, Tensor]:
    """The losses of all steps, and the gradient of their sum, of all weights in a row."""
    learner = build(method)
    loss, losses = make(learner), []
    for step in range(STEPS):
        value = loss(*inputs(sizes, step))
        value.backward()
        losses.append(value.detach())
        learner.after_step(Progress(step + 1, 0, (step + 1) / 100))
    weights = [weight for weight in learner.parameters() if weight.requires_grad]
    gradient = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    return torch.stack(losses), torch.cat([each.flatten() for each in gradient])


def compare(lightly: types.ModuleType, asked: Comparison) -> Row:
    def left(method: Method, make: Callable[[Learner], Loss] | None = None) -> tuple[Tensor, Tensor]:
        return traced(method, asked.sizes, make or partial(ours, method))

    def right(peer: Peer) -> tuple[Tensor, Tensor]:
        return traced(asked.method, asked.sizes, partial(peer, lightly))

    mine, theirs = left(asked.method), right(asked.peer)
    differences = [relative(a, b) for a, b in zip(mine, theirs, strict=True)]
    then: list[float | None] = [None, None]
    if asked.why:
        with_it = left(asked.method_with or asked.method, asked.ours_with)
        without = right(asked.peer_without) if asked.peer_without else theirs
        then = [relative(a, b) for a, b in zip(with_it, without, strict=True)]
    values = (mine[0][-1].item(), theirs[0][-1].item())
    return Row(asked.method.label, asked.case, *values, *differences, asked.why, *then)


def relative(one: Tensor, other: Tensor) -> float:
    """The length of the difference over the larger length."""
    return ((one - other).norm() / torch.maximum(one.norm(), other.norm())).item()


def schedules(lightly: types.ModuleType) -> Iterator[Row]:
    """The momentum copy and what changes over a training."""
    torch.manual_seed(0)
    student = mlp(5, 4, 3)
    mine, theirs = Momentum(student), mlp(5, 4, 3)
    with torch.no_grad():
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            b.copy_(a.normal_())
    mine.follow(0.99, student)
    lightly.models.utils.update_momentum(student, theirs, 0.99)
    a, b = (torch.cat([p.detach().flatten() for p in each.parameters()]) for each in (mine, theirs))
    case = "a momentum copy after a step"
    yield Row("BYOL", case, a.norm().item(), b.norm().item(), relative(a, b))

    case, why = "1 - momentum after 25 of 100 steps", "lightly's half cosine ends before the last step, ours after it"
    theirs = 1 - lightly.utils.scheduler.cosine_schedule(25, 100, 0.99, 1.0)
    yield _schedule(BYOL(), case, 1 - rising(0.99, 1.0, 25 / 100), theirs, why, 1 - rising(0.99, 1.0, 25 / 99))

    case = "teacher's temperature after 15 of 30 epochs"
    why = "lightly and the authors' code end the rise in the warm-up's last epoch, we after it"
    dino = DINO(teacher_temperature=0.04, teacher_temperature_end=0.07, warmup=30)
    loss = lightly.loss.DINOLoss(4, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=30)
    theirs, then = loss.teacher_temp_schedule[15].item(), dino.replace(warmup=29).teacher_temperature_at(15)
    yield _schedule(dino, case, dino.teacher_temperature_at(15), theirs, why, then)


def _schedule(method: Method, case: str, mine: float, theirs: float, why: str, then: float) -> Row:
    first, second = (abs(each - theirs) / max(each, theirs) for each in (mine, then))
    return Row(method.label, case, mine, theirs, first, None, why, second)


def main() -> None:
    warnings.filterwarnings("ignore")  # of lightly, on how it copies tensors
    torch.set_num_threads(1)
    lightly = load()
    rows = [*(compare(lightly, each) for each in COMPARISONS), *schedules(lightly)]
    table = pd.DataFrame(rows)
    table["version"], table["torch"] = lightly.__version__, torch.__version__
    print(table.drop(columns=["version", "torch"]).to_string(index=False, max_colwidth=60))
    table.to_csv(FILE, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
