"""The values of the report, computed from the tables of figures/: lower-case names, which report.md.jinja shows.

A difference is "points (95 %: from to)"; `linear` and `knn` are test top-1 with recalibrated batch-norm statistics.
"""

from ablation.report import Table
from ablation.study.recipes import SMALL_RATES

METHODS = ("SimCLR", "Barlow Twins", "supervised")
VALIDATION = "linear_validation_top1_recalibrated"


def both(compute, *arguments, **named):
    """A value by linear evaluation and by kNN."""
    return {value: compute(value, *arguments, **named) for value in ("linear", "knn")}


def pair(first, second):
    return {"first": first, "second": second}


# Pairs of operators on real images
pairwise = Table("pairwise-cifar10-small", cell=("first", "second"))
pairs_map = pairwise.heatmap("linear", "Linear evaluation, test top-1 (%)")
pairs_best = both(pairwise.best)
crop_color = both(pairwise.mean, **pair("crop", "color"))
crop_color_lead = pairwise.gap("linear", pair("crop", "color"), pair("sobel", "crop"))
crop_alone = pairwise.mean("linear", **pair("crop", "crop"))
color_alone = pairwise.mean("linear", **pair("color", "color"))
untrained = pairwise.mean("linear", baseline="initialization")
supervised = pairwise.mean("linear", baseline="supervised")
fit = both(pairwise.agreement)
commuting = both(pairwise.calibration)
commuting_largest = pairwise.calibration("linear", digits=1)["largest"]
commuting_smaller = pairwise.calibration("knn", digits=3)["p_smaller"]
seed_effects = both(pairwise.seeds)
order_p = {"linear": pairwise.order_p("linear"), "knn": pairwise.order_p("knn", digits=3)}
sobel_first = both(pairwise.gap, pair("sobel", "crop"), pair("crop", "sobel"))
pairs_sd = pairwise.pooled("linear")
seeds_for_two_points = pairwise.seeds_needed("linear", 2)

# Barlow Twins
methods = Table("methods-cifar10-small", cell=("method", "first", "second"))
barlow = methods.where(method="Barlow Twins")
barlow_map = barlow.heatmap("linear", "Barlow Twins, linear evaluation, test top-1 (%)")
methods_fit = both(barlow.agreement, reference={"method": "SimCLR"})
barlow_fit = barlow.agreement("linear")


def between(value, one, other, **coordinates):
    """One method minus the other at the same coordinates."""
    return methods.gap(value, {"method": one, **coordinates}, {"method": other, **coordinates})


simclr_crop_color = between("linear", "SimCLR", "Barlow Twins", **pair("crop", "color"))
barlow_rotate_color = between("linear", "Barlow Twins", "SimCLR", **pair("rotate", "color"))
simclr_minus_barlow = both(between, "SimCLR", "Barlow Twins")
barlow_color_crop = barlow.mean("linear", **pair("color", "crop"))
barlow_lead = barlow.gap("linear", pair("color", "crop"), pair("color", "cutout"))
barlow_best = barlow.best("linear")

# The rates of methods
rates = Table("method_rates-cifar10-small", cell=("method", "view", "rate"))
STRONG = ("crop + color", "SimCLR's", "BYOL's")
ONE_RATE = SMALL_RATES["SimCLR"][STRONG[0]]


def own_rate_gain(method):
    """Validation accuracy with strong views, at the method's rate minus at SimCLR's."""
    at = [[{"method": method, "view": view, "rate": r} for view in STRONG] for r in (_strong_rate(method), ONE_RATE)]
    return rates.gap(VALIDATION, *at).split(" (")[0]  # one seed: no interval


def _strong_rate(method):
    return SMALL_RATES[method][STRONG[0]]


weak_means = {
    view: ", ".join(rates.mean(VALIDATION, view=view, rate=rate) for rate in (0.003, 0.009, 0.027))
    for view in ("crop", "color")
}
rate_count = rates.count()
chosen_rates = [
    {"method": method, "gain": own_rate_gain(method) if _strong_rate(method) != ONE_RATE else ""}
    | {kind: f"{kept[kind]:g}" for kind in ("crop", "color", STRONG[0], "published")}
    for method, kept in SMALL_RATES.items()
    if STRONG[0] in kept
]
published_rates = ", ".join(
    f"{method} {kept['published']:g}" for method, kept in SMALL_RATES.items() if STRONG[0] not in kept
)

