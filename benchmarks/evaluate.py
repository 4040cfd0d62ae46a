"""kNN and linear evaluation against scikit-learn on the same features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from ablation.evaluate.knn import accuracies, nearest, vote
from ablation.evaluate.linear import fit, principal_components, scores
from benchmarks.measure import Row, row, rows

BANK, QUERIES, DIMENSION, CLASSES = 50_000, 10_000, 512, 10
K, TEMPERATURE = 200, 0.1
PENALTY, TOLERANCE = 1e-3, 1e-4


def features(device: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Overlapping classes whose dimensions are correlated, as those of an encoder are."""
    generator = torch.Generator().manual_seed(0)
    centres = 0.3 * torch.randn(CLASSES, DIMENSION, generator=generator)
    mixing = torch.randn(DIMENSION, DIMENSION, generator=generator) / DIMENSION**0.5
    h, labels = {}, {}
    for split, count in (("train", BANK), ("test", QUERIES)):
        y = torch.randint(0, CLASSES, (count,), generator=generator)
        x = (centres[y] + torch.randn(count, DIMENSION, generator=generator)) @ mixing
        h[split], labels[split] = x.relu().to(device), y.to(device)
    return h, labels


def run(device: str, quick: bool) -> Iterator[Row]:
    h, labels = features(device)
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

    def linear() -> torch.Tensor:
        x = principal_components(h)
        weights, _ = fit(x["train"], labels["train"], CLASSES, PENALTY, TOLERANCE)
        return scores(x["test"], weights)

    regression = LogisticRegression(C=1 / (BANK * PENALTY), tol=TOLERANCE, max_iter=2000)

    def scikit_learn() -> np.ndarray:
        deviation, mean = torch.std_mean(host["train"].double(), 0, correction=0)
        x = {split: ((each.double() - mean) / deviation).numpy() for split, each in host.items()}
        return regression.fit(x["train"], y).decision_function(x["test"])

    case = f"linear, {BANK:,} x {DIMENSION}, {CLASSES} classes, penalty {PENALTY:g}, gradient below {TOLERANCE:g}"
    contenders = {"ours": linear, "scikit-learn": scikit_learn}
    yield from rows("evaluate", case, contenders, unit="s", device=device)
    ours = accuracies(linear().cpu(), labels["test"].cpu())["top1"]
    other = accuracies(torch.from_numpy(scikit_learn()), labels["test"].cpu())["top1"]
    yield row("evaluate", f"{case}: test top-1", "ours", "%", [ours])
    yield row("evaluate", f"{case}: test top-1", "scikit-learn", "%", [other])
