"""Does SimCLR gain more from depth and width than a supervised model?

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 7.
Cost: 24 runs, 12 minutes on two CPU cores at cifar10-small.
Expected: both gain with width; the gap between SimCLR and the supervised model shrinks.

    ablation run encoders --scale cifar10-small --precision bfloat16
"""

from ablation import Crop, Experiment, Lines, SimCLR, SmallResNet, Supervised, sweep


def experiment(scale):
    if isinstance(scale.encoder, SmallResNet):
        depths, widths = {"1 block a stage": {"blocks": 1}, "2 blocks a stage": {"blocks": 2}}, (8, 16, 32)
        sizes = {width: {"channels": width} for width in widths}
    else:
        depths, sizes = {f"ResNet-{d}": {"depth": d} for d in (18, 34, 50)}, {w: {"width": w} for w in (1, 2)}
    view = (Crop(), scale.color())
    methods = (scale.method(SimCLR), scale.method(Supervised))

    def make(method, depth, width):
        return scale.run(method, views=(view, view), encoder=scale.encoder.replace(**depth, **width))

    return Experiment(
        cells=sweep(make, method=methods, depth=depths, width=sizes, seeds=range(2)),
        figures={
            method.label.lower(): Lines(x="width", lines="depth", where={"method": method.label}) for method in methods
        },
    )
