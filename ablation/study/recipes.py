"""The size and optimizer of each method at each scale.

Published recipes are lightly's benchmark scripts (CIFAR-10 and Imagenette of 2023, ImageNet of 2025), with the authors'
where they are named; "ours" marks what nobody has published at that scale. Optimizers are by the method's label, and
their rates for the scale's batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    LeJEPA,
    Method,
    MoCo,
    SimCLR,
    SimMIM,
    SimSiam,
    SMoG,
    SwAV,
    TiCo,
    VICReg,
    VICRegL,
)
from ablation.training.optimizers import LARS, SGD, Adam, AdamW

# For the two CPU scales, all ours: heads, prototypes and decoders that suit the small encoders, queues of a tenth of
# the training images, and copies that forget their start in a hundred of the few hundred steps.
SMALL_METHODS: tuple[Method, ...] = (
    SimCLR(hidden=128, dimension=64),
    BarlowTwins(hidden=256, dimension=256),
    BYOL(hidden=256, dimension=64, momentum=0.99),
    DCL(hidden=128, dimension=64),
    DCLW(hidden=128, dimension=64),
    DINO(hidden=256, dimension=64, prototypes=256, momentum=0.99),
    EMPSSL(hidden=256, dimension=64),
    FastSiam(hidden=256, dimension=256, bottleneck=64),
    LeJEPA(hidden=256, dimension=64),
    MAE(width=32, blocks=1, heads=2),
    MoCo(hidden=128, dimension=64, queue=512),
    MSN(hidden=256, dimension=64, prototypes=64, momentum=0.99),
    NNCLR(hidden=256, dimension=64, predictor=256, queue=512),
    PMSN(hidden=256, dimension=64, prototypes=64, momentum=0.99),
    SimMIM(),
    SimSiam(hidden=256, dimension=256, bottleneck=64),
    SMoG(hidden=256, dimension=64, groups=50, renewal=100, bank=2000),
    SwAV(hidden=128, dimension=64, prototypes=64),
    TiCo(hidden=256, dimension=64, momentum=0.99),
    VICReg(hidden=256, dimension=256),
    VICRegL(hidden=256, dimension=256, local_hidden=64, local_dimension=64, matches=(16, 4)),
)

# lightly at batch 512: queues of 8,192. EMP-SSL and LeJEPA: the authors'. TiCo, VICReg, VICRegL: ours.
CIFAR10_METHODS: tuple[Method, ...] = (
    SimCLR(hidden=512, dimension=128, output_norm="batch"),
    BarlowTwins(hidden=2048, dimension=2048),
    BYOL(hidden=1024, dimension=256, momentum=0.99, momentum_end=0.99),
    DCL(hidden=512, dimension=128, output_norm="batch"),
    DCLW(hidden=512, dimension=128, output_norm="batch"),
    DINO(
        hidden=2048,
        dimension=256,
        prototypes=2048,
        momentum=0.99,
        momentum_end=0.99,
        frozen=0,
        clip=None,
        evaluated="student",
    ),
    EMPSSL(),
    FastSiam(),
    LeJEPA(),
    MAE(),
    MoCo(queue=8192),
    MSN(),
    NNCLR(temperature=0.5, queue=8192),
    PMSN(),
    SimMIM(),
    SimSiam(),
    SMoG(),
    SwAV(),
    TiCo(),
    VICReg(),
    VICRegL(),
)


# lightly at batch 256, as far as it has the method; EMP-SSL, LeJEPA and DINO's small head as at CIFAR-10.
IMAGENETTE_METHODS: tuple[Method, ...] = (
    SimCLR(hidden=512, dimension=128, output_norm="batch"),
    BarlowTwins(hidden=2048, dimension=2048),
    BYOL(hidden=4096, dimension=256, momentum=0.99, momentum_end=0.99),
    DCL(hidden=512, dimension=128, output_norm="batch"),
    DCLW(hidden=512, dimension=128, output_norm="batch"),
    DINO(layers=3, prototypes=2048, momentum=0.99, momentum_end=0.99, frozen=0, clip=None, evaluated="student"),
    EMPSSL(),
    FastSiam(layers=3),
    LeJEPA(),
    MAE(),
    MoCo(hidden=2048, splits=0),
    MSN(),
    NNCLR(layers=3, temperature=0.5),
    PMSN(),
    SimMIM(),
    SimSiam(layers=3),
    SMoG(),
    SwAV(hidden=2048, prototypes=3000),
    TiCo(momentum=0.996),
    VICReg(),
    VICRegL(),
)

# lightly's heads of Imagenette, with DINO's slower copy.
IMAGENET100_METHODS: tuple[Method, ...] = tuple(
    method.replace(momentum=0.999, momentum_end=0.999) if isinstance(method, DINO) else method
    for method in IMAGENETTE_METHODS
)

# lightly at ImageNet with ResNet-50; the authors' heads where it has none. Also for ImageNet-100 with ResNet-50.
IMAGENET_METHODS: tuple[Method, ...] = (
    SimCLR(hidden=2048, dimension=128),
    BarlowTwins(hidden=8192, dimension=8192),
    BYOL(momentum=0.99),
    DCL(hidden=2048, dimension=128, output_norm="batch"),
    DCLW(hidden=2048, dimension=128, output_norm="batch"),
    DINO(layers=3, hidden=2048, norm=None, prototypes=65536),
    EMPSSL(),
    FastSiam(layers=3),
    LeJEPA(),
    MAE(),
    MoCo(hidden=2048, temperature=0.2, queue=65536, momentum=0.999, splits=0),
    MSN(),
    NNCLR(layers=3, queue=65536),
    PMSN(),
    SimMIM(),
    SimSiam(layers=3),
    SMoG(groups=3000),
    SwAV(hidden=2048, prototypes=3000),
    TiCo(hidden=4096, momentum=0.99),
    VICReg(hidden=8192, dimension=8192),
    VICRegL(hidden=8192, dimension=8192, local_hidden=512, local_dimension=512),
)

MASKED = ("MAE", "MSN", "PMSN")
NO_WARMUP = ("MoCo v2", "SimSiam", "FastSiam")  # at ImageNet, by lightly and the authors


def cifar10_optimizers(batch: int) -> dict[str, Any]:
    """lightly's, by label: SGD at 0.06 for 128 images with decay 5e-4 of everything, or what differs. Those of the
    methods with a ViT, of EMP-SSL and of LeJEPA are the authors' for larger images."""
    usual = SGD(learning_rate=0.06 * batch / 128, weight_decay=5e-4)
    fixed = SGD(learning_rate=0.06, weight_decay=5e-4)
    return dict.fromkeys(_labels(CIFAR10_METHODS), usual) | _transformers(batch) | {
        "SimSiam": fixed,
        "FastSiam": fixed,
        "SMoG": SGD(learning_rate=0.01, weight_decay=1e-6),
        "SwAV": Adam(learning_rate=1e-3 * batch / 128, weight_decay=1e-6),
    }  # fmt: skip


