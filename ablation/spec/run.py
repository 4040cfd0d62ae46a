"""A run: data, views, method, encoder, optimization and seed, and the evaluations of its encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ablation.spec.base import InvalidSpec, Spec, added_later, outside_identity
from ablation.spec.compatibility import check_fit
from ablation.spec.metric import STATISTICS, TUNED, measures_of
from ablation.spec.schedule import Cosine

PRECISIONS = ("float32", "bfloat16")


def _require_part(where: str, value: Any, needs: tuple[str, ...], cure: str) -> None:
    """Raises InvalidSpec unless the part is a hashable object with these attributes; parts are compared by hash."""
    if isinstance(value, type):
        call = f"If it is a spec, write {value.__name__}(...), with parentheses."
        raise InvalidSpec(f"{where} must be an object, but got the class {value.__name__}. {call} {cure}")
    lacks = [name for name in needs if not hasattr(value, name)]
    if not lacks and "label" in needs and not isinstance(value.label, str):
        raise InvalidSpec(f"{type(value).__name__}.label must be a string, but got {value.label!r}. {cure}")
    if lacks:
        raise InvalidSpec(f"{where} must have {', '.join(needs)}, but {value!r} has no {lacks[0]}. {cure}")
    try:
        hash(value)
    except TypeError as error:
        if not dataclasses.is_dataclass(value):
            raise InvalidSpec(f"{where} must be frozen, but {value!r} is not ({error}). {cure}") from error
        name = next((f.name for f in dataclasses.fields(value) if not _hashable(getattr(value, f.name))), None)
        if name is None:
            raise InvalidSpec(
                f"{where} must be frozen, but {type(value).__name__} is not. "
                "Write @dataclass(frozen=True, kw_only=True) above the class."
            ) from error
        raise InvalidSpec(
            f"{type(value).__name__}.{name} must be frozen, but got {getattr(value, name)!r}. Write a tuple for a list "
            "or a set, and a tuple of pairs for a dict."
        ) from error


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Optimization(Spec):
    """Schedule and optimizer.

    optimizer: a spec with `build(module)`. batch: images of the data set (each gives one image per view).
    The learning rate rises linearly over `warmup` (a fraction of all steps), then follows `schedule` (Cosine,
    Constant, Steps). weight_decay_end: the weight decay follows a half cosine from the optimizer's to this one (DINO:
    0.04 to 0.4), in the groups of parameters that decay; None for a constant one. precision: of the encoder's forward
    and backward pass; the suite's objectives use float32. curve_every: epochs between validation points of the learning
    curve, by kNN and by a linear classifier (0: none).
    curve_on_test: whether points of the curve also measure kNN accuracy on test images, whose maximum over epochs is
    what published tables report; nothing of the suite is chosen on it.
    clip: the largest norm of the gradient over all parameters, None for no limit. with_validation: train on the
    validation images too; evaluations must then choose nothing on them. rate_chosen_for: the method for which the
    learning rate was chosen; tables note if another method uses it.
    """

    epochs: int
    batch: int
    optimizer: Any
    warmup: float = 0.1
    schedule: Any = added_later(default=Cosine())
    weight_decay_end: float | None = added_later(default=None)
    precision: str = "float32"
    curve_every: int = 5
    with_validation: bool = False
    curve_on_test: bool = added_later(default=False)
    clip: float | None = added_later(default=None)
    rate_chosen_for: str = outside_identity(default="")

    def __post_init__(self):
        self.require_count("epochs")
        self.require_count("batch", 2)
        self.require_number("warmup", 0, 1)
        self.require("schedule", hasattr(self.schedule, "factor"), "be a schedule", "Write Cosine(), say.")
        self.require_choice("precision", PRECISIONS)
        self.require_count("curve_every", 0)
        self.require("curve_on_test", isinstance(self.curve_on_test, bool), "be True or False")
        if self.clip is not None:
            self.require_number("clip", 0, above=True)
        if self.weight_decay_end is not None:
            self.require_number("weight_decay_end", 0)

    def replace(self, **changes: Any) -> Optimization:
        """A copy with other fields; a new optimizer resets `rate_chosen_for`."""
        return super().replace(**{"rate_chosen_for": ""} | changes if "optimizer" in changes else changes)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at `step` of `steps`, as a fraction of the optimizer's."""
        rising = round(self.warmup * steps)
        return (step + 1) / rising if step < rising else self.schedule.factor(step - rising, steps - rising)


OPERATOR = ("label", "draw", "transform", "output_size")
OPERATOR_CURE = 'Let the class inherit from ablation.operators.Operator, and write label = "name" in it.'
MASK, PLACE = {"mask", "kept"}, {"box", "flip"}  # annotations of masked patches, and of where pixels come from
PARTS = (
    ("dataset", ("label", "load"), 'Write Shapes() or ImageData(path="..."); a class of your own needs a label.'),
    ("method", ("label", "build", "trains"), "Write SimCLR() or scale.method(SimCLR); a class of yours needs a label."),
    ("encoder", ("label", "build"), "Write ResNet(depth=50) or SmallResNet(); a class of your own needs a label."),
    ("optimization", ("epochs", "batch", "optimizer"), "Write Optimization(...) or scale.optimization(method)."),
)


