"""How far does the learning rate move the ablation? Accuracy against rate, for little and for much augmentation.

Both branches get the view. The rate of a method is chosen on validation images, whose accuracy is drawn beside that of
the test images. The scale cifar10-small takes its rates from here.

Source: Huang et al. (arXiv:2111.00743): from their first to their second version Barlow Twins' rate went from 0.001
to 0.11 and its crop-only cell from 48.5 to 67.8, its full cell from 83.9 to 86.9.
Cost: 90 runs, 32 minutes on two CPU cores at cifar10-small.
Expected: the best rate differs between methods, and the gap between crop and all operators depends on the rate.

    ablation run learning_rates --scale cifar10-small --precision bfloat16
"""

from ablation import BarlowTwins, Blur, Crop, CropFlip, Curves, Experiment, Lines, SimCLR, Supervised, sweep

TEST, VALIDATION = "linear_test_top1_recalibrated", "linear_validation_top1_recalibrated"

NOTE = "Rate: times the scale's rate for the method."


def experiment(scale):
    crop, color = Crop(), scale.color()
    views = {"crop": (crop,), "crop + color": (crop, color), "all": (CropFlip(), color, Blur(p=0.5))}

    def make(method, view, rate):
        optimizer = scale.optimization(method).optimizer
        optimizer = optimizer.replace(learning_rate=optimizer.learning_rate * rate)
        return scale.run(method, views=(view, view), optimization=scale.optimization(method, optimizer=optimizer))

    def lines(method):
        return Lines(x="rate", lines="view", where={"method": method.label}, values=(VALIDATION, TEST), note=NOTE)

    methods = (scale.method(SimCLR), scale.method(BarlowTwins), scale.method(Supervised))
    return Experiment(
        cells=sweep(make, method=methods, view=views, rate=(0.03, 0.1, 0.3, 1.0, 3.0), seeds=range(2)),
        figures={method.label.lower().replace(" ", "-"): lines(method) for method in methods}
        | {"learning": Curves(lines="rate", where={"method": "SimCLR", "view": "crop + color"})},
    )
