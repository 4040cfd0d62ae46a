"""Which learning rate does each method want, with each kind of views?

A rate per method alone would mix up an interaction of method and views with mis-tuning. The rate with the best mean
linear accuracy on validation images over two seeds, which no result uses, is stated in ablation/study/recipes.py. Where
the best rate lies at an edge, rates beyond it were added. At 35 steps an epoch, queues hold a ninth of the training
images and momentum copies forget with 0.99. MAE masks three quarters of the patches, MSN masks 15 % in its second view.

Source: ours.
Cost: 500 runs, 2.5 hours on two CPU cores at cifar10-small.
Expected: best rates within a factor of three of SimCLR's; weak views want smaller rates.

    ablation run method_rates --scale cifar10-small --precision bfloat16
"""

from ablation import (
    BYOL,
    DCL,
    DINO,
    EMPSSL,
    MAE,
    MSN,
    NNCLR,
    BarlowTwins,
    Cell,
    Crop,
    Experiment,
    LeJEPA,
    Linear,
    Lines,
    MoCo,
    PatchMask,
    SimCLR,
    SimSiam,
    SwAV,
    VICReg,
    published_views,
)  # fmt: skip

METHODS = (SimCLR, BarlowTwins, MoCo, SimSiam, BYOL, DCL, NNCLR, SwAV, VICReg, DINO, EMPSSL, LeJEPA, MAE, MSN)
RATES = (1e-3, 3e-3, 9e-3)
BEYOND = {}
VALIDATION = "linear_validation_top1_recalibrated"


def experiment(scale):
    crop, color = (Crop(),), (scale.color(),)
    common = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    common |= {"SimCLR's": published_views(SimCLR(), 32), "BYOL's": published_views(BYOL(), 32)}

    def cells(method, name):
        first, second = common[name]
        masked = {"MAE": ((*first, PatchMask()),), "MSN": (first, (*second, PatchMask(ratio=0.15)))}
        views = masked.get(method.label, (first, second))
        for rate in RATES + BEYOND.get((method.label, name), ()):
            optimizer = scale.optimizer.replace(learning_rate=rate)
            optimization = scale.optimization(method, optimizer=optimizer, curve_every=0)
            for seed in (100,):
                run = scale.run(method, views=views, optimization=optimization, seed=seed)
                coords = {"method": method.label, "view": name, "rate": rate, "seed": seed}
                yield Cell(coords=coords, run=run.replace(evaluations=(Linear(),)))

    methods = [scale.method(kind) for kind in METHODS]
    figures = {
        method.label.lower().replace(" ", "-"): Lines(
            x="rate", lines="view", where={"method": method.label}, values=(VALIDATION,)
        )
        for method in methods
    }
    return Experiment(cells=tuple(c for m in methods for name in common for c in cells(m, name)), figures=figures)
