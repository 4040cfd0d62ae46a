"""What does the crop before the branches do, and does it matter whether one branch or both get the operators?

Source: Chen et al. 2020 (arXiv:2002.05709), section 3.1: ImageNet's images differ in size, so their Figure 5 crops
every image before the branches part and transforms one branch only, "this hurts the performance".
Cost: 48 runs, 16 minutes on two CPU cores at cifar10-small.
Expected: a shared crop helps cells without a crop of their own; symmetric views beat one-branch ones.

    ablation run shared_crop --scale cifar10-small
"""

from ablation.grids import sweep
from ablation.operators import Crop, Sobel
from ablation.plots import Lines
from ablation.specs import Experiment


def experiment(scale):
    crop, color, sobel = Crop(), scale.color(), Sobel()
    cells = {"crop": (crop,), "color": (color,), "crop + color": (crop, color), "sobel": (sobel,)}

    def make(cell, branches, before):
        views = (cell, cell) if branches == "symmetric" else (cell, ())
        return scale.run(scale.simclr(), views=views, shared=before)

    note = "Before: the operator that both branches share."
    return Experiment(
        cells=sweep(
            make,
            cell=cells,
            branches=("one-branch", "symmetric"),
            before={"nothing": (), "crop": (crop,)},
            seeds=range(3),
        ),
        figures={
            branches: Lines(x="before", lines="cell", where={"branches": branches}, note=note)
            for branches in ("one-branch", "symmetric")
        },
    )