# Every pair at its own rate
envelope = Table("envelope-cifar10-small", cell=("first", "second", "rate"))
own_rate = {"best": envelope.best("linear", best_of="rate"), "fit": envelope.agreement("linear", best_of="rate")}
one_rate = {"best": envelope.best("linear", rate=1.0), "fit": envelope.agreement("linear", rate=1.0)}

# Learning rates
rates = Table("learning_rates-cifar10-small", cell=("method", "view", "rate"))


def color_gain_at(value, method, rate):
    """Crop + color minus crop."""
    at = {"method": method, "rate": rate}
    return rates.gap(value, {**at, "view": "crop + color"}, {**at, "view": "crop"})


def rate_gain(value, view):
    """Barlow Twins from the smallest rate to the scale's."""
    at = {"method": "Barlow Twins", "view": view}
    return rates.gap(value, {**at, "rate": 1.0}, {**at, "rate": 0.03})


def rate_lead(method, other):
    """The scale's rate minus another, averaged over three views, on validation images."""
    return rates.gap(VALIDATION, {"method": method, "rate": 1.0}, {"method": method, "rate": other})


color_gain = [
    {"method": method, "rate": rate, **both(color_gain_at, method, rate)}
    for method in METHODS
    for rate in (0.03, 0.1, 0.3, 1.0, 3.0)
]
barlow_color_gain = {"tenth": color_gain_at("linear", "Barlow Twins", 0.1)}
barlow_color_gain["whole"] = color_gain_at("linear", "Barlow Twins", 1.0)
smallest_rate = {"knn": color_gain_at("knn", "SimCLR", 0.03), "validation": color_gain_at(VALIDATION, "SimCLR", 0.03)}
barlow_rate_gain = {
    "crop_color": both(rate_gain, "crop + color"),
    "crop": both(rate_gain, "crop"),
}
rate_leads = {
    method.split()[0].lower(): {"over_smaller": rate_lead(method, 0.3), "over_larger": rate_lead(method, 3.0)}
    for method in METHODS
}
rates_cells = rates.cells({"validation": VALIDATION, "test": "linear", "kNN": "knn"}, within=["method"])
ADAMW = {"method": "SimCLR", "view": "crop + color", "rate": 1.0}
adamw = rates.mean("linear", **ADAMW)
seed_error = rates.images("seed_error", "linear", **ADAMW)
whole_error = rates.images("whole_error", "linear", **ADAMW)

# A shared crop, one branch or both
shared = Table("shared_crop-cifar10-small", cell=("branches", "cell", "before"))


def shared_gain(value, branches, cell):
    """With a shared crop minus without."""
    at = {"branches": branches, "cell": cell}
    return shared.gap(value, {**at, "before": "crop"}, {**at, "before": "nothing"})


def symmetric_gain(value, cell):
    at = {"cell": cell, "before": "nothing"}
    return shared.gap(value, {**at, "branches": "symmetric"}, {**at, "branches": "one-branch"})


shared_crop = [
    {
        "cell": cell,
        "one_branch": shared_gain("linear", "one-branch", cell),
        "symmetric": shared_gain("linear", "symmetric", cell),
        "symmetric_instead": both(symmetric_gain, cell),
    }
    for cell in ("crop", "color", "crop + color", "sobel")
]
shared_crop_knn = {
    "one_branch": shared_gain("knn", "one-branch", "crop + color"),
    "symmetric": shared_gain("knn", "symmetric", "crop + color"),
}
SOBEL = {"branches": "symmetric", "cell": "sobel"}
sobel_loss = both(shared.gap, {**SOBEL, "before": "nothing"}, {**SOBEL, "before": "crop"})

# Color strength
strength = Table("color_strength-cifar10-small", cell=("method", "variant", "strength"))


def strength_gain(value, variant, method, one, other):
    at = {"method": method, "variant": variant}
    return strength.gap(value, {**at, "strength": one}, {**at, "strength": other})


def strength_trend(method):
    """kNN for each doubling, and the published slope."""
    return strength.trend(
        "knn", "strength", ["1/8", "1/4", "1/2", "1"], reference="huang_color_strength", version="second version",
        variant="Huang", method=method,
    )  # fmt: skip


