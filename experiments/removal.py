"""What is lost when one operator is removed from a full recipe?

BYOL's recipe with two different views: crop, flip, jitter (0.4, 0.4, 0.2, 0.1; p 0.8), drop (p 0.2), blur (p 1 in the
first view, 0.1 in the second) and solarize (p 0.2 in the second).

Source: BYOL (arXiv:2006.07733), Table 17, with its own reproduction of SimCLR.
Cost: 42 runs, 12 minutes on two CPU cores at cifar10-small.
Expected: without color, or with crop alone, SimCLR loses most; flip and solarize matter little.

    ablation run removal --scale cifar10-small --precision bfloat16
"""

from ablation import Bars, Blur, ColorDrop, ColorJitter, Crop, Experiment, Flip, SimCLR, Solarize, sweep

JITTER = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8, variant="torchvision")
DROP = ColorDrop(p=0.2)


def views(flip=(Flip(),), color=(JITTER, DROP), blurs=(1.0, 0.1), solarize=(0.0, 0.2)):
    """Both views; an operator that never acts is left out."""
    more = [(Blur(p=b),) * (b > 0) + (Solarize(p=s),) * (s > 0) for b, s in zip(blurs, solarize, strict=True)]
    return tuple((Crop(), *flip, *color, *each) for each in more)


ONLY = {"flip": (), "color": (), "blurs": (0, 0), "solarize": (0, 0)}
CHANGES = {
    "baseline": {}, "remove flip": {"flip": ()}, "remove blur": {"blurs": (0, 0)},
    "remove color (jitter+gray)": {"color": ()}, "remove color jitter": {"color": (DROP,)},
    "remove grayscale": {"color": (JITTER,)}, "remove blur in T2": {"blurs": (1.0, 0)},
    "remove solarize in T2": {"solarize": (0, 0)},
    "remove blur+solarize in T2": {"blurs": (1.0, 0), "solarize": (0, 0)},
    "symmetric blur/solarize": {"blurs": (0.5, 0.5), "solarize": (0.2, 0.2)}, "crop only": ONLY,
    "crop+flip only": {**ONLY, "flip": (Flip(),)}, "crop+color only": {**ONLY, "color": (JITTER, DROP)},
    "crop+blur only": {**ONLY, "blurs": (1.0, 0.1)},
}  # fmt: skip


def experiment(scale):
    return Experiment(
        cells=sweep(lambda cell: scale.run(scale.method(SimCLR), views=views(**cell)), cell=CHANGES, seeds=range(3)),
        figures={"bars": Bars(bars="cell", reference="byol_table17_augmentation_removal")},
    )
