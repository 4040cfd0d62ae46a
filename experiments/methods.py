"""Does SimCLR's heatmap hold for other methods? The pairwise grid for four.

SimCLR and Barlow Twins use one batch for both branches in batch norm ("joint"), so that they differ only in the
objective. MoCo has a momentum copy, SwAV has prototypes.

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 5, for SimCLR; none is published for the others.
Cost: 392 runs, three hours on two CPU cores at cifar10-small; `pairwise` shares SimCLR's.
Expected: crop with color is best for all.

    ablation run methods --scale cifar10-small --precision bfloat16
"""

from ablation import (
    BarlowTwins,
    Blur,
    Cell,
    Crop,
    Cutout,
    Experiment,
    Heatmap,
    MoCo,
    Noise,
    Rotate,
    SimCLR,
    Sobel,
    SwAV,
    pairwise,
)


def experiment(scale):
    operators = (Crop(), Cutout(), scale.color(), Sobel(), Noise(), Blur(), Rotate())
    joint = [scale.method(kind, batch_norm="joint") for kind in (SimCLR, BarlowTwins)]
    methods = (*joint, scale.method(MoCo), scale.method(SwAV))
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