@dataclass(frozen=True, kw_only=True)
class Training(Spec):
    """Everything that determines the weights.

    shared: operators drawn once per image, before the branches split; views: one tuple of operators per
    branch, `()` for the identity. `version` is the training loop's.
    """

    version: ClassVar[int] = 1

    dataset: Any
    shared: tuple = ()
    views: tuple
    method: Any
    encoder: Any
    optimization: Optimization
    seed: int = 0

    @property
    def operators(self) -> tuple:
        """Those of `shared`, then those of each view."""
        return (*self.shared, *(operator for view in self.views for operator in view))

    def __post_init__(self):
        self.require_count("seed", 0)
        self.require("views", isinstance(self.views, tuple) and len(self.views) > 0, "be a tuple of at least one view")
        for name, view in [("shared", self.shared), *((f"views[{i}]", view) for i, view in enumerate(self.views))]:
            if not isinstance(view, tuple) or not all(hasattr(o, "apply") and not isinstance(o, type) for o in view):
                raise InvalidSpec(
                    f"Training.{name} must be a tuple of operators, but got {view!r}. "
                    "Write (Crop(), Blur()), with a comma after a single one: (Crop(),), or () for the identity."
                )
            for i, operator in enumerate(view):
                _require_part(f"Training.{name}[{i}]", operator, OPERATOR, OPERATOR_CURE)
        for name, needs, cure in PARTS:
            _require_part(f"Training.{name}", getattr(self, name), needs, cure)
        _require_part(
            "Optimization.optimizer", self.optimization.optimizer, ("build",), "Write AdamW(...) or SGD(...)."
        )
        self._check_views()
        if hasattr(self.method, "check"):
            self.method.check(self)

    def _check_views(self) -> None:
        """Checks the views' number, sizes and annotations against the method's and the encoder's needs."""
        method, name, count = self.method, type(self.method).__name__, len(self.views)
        self._check_number(getattr(method, "branches", None), getattr(method, "least", 1))
        sizes = [self.size_of((*self.shared, *view)) for view in self.views]
        if None not in sizes:
            check_sizes(method, sizes)
        for size in dict.fromkeys([self.size_of(()), *sizes]):
            if size is not None and hasattr(self.encoder, "check_size"):
                self.encoder.check_size(size)
        check_fit(self, ())
        read = set(getattr(method, "annotations", ()))
        masked = getattr(method, "masked", None) if MASK & read else None
        numbers = isinstance(masked, tuple) and all(type(n) is int and 0 <= n < count for n in masked)
        if masked is not None and not numbers:
            raise InvalidSpec(
                f"{name}.masked must be a tuple of numbers of views, which are below {count}, but got "
                f"{masked!r}. Write masked = (1,) for the second view."
            )
        for number in range(count):
            for annotation in [a for a in getattr(method, "annotations", ()) if a in MASK]:
                self._check_mask(annotation, number, masked)
            if PLACE & read:
                self._check_places(number)
        self._check_effect(read)

    def _check_number(self, branches: int | None, least: int) -> None:
        count = len(self.views)
        if count == branches or (branches is None and count >= least):
            return
        needed = f"at least {least} views" if branches is None else f"{branches} view{'' if branches == 1 else 's'}"
        cure = f"views={('view',) * (branches or least)}".replace("'", "")
        if branches == 2:
            cure = "views=(view, ()) to augment one branch, views=(view, view) to augment both"
        raise InvalidSpec(
            f"Training.views: {type(self.method).__name__} needs {needed}, but got {count}. Write {cure}."
        )

    def _check_mask(self, annotation: str, number: int, masked: tuple[int, ...] | None) -> None:
        """Raises InvalidSpec unless one operator of a view adds the annotation, none if its number is not `masked`."""
        wanted = masked is None or number in masked
        found = [o for o in (*self.shared, *self.views[number]) if annotation in getattr(o, "annotates", ())]
        if len(found) == wanted:
            return
        name, kinds = type(self.method).__name__, " and ".join(type(o).__name__ for o in found)
        where = " and ".join(f"views[{n}]" for n in masked or ())
        cure = (
            "Write (Crop(), PatchMask()) for it, say." if wanted else f"Remove {kinds}; {where or 'no view'} takes it."
        )
        raise InvalidSpec(
            f"Training.views[{number}]: {name} needs {'exactly one' if wanted else 'no'} operator that adds "
            f"{annotation!r}, but the view has {len(found)}"
            f"{', with those of Training.shared' if set(found) & set(self.shared) else ''}. {cure}"
        )

    def _check_places(self, number: int) -> None:
        """Raises InvalidSpec for an operator that does not tell where a view's pixels come from."""
        for where, operators in (("Training.shared", self.shared), (f"Training.views[{number}]", self.views[number])):
            for operator in operators:
                if getattr(operator, "moves_pixels", False) and not PLACE & set(getattr(operator, "annotates", ())):
                    raise InvalidSpec(
                        f"{where}: {type(self.method).__name__} needs to know where each pixel comes from, but "
                        f"{type(operator).__name__} moves pixels and adds no 'box'. Remove it."
                    )

    def _check_effect(self, read: set[str]) -> None:
        """Raises InvalidSpec for an operator that only annotates, for a method that does not read it."""
        branches = ((f"Training.views[{number}]", view) for number, view in enumerate(self.views))
        for where, operators in (("Training.shared", self.shared), *branches):
            for operator in operators:
                adds = getattr(operator, "annotates", ())
                if getattr(operator, "only_annotates", False) and not read & set(adds) and self.method.trains:
                    raise InvalidSpec(
                        f"{where}: {type(operator).__name__} changes no pixel and adds {', '.join(map(repr, adds))}, "
                        f"which {type(self.method).__name__} does not read. Remove it, or take a method that does, "
                        "such as MAE()."
                    )

    def size_of(self, operators: tuple) -> int | None:
        """The side of the stored images in pixels after these operators; None if it depends on images not read yet."""
        size = getattr(self.dataset, "size", None)
        size = size if isinstance(size, int) else None
        for operator in operators:
            size = operator.output_size(size) if hasattr(operator, "output_size") else size
        return size


