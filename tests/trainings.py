"""A small training with each method, for the tests of what all methods promise."""

from __future__ import annotations

from typing import Any

from ablation import (
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
    Crop,
    CropFlip,
    FastSiam,
    LeJEPA,
    MoCo,
    PatchMask,
    SimCLR,
    SimMIM,
    SimSiam,
    SMoG,
    Supervised,
    SwAV,
    TiCo,
    VICReg,
    VICRegL,
    ViT,
)

VIT = ViT(patch=4, width=16, blocks=2, heads=2)
LARGE, SMALLER = (Crop(area=(0.4, 1.0)),), (Crop(size=8, area=(0.1, 0.4)),)
MASKED = (Crop(area=(0.2, 1.0)), PatchMask())
MSN_VIEWS = (LARGE, (*LARGE, PatchMask(ratio=0.15)), SMALLER, SMALLER)
HEAD = {"hidden": 8, "dimension": 6}

# By name, changes to `helpers.small_training`.
TRAININGS: dict[str, dict[str, Any]] = {
    "SimCLR": {"method": SimCLR(**HEAD)},
    "Barlow Twins": {"method": BarlowTwins(**HEAD)},
    "supervised": {"method": Supervised()},
    "BYOL": {"method": BYOL(**HEAD)},
    "DCL": {"method": DCL(**HEAD)},
    "DCLW": {"method": DCLW(**HEAD)},
    "DINO": {
        "method": DINO(**HEAD, prototypes=12, warmup=2, teacher_temperature_end=0.07),
        "views": (LARGE, LARGE, SMALLER),
    },
    "EMP-SSL": {"method": EMPSSL(**HEAD), "views": (SMALLER,) * 4},
    "FastSiam": {"method": FastSiam(**HEAD, bottleneck=4), "views": (LARGE,) * 4},
    "LeJEPA": {"method": LeJEPA(**HEAD, directions=10), "views": (LARGE, LARGE, SMALLER)},
    "MAE": {"method": MAE(width=16, blocks=1, heads=2), "encoder": VIT, "views": (MASKED,)},
    "MoCo v2": {"method": MoCo(**HEAD, queue=50, splits=4)},
    "MSN": {"method": MSN(**HEAD, prototypes=12), "encoder": VIT, "views": MSN_VIEWS},
    "NNCLR": {"method": NNCLR(**HEAD, predictor=8, queue=50)},
    "PMSN": {"method": PMSN(**HEAD, prototypes=12), "encoder": VIT, "views": MSN_VIEWS},
    "SimMIM": {"method": SimMIM(), "encoder": VIT, "views": ((Crop(), PatchMask(ratio=0.5, block=8)),)},
    "SimSiam": {"method": SimSiam(**HEAD, bottleneck=4)},
    "SMoG": {"method": SMoG(**HEAD, groups=5, renewal=4, bank=30)},
    "SwAV": {
        "method": SwAV(**HEAD, prototypes=12, queue=40, queue_from=1),
        "views": (LARGE, LARGE, SMALLER),
    },
    "TiCo": {"method": TiCo(**HEAD)},
    "VICReg": {"method": VICReg(**HEAD)},
    "VICRegL": {
        "method": VICRegL(**HEAD, local_hidden=4, local_dimension=4, matches=(3, 2)),
        "views": ((CropFlip(),), (CropFlip(),), SMALLER),
    },
}
