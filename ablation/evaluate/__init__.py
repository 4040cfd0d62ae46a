"""Evaluations of an encoder, one file each."""

from ablation.evaluate.base import STATISTICS, Evaluation, Features
from ablation.evaluate.fine_tune import FineTune
from ablation.evaluate.invariance import Invariance
from ablation.evaluate.knn import KNN
from ablation.evaluate.linear import Linear
from ablation.evaluate.probe import Probe

__all__ = ["KNN", "STATISTICS", "Evaluation", "Features", "FineTune", "Invariance", "Linear", "Probe"]
