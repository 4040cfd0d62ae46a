"""The size and optimizer of each method at each scale.

Published recipes are those of lightly's benchmark scripts (CIFAR-10 and Imagenette of 2023, ImageNet-100 of 2022,
ImageNet of 2025): heads, batch norm, temperatures, queues, momenta, optimizers. The loss is each method's law, also
where lightly's differs (docs/methods.md), except for fields that state a deviation (NNCLR's negatives). BYOL's SGD is
lightly's for its own loss, which has a quarter of the law's gradient: a quarter of the rate, four times the decay.
At Imagenette lightly's MAE and SimMIM have a ViT-B/32, and its MAE one decoder block and raw pixels as targets; ours
have the scale's ViT and the law's decoder. Rates change from step to step; lightly's at CIFAR-10 from epoch to epoch.
"Ours" marks settings without a publication at that scale. The functions of optimizers return one per method's label,
with the rate for the given batch.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    NTXent,
    SimCLR,
    SimMIM,
    SimSiam,
    SMoG,
    SwAV,
    TiCo,
    VICReg,
    VICRegL,
)
from ablation.spec import Cosine
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


def _rates(crop: float, color: float, strong: float, published: float) -> dict[str, float]:
    """By the kind of views; crop + color, SimCLR's and BYOL's share one."""
    stronger = dict.fromkeys(("crop + color", "SimCLR's", "BYOL's"), strong)
    return {"crop": crop, "color": color, **stronger, "published": published}


# Of AdamW at cifar10-small, chosen on validation images by experiments/method_rates.py.
SMALL_RATES: dict[str, dict[str, float]] = {
    "SimCLR": _rates(0.027, 0.009, 0.009, 0.009),
    "Barlow Twins": _rates(0.009, 0.009, 0.009, 0.009),
    "MoCo v2": _rates(0.003, 0.009, 0.009, 0.009),
    "SimSiam": _rates(0.009, 0.003, 0.003, 0.009),
    "BYOL": _rates(0.009, 0.081, 0.009, 0.009),
    "DCL": _rates(0.001, 0.009, 0.027, 0.027),
    "NNCLR": _rates(0.009, 0.003, 0.009, 0.009),
    "SwAV": _rates(0.009, 0.003, 0.003, 0.003),
    "VICReg": _rates(0.009, 0.027, 0.009, 0.009),
    "DINO": _rates(0.003, 0.027, 0.009, 0.003),
    "EMP-SSL": _rates(0.001, 0.003, 0.027, 0.027),
    "LeJEPA": _rates(0.081, 0.003, 0.003, 0.009),
    "MAE": _rates(0.009, 0.003, 0.001, 0.001),
    "MSN": _rates(0.001, 0.027, 0.003, 0.009),
    "DCLW": {"published": 0.009},
    "FastSiam": {"published": 0.009},
    "SMoG": {"published": 0.009},
    "TiCo": {"published": 0.009},
    "VICRegL": {"published": 0.009},
    "PMSN": {"published": 0.003},
    "SimMIM": {"published": 0.003},
}

MASKED = ("MAE", "MSN", "PMSN", "SimMIM")
SEPARATE = {"batch_norm": "separate"}  # lightly's encoders with ResNet-18 see one view after the other
FLOORS = dict.fromkeys(("LeJEPA", "VICReg", "VICRegL"), 1e-3)
OURS_AT_32_PX = ("TiCo", "VICReg", "VICRegL", *MASKED, "EMP-SSL", "LeJEPA")  # not in lightly's benchmark of CIFAR-10


def cifar10_methods(batch: int) -> tuple[Method, ...]:
    """lightly; its queues have 4,096 rows, and 8,192 at batch 512. Ours: those of OURS_AT_32_PX."""
    queue = 8192 if batch > 256 else 4096
    simclr = {"hidden": 512, "dimension": 128, "output_norm": "batch", **SEPARATE}
    return (
        SimCLR(**simclr),
        BarlowTwins(layers=2, hidden=2048, dimension=2048),
        BYOL(hidden=1024, dimension=256, momentum=0.99, momentum_end=0.99),
        DCL(**simclr),
        DCLW(**simclr),
        DINO(momentum=0.99, momentum_end=0.99, frozen=0, clip=None, evaluated="student", **SEPARATE),
        EMPSSL(),
        FastSiam(),
        LeJEPA(),
        MAE(),
        MoCo(queue=queue),
        MSN(),
        NNCLR(temperature=0.5, negatives="both", queue=queue),
        PMSN(),
        SimMIM(),
        SimSiam(),
        SMoG(),
        SwAV(frozen=0, **SEPARATE),
        TiCo(),
        VICReg(),
        VICRegL(matches=(16, 4)),
    )


def imagenette_methods() -> tuple[Method, ...]:
    """lightly. Ours: EMP-SSL and LeJEPA."""
    simclr = {"hidden": 512, "dimension": 128, "output_norm": "batch", **SEPARATE}
    dino = {"momentum": 0.99, "momentum_end": 0.99, "frozen": 0, "clip": None, "evaluated": "student"}
    return (
        SimCLR(**simclr),
        BarlowTwins(hidden=2048, dimension=2048),
        BYOL(hidden=4096, dimension=256, momentum=0.99, momentum_end=0.99),
        DCL(**simclr),
        DCLW(**simclr),
        DINO(layers=3, **dino, **SEPARATE),
        EMPSSL(),
        FastSiam(layers=3),
        LeJEPA(),
        MAE(),
        MoCo(hidden=2048, splits=0),
        MSN(),
        NNCLR(layers=3, temperature=0.5, negatives="both"),
        PMSN(),
        SimMIM(),
        SimSiam(layers=3),
        SMoG(),
        SwAV(hidden=2048, prototypes=3000, frozen=0, **SEPARATE),
        TiCo(momentum=0.996),
        VICReg(),
        VICRegL(matches=(16, 4)),
    )


def imagenet100_methods() -> tuple[Method, ...]:
    """lightly with ResNet-18. Ours, as at Imagenette: what lightly lacks here."""
    dino = {"momentum": 0.999, "momentum_end": 0.999, "frozen": 0, "clip": None, "evaluated": "student"}
    own = (
        SimCLR(objective=NTXent(temperature=0.1), hidden=512, dimension=128, output_norm="batch", **SEPARATE),
        BYOL(hidden=4096, dimension=256, momentum=0.999, momentum_end=0.999),
        DINO(layers=3, **dino, **SEPARATE),
        FastSiam(layers=3, hidden=512),
        MoCo(temperature=0.07, queue=65536, momentum=0.999, hidden=2048, splits=0),
        NNCLR(layers=3, hidden=4096, temperature=0.5, negatives="both", queue=65536),
        SimSiam(layers=3, hidden=512),
    )
    by_label = {method.label: method for method in own}
    return tuple(by_label.get(method.label, method) for method in imagenette_methods())


def imagenet_methods(batch: int) -> tuple[Method, ...]:
    """lightly with ResNet-50. SwAV's queue has 15 batches. Of the authors: NNCLR's and SimSiam's heads. Ours: NNCLR's
    queue, and the heads of EMP-SSL, FastSiam, LeJEPA, SMoG, VICRegL and of the methods with a ViT (lightly's MAE is
    with ViT-B/16)."""
    simclr = {"hidden": 2048, "dimension": 128, "output_norm": "batch"}
    return (
        SimCLR(objective=NTXent(temperature=0.1), **simclr),
        BarlowTwins(hidden=8192, dimension=8192, batch_norm="joint"),
        BYOL(momentum=0.99),
        DCL(**simclr),
        DCLW(**simclr),
        DINO(layers=3, hidden=2048, norm=None, prototypes=65536, clip=None),
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
        SwAV(hidden=2048, prototypes=3000, queue=15 * batch, queue_from=15, **SEPARATE),
        TiCo(hidden=4096, momentum=0.99),
        VICReg(layers=2, hidden=8192, dimension=8192, batch_norm="joint"),
        VICRegL(hidden=8192, dimension=8192, local_hidden=512, local_dimension=512),
    )


def cifar10_optimizers(batch: int) -> dict[str, Any]:
    """lightly's: SGD at 0.06 for 128 images with decay 5e-4 of everything, or what differs. Those of OURS_AT_32_PX are
    those of Imagenette."""
    scaled = batch / 128
    usual = SGD(learning_rate=0.06 * scaled, weight_decay=5e-4)
    fixed = SGD(learning_rate=0.06, weight_decay=5e-4)
    of_imagenette = imagenette_optimizers(batch)
    return dict.fromkeys(of_imagenette, usual) | {label: of_imagenette[label] for label in OURS_AT_32_PX} | {
        "BYOL": SGD(learning_rate=0.015 * scaled, weight_decay=2e-3),
        "SimSiam": fixed,
        "FastSiam": fixed,
        "SMoG": SGD(learning_rate=0.01, weight_decay=1e-6),
        "SwAV": Adam(learning_rate=1e-3 * scaled, weight_decay=1e-6),
    }  # fmt: skip


def imagenette_optimizers(batch: int) -> dict[str, Any]:
    """lightly's: SGD at 0.06 for 256 images with decay 5e-4 of everything, or what differs. VICReg diverges without
    LARS. Ours: no decay of biases and norms by AdamW."""
    scaled = batch / 256
    usual = SGD(learning_rate=0.06 * scaled, weight_decay=5e-4)
    fixed = SGD(learning_rate=0.06, weight_decay=5e-4)
    vicreg = LARS(learning_rate=0.3 * scaled, weight_decay=1e-4, adapts_all=True)
    return dict.fromkeys((method.label for method in imagenette_methods()), usual) | _transformers(batch) | {
        "BYOL": SGD(learning_rate=0.015 * scaled, weight_decay=2e-3),
        "SimSiam": fixed,
        "FastSiam": fixed,
        "SMoG": SGD(learning_rate=0.01, weight_decay=1e-6),
        "SwAV": Adam(learning_rate=1e-3 * scaled, weight_decay=1e-6),
        "TiCo": SGD(learning_rate=0.3 * scaled, weight_decay=1e-4),
        "VICReg": vicreg,
        "VICRegL": vicreg,
    }  # fmt: skip


def imagenet100_optimizers(batch: int) -> dict[str, Any]:
    """lightly's with ResNet-18; those of the methods that it lacks here are of `imagenet_optimizers`."""
    scaled = batch / 256
    contrastive = LARS(learning_rate=0.3 * scaled, weight_decay=1e-6, adapts_all=True)
    byol = LARS(learning_rate=0.2 * scaled, weight_decay=1.5e-6, adapts_all=True)
    simsiam = SGD(learning_rate=0.05 * scaled, weight_decay=1e-4)
    return imagenet_optimizers(batch) | {
        "SimCLR": contrastive,
        "NNCLR": contrastive,
        "DINO": contrastive,
        "BYOL": byol,
        "Barlow Twins": byol,
        "MoCo v2": SGD(learning_rate=0.03 * scaled, weight_decay=1e-4),
        "SimSiam": simsiam,
        "FastSiam": simsiam,
        "SwAV": SGD(learning_rate=4.8 * scaled, weight_decay=1e-6),
    }


