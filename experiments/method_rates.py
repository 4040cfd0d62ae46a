"""Which learning rate does each method want, with each kind of views?

Linear accuracy on validation images decides, with a seed that no result uses: for crop, for color, for the three
stronger kinds together (their mean, since one run is too noisy to tell them apart), and for a method's published views.
Where the best of three rates is the smallest (-) or the largest (+), one beyond it is tried, see EDGES.
ablation/study/recipes.py states the rates.

Source: ours.
Cost: 299 runs, three hours on two CPU cores at cifar10-small.
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
EDGES = {"SimCLR": "crop+", "MoCo v2": "crop-", "SimSiam": "color- strong-", "BYOL": "color+", "DCL": "crop- strong+",
    "NNCLR": "color-", "SwAV": "color- strong- published-", "VICReg": "color+", "DINO": "crop- published- color+",
    "EMP-SSL": "crop- color- strong+ published+", "LeJEPA": "color- strong- crop+",
    "MAE": "color- strong- published-", "MSN": "crop- strong- color+", "PMSN": "published-",
    "SimMIM": "published-"}  # fmt: skip


def experiment(scale):
    size, crop, color, cells = scale.size, (Crop(),), (scale.color(),), []
    common = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    common |= {f"{kind.label}'s": published_views(kind(), size) for kind in (SimCLR, BYOL)}
    for method in map(scale.method, CROSSED + OTHERS):
        pairs, usual = common if type(method) in CROSSED else {}, scale.optimization(method, curve_every=0)
        views = {name: two_views(method, *pair, scale.transformer.patch) for name, pair in pairs.items()}
        views |= {} if (own := published_views(method, size)) in views.values() else {"published": own}
        for name, made in views.items():
            kind = name if name in ("crop", "color", "published") else "strong"
            low, high = (f"{kind}{sign}" in EDGES.get(method.label, "") for sign in "-+")
            for rate in (1e-3,) * low + (3e-3, 9e-3, 2.7e-2) + (8.1e-2,) * high:
                optimization = usual.replace(optimizer=usual.optimizer.replace(learning_rate=rate))
                run = scale.run(method, views=made, optimization=optimization, seed=100)
                coords = {"method": method.label, "view": name, "rate": rate, "seed": 100}
                cells.append(Cell(coords=coords, run=run.replace(evaluations=(Linear(),))))
    shown = {"rows": "method", "columns": "rate", "values": ("linear_validation_top1_recalibrated",), "average": False}
    drawn = {view: Heatmap(where={"view": view}, **shown) for view in (*common, "published")}
    figures = {view.replace("'s", "").replace(" + ", "-"): figure for view, figure in drawn.items()}
    return Experiment(cells=tuple(cells), figures=figures)
