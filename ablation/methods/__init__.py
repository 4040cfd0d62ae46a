"""The methods, one file each, with its objective."""

from ablation.methods.barlow_twins import BarlowTwins
from ablation.methods.base import Learner, Method, Progress, mlp
from ablation.methods.baselines import Initialization, Supervised
from ablation.methods.byol import BYOL
from ablation.methods.contrastive import Margin, NTLogistic, NTXent
from ablation.methods.dcl import DCL, DCLW, Decoupled
from ablation.methods.dino import DINO
from ablation.methods.emp_ssl import EMPSSL
from ablation.methods.lejepa import LeJEPA
from ablation.methods.mae import MAE
from ablation.methods.moco import MoCo
from ablation.methods.momentum import Momentum, Queue
from ablation.methods.msn import MSN, PMSN
from ablation.methods.nnclr import NNCLR
from ablation.methods.simclr import SimCLR
from ablation.methods.simmim import SimMIM
from ablation.methods.simsiam import FastSiam, SimSiam
from ablation.methods.smog import SMoG
from ablation.methods.swav import SwAV
from ablation.methods.tico import TiCo
from ablation.methods.vicreg import VICReg
from ablation.methods.vicregl import VICRegL

__all__ = [
    "BYOL",
    "DCL",
    "DCLW",
    "DINO",
    "EMPSSL",
    "MAE",
    "MSN",
    "NNCLR",
    "PMSN",
    "BarlowTwins",
    "Decoupled",
    "FastSiam",
    "Initialization",
    "LeJEPA",
    "Learner",
    "Margin",
    "Method",
    "MoCo",
    "Momentum",
    "NTLogistic",
    "NTXent",
    "Progress",
    "Queue",
    "SMoG",
    "SimCLR",
    "SimMIM",
    "SimSiam",
    "Supervised",
    "SwAV",
    "TiCo",
    "VICReg",
    "VICRegL",
    "mlp",
]
