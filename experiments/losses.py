"""Which contrastive loss, each at its own learning rate?

NT-Xent, NT-Logistic and the margin loss, the latter two also with semi-hard negatives. Each uses the one of four rates
with the best mean on validation images; the table has all four.

Source: Chen et al. 2020 (arXiv:2002.05709), Tables 2 and 4.
Cost: 40 runs, 16 minutes on two CPU cores at cifar10-small.
Expected: NT-Xent first; semi-hard negatives help the other two.

    ablation run losses --scale cifar10-small --precision bfloat16
"""

from ablation import Bars, Crop, Experiment, Lines, Margin, NTLogistic, NTXent, SimCLR, sweep


def experiment(scale):
    view = (Crop(), scale.color())
    objectives = (NTXent(), NTLogistic(), Margin(), NTLogistic(semi_hard=True), Margin(semi_hard=True))

    def make(objective, rate):
        method = scale.method(SimCLR, objective=objective)
        optimizer = scale.optimization(method).optimizer
        optimizer = optimizer.replace(learning_rate=optimizer.learning_rate * rate)
        return scale.run(method, views=(view, view), optimization=scale.optimization(method, optimizer=optimizer))

    note = "Rate: times the scale's."
    return Experiment(
        cells=sweep(make, objective=objectives, rate=(0.1, 0.3, 1.0, 3.0), seeds=range(2)),
        figures={
            "bars": Bars(bars="objective", best_of="rate", reference="simclr_table4_losses", note=note),
            "rates": Lines(x="rate", lines="objective", values=("linear_validation_top1_recalibrated",), note=note),
        },
    )
