"""The methods: one file each, with its objective."""

from ablation.methods.barlow_twins import BarlowTwins
from ablation.methods.base import Learner, Method, mlp
from ablation.methods.baselines import Initialization, Supervised
from ablation.methods.contrastive import Margin, NTLogistic, NTXent
from ablation.methods.simclr import SimCLR

__all__ = [
    "BarlowTwins",
    "Initialization",
    "Learner",
    "Margin",
    "Method",
    "NTLogistic",
    "NTXent",
    "SimCLR",
    "Supervised",
    "mlp",
]
