"""Does SimCLR's heatmap hold for Barlow Twins? The pairwise grid for both, batch norm treated alike.

Both branches are one batch for the batch norms of either method ("joint"), so that they differ in the objective alone.

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 5, for SimCLR; there is no published one for Barlow Twins.
Cost: 196 runs, an hour on two CPU cores at cifar10-small; SimCLR's are those of `pairwise`.
Expected: crop with color is best for both.

    ablation run methods --scale cifar10-small
"""

from ablation.grids import pairwise
from ablation.operators import Blur, Crop, Cutout, Noise, Rotate, Sobel
from ablation.plots import Heatmap
from ablation.specs import Cell, Experiment


def experiment(scale):
    operators = (Crop(), Cutout(), scale.color(), Sobel(), Noise(), Blur(), Rotate())
    methods = (scale.simclr(batch_norm="joint"), scale.barlow_twins(batch_norm="joint"))
    cells = [
        Cell(coords={"method": method.label, **cell.coords}, run=cell.run)
        for method in methods
        for cell in pairwise(operators, lambda view, m=method: scale.run(m, views=(view, ())), seeds=range(2))
    ]
    return Experiment(
        cells=tuple(cells),
        figures={
            method.label.lower().replace(" ", "-"): Heatmap(
                rows="first", columns="second", where={"method": method.label}, reference="simclr_figure5_pairs"
            )
            for method in methods
        },
    )
