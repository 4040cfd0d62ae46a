"""Which operator's change does each cell's encoder ignore?

The cosine of h before and after each operator, centred on the mean of h: 1 means ignored, 0 as unlike as two images.

Source: ours; the views are those of Chen et al. 2020 (arXiv:2002.05709), Figure 5, each operator alone on one branch.
Cost: 20 runs, 7 minutes on two CPU cores at cifar10-small (less after `pairwise`, which shares most of them).
Expected: an encoder is most invariant to its training operator.

    ablation run invariance --scale cifar10-small
"""

from ablation import (
    KNN,
    Blur,
    Crop,
    Cutout,
    Experiment,
    Initialization,
    Invariance,
    Linear,
    Noise,
    Profile,
    Rotate,
    SimCLR,
    Sobel,
    Supervised,
    sweep,
)


def experiment(scale):
    operators = (Crop(), Cutout(), scale.color(), Sobel(), Noise(), Blur(), Rotate())
    invariance = Invariance(operators=operators)
    crop, color = operators[0], operators[2]
    cells = {operator.label: (scale.method(SimCLR), ((operator,), ())) for operator in operators}
    cells["crop + color"] = (scale.method(SimCLR), ((crop, color), ()))
    for baseline in (scale.method(Initialization), scale.method(Supervised)):
        cells[baseline.label] = (baseline, ((crop, color),))

    def make(cell):
        method, views = cell
        return scale.run(method, views=views).replace(evaluations=(KNN(), Linear(), invariance))

    columns = {o.label: f"{invariance.label}_test_{o.label}_recalibrated" for o in operators}
    return Experiment(
        cells=sweep(make, cell=cells, seeds=range(2)),
        figures={"cosines": Profile(rows="cell", columns=columns, unit="cosine", decimals=2)},
    )
