"""VICRegL (Bardes et al. 2022, arXiv:2210.01571)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ablation.methods.base import Learner, Method, Metrics, mlp
from ablation.methods.vicreg import variance_and_covariance
from ablation.operators.base import Annotations
from ablation.spec import InvalidSpec
from ablation.system.distributed import gather


@dataclass(frozen=True, kw_only=True)
class VICRegL(Method):
    """VICReg on z of whole views, and on z of their cells that belong together.

    L = alpha G + (1 - alpha) (F + P). G has the invariance of every view with both large views, and the mean variance
    and covariance of the views (half of VICReg's covariance). For two views a and b, every cell of a's map takes the
    cell of b with the nearest z (F), or with the nearest centre in the stored image (P); the `matches` closest pairs
    stay, first from the large view, then from the other. Their z have VICReg's three terms, variance and covariance
    over the batch in each place (section 3). The first two views are the large ones; others may be smaller.

    alpha: weight of G; invariance, variance, covariance: of the three terms. hidden, dimension: of the global head's
    two hidden layers and of z; local_hidden, local_dimension: of the local head, with layer norm.

    Published: lightly's cells have centres that are off by up to half a cell; the authors' code keeps all cells for F
    and ignores that views are mirrored.
    """

    label = "VICRegL"
    branches: ClassVar[int | None] = None
    least: ClassVar[int] = 2
    multi_crop: ClassVar[bool] = True
    annotations: ClassVar[tuple[str, ...]] = ("box", "flip")
    metrics: ClassVar[tuple[str, ...]] = ("global", "local")

    alpha: float = 0.75
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    matches: tuple[int, int] = (20, 4)
    hidden: int = 2048
    dimension: int = 2048
    local_hidden: int = 128
    local_dimension: int = 128

    def __post_init__(self):
        self.require_number("alpha", 0, 1)
        for name in ("invariance", "variance", "covariance"):
            self.require_number(name, 0)
        counts = isinstance(self.matches, tuple) and len(self.matches) == 2
        good = counts and all(isinstance(count, int) and count > 0 for count in self.matches)
        self.require("matches", good, "be two whole numbers of at least 1", "Write (20, 4).")
        for name in ("hidden", "dimension", "local_hidden", "local_dimension"):
            self.require_count(name)

    def check(self, training: Any) -> None:
        if hasattr(training.encoder, "patch"):
            raise _without_maps(training.encoder.label)

    def build(self, encoder: nn.Module, classes: int) -> VICRegLLearner:
        return VICRegLLearner(encoder, mlp(encoder.features, self.hidden, self.hidden, self.dimension), self)


class VICRegLLearner(Learner):
    def __init__(self, encoder: nn.Module, head: nn.Module, method: VICRegL):
        super().__init__(encoder, head, "separate")
        if not hasattr(encoder, "maps"):
            raise _without_maps(type(encoder).__name__)
        self.method = method
        sizes = (encoder.features, method.local_hidden, method.local_hidden, method.local_dimension)
        self.local = mlp(*sizes, norm="layer") if method.alpha < 1 else None  # an unused weight would get no gradient

    def loss(
        self, views: list[Tensor], labels: Tensor | None, annotations: list[Annotations] | None = None
    ) -> tuple[Tensor, Metrics]:
        maps = [self._last_map(view) for view in views]
        z = [gather(self.head(each.mean((2, 3))).float()) for each in maps]
        with torch.autocast(z[0].device.type, enabled=False):
            whole = self._global(z)
        if self.local is None:
            return whole, {"global": whole.detach()}
        cells = [self.local(each.flatten(2).mT).float() for each in maps]
        places = [centres(each["box"], each["flip"], m.shape[-1]) for each, m in zip(annotations, maps, strict=True)]
        with torch.autocast(z[0].device.type, enabled=False):
            parts = self._local(cells, places)
        alpha = self.method.alpha
        return alpha * whole + (1 - alpha) * parts, {"global": whole.detach(), "local": parts.detach()}

    def _last_map(self, view: Tensor) -> Tensor:
        for _, each in self.encoder.maps(view):
            last = each
        return last

    def _global(self, z: list[Tensor]) -> Tensor:
        method, pairs = self.method, _pairs(len(z))
        invariance = sum(mse_loss(z[a], z[b]) for a, b in pairs) / len(pairs)
        variance, covariance = (sum(each) / len(z) for each in zip(*map(variance_and_covariance, z), strict=True))
        return method.invariance * invariance + method.variance * variance + method.covariance * covariance

    def _local(self, cells: list[Tensor], places: list[Tensor]) -> Tensor:
        """F + P, the mean over pairs of views."""
        first, second = self.method.matches
        pairs, total = _pairs(len(cells)), 0.0
        with torch.no_grad():
            near = {(a, b): [torch.cdist(x[a], x[b]) for x in (cells, places)] for a, b in pairs if a < b}
        for a, b in pairs:
            for distances in near[a, b] if a < b else [each.mT for each in near[b, a]]:
                there = self._terms(*matched(cells[a], cells[b], distances, first))
                back = self._terms(*matched(cells[b], cells[a], distances.mT, second))
                total = total + (there + back) / 2
        return total / len(pairs)

    def _terms(self, one: Tensor, other: Tensor) -> Tensor:
        """VICReg's weighted terms of matched cells, (B, matches, D) each."""
        method, one, other = self.method, gather(one), gather(other)
        (v1, c1), (v2, c2) = (variance_and_covariance(side.transpose(0, 1)) for side in (one, other))
        invariance, variance, covariance = mse_loss(one, other), (v1 + v2) / 2, (c1 + c2) / 2
        return method.invariance * invariance + method.variance * variance + method.covariance * covariance


def _without_maps(encoder: str) -> InvalidSpec:
    return InvalidSpec(
        f"Training.encoder: VICRegL needs an encoder with feature maps, but got {encoder}. Write "
        "encoder=ResNet(depth=18)."
    )


def _pairs(views: int) -> list[tuple[int, int]]:
    """Each large view with every other view."""
    return [(a, b) for a in range(2) for b in range(views) if a != b]


def matched(one: Tensor, other: Tensor, distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` cells of `one`, (B, N, D), that are closest to their nearest cell of `other`, (B, M, D), in their
    order, and those nearest cells; (B, count, D) each. distances: (B, N, M)."""
    nearest = distances.min(2)
    kept = nearest.values.topk(min(count, one.shape[1]), dim=1, largest=False).indices.sort(1).values
    partners = nearest.indices.gather(1, kept)
    return _rows(one, kept), _rows(other, partners)


def _rows(cells: Tensor, numbers: Tensor) -> Tensor:
    """As whole rows, which is faster than `gather`."""
    first = torch.arange(len(cells), device=cells.device)[:, None] * cells.shape[1]
    return cells.flatten(0, 1).index_select(0, (first + numbers).flatten()).unflatten(0, numbers.shape)


def centres(box: Tensor, flip: Tensor, side: int) -> Tensor:
    """(B, side^2, 2): the centres (row, column) of a map's cells in pixels of the stored image, row by row.

    box: (B, 4), top, left, height, width of the view in the stored image; flip: (B,), whether the view is mirrored.
    """
    steps = (torch.arange(side, device=box.device, dtype=box.dtype) + 0.5) / side
    top, left, height, width = (each[:, None] for each in box.unbind(1))
    rows, columns = top + steps * height, left + steps * width
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    grid = torch.stack([rows[:, :, None].expand(-1, -1, side), columns[:, None].expand(-1, side, -1)], 3)
    return grid.flatten(1, 2)
