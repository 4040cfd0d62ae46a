"""Which learning rate does each method need, with crop and with crop + color?

Source: ours; Huang et al. (arXiv:2111.00743), whose two versions differ in the rate.
Cost: 4 cases of 8 trials of 2 seeds, and 40 runs with fresh seeds: 26 minutes on two busy CPU cores at tiny.
Expected: one rate suits both views of a method, within a factor of two.

    ablation search search_learning_rate --scale tiny
"""

from ablation import BarlowTwins, Crop, Search, SimCLR


def search(scale):
    methods = (scale.method(SimCLR), scale.method(BarlowTwins))
    views = {"crop": (Crop(),), "crop + color": (Crop(), scale.color())}

    def case(method, view):
        optimization = scale.optimization(method)

        def run(rate):
            optimizer = optimization.optimizer.replace(learning_rate=rate)
            return scale.run(method, views=(view, view), optimization=optimization.replace(optimizer=optimizer))

        rate = optimization.optimizer.learning_rate
        return Search(
            suggest=lambda trial: run(trial.suggest_float("learning rate", rate / 30, rate * 10, log=True)),
            default=run(rate),
            trials=8,
            fresh=tuple(range(100, 105)),
        )

    return {f"{method.label}, {name}": case(method, view) for method in methods for name, view in views.items()}
