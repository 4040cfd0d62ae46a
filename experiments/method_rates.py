"""Which learning rate does each method want, with each kind of views?

A rate per method alone would mix up an interaction of method and views with mis-tuning. Linear accuracy on validation
images decides, with a seed that no result uses: for crop and for color alone, for the three stronger kinds together
(their mean, since one run is too noisy to tell them apart), and for a method's own published views. Where the best of
three rates is the smallest or the largest, a fourth beyond it is tried. The rates are stated in
ablation/study/recipes.py. At 35 steps an epoch, queues hold a ninth of the training images and momentum copies forget
with 0.99. MAE masks three quarters of the patches, MSN 15 % in its second view.

Source: ours.
Cost: 255 runs, two and a half hours on two CPU cores at cifar10-small.
Expected: best rates within a factor of three of SimCLR's; weak views want smaller rates.

    ablation run method_rates --scale cifar10-small --precision bfloat16
"""

from ablation import (
    BYOL,
    DCL,
    DCLW,
    DINO,
    EMPSSL,
    MAE,
    MSN,
    NNCLR,
    PMSN,
    BarlowTwins,
    Cell,
    Crop,
    Experiment,
    FastSiam,
    LeJEPA,
    Linear,
    Lines,
    MoCo,
    SimCLR,
    SimMIM,
    SimSiam,
    SMoG,
    SwAV,
    TiCo,
    VICReg,
    VICRegL,
    published_views,
    two_views,
)

CROSSED = (SimCLR, BarlowTwins, MoCo, SimSiam, BYOL, DCL, NNCLR, SwAV, VICReg, DINO, EMPSSL, LeJEPA, MAE, MSN)
OTHERS = (DCLW, FastSiam, SMoG, TiCo, VICRegL, PMSN, SimMIM)  # only with their own views
RATES = (3e-3, 9e-3, 2.7e-2)
BEYOND: dict[float, dict[str, tuple[str, ...]]] = {1e-3: {}, 8.1e-2: {}}
VALIDATION = ("linear_validation_top1_recalibrated",)


def experiment(scale):
    size, crop, color = scale.size, (Crop(),), (scale.color(),)
    common = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    common |= {"SimCLR's": published_views(SimCLR(), size), "BYOL's": published_views(BYOL(), size)}
    cells, figures = [], {}
    for method in map(scale.method, CROSSED + OTHERS):
        pairs = common if type(method) in CROSSED else {}
        views = {name: two_views(method, *pair, scale.transformer.patch) for name, pair in pairs.items()}
        if (own := published_views(method, size)) not in views.values():
            views["published"] = own
        tried = {name: [rate for rate in BEYOND if name in BEYOND[rate].get(method.label, ())] for name in views}
        for name, rate in [(name, rate) for name in views for rate in (*RATES, *tried[name])]:
            optimizer = scale.optimization(method).optimizer.replace(learning_rate=rate)
            optimization = scale.optimization(method, optimizer=optimizer, curve_every=0)
            run = scale.run(method, views=views[name], optimization=optimization, seed=100)
            coords = {"method": method.label, "view": name, "rate": rate, "seed": 100}
            cells.append(Cell(coords=coords, run=run.replace(evaluations=(Linear(),))))
        where = {"method": method.label}
        figures[method.label.lower().replace(" ", "-")] = Lines(x="rate", lines="view", where=where, values=VALIDATION)
    return Experiment(cells=tuple(cells), figures=figures)