def imagenet_optimizers(batch: int) -> dict[str, Any]:
    """lightly's at 100 epochs, without decay of biases and norms. Of the authors: SimSiam's, NNCLR's and VICRegL's
    rates. Ours: FastSiam's and SMoG's."""
    scaled, vicreg = batch / 256, {128: 0.8, 256: 0.5, 512: 0.4}
    simclr = LARS(learning_rate=0.075 * batch**0.5, weight_decay=1e-6)
    simsiam = SGD(learning_rate=0.05 * scaled, weight_decay=1e-4)
    sgd = SGD(learning_rate=0.03 * scaled, weight_decay=1e-4, decays_all=False)
    return _transformers(batch) | {
        "SimCLR": simclr,
        "Barlow Twins": LARS(learning_rate=0.2 * scaled, weight_decay=1.5e-6, exempt_rate=0.0048 / 0.2),
        "BYOL": LARS(learning_rate=0.45 * scaled, weight_decay=1e-6),
        "DCL": simclr,
        "DCLW": simclr,
        "DINO": sgd,
        "FastSiam": simsiam,
        "MoCo v2": sgd,
        "NNCLR": LARS(learning_rate=0.3 * scaled, weight_decay=1e-6),
        "SimSiam": simsiam,
        "SMoG": LARS(learning_rate=0.3 * scaled, weight_decay=1e-6),
        "SwAV": LARS(learning_rate=0.6 * scaled, weight_decay=1e-6),
        "TiCo": LARS(learning_rate=0.2 * scaled, weight_decay=1.5e-6),
        "VICReg": LARS(learning_rate=vicreg.get(batch, 0.3) * scaled, weight_decay=1e-6),
        "VICRegL": LARS(learning_rate=0.3 * scaled, weight_decay=1e-6),
    }


