"""What is each of crop, blur, drop, jitter and flip worth, alone and with the others? All 32 subsets.

Both branches get the operators of the subset, in this order, with the settings of Huang et al. One subset is empty.
MoCo and SimSiam have the nested five alone, and beside the last epoch the maximum over epochs on test images.

Source: Huang et al. (arXiv:2111.00743), whose table has the nested five a, ab, abc, abcd, abcde.
Cost: 158 runs, an hour on two CPU cores at cifar10-small.
Expected: crop and jitter matter most; their interaction is positive, since one without the other leaves a shortcut.

    ablation run subsets --scale cifar10-small --precision bfloat16
"""

from itertools import product

from ablation import (
    BarlowTwins,
    Blur,
    Cell,
    ColorDrop,
    ColorJitter,
    Crop,
    Effects,
    Experiment,
    Flip,
    Lines,
    MoCo,
    SimCLR,
    SimSiam,
)

JITTER = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8, variant="torchvision")
OPERATORS = {"crop": Crop(), "blur": Blur(p=0.5), "drop": ColorDrop(p=0.2), "jitter": JITTER, "flip": Flip()}
NESTED = ("crop", "+ blur", "+ drop", "+ jitter", "+ flip")


def experiment(scale):
    methods, cells = (scale.method(SimCLR), scale.method(BarlowTwins)), []
    for method, used, seed in product(methods, product((0, 1), repeat=5), range(2)):
        view = tuple(operator for operator, on in zip(OPERATORS.values(), used, strict=True) if on)
        nested = {(1,) * (i + 1) + (0,) * (4 - i): name for i, name in enumerate(NESTED)}.get(used)
        coords = {"method": method.label, **dict(zip(OPERATORS, used, strict=True)), "seed": seed}
        coords |= {"nested": nested} if nested else {}
        cells.append(Cell(coords=coords, run=scale.run(method, views=(view, view), seed=seed)))
    for method, count, seed in product((scale.method(MoCo), scale.method(SimSiam)), range(1, 6), range(3)):
        view, measured = tuple(OPERATORS.values())[:count], {"curve_every": 1, "curve_on_test": True}
        run = scale.run(method, views=(view, view), optimization=scale.optimization(method, **measured), seed=seed)
        cells.append(Cell(coords={"method": method.label, "nested": NESTED[count - 1], "seed": seed}, run=run))
    figures = {
        method.label.lower().replace(" ", "-"): Effects(factors=tuple(OPERATORS), where={"method": method.label})
        for method in methods
    }
    nested = Lines(x="nested", lines="method", reference="huang_augmentation_subsets")
    figures |= {"nested": nested, "maximum": nested.replace(values=("test_knn_k200", "test_knn_k200_maximum"))}
    return Experiment(cells=tuple(cells), figures=figures)
