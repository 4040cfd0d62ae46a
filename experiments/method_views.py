"""Is it the augmentation or the algorithm? Twelve methods with five kinds of views, each at its own learning rate.

The question is of the three strong kinds (crop + color, SimCLR's, BYOL's), since color or crop alone are weak by
construction. Rates are of experiments/method_rates.py ("own"), or SimCLR's ("one", for the strong kinds). In the grid
all have two views; "published" are a method's own, 20 for EMP-SSL.

Source: Morningstar et al. 2024 (arXiv:2403.05726) compare methods and augmentations with one seed.
Cost: 310 runs, as much as 350 of usual length: three hours on two CPU cores at cifar10-small.
Expected: strong views move accuracy as far as methods do, all five kinds several times as far.

    ablation run method_views --scale cifar10-small --precision bfloat16
"""

from ablation import (
    BYOL,
    DCL,
    DINO,
    EMPSSL,
    NNCLR,
    BarlowTwins,
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
    sweep,
)

METHODS = (SimCLR, BarlowTwins, MoCo, SimSiam, BYOL, DCL, NNCLR, SwAV, VICReg, DINO, EMPSSL, LeJEPA)
WEAK, STRONG = ("crop", "color"), ("crop + color", "SimCLR's", "BYOL's")


def experiment(scale):
    crop, color = (Crop(),), (scale.color(),)
    views = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    views |= {f"{kind.label}'s": published_views(kind(), scale.size) for kind in (SimCLR, BYOL)}

    def make(rates, strong, method, view):
        published = published_views(method, scale.size)
        made = published if view == "published" else views[view]
        one = scale.optimization(method, optimizer=scale.optimizer, rate_chosen_for="SimCLR")
        optimization = one if rates == "one" else scale.rated(method, view)
        curve = {"curve_every": 1, "curve_on_test": True} if made == published else {"curve_every": scale.epochs // 4}
        return scale.run(method, views=made, optimization=optimization.replace(**curve))

    methods = tuple(map(scale.method, METHODS))
    own = {"rates": ("own",), "method": methods, "seeds": range(4)}
    cells = sweep(make, strong=("yes",), view=STRONG, **own) + sweep(make, strong=("no",), view=WEAK, **own)
    cells += sweep(make, strong=("no",), view=("crop + color", "published"), **own | {"rates": ("published",)})
    cells += sweep(make, strong=("yes",), view=STRONG, **own | {"rates": ("one",), "seeds": range(2)})
    grid = {"rows": "method", "columns": "view"}
    figures = {each: Heatmap(where={"rates": each}, within="method", **grid) for each in ("own", "one", "published")}
    effects = Interaction(where={"rates": "own"}, **grid)
    figures |= {"effects-all": effects, "effects-without-collapsed": effects.replace(with_collapsed=False)}
    figures["effects-strong"] = effects.replace(where={"rates": "own", "strong": "yes"})
    figures["effects-strong-one-rate"] = effects.replace(where={"rates": "one"})
    learning = Curves(lines="method", where={"view": "published"}, values=("validation_linear",))
    figures |= {"learning": learning, "encoded": learning.replace(x="encoded_images")}
    return Experiment(cells=cells, figures=figures)
