"""Which image augmentations make a self-supervised method learn a good representation, and how sure are we?

    from ablation import Crop, Experiment, Heatmap, pairwise

An experiment is a Python file with a function `experiment(scale)` that returns an `Experiment`: its cells (`pairwise`,
`sweep`) and its figures. `ablation run FILE` trains missing runs and draws the figures. All names that a file needs
are here; each is imported on first use, so drawing figures does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ablation import moved

if TYPE_CHECKING:
    from ablation.analysis import statistics
    from ablation.analysis.results import curves, predictions, table
    from ablation.data import Data, DataSet, ImageData, Shapes, Split
    from ablation.evaluate import KNN, Evaluation, FineTune, Invariance, Linear, Probe
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
        Decoupled,
        FastSiam,
        Initialization,
        Learner,
        LeJEPA,
        Margin,
        Method,
        MoCo,
        Momentum,
        NTLogistic,
        NTXent,
        Queue,
        SimCLR,
        SimMIM,
        SimSiam,
        SMoG,
        Supervised,
        SwAV,
        TiCo,
        VICReg,
        VICRegL,
        mlp,
    )
    from ablation.models import ResNet, SmallResNet, ViT
    from ablation.operators import (
        Blur,
        Color,
        ColorDrop,
        ColorJitter,
        Crop,
        CropFlip,
        Cutout,
        Flip,
        FromKornia,
        Noise,
        Operator,
        PatchMask,
        Resize,
        Rotate,
        Sobel,
        Solarize,
    )
    from ablation.plots import Bars, Curves, Differences, Effects, FigureSpec, Heatmap, Interaction, Lines, Profile
    from ablation.search import Search
    from ablation.spec import (
        AblationError,
        Cell,
        Constant,
        Cosine,
        DataError,
        Experiment,
        InvalidSpec,
        Optimization,
        Run,
        Spec,
        Steps,
        StorageError,
        Training,
        UserCodeError,
        WorkerError,
        pairwise,
        sweep,
    )
    from ablation.study import Scale
    from ablation.study.published_views import published_views, two_views
    from ablation.system.distributed import gather
    from ablation.training.optimizers import LARS, SGD, Adam, AdamW

__version__ = "0.1.0"

_PACKAGES = {
    "analysis": ("statistics",),
    "analysis.results": ("curves", "predictions", "table"),
    "data": ("Data", "DataSet", "ImageData", "Shapes", "Split"),
    "evaluate": ("KNN", "Evaluation", "FineTune", "Invariance", "Linear", "Probe"),
    "methods": (
        *("BYOL", "DCL", "DCLW", "DINO", "EMPSSL", "MAE", "MSN", "NNCLR", "PMSN"),
        *("BarlowTwins", "Decoupled", "FastSiam", "Initialization", "LeJEPA", "Learner", "Margin", "Method", "MoCo"),
        *("Momentum", "NTLogistic", "NTXent", "Queue", "SMoG", "SimCLR", "SimMIM", "SimSiam", "Supervised"),
        *("SwAV", "TiCo", "VICReg", "VICRegL", "mlp"),
    ),
    "models": ("ResNet", "SmallResNet", "ViT"),
    "operators": (
        *("Blur", "Color", "ColorDrop", "ColorJitter", "Crop", "CropFlip", "Cutout", "Flip", "FromKornia", "Noise"),
        *("Operator", "PatchMask", "Resize", "Rotate", "Sobel", "Solarize"),
    ),
    "plots": ("Bars", "Curves", "Differences", "Effects", "FigureSpec", "Heatmap", "Interaction", "Lines", "Profile"),
    "search": ("Search",),
    "spec": (
        *("AblationError", "Cell", "Constant", "Cosine", "DataError", "Experiment", "InvalidSpec", "Optimization"),
        *("Run", "Spec", "Steps", "StorageError", "Training", "UserCodeError", "WorkerError", "pairwise", "sweep"),
    ),
    "study": ("Scale",),
    "study.published_views": ("published_views", "two_views"),
    "system.distributed": ("gather",),
    "training.optimizers": ("LARS", "SGD", "Adam", "AdamW"),
}
_PACKAGE_OF = {name: package for package, names in _PACKAGES.items() for name in names}
__all__ = sorted(_PACKAGE_OF)

moved.install()


def __getattr__(name: str) -> Any:
    if name not in _PACKAGE_OF:
        raise AttributeError(f"module 'ablation' has no attribute {name!r}")
    package = import_module(f"ablation.{_PACKAGE_OF[name]}")
    value = getattr(package, name) if hasattr(package, name) else import_module(f"{package.__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
