"""How much color distortion should there be, and does a supervised model want the same?

Both branches get the view. Variant "SimCLR": crop, flip, color jitter (p 0.8) and drop (p 0.2); "Huang": crop and
torchvision's jitter with p = 1, nothing else. Strength 1 is 0.8, 0.8, 0.8 and hue 0.2.

Source: Chen et al. 2020 (arXiv:2002.05709), Table 1; Huang et al. (arXiv:2111.00743).
Cost: 90 runs, 32 minutes on two CPU cores at cifar10-small.
Expected: the contrastive methods gain with strength, the supervised one does not.

    ablation run color_strength --scale cifar10-small --precision bfloat16
"""

from ablation import BarlowTwins, Blur, Color, ColorJitter, Crop, CropFlip, Experiment, Lines, SimCLR, Supervised, sweep

STRENGTHS = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0, "1 + blur": 1.0}
REFERENCES = {"SimCLR": "simclr_table1_color_strength", "Huang": "huang_color_strength"}


def experiment(scale):
    def make(method, variant, strength):
        blur = (Blur(p=0.5),) if strength == "1 + blur" else ()
        s = STRENGTHS[strength]
        simclr, huang = (CropFlip(), Color(strength=s)), (Crop(), ColorJitter(strength=s, variant="torchvision"))
        view = (simclr if variant == "SimCLR" else huang) + blur
        return scale.run(method, views=(view, view))

    methods = (scale.method(SimCLR), scale.method(BarlowTwins), scale.method(Supervised))
    return Experiment(
        cells=sweep(make, method=methods, variant=tuple(REFERENCES), strength=tuple(STRENGTHS), seeds=range(3)),
        figures={
            variant.lower(): Lines(x="strength", lines="method", where={"variant": variant}, reference=reference)
            for variant, reference in REFERENCES.items()
        },
    )
