"""Does SimCLR's heatmap hold for Barlow Twins? The pairwise grid for both, batch norm treated alike.

Both methods use one batch for both branches in batch norm ("joint"), so that they differ only in the objective.

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 5, for SimCLR; none is published for Barlow Twins.
Cost: 196 runs, an hour on two CPU cores at cifar10-small; `pairwise` shares SimCLR's.
Expected: crop with color is best for both.

    ablation run methods --scale cifar10-small --precision bfloat16
"""

from ablation import BarlowTwins, Blur, Cell, Crop, Cutout, Experiment, Heatmap, Noise, Rotate, SimCLR, Sobel, pairwise


def experiment(scale):
    operators = (Crop(), Cutout(), scale.color(), Sobel(), Noise(), Blur(), Rotate())
    methods = (scale.method(SimCLR, batch_norm="joint"), scale.method(BarlowTwins, batch_norm="joint"))
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
