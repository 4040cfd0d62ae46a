"""How do batch size and length of training interact, and by which rule should the rate follow the batch?

LARS with the rate 0.3 x batch / 256 ("linear") or 0.075 x sqrt(batch) ("square root"); 1/4 to 2 times the scale's
batch, 1/2 to 2 times its epochs.

Source: Chen et al. 2020 (arXiv:2002.05709), Table B.1.
Cost: 48 runs, 20 minutes on two CPU cores at cifar10-small.
Expected: small batches gain from the square-root rule when training is short; longer training narrows all gaps.

    ablation run batch_epochs --scale cifar10-small --precision bfloat16
"""

from ablation import LARS, Crop, Experiment, Lines, SimCLR, sweep

RULES = {"linear": lambda batch: 0.3 * batch / 256, "square root": lambda batch: 0.075 * batch**0.5}


def experiment(scale):
    method, view = scale.method(SimCLR), (Crop(), scale.color())

    def make(batch, epochs, rule):
        optimizer = LARS(learning_rate=RULES[rule](batch))
        optimization = scale.optimization(method, batch=batch, epochs=epochs, optimizer=optimizer)
        return scale.run(method, views=(view, view), optimization=optimization)

    batches = tuple(scale.batch * 2**k // 4 for k in range(4))
    lengths = tuple(scale.epochs * 2**k // 2 for k in range(3))
    return Experiment(
        cells=sweep(make, batch=batches, epochs=lengths, rule=tuple(RULES), seeds=range(2)),
        figures={
            rule.replace(" ", "-"): Lines(
                x="batch", lines="epochs", where={"rule": rule}, reference="simclr_tableB1_batch_epochs"
            )
            for rule in RULES
        },
    )  # fmt: skip
