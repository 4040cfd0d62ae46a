"""Does the pairwise grid say the same when every pair has its own learning rate?

Each pair runs at a third, one and three times the scale's rate; the envelope takes the rate with the best mean on
validation images. The small scales have four operators, the others seven.

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 5, at one rate; Huang et al. (arXiv:2111.00743), where another rate
changed conclusions in the second version.
Cost: 96 runs, 30 minutes on two CPU cores at cifar10-small; `pairwise` shares a third of them.
Expected: the best pair stays; weak pairs gain most.

    ablation run envelope --scale cifar10-small --precision bfloat16
"""

from ablation import Blur, Cell, Crop, Cutout, Experiment, Heatmap, Noise, Rotate, SimCLR, SmallResNet, Sobel, pairwise

RATES = (1 / 3, 1.0, 3.0)


def experiment(scale):
    small = isinstance(scale.encoder, SmallResNet)
    operators = (Crop(), scale.color(), Sobel(), Blur()) + (() if small else (Cutout(), Noise(), Rotate()))
    method = scale.method(SimCLR)

    def make(view, rate):
        optimizer = scale.optimization(method).optimizer
        optimizer = optimizer.replace(learning_rate=optimizer.learning_rate * rate)
        return scale.run(method, views=(view, ()), optimization=scale.optimization(method, optimizer=optimizer))

    cells = [
        Cell(coords={"rate": round(rate, 2), **cell.coords}, run=cell.run)
        for rate in RATES
        for cell in pairwise(operators, lambda view, rate=rate: make(view, rate), seeds=range(2))
    ]
    grid = {"rows": "first", "columns": "second", "reference": "simclr_figure5_pairs"}
    figures = {"envelope": Heatmap(best_of="rate", **grid), "one-rate": Heatmap(where={"rate": 1.0}, **grid)}
    return Experiment(cells=tuple(cells), figures=figures)
