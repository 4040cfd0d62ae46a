"""How much color distortion should there be, and does a supervised model want the same?

Both branches get the view. Variant "SimCLR": crop, flip, color jitter (p 0.8) and drop (p 0.2); "Huang": crop and
torchvision's jitter with p = 1, nothing else. Strength 1 is 0.8, 0.8, 0.8 and hue 0.2. MoCo and SimSiam have Huang's
variant alone; for them the maximum over epochs on test images, which Huang et al. report, stands beside the last epoch.

Source: Chen et al. 2020 (arXiv:2002.05709), Table 1; Huang et al. (arXiv:2111.00743).
Cost: 120 runs, an hour on two CPU cores at cifar10-small.
Expected: the contrastive methods gain with strength, the supervised one does not.

    ablation run color_strength --scale cifar10-small --precision bfloat16
"""

from ablation import (
    BarlowTwins,
    Blur,
    Color,
    ColorJitter,
    Crop,
    CropFlip,
    Experiment,
    Lines,
    MoCo,
    SimCLR,
    SimSiam,
    Supervised,
    sweep,
)

STRENGTHS = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0, "1 + blur": 1.0}
REFERENCES = {"SimCLR": "simclr_table1_color_strength", "Huang": "huang_color_strength"}


def experiment(scale):
    def make(method, variant, strength, **measured):
        blur = (Blur(p=0.5),) if strength == "1 + blur" else ()
        s = STRENGTHS[strength]
        simclr, huang = (CropFlip(), Color(strength=s)), (Crop(), ColorJitter(strength=s, variant="torchvision"))
        view = (simclr if variant == "SimCLR" else huang) + blur
        return scale.run(method, views=(view, view), optimization=scale.optimization(method, **measured))

    def with_maximum(**axes):
        return make(**axes, curve_every=1, curve_on_test=True)

    methods = (scale.method(SimCLR), scale.method(BarlowTwins), scale.method(Supervised))
    others, axes = (scale.method(MoCo), scale.method(SimSiam)), {"strength": tuple(STRENGTHS), "seeds": range(3)}
    cells = sweep(make, method=methods, variant=tuple(REFERENCES), **axes)
    cells += sweep(with_maximum, method=others, variant=("Huang",), **axes)
    maximum = Lines(
        x="strength", lines="method", values=("test_knn_k200", "test_knn_k200_maximum"), where={"variant": "Huang"},
        reference=REFERENCES["Huang"],
    )  # fmt: skip
    return Experiment(
        cells=cells,
        figures={"maximum": maximum}
        | {
            variant.lower(): Lines(x="strength", lines="method", where={"variant": variant}, reference=reference)
            for variant, reference in REFERENCES.items()
        },
    )
