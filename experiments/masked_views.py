"""Do views matter to methods whose task is a mask? MAE and MSN with the five kinds of views of `method_views`.

MAE sees one view, the first, without three quarters of its patches; MSN compares it with the second, which lacks 15 %.
Both have a small vision transformer, so their levels are not comparable with `method_views`.

Source: He et al. 2022 (arXiv:2111.06377), section 4.1, for MAE: crop alone is best, color hurts.
Cost: 48 runs, three quarters of an hour on two CPU cores at cifar10-small.
Expected: color helps MSN and not MAE.

    ablation run masked_views --scale cifar10-small --precision bfloat16
"""

from ablation import BYOL, MAE, MSN, Crop, Experiment, Heatmap, SimCLR, published_views, sweep, two_views


def experiment(scale):
    crop, color = (Crop(),), (scale.color(),)
    views = {"crop": (crop, crop), "color": (color, color), "crop + color": (crop + color, crop + color)}
    views |= {f"{kind.label}'s": published_views(kind(), scale.size) for kind in (SimCLR, BYOL)}

    def make(method, view):
        own = published_views(method, scale.size)
        made = own if view == "published" else two_views(method, *views[view], scale.transformer.patch)
        curve = {"curve_every": 1, "curve_on_test": True} if made == own else {"curve_every": scale.epochs // 4}
        return scale.run(method, views=made, optimization=scale.rated(method, view).replace(**curve))

    methods = (scale.method(MAE), scale.method(MSN))
    cells = sweep(make, method=methods, view=(*views, "published"), seeds=range(4))
    return Experiment(cells=cells, figures={"methods": Heatmap(rows="method", columns="view", within="method")})
