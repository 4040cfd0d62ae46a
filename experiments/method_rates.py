"""Which learning rate does each method want, with each kind of views?

A rate per method alone would mix up an interaction of method and views with mis-tuning. The rate with the best linear
accuracy on validation images, with a seed that no result uses, is stated in ablation/study/recipes.py. Rates beyond
an edge were added where the best one lay there. At 35 steps an epoch, queues hold a ninth of the training images and
momentum copies forget with 0.99. MAE masks three quarters of the patches, MSN 15 % in its second view.

Source: ours.
Cost: 290 runs, 3 hours on two CPU cores at cifar10-small.
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
    SimCLR,
    SimSiam,
    SwAV,
    VICReg,
    published_views,
    two_views,
)

METHODS = (SimCLR, BarlowTwins, MoCo, SimSiam, BYOL, DCL, NNCLR, SwAV, VICReg, DINO, EMPSSL, LeJEPA, MAE, MSN)
OWN = (SimSiam, SwAV, VICReg, DINO, EMPSSL, LeJEPA)  # methods whose published views are none of the common ones
RATES = (1e-3, 3e-3, 9e-3)
BEYOND = {}
VALIDATION = ("linear_validation_top1_recalibrated",)


def experiment(scale):
    size, crop, color = scale.size, (Crop(),), (scale.color(),)
    common = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    common |= {"SimCLR's": published_views(SimCLR(), size), "BYOL's": published_views(BYOL(), size)}
    cells, figures = [], {}
    for method in map(scale.method, METHODS):
        views = {name: two_views(method, *pair, scale.transformer.patch) for name, pair in common.items()}
        views |= {"published": published_views(method, size)} if type(method) in OWN else {}
        for name, rate in [(n, r) for n in views for r in RATES + BEYOND.get((method.label, n), ())]:
            optimizer = scale.optimization(method).optimizer.replace(learning_rate=rate)
            optimization = scale.optimization(method, optimizer=optimizer, curve_every=0)
            run = scale.run(method, views=views[name], optimization=optimization, seed=100)
            coords = {"method": method.label, "view": name, "rate": rate, "seed": 100}
            cells.append(Cell(coords=coords, run=run.replace(evaluations=(Linear(),))))
        where = {"method": method.label}
        figures[method.label.lower().replace(" ", "-")] = Lines(x="rate", lines="view", where=where, values=VALIDATION)
    return Experiment(cells=tuple(cells), figures=figures)