color_strength = [
    {
        "variant": variant,
        "method": method,
        "lower": both(strength_gain, variant, method, "1/2", "1/8"),
        "upper": both(strength_gain, variant, method, "1", "1/2"),
    }
    for variant in ("SimCLR", "Huang")
    for method in METHODS
]
huang_gain = {
    "simclr": strength_gain("knn", "Huang", "SimCLR", "1", "1/8"),
    "barlow": strength_gain("knn", "Huang", "Barlow Twins", "1", "1/8"),
    "supervised_loss": strength_gain("knn", "Huang", "supervised", "1/8", "1"),
}
huang_trend = {"simclr": strength_trend("SimCLR"), "barlow": strength_trend("Barlow Twins")}
simclr_gain = {
    "simclr": strength_gain("linear", "SimCLR", "SimCLR", "1", "1/8"),
    "barlow": strength_gain("linear", "SimCLR", "Barlow Twins", "1", "1/8"),
}
strength_cells = strength.cells(by=["variant", "method", "strength"], within=["variant", "method"])

# The strength of any operator
strengths = Table("strengths-cifar10-small", cell=("operator", "strength"))


def stronger(value, operator, one, other):
    return strengths.gap(value, {"operator": operator, "strength": one}, {"operator": operator, "strength": other})


first_half = {name: stronger("linear", name.replace("_", " "), 0.5, 0.0) for name in ("crop", "color", "crop_area")}
second_half = {name: stronger("linear", name, 1.0, 0.5) for name in ("crop", "color")}
third_operator = [
    {
        "operator": operator,
        "quarter": both(stronger, operator, 0.25, 0.0),
        "whole": both(stronger, operator, 1.0, 0.0),
    }
    for operator in ("sobel", "blur", "cutout", "noise", "rotate", "flip", "solarize")
]

# Kornia's augmentations beside crop and color
zoo = Table("kornia_zoo-cifar10-small", cell=("operator",))
_against = both(zoo.against, "operator", "crop + color")
zoo_size = len(_against["linear"])
zoo_best = {value: found[0] for value, found in _against.items()}
zoo_gains = {value: sum(each["effect"] == "gain" for each in found) for value, found in _against.items()}
zoo_below = {value: sum(each["difference"].startswith("-") for each in found) for value, found in _against.items()}
_by_knn = {each["label"]: each for each in _against["knn"]}
zoo_losses = [
    {"label": each["label"], "linear": each["difference"], "knn": _by_knn[each["label"]]["difference"]}
    for each in reversed(_against["linear"])
    if "loss" in (each["effect"], _by_knn[each["label"]]["effect"])
]

# Subsets of five operators
subsets = Table("subsets-cifar10-small", cell=("method", "crop", "blur", "drop", "jitter", "flip"))
COLOR, NO_COLOR = {"drop": 1, "jitter": 1}, {"drop": 0, "jitter": 0}
EMPTY = {"crop": 0, "blur": 0, "flip": 0}
WITHOUT_CROP = [{"crop": 0, "blur": 0, "flip": 1}, {"crop": 0, "blur": 1, "flip": 0}, {"crop": 0, "blur": 1, "flip": 1}]
CROP_GREY_JITTER = {"crop": 1, "blur": 0, "flip": 0} | COLOR
NESTED = [{"crop": 1, "blur": 0, "drop": 0, "jitter": 0, "flip": 0}]  # each has one more operator, in Huang's order
for _operator in ("blur", "drop", "jitter", "flip"):
    NESTED.append(NESTED[-1] | {_operator: 1})


def color_gain_beside(value, method, others):
    """What jitter and grey together add to other operators, averaged over several such sets."""
    at = {"method": method}
    return subsets.gap(value, [at | each | COLOR for each in others], [at | each | NO_COLOR for each in others])


def worth(value, method, operator):
    """With an operator minus without it, over all subsets of the others."""
    return subsets.gap(value, {"method": method, operator: 1}, {"method": method, operator: 0})


def step(method, number):
    return subsets.gap("knn", {"method": method} | NESTED[number], {"method": method} | NESTED[number - 1])


