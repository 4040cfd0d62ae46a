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
    Heatmap,
    LeJEPA,
    Linear,
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
BELOW: dict[str, tuple[str, ...]] = {}
ABOVE: dict[str, tuple[str, ...]] = {}
FIGURES = {"crop": "crop", "color": "color", "crop-color": "crop + color", "simclr": "SimCLR's", "byol": "BYOL's"}
FIGURES |= {"published": "published"}


def experiment(scale):
    size, crop, color = scale.size, (Crop(),), (scale.color(),)
    common = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    common |= {"SimCLR's": published_views(SimCLR(), size), "BYOL's": published_views(BYOL(), size)}
    cells = []
    for method in map(scale.method, CROSSED + OTHERS):
        pairs = common if type(method) in CROSSED else {}
        views = {name: two_views(method, *pair, scale.transformer.patch) for name, pair in pairs.items()}
        if (own := published_views(method, size)) not in views.values():
            views["published"] = own
        low, high = BELOW.get(method.label, ()), ABOVE.get(method.label, ())
        tried = {name: (1e-3,) * (name in low) + RATES + (8.1e-2,) * (name in high) for name in views}
        for view, rate in [(view, rate) for view, rates in tried.items() for rate in rates]:
            optimizer = scale.optimization(method).optimizer.replace(learning_rate=rate)
            optimization = scale.optimization(method, optimizer=optimizer, curve_every=0)
            run = scale.run(method, views=views[view], optimization=optimization, seed=100)
            coords = {"method": method.label, "view": view, "rate": rate, "seed": 100}
            cells.append(Cell(coords=coords, run=run.replace(evaluations=(Linear(),))))
    chosen = {"rows": "method", "columns": "rate", "values": ("linear_validation_top1_recalibrated",)}
    figures = {each: Heatmap(where={"view": view}, **chosen) for each, view in FIGURES.items()}
    return Experiment(cells=tuple(cells), figures=figures)
