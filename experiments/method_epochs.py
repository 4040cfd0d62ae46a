"""Which contrasts of strong views survive five times the epochs?

Four methods with crop + color, SimCLR's and BYOL's views, at the rates that experiments/method_rates.py chose for the
usual length.

Source: ours.
Cost: 48 runs, 24 of them of `method_views`, an hour on two CPU cores at cifar10-small.
Expected: the signs stay, and SimCLR's views gain on crop + color with length.

    ablation run method_epochs --scale cifar10-small --precision bfloat16
"""

from ablation import BYOL, DINO, BarlowTwins, Crop, Experiment, Lines, SimCLR, published_views, sweep

METHODS = (SimCLR, BarlowTwins, BYOL, DINO)


def experiment(scale):
    plain = (Crop(), scale.color())
    views = {"crop + color": (plain, plain)}
    views |= {f"{kind.label}'s": published_views(kind(), scale.size) for kind in (SimCLR, BYOL)}

    def make(method, view, epochs):
        published = epochs == scale.epochs and views[view] == published_views(method, scale.size)
        curve = {"curve_every": 1, "curve_on_test": True} if published else {"curve_every": scale.epochs // 4}
        optimization = scale.rated(method, view).replace(epochs=epochs, **curve)  # method_views shares the shorter runs
        return scale.run(method, views=views[view], optimization=optimization)

    methods = tuple(map(scale.method, METHODS))
    cells = sweep(make, method=methods, view=tuple(views), epochs=(scale.epochs, 5 * scale.epochs), seeds=range(2))
    figures = {
        method.label.lower().replace(" ", "-"): Lines(x="epochs", lines="view", where={"method": method.label})
        for method in methods
    }
    return Experiment(cells=cells, figures=figures)