operator_worth = [
    {
        "operator": title,
        "simclr": both(worth, "SimCLR", operator),
        "barlow": both(worth, "Barlow Twins", operator),
    }
    for title, operator in zip(
        ("crop", "jitter", "grey", "flip", "blur"), ("crop", "jitter", "drop", "flip", "blur"), strict=True
    )
]
color_beside = [
    {
        "method": method,
        "evaluation": evaluation,
        "with_crop": color_gain_beside(value, method, [{"crop": 1}]),
        "without_crop": color_gain_beside(value, method, WITHOUT_CROP),
        "alone": color_gain_beside(value, method, [EMPTY]),
    }
    for method in ("SimCLR", "Barlow Twins")
    for evaluation, value in (("linear", "linear"), ("kNN", "knn"))
]
color_with_crop = color_gain_beside("linear", "SimCLR", [{"crop": 1}])
color_cost = both(
    subsets.where(method="SimCLR").gap,
    [each | NO_COLOR for each in WITHOUT_CROP],
    [each | COLOR for each in WITHOUT_CROP],
)
three_operators = subsets.mean("linear", method="SimCLR", **CROP_GREY_JITTER)
five_operators = subsets.mean("linear", method="SimCLR", **NESTED[4])
five_minus_three = subsets.where(method="SimCLR").gap("linear", NESTED[4], CROP_GREY_JITTER)
nested_steps = [
    {"step": title, "simclr": step("SimCLR", number), "published": published, "barlow": step("Barlow Twins", number)}
    for number, (title, published) in enumerate(
        [("blur", "0.5"), ("grey", "20.3"), ("jitter", "5.0"), ("flip", "1.3")], start=1
    )
]
no_operator = {
    "simclr": subsets.mean("linear", method="SimCLR", **EMPTY, **NO_COLOR),
    "barlow": subsets.mean("linear", method="Barlow Twins", **EMPTY, **NO_COLOR),
}

# Removal
removal = Table("removal-cifar10-small", cell=("cell",))
COLORLESS = ("remove color (jitter+gray)", "crop only", "crop+flip only", "crop+blur only")


def rank_of_recipes(value, leave_out=()):
    reference = "byol_table17_augmentation_removal"
    return removal.rank(value, "cell", reference, version="SimCLR", leave_out=leave_out)


recipes_rank = both(rank_of_recipes)
recipes_with_color_rank = both(rank_of_recipes, leave_out=COLORLESS)
removed = [
    {"operator": title, "published": published, **both(removal.gap, {"cell": "baseline"}, {"cell": cell})}
    for title, cell, published in (
        ("color", "remove color (jitter+gray)", "22.2"),
        ("jitter", "remove color jitter", "4.2"),
        ("grey", "remove grayscale", "6.0"),
        ("blur", "remove blur", "2.7"),
        ("flip", "remove flip", "0.6"),
        ("solarize in one view", "remove solarize in T2", "0.2"),
    )
]
added_to_crop = {
    name: removal.gap("linear", {"cell": f"crop+{name} only"}, {"cell": "crop only"}) for name in ("flip", "blur")
}
removal_cells = removal.cells()

# Projection heads
heads = Table("heads-cifar10-small", cell=("head", "z"))
ON_Z, ON_Z_TRAIN = "linear_z_test_top1_recalibrated", "linear_z_train_top1_recalibrated"
linear_head_gain = heads.gap("linear", {"head": "linear"}, {"head": "none"})
nonlinear_minus_linear = heads.gap("linear", {"head": "nonlinear"}, {"head": "linear"})
linear_minus_nonlinear_on_z = heads.gap(ON_Z, {"head": "linear"}, {"head": "nonlinear"})
h_and_z = {
    head: {"h": heads.mean("linear", head=head), "z": heads.mean(ON_Z, head=head)} for head in ("linear", "nonlinear")
}
width_slope = {
    name: heads.trend(value, "z", [32, 64, 128, 256, 512, 1024, 2048], digits=2, head="nonlinear")
    for name, value in (("h", "linear"), ("z_train", ON_Z_TRAIN), ("z_test", ON_Z))
}

# Losses
losses = Table("losses-cifar10-small", cell=("objective", "rate"))


def nt_xent_lead(value, objective, best_of=None):
    return losses.gap(value, {"objective": "NT-Xent"}, {"objective": objective}, best_of=best_of)


def semi_hard_gain(value, objective):
    return losses.gap(value, {"objective": f"{objective} semi-hard"}, {"objective": objective})