def check_sizes(method: Any, sizes: Sequence[int]) -> None:
    """Raises InvalidSpec unless the method takes views of these sizes, in pixels: all equal, or for one with
    `multi_crop` the first two equal and the others at most as large."""
    name, got = type(method).__name__, ", ".join(map(str, sizes))
    if not getattr(method, "multi_crop", False):
        if len(set(sizes)) > 1:
            raise InvalidSpec(
                f"Training.views must have the same size, but got {got} px, and {name} takes one size. Give every "
                "branch one: (Crop(size=128), ...) and (Resize(size=128),)."
            )
    elif any(size != max(sizes) for size in sizes[:2]):
        raise InvalidSpec(
            f"Training.views: {name} takes the first two views as the large ones, but got {got} px. Write two views of "
            f"{max(sizes)} px first, and the smaller ones after them."
        )


@dataclass(frozen=True, kw_only=True)
class Run(Spec):
    """One training and how its encoder is evaluated."""

    training: Training
    evaluations: tuple

    def __post_init__(self):
        self.require("evaluations", isinstance(self.evaluations, tuple), "be a tuple of evaluations", "Write (KNN(),).")
        for i, evaluation in enumerate(self.evaluations):
            cure = 'Write KNN() or Linear(); let a class of your own inherit from Evaluation, with name = "mine".'
            _require_part(f"Run.evaluations[{i}]", evaluation, ("label", "on", "evaluate"), cure)
            _check_statistics(f"Run.evaluations[{i}]", evaluation)
        labels = [getattr(evaluation, "label", None) for evaluation in self.evaluations]
        twice = [label for label in labels if label is not None and labels.count(label) > 1]
        if twice:
            raise InvalidSpec(
                f"Run.evaluations: two have the label {twice[0]!r}, which would give the table equal columns. Write "
                "one with both settings, KNN(k=(200, 10)); or give probes different tasks, a class of your own "
                "another name."
            )
        check_fit(self.training, self.evaluations)
        measures_of(self.evaluations)  # refuses another form
        if self.training.optimization.with_validation:
            choosing = [type(e).__name__ for e in self.evaluations if getattr(e, "chooses_on_validation", False)]
            self.require(
                "evaluations",
                not choosing,
                "choose nothing on validation images: the encoder trains on them (Optimization.with_validation)",
                "Give Linear a single penalty.",
            )

    @property
    def datasets(self) -> tuple:
        """The training's data set, then those of evaluations on other images, each once."""
        own = [getattr(evaluation, "dataset", None) for evaluation in self.evaluations]
        return tuple(dict.fromkeys([self.training.dataset, *(each for each in own if each is not None)]))

    def with_seed(self, seed: int) -> Run:
        return self.replace(training=self.training.replace(seed=seed))


def _check_statistics(where: str, evaluation: Any) -> None:
    """Raises InvalidSpec unless the evaluation is called for known statistics of batch norm, each once."""
    given = getattr(evaluation, "statistics", STATISTICS)
    several = isinstance(given, (tuple, list)) and len(given) > 0
    if several and (tuple(given) == (TUNED,) or all(s in STATISTICS and given.count(s) == 1 for s in given)):
        return
    raise InvalidSpec(
        f"{where}: {type(evaluation).__name__}.statistics must be some of {', '.join(map(repr, STATISTICS))}, or "
        f"{TUNED!r} alone if the evaluation trains its own weights, but got {given!r}. Write "
        'statistics = ("recalibrated",), say.'
    )


def view_label(labels: Iterable[str]) -> str:
    """ "crop + color", "none" for a view without operators."""
    return " + ".join(labels) or "none"
