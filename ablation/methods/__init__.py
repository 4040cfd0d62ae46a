"""The methods, one file each, with its objective."""

from ablation.methods.barlow_twins import BarlowTwins
from ablation.methods.base import Learner, Method, Progress, mlp
from ablation.methods.baselines import Initialization, Supervised
from ablation.methods.contrastive import Margin, NTLogistic, NTXent
from ablation.methods.mae import MAE
from ablation.methods.moco import MoCo
from ablation.methods.momentum import Momentum, Queue
from ablation.methods.simclr import SimCLR
from ablation.methods.swav import SwAV
from ablation.methods.vicreg import VICReg

__all__ = [
    "MAE",
    "BarlowTwins",
    "Initialization",
    "Learner",
    "Margin",
    "Method",
    "MoCo",
    "Momentum",
    "NTLogistic",
    "NTXent",
    "Progress",
    "Queue",
    "SimCLR",
    "Supervised",
    "SwAV",
    "VICReg",
    "mlp",
]