nt_xent_leads = [
    {
        "objective": objective,
        "own_rate": both(nt_xent_lead, objective, best_of="rate"),
        "all_rates": both(nt_xent_lead, objective),
    }
    for objective in ("NT-Logistic", "margin", "NT-Logistic semi-hard", "margin semi-hard")
]
semi_hard = {
    name: both(semi_hard_gain, objective) for name, objective in (("logistic", "NT-Logistic"), ("margin", "margin"))
}
losses_rank = both(losses.rank, "objective", "simclr_table4_losses", best_of="rate")
losses_cells = losses.cells({"validation": VALIDATION, "test": "linear", "kNN": "knn"})

# Temperature
temperature = Table("temperature-cifar10-small", cell=("softmax",))


def warmer(value, one, other):
    return temperature.gap(value, {"softmax": one}, {"softmax": other})


softmax_best = both(temperature.best)
tenth_minus_one = both(warmer, "l2, 0.1", "l2, 1")
tenth_minus_twentieth = warmer("linear", "l2, 0.1", "l2, 0.05")
off_the_sphere = {
    "mean": temperature.mean("linear", softmax="no l2, 10"),
    "minus_sphere": warmer("linear", "no l2, 10", "l2, 0.1"),
    "below_sphere_knn": warmer("knn", "l2, 0.1", "no l2, 10"),
    "entropy": temperature.mean("contrastive_entropy", digits=2, softmax="no l2, 10"),
}
temperature_rank = both(temperature.rank, "softmax", "simclr_table5_temperature")
tenth_minus_half = warmer(VALIDATION, "l2, 0.1", "l2, 0.5")

# Batch size and length
batches = Table("batch_epochs-cifar10-small", cell=("rule", "epochs", "batch"))


def rule_gain(**at):
    """The square-root rule minus the linear one."""
    return batches.gap("linear", {"rule": "square root", **at}, {"rule": "linear", **at})


def small_batch_gain(rule):
    return batches.gap("linear", {"rule": rule, "batch": 32}, {"rule": rule, "batch": 256})


square_root_gain = {
    "all": rule_gain(),
    "epochs_10": rule_gain(epochs=10),
    "epochs_40": rule_gain(epochs=40),
    "batch_32": [rule_gain(batch=32, epochs=epochs) for epochs in (10, 20, 40)],
}
longer = batches.gap("linear", {"rule": "square root", "epochs": 40}, {"rule": "square root", "epochs": 10})
batch_32_minus_256 = {"square_root": small_batch_gain("square root"), "linear": small_batch_gain("linear")}
lars = batches.mean("linear", rule="square root", batch=128, epochs=20)

# Encoders
encoders = Table("encoders-cifar10-small", cell=("method", "depth", "width"))


def wider(value, method):
    return encoders.gap(value, {"method": method, "width": 32}, {"method": method, "width": 8})


def deeper(value, method):
    at = {"method": method}
    return encoders.gap(value, {**at, "depth": "2 blocks a stage"}, {**at, "depth": "1 block a stage"})


width_gain = {name.lower(): both(wider, name) for name in ("SimCLR", "supervised")}
depth_gain = {name.lower(): both(deeper, name) for name in ("SimCLR", "supervised")}

# Probes
probes = Table("probes-cifar10-small", cell=("cell",))


def probe(question, cell="crop + color"):
    return probes.mean(f"probe_{question}_test_top1_recalibrated", cell=cell)


probe_rotation = {"h": probe("rotation"), "z": probe("z_rotation"), "z_crop": probe("z_rotation", "crop")}
probe_noise = {"h": probe("noise"), "z": probe("z_noise")}
probe_color = {"h": probe("color"), "h_crop": probe("color", "crop")}

# Invariance
invariance = Table("invariance-cifar10-small", cell=("cell",))


def cosine(operator, cell):
    return invariance.mean(f"invariance_test_{operator}_recalibrated", digits=2, cell=cell)


cosines = {
    name.replace(" + ", "_"): {operator: cosine(operator, name) for operator in operators}
    for name, operators in {
        "crop": ("rotate", "color"),
        "color": ("rotate", "color", "crop"),
        "crop + color": ("color", "crop"),
        "supervised": ("color", "crop"),
        "initialization": ("rotate", "color", "crop"),
    }.items()
}
invariance_accuracy = {
    name.replace(" + ", "_"): invariance.mean("linear", cell=name)
    for name in ("crop + color", "crop", "color", "initialization", "supervised", "blur", "noise")
}

