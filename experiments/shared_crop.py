"""What does the crop before the branches do, and does it matter whether one branch or both get the operators?

Source: Chen et al. 2020 (arXiv:2002.05709), section 3.1: ImageNet's images differ in size, so their Figure 5 crops
every image before the branches part and transforms one branch only, "this hurts the performance".
Cost: 48 runs, 16 minutes on two CPU cores at cifar10-small.
Expected: a shared crop helps cells without their own crop; symmetric views beat one-branch views.

    ablation run shared_crop --scale cifar10-small --precision bfloat16
"""

from ablation import Crop, Experiment, Lines, SimCLR, Sobel, sweep


def experiment(scale):
    crop, color, sobel = Crop(), scale.color(), Sobel()
    cells = {"crop": (crop,), "color": (color,), "crop + color": (crop, color), "sobel": (sobel,)}

    def make(cell, branches, before):
        views = (cell, cell) if branches == "symmetric" else (cell, ())
        return scale.run(scale.method(SimCLR), views=views, shared=before)

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
