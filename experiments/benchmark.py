"""How do all methods compare, each with its published views, heads and optimizer?

At cifar10, batch and length are axes, as in lightly's table. Results are of the last epoch; beside them the maximum
over epochs on test images, as published. Ours are trained on 90 % of the training images, published rows on all. At the
CPU scales, which nobody has published, heads and rates are ours (experiments/method_rates.py).

Source: lightly's benchmarks, solo-learn's README, Huang et al. (arXiv:2111.00743).
Cost: 63 runs, half of them of `method_views`: an hour on two CPU cores at cifar10-small; --dry-run estimates others.
Expected: ranks as published where the row computed the method's law; levels lower by the best of many epochs.

    ablation run benchmark --scale cifar10-small --precision bfloat16
"""

from itertools import product

from ablation import Bars, Cell, Curves, Experiment, published_views
from ablation.study.scales import cifar10

PUBLISHED = {name: f"lightly_{name}" for name in ("cifar10", "imagenette", "imagenet100", "imagenet1k")}
ACCURACIES = ("knn_test_top1_recalibrated", "knn_test_top5_recalibrated", "linear_test_top1_recalibrated")
MAXIMA = ("test_knn_k200_maximum", "test_knn_k20_maximum")


def experiment(scale):
    whole = scale.name == "cifar10"
    cells, figures = [], {}
    for batch, epochs in ((128, 200), (512, 200), (512, 800)) if whole else [(scale.batch, scale.epochs)]:
        sized = cifar10(batch, epochs) if whole else scale
        sized = sized.replace(dataset=scale.dataset, precision=scale.precision)
        measured = {"curve_every": 10} if scale.name == "imagenet1k" else {"curve_every": 1, "curve_on_test": True}
        for method, seed in product(sized.methods, range(3)):
            optimization = sized.rated(method, "published").replace(**measured)
            run = sized.run(method, views=published_views(method, scale.size), optimization=optimization, seed=seed)
            cells.append(Cell(coords={"method": method.label, "batch": batch, "epochs": epochs, "seed": seed}, run=run))
        where, name = {"batch": batch, "epochs": epochs}, f"-{batch}-{epochs}" if whole else ""
        bars = Bars(bars="method", where=where)
        last = scale.name == "imagenet1k"  # whose published rows are of the last epoch
        published = bars.replace(values=ACCURACIES if last else MAXIMA, highest_is_best=False)
        figures[f"accuracy{name}"] = bars.replace(values=ACCURACIES)
        figures[f"published{name}"] = published.replace(reference=PUBLISHED.get(scale.name))
        figures[f"cost{name}"] = bars.replace(values=("training_seconds", "peak_memory_bytes"))
        figures[f"learning{name}"] = Curves(lines="method", where=where)
        if (batch, epochs) == (512, 800):
            figures["huang"] = published.replace(reference="huang_methods", values=MAXIMA[:1])
            figures["solo-learn"] = bars.replace(reference="solo_learn_cifar10", values=ACCURACIES[2:])
    return Experiment(cells=tuple(cells), figures=figures)