# The control
control = Table("control-tiny", cell=("cell", "shortcut"))


def control_gap(one, other):
    return control.gap(
        "linear", dict(zip(("cell", "shortcut"), one, strict=True)), dict(zip(("cell", "shortcut"), other, strict=True))
    )


control_crop = {
    "whole": control.mean("linear", cell="crop", shortcut=1.0),
    "half": control.mean("linear", cell="crop", shortcut=0.5),
    "none": control.mean("linear", cell="crop", shortcut=0.0),
}
control_crop_color = {
    "whole": control.mean("linear", cell="crop + color", shortcut=1.0),
    "none": control.mean("linear", cell="crop + color", shortcut=0.0),
}
control_color_gain = {
    "none": control_gap(("crop + color", 0.0), ("crop", 0.0)),
    "whole": control_gap(("crop + color", 1.0), ("crop", 1.0)),
}
control_crop_minus_untrained = control_gap(("crop", 1.0), ("initialization", 1.0))
control_color = control.mean("linear", cell="color", shortcut=1.0)
control_half_minus_none = control_gap(("crop + color", 0.5), ("crop + color", 0.0))
control_sobel = control.mean("linear", cell="crop + sobel", shortcut=1.0)
control_cells = control.cells(by=["shortcut", "cell"], within=["shortcut"])

# Searches
TPE, RANDOM = "best of TPE", "best of random search"


class Searched:
    """A search's trials, and the comparison of its best settings with the default on test images."""

    def __init__(self, name):
        self.trials = Table(name)
        self.test = Table(f"{name}-test", cell=("settings",))

    def largest(self):
        return {sampler: self.trials.largest("value", sampler=sampler) for sampler in ("tpe", "random")}

    def means(self):
        settings = {"tpe": TPE, "random": RANDOM, "default": "default"}
        return {name: self.test.mean("linear", settings=each) for name, each in settings.items()}

    def minus_default(self):
        return {
            name: {
                **both(self.test.gap, {"settings": best}, {"settings": "default"}),
                "paired": self.test.paired("linear", "settings", best, "default"),
            }
            for name, best in (("tpe", TPE), ("random", RANDOM))
        }

    def random_minus_tpe(self):
        return self.test.gap("linear", {"settings": RANDOM}, {"settings": TPE})


_color, _policy = Searched("search_color-tiny"), Searched("search_policy-tiny")
color_search = {
    "largest": _color.largest(),
    "means": _color.means(),
    "minus_default": _color.minus_default(),
    "random_minus_tpe": _color.random_minus_tpe(),
    "sd": _color.test.pooled("linear"),
}
early = {f"epoch_{epoch}": _color.trials.early(epoch) for epoch in (2, 4, 6, 10)}
early_of_tpe = {f"epoch_{epoch}": _color.trials.early(epoch, sampler="tpe") for epoch in (2, 4)}
policy_search = {
    "largest": _policy.largest(),
    "means": _policy.means(),
    "minus_default": _policy.minus_default(),
    "random_minus_tpe": _policy.random_minus_tpe(),
}

rate_trials = Table("search_learning_rate-tiny")
rate_test = Table("search_learning_rate-tiny-test", cell=("case", "settings"))


def rate_minus_default(case, best):
    return rate_test.gap("linear", {"case": case, "settings": best}, {"case": case, "settings": "default"})


rate_search = [
    {
        "case": case,
        "largest": {sampler: rate_trials.largest("value", case=case, sampler=sampler) for sampler in ("tpe", "random")},
        "tpe": rate_test.mean("linear", case=case, settings=TPE),
        "random": rate_test.mean("linear", case=case, settings=RANDOM),
        "default": rate_test.mean("linear", case=case, settings="default"),
        "tpe_minus_default": rate_minus_default(case, TPE),
        "random_minus_default": rate_minus_default(case, RANDOM),
    }
    for case in ("SimCLR, crop", "SimCLR, crop + color", "Barlow Twins, crop", "Barlow Twins, crop + color")
]
higher_rate = {
    "rate": {
        name: rate_test.largest("learning_rate", digits=4, case="SimCLR, crop + color", settings=settings)
        for name, settings in (("tpe", TPE), ("random", RANDOM), ("default", "default"))
    },
    "paired": rate_test.paired("linear", "settings", RANDOM, "default", case="SimCLR, crop + color"),
}
