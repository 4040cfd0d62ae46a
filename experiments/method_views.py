"""Is it the augmentation or the algorithm? Twelve methods with five kinds of views, each at its own learning rate.

Rates are of experiments/method_rates.py, for each method and kind of views ("own"), or SimCLR's for all ("one").
"published" are a method's own views. MAE and MSN see the first view through their masks. Four methods are also trained
five times as long.

Source: Morningstar et al. 2024 (arXiv:2403.05726) compare methods and augmentations with one seed.
Cost: 680 runs, or 900 of usual length: 7 hours on two CPU cores at cifar10-small.
Expected: views move accuracy several times as far as methods do.

    ablation run method_views --scale cifar10-small --precision bfloat16
"""

from itertools import product

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
    Curves,
    Experiment,
    Heatmap,
    Interaction,
    LeJEPA,
    MoCo,
    SimCLR,
    SimSiam,
    SwAV,
    VICReg,
    published_views,
    two_views,
)

METHODS = (SimCLR, BarlowTwins, MoCo, SimSiam, BYOL, DCL, NNCLR, SwAV, VICReg, DINO, EMPSSL, LeJEPA)
LONG = (SimCLR, BarlowTwins, BYOL, DINO)


def experiment(scale):
    size, crop, color, cells = scale.size, (Crop(),), (scale.color(),), []
    common = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    common |= {"SimCLR's": published_views(SimCLR(), size), "BYOL's": published_views(BYOL(), size)}

    def add(part, kind, view, seeds, **changes):
        method = scale.method(kind)
        pair = common.get(view)
        views = two_views(method, *pair, scale.transformer.patch) if pair else published_views(method, size)
        curve = {"curve_every": scale.epochs // 4} if pair else {"curve_every": 2}
        optimization = scale.rated(method, view).replace(**curve, **changes)
        for seed in range(seeds):
            run = scale.run(method, views=views, optimization=optimization, seed=seed)
            cells.append(Cell(coords={"part": part, "method": method.label, "view": view, "seed": seed}, run=run))

    for kind, view in product(METHODS, common):
        add("own rates", kind, view, 4)
        add("one rate", kind, view, 2, optimizer=scale.optimizer)
    for kind, view in product(METHODS, ("crop + color", "published")):
        add("published", kind, view, 4)
    for kind, view in product((MAE, MSN), common):
        add("masked", kind, view, 4)
    for kind, view in product(LONG, list(common)[2:]):
        add("long", kind, view, 2, epochs=5 * scale.epochs)
    grid = {"rows": "method", "columns": "view"}
    figures = {
        part.replace(" ", "-"): Heatmap(where={"part": part}, within="method", **grid)
        for part in ("own rates", "one rate", "published", "masked", "long")
    }
    for rates in ("own rates", "one rate"):
        figures[f"effects-{rates.replace(' ', '-')}"] = Interaction(where={"part": rates}, **grid)
    figures["effects-without-collapsed"] = Interaction(where={"part": "own rates"}, with_collapsed=False, **grid)
    learning = Curves(lines="method", where={"part": "published", "view": "published"}, values=("validation_linear",))
    figures |= {"learning": learning, "encoded": learning.replace(x="encoded_images")}
    return Experiment(cells=tuple(cells), figures=figures)
