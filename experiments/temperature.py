"""Which temperature, and does NT-Xent need the sphere?

tau is 0.05 to 1 with l2 normalization, 10 and 100 without it. The table has the entropy of the softmax in nats and the
contrastive accuracy.

Source: Chen et al. 2020 (arXiv:2002.05709), Table 5.
Cost: 18 runs, 7 minutes on two CPU cores at cifar10-small.
Expected: a middle temperature is best; without normalization the contrastive accuracy is higher and the linear
accuracy lower.

    ablation run temperature --scale cifar10-small --precision bfloat16
"""

from ablation import Bars, Crop, Experiment, NTXent, SimCLR, sweep

SETTINGS = {"l2, 0.05": 0.05, "l2, 0.1": 0.1, "l2, 0.5": 0.5, "l2, 1": 1.0, "no l2, 10": 10.0, "no l2, 100": 100.0}


def experiment(scale):
    view = (Crop(), scale.color())

    def make(softmax):
        objective = NTXent(temperature=SETTINGS[softmax], l2_normalize=softmax.startswith("l2"))
        return scale.run(scale.method(SimCLR, objective=objective), views=(view, view))

    values = ("linear_test_top1_recalibrated", "contrastive_accuracy", "contrastive_entropy")
    return Experiment(
        cells=sweep(make, softmax=tuple(SETTINGS), seeds=range(3)),
        figures={"bars": Bars(bars="softmax", values=values, reference="simclr_table5_temperature")},
    )
