"""Is it the augmentation or the algorithm? Twelve methods with five kinds of views, each at its own learning rate.

The question is asked of the three strong kinds (crop + color, SimCLR's, BYOL's), since color or crop alone are weak by
construction; all five are shown beside them. Rates are of experiments/method_rates.py ("own"), or SimCLR's for all
("one"). In the grid every method has two views; "published" are a method's own, 20 for EMP-SSL. MAE and MSN see the
first view through their masks. "long" is five times the epochs at the rates of the usual length.

Source: Morningstar et al. 2024 (arXiv:2403.05726) compare methods and augmentations with one seed.
Cost: 510 runs, as much as 610 of usual length: five hours on two CPU cores at cifar10-small.
Expected: strong views move accuracy as far as methods do, all five kinds several times as far.

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
    Initialization,
    Interaction,
    LeJEPA,
    MoCo,
    SimCLR,
    SimSiam,
    Supervised,
    SwAV,
    VICReg,
    published_views,
    two_views,
)

METHODS = (SimCLR, BarlowTwins, MoCo, SimSiam, BYOL, DCL, NNCLR, SwAV, VICReg, DINO, EMPSSL, LeJEPA)
LONG, STRONG = (SimCLR, BarlowTwins, BYOL, DINO), ("crop + color", "SimCLR's", "BYOL's")


def experiment(scale):
    size, crop, color, cells = scale.size, (Crop(),), (scale.color(),), []
    common = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    common |= {"SimCLR's": published_views(SimCLR(), size), "BYOL's": published_views(BYOL(), size)}

    def add(part, kind, view, seeds, **changes):
        method, own = scale.method(kind), view == "published"
        views = published_views(method, size) if own else two_views(method, *common[view], scale.transformer.patch)
        usual = scale.optimization(method) if part == "baselines" else scale.rated(method, view)
        curve = {"curve_every": 1 if own and kind is EMPSSL else scale.epochs // 4}
        coords = {"part": part, "strong": "yes" if view in STRONG else "no", "method": method.label, "view": view}
        for seed in range(seeds):
            run = scale.run(method, views=views, optimization=usual.replace(**curve, **changes), seed=seed)
            cells.append(Cell(coords={**coords, "seed": seed}, run=run))

    for kind, view in product(METHODS, common):
        add("own rates", kind, view, 4)
        add("one rate", kind, view, 2, optimizer=scale.optimizer, rate_chosen_for="SimCLR")
    for kind, view in product(METHODS, ("crop + color", "published")):
        add("published", kind, view, 4)
    for part, kinds in (("masked", (MAE, MSN)), ("baselines", (Initialization, Supervised))):
        for kind, view in product(kinds, common):
            add(part, kind, view, 4)
    for kind, view in product(LONG, STRONG):
        add("long", kind, view, 2, epochs=5 * scale.epochs)
    grid, rates = {"rows": "method", "columns": "view"}, ("own rates", "one rate")
    parts = (*rates, "published", "masked", "baselines", "long")
    figures = {part.replace(" ", "-"): Heatmap(where={"part": part}, within="method", **grid) for part in parts}
    for part, strong in product(rates, ({}, {"strong": "yes"})):
        name = f"effects-{'strong' if strong else 'all'}-{part.replace(' ', '-')}"
        figures[name] = Interaction(where={"part": part, **strong}, **grid)
    figures["effects-without-collapsed"] = figures["effects-all-own-rates"].replace(with_collapsed=False)
    learning = Curves(lines="method", where={"part": "published", "view": "published"}, values=("validation_linear",))
    figures |= {"learning": learning, "encoded": learning.replace(x="encoded_images")}
    return Experiment(cells=tuple(cells), figures=figures)
