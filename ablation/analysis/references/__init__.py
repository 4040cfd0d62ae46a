"""Published numbers for comparison: tidy tables with our coordinates and a column `value`, and their captions."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import pandas as pd


@dataclass(frozen=True)
class Reference:
    """title: of a panel or legend. sentence: source and differences from ours. protocol: "linear" or "knn", whose
    panels show it."""

    title: str
    sentence: str
    protocol: str = "linear"


_IMAGENET = "ImageNet, ResNet-50, linear top-1; compare ranks, not levels"
_HUANG = "CIFAR-10, ResNet-18, 800 epochs, kNN, the best epoch on test images; compare ranks, not levels"
_LIGHTLY = "kNN with k = 200, the best epoch on test images; what a row computes may differ from the method's law"

REFERENCES = {
    "simclr_figure5_pairs": Reference(
        "SimCLR, Figure 5",
        f"Reference: Chen et al. 2020 (arXiv:2002.05709), Figure 5: {_IMAGENET}; a shared crop before the branches.",
    ),
    "simclr_table1_color_strength": Reference(
        "SimCLR, Table 1", f"Reference: Chen et al. 2020 (arXiv:2002.05709), Table 1: {_IMAGENET}."
    ),
    "simclr_table3_probes": Reference(
        "SimCLR, Table 3",
        "Reference: Chen et al. 2020 (arXiv:2002.05709), Table 3: ImageNet, ResNet-50, h of 2,048 dimensions; chance "
        "of its color task is 80 %.",
    ),
    "simclr_table4_losses": Reference(
        "SimCLR, Table 4", f"Reference: Chen et al. 2020 (arXiv:2002.05709), Table 4: {_IMAGENET}."
    ),
    "simclr_table5_temperature": Reference(
        "SimCLR, Table 5", f"Reference: Chen et al. 2020 (arXiv:2002.05709), Table 5: {_IMAGENET}; batch 4,096."
    ),
    "simclr_tableB1_batch_epochs": Reference(
        "SimCLR, Table B.1", f"Reference: Chen et al. 2020 (arXiv:2002.05709), Table B.1: {_IMAGENET}."
    ),
    "simclr_figure8_heads_digitised": Reference(
        "SimCLR, Figure 8",
        f"Reference: Chen et al. 2020 (arXiv:2002.05709), Figure 8, digitised (within 0.4): {_IMAGENET}.",
    ),
    "byol_table17_augmentation_removal": Reference(
        "BYOL, Table 17",
        "Reference: Grill et al. 2020 (arXiv:2006.07733), Table 17: ImageNet, ResNet-50, 300 epochs, linear top-1, "
        "BYOL and the authors' SimCLR; compare ranks, not levels.",
    ),
    "huang_color_strength": Reference(
        "Huang et al.", f"Reference: Huang et al. (arXiv:2111.00743), two versions of its table: {_HUANG}.", "knn"
    ),
    "huang_augmentation_subsets": Reference(
        "Huang et al.", f"Reference: Huang et al. (arXiv:2111.00743), two versions of its table: {_HUANG}.", "knn"
    ),
    "huang_methods": Reference(
        "Huang et al.",
        f"Reference: Huang et al. (arXiv:2111.00743), all five augmentations, two versions of its table: {_HUANG}.",
        "knn",
    ),
    "lightly_cifar10": Reference(
        "lightly",
        f"Reference: lightly's benchmark of CIFAR-10, editions of 2021 and 2023: ResNet-18, one seed, {_LIGHTLY}.",
        "knn",
    ),
    "lightly_imagenette": Reference(
        "lightly",
        f"Reference: lightly's benchmark of Imagenette: ResNet-18, 128 px, 800 epochs, one seed, {_LIGHTLY}; the page "
        "states k = 20, its script has 200.",
        "knn",
    ),
    "lightly_imagenet100": Reference(
        "lightly",
        "Reference: lightly's benchmark of ImageNet-100: ResNet-18, 200 epochs, one seed, kNN with k = 20, the best "
        "epoch on test images.",
        "knn",
    ),
    "lightly_imagenet1k": Reference(
        "lightly",
        "Reference: lightly's benchmark of ImageNet: ResNet-50, 100 epochs, one seed; linear: the best of 90 epochs of "
        "the classifier on test images; kNN with k = 200, the last epoch.",
    ),
    "solo_learn_cifar10": Reference(
        "solo-learn",
        "Reference: solo-learn's README, CIFAR-10: ResNet-18, 1,000 epochs, batch 256, a linear classifier that is "
        "trained beside the method.",
    ),
}


def reference_table(name: str) -> pd.DataFrame:
    """A published table from the package."""
    with resources.files("ablation.analysis.references").joinpath(f"{name}.csv").open() as file:
        return pd.read_csv(file)
