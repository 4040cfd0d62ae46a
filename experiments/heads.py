"""Which projection head, how wide a z, and is h or z the better representation?

Source: Chen et al. 2020 (arXiv:2002.05709), section 4.2 and Figure 8.
Cost: 30 runs, 10 minutes on two CPU cores at cifar10-small.
Expected: nonlinear above linear above none; the width of z matters little; h far above z.

    ablation run heads --scale cifar10-small --precision bfloat16
"""

from ablation import KNN, Cell, Crop, Experiment, Linear, Lines, SimCLR

VALUES = tuple(f"{e}_{split}_top1_recalibrated" for split in ("test", "train") for e in ("linear", "linear_z"))
WIDTHS = (32, 64, 128, 256, 512, 1024, 2048)


def experiment(scale):
    view = (Crop(), scale.color())
    heads = [(head, width) for head in ("linear", "nonlinear") for width in WIDTHS]
    heads.append(("none", scale.encoder.features))

    def run(head, width, seed):
        run = scale.run(scale.method(SimCLR, head=head, dimension=width), views=(view, view), seed=seed)
        return run.replace(evaluations=(KNN(), Linear(), Linear(on="z")))

    return Experiment(
        cells=tuple(
            Cell(coords={"head": head, "z": width, "seed": seed}, run=run(head, width, seed))
            for head, width in heads
            for seed in range(2)
        ),
        figures={"lines": Lines(x="z", lines="head", values=VALUES, reference="simclr_figure8_heads_digitised")},
    )
