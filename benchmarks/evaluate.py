"""kNN and linear evaluation against scikit-learn on the same features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from ablation.evaluate.accuracy import accuracies
from ablation.evaluate.knn import nearest, vote
from ablation.evaluate.linear import Linear, fit, principal_components, scores
from benchmarks.measure import Row, row, rows

BANK, QUERIES, DIMENSION, CLASSES = 50_000, 10_000, 512, 10
K, TEMPERATURE = 200, 0.1
PENALTIES, TOLERANCE = Linear().penalties, Linear().tolerance


def features(device: str, exponent: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Overlapping classes in features whose i-th variance falls as i^-exponent.

    For trained encoders the exponent is about 1 (Agrawal et al. 2022, arXiv:2202.05808); at 0 all directions are alike,
    unlike those of any encoder, which favours an optimizer that ignores them.
    """
    generator = torch.Generator().manual_seed(0)
    falling = torch.arange(1, DIMENSION + 1) ** (-exponent / 2)
    centres = 0.6 * torch.randn(CLASSES, DIMENSION, generator=generator)
    axes = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=generator)).Q
    h, labels = {}, {}
    for split, count in (("train", BANK), ("test", QUERIES)):
        y = torch.randint(0, CLASSES, (count,), generator=generator)
        x = (centres[y] + 4 * torch.randn(count, DIMENSION, generator=generator)) * falling
        h[split], labels[split] = (x @ axes).to(device), y.to(device)
    return h, labels


def run(device: str, quick: bool) -> Iterator[Row]:
    yield from knn_evaluation(device)
    for exponent in (1, 0):
        yield from linear_evaluation(device, exponent)


def knn_evaluation(device: str) -> Iterator[Row]:
    h, labels = features(device, 1)
    host = {name: value.cpu() for name, value in h.items()}
    y = labels["train"].cpu().numpy()

    def knn() -> torch.Tensor:
        similarity, places = nearest(h["test"], h["train"], K)
        return vote(similarity, labels["train"][places], TEMPERATURE, CLASSES).argmax(1)

    theirs = KNeighborsClassifier(
        K, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE)
    ).fit(host["train"].numpy(), y)
    contenders = {"ours": knn, "scikit-learn": lambda: theirs.predict(host["test"].numpy())}
    case = f"kNN, {QUERIES:,} queries, bank {BANK:,} x {DIMENSION}, k {K}"
    yield from rows("evaluate", case, contenders, unit="s", device=device)
    same = (knn().cpu().numpy() == contenders["scikit-learn"]()).mean()
    yield row("evaluate", f"{case}: same prediction", "ours", "%", [100 * same])


def linear_evaluation(device: str, exponent: float) -> Iterator[Row]:
    h, labels = features(device, exponent)
    host = {name: value.cpu() for name, value in h.items()}
    y = labels["train"].cpu().numpy()

    def linear() -> list[torch.Tensor]:
        x, weights, found = principal_components(h), None, []
        for penalty in PENALTIES:
            weights, converged = fit(x["train"], labels["train"], CLASSES, penalty, TOLERANCE, weights)
            assert converged
            found.append(scores(x["test"].double(), weights))
        return found

    def scikit_learn() -> list[np.ndarray]:
        deviation, mean = torch.std_mean(host["train"], 0, correction=0)
        x = {split: ((each - mean) / deviation).numpy() for split, each in host.items()}
        regression = LogisticRegression(tol=TOLERANCE, max_iter=2000, warm_start=True)
        found = []
        for penalty in PENALTIES:
            regression.set_params(C=1 / (BANK * penalty)).fit(x["train"], y)
            found.append(regression.decision_function(x["test"]))
        return found

    case = f"linear, {BANK:,} x {DIMENSION}, variances i^-{exponent}, {CLASSES} classes, all penalties"
    contenders = {"ours": linear, "scikit-learn": scikit_learn}
    yield from rows("evaluate", case, contenders, unit="s", device=device)
    for name, made in (("ours", linear()), ("scikit-learn", scikit_learn())):
        top1 = [accuracies(torch.as_tensor(each).cpu(), labels["test"].cpu())["top1"] for each in made]
        yield row("evaluate", f"{case}: test top-1 of the smallest penalty", name, "%", top1[-1:])