def _transformers(batch: int) -> dict[str, Any]:
    """Of the methods with a ViT (lightly's; MSN's authors clip the gradient, too), of EMP-SSL and of LeJEPA (the
    authors'), at every scale."""
    masked = AdamW(learning_rate=1.5e-4 * batch / 256, betas=(0.9, 0.95), weight_decay=0.05)
    return {
        # For 100 images of 20 views.
        "EMP-SSL": LARS(learning_rate=0.3, weight_decay=1e-4, trust=0.005, clips=True, nesterov=True),
        "LeJEPA": AdamW(learning_rate=5e-4, weight_decay=5e-4),
        "MAE": masked,
        "MSN": masked,
        "PMSN": masked,
        "SimMIM": AdamW(learning_rate=8e-4 * batch / 256, weight_decay=0.05),
    }


def warmups(
    epochs: int, by_label: Mapping[str, float], floors: Mapping[str, float] = FLOORS
) -> dict[str, dict[str, Any]]:
    """For `Scale.optimizations`. By a method's label: its warm-up in epochs, of `epochs` in all, and the last rate as a
    fraction of the first."""
    found: dict[str, dict[str, Any]] = {label: {"warmup": each / epochs} for label, each in by_label.items()}
    for label, floor in floors.items():
        found.setdefault(label, {})["schedule"] = Cosine(floor=floor)
    return found
