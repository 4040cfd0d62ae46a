"""Which temperature, and does NT-Xent need the sphere?

With l2 normalization tau of 0.05 to 1, without it 10 and 100. The table has the entropy of the softmax in nats and the
contrastive accuracy.

Source: Chen et al. 2020 (arXiv:2002.05709), Table 5.
Cost: 18 runs, 7 minutes on two CPU cores at cifar10-small.
Expected: a middle temperature is best; without normalization the contrastive accuracy is higher and the linear one
lower.

    ablation run temperature --scale cifar10-small
"""

from ablation.grids import sweep
from ablation.methods import NTXent
from ablation.operators import Crop
from ablation.plots import Bars
from ablation.specs import Experiment

SETTINGS = {"l2, 0.05": 0.05, "l2, 0.1": 0.1, "l2, 0.5": 0.5, "l2, 1": 1.0, "no l2, 10": 10.0, "no l2, 100": 100.0}


def experiment(scale):
    view = (Crop(), scale.color())

    def make(softmax):
        objective = NTXent(temperature=SETTINGS[softmax], l2_normalize=softmax.startswith("l2"))
        return scale.run(scale.simclr(objective=objective), views=(view, view))

    values = ("linear_test_top1_recalibrated", "contrastive_accuracy", "contrastive_entropy")
    return Experiment(
        cells=sweep(make, softmax=tuple(SETTINGS), seeds=range(3)),
        figures={"bars": Bars(bars="softmax", values=values, reference="simclr_table5_temperature")},
    )