def imagenette_optimizers(batch: int) -> dict[str, Any]:
    """lightly's, by label: SGD at 0.06 for 256 images with decay 5e-4 of everything, or what differs."""
    usual = SGD(learning_rate=0.06 * batch / 256, weight_decay=5e-4)
    vicreg = LARS(learning_rate=0.3 * batch / 256, weight_decay=1e-4)
    return dict.fromkeys(_labels(IMAGENETTE_METHODS), usual) | _transformers(batch) | {
        "SMoG": SGD(learning_rate=0.01, weight_decay=1e-6),
        "SwAV": Adam(learning_rate=1e-3 * batch / 256, weight_decay=1e-6),
        "TiCo": SGD(learning_rate=0.3 * batch / 256, weight_decay=1e-4),
        "VICReg": vicreg,
        "VICRegL": vicreg,
    }  # fmt: skip


def imagenet100_optimizers(batch: int) -> dict[str, Any]:
    """lightly's with ResNet-18, by label; those of the methods that it lacks here are of `imagenet_optimizers`."""
    scaled = batch / 256
    contrastive = LARS(learning_rate=0.3 * scaled, weight_decay=1e-6)
    byol = LARS(learning_rate=0.2 * scaled, weight_decay=1.5e-6)
    simsiam = SGD(learning_rate=0.05 * scaled, weight_decay=1e-4)
    return imagenet_optimizers(batch) | {
        "SimCLR": contrastive,
        "NNCLR": contrastive,
        "DINO": contrastive,
        "BYOL": byol,
        "Barlow Twins": byol,
        "SimSiam": simsiam,
        "FastSiam": simsiam,
        "SwAV": SGD(learning_rate=4.8 * scaled, weight_decay=1e-6),
    }


def imagenet_optimizers(batch: int) -> dict[str, Any]:
    """lightly's at 100 epochs, by label; SimSiam's, NNCLR's and SMoG's rates are the authors'."""
    scaled = batch / 256
    dcl = LARS(learning_rate=0.075 * batch**0.5, weight_decay=1e-6)
    simsiam = SGD(learning_rate=0.05 * scaled, weight_decay=1e-4)
    return _transformers(batch) | {
        "SimCLR": LARS(learning_rate=0.3 * scaled, weight_decay=1e-6),
        "Barlow Twins": LARS(learning_rate=0.2 * scaled, weight_decay=1.5e-6),
        "BYOL": LARS(learning_rate=0.45 * scaled, weight_decay=1e-6),
        "DCL": dcl,
        "DCLW": dcl,
        "DINO": SGD(learning_rate=0.03 * scaled, weight_decay=1e-4),
        "FastSiam": simsiam,
        "MoCo v2": SGD(learning_rate=0.03 * scaled, weight_decay=1e-4),
        "NNCLR": LARS(learning_rate=0.3 * scaled, weight_decay=1e-6),
        "SimSiam": simsiam,
        "SMoG": LARS(learning_rate=0.3 * scaled, weight_decay=1e-6),
        "SwAV": LARS(learning_rate=0.6 * scaled, weight_decay=1e-6),
        "TiCo": LARS(learning_rate=0.2 * scaled, weight_decay=1.5e-6),
        "VICReg": LARS(learning_rate=0.5 * scaled, weight_decay=1e-6),
        "VICRegL": LARS(learning_rate=0.3 * scaled, weight_decay=1e-6),
    }


def warmups(epochs: int, by_label: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """For `Scale.optimizations`. by_label: a method's warm-up in epochs, of `epochs` in all."""
    return {label: {"warmup": each / epochs} for label, each in by_label.items()}


def _transformers(batch: int) -> dict[str, Any]:
    """Of the methods with a ViT, of EMP-SSL and of LeJEPA, at every scale."""
    masked = AdamW(learning_rate=1.5e-4 * batch / 256, betas=(0.9, 0.95), weight_decay=0.05)
    return {
        "EMP-SSL": LARS(learning_rate=0.3, weight_decay=1e-4, trust=0.005),  # for 100 images of 20 views
        "LeJEPA": AdamW(learning_rate=5e-4, weight_decay=5e-4),
        "MAE": masked,
        "MSN": masked,
        "PMSN": masked,
        "SimMIM": AdamW(learning_rate=8e-4 * batch / 256, weight_decay=0.05),
    }


def _labels(methods: Sequence[Method]) -> list[str]:
    return [method.label for method in methods]
