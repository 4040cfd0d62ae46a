"""Metrics: names, labels and units of a table's numeric columns.

A column of an evaluation is EVALUATION_[SETTING_][SPLIT_]QUANTITY_STATISTICS:

    linear_test_top1_recalibrated           knn_k10_t0.1_test_top5_running
    probe_z_rotation_train_top1_running     invariance_test_crop_recalibrated
    linear_penalty_running                  linear_seconds
    knn_pets_test_images                    (of an evaluation on other images than the training's)

The parts of a name are known for the suite's evaluations. The settings beside a table hold the labels of a user's, with
the unit and the best value of the metrics that state them (`Measures`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablation.spec.errors import InvalidSpec
from ablation.spec.user_code import is_ours

SPLITS = ("train", "validation", "test")
STATISTICS = ("running", "recalibrated")  # of batch norm
TUNED = "tuned"  # instead of them, if the evaluation itself trains the encoder
HEADLINE = ("linear_test_top1_recalibrated", "knn_test_top1_recalibrated")
CHOSEN_ON = "linear_validation_top1_recalibrated"  # the metric that chooses a learning rate

PARAMETER, LOG_PARAMETER = "param_", "log_param_"  # prefixes of suggested parameters, on a linear or log scale
BEST_TRIALS = 0.2  # the share of a search's trials that PED-ANOVA separates from the rest

# Labels and units, by table, of the columns that no evaluation measures.
MEASURED: dict[str, dict[str, tuple[str, str]]] = {
    "": {
        "loss": ("loss", ""),
        "contrastive_accuracy": ("contrastive accuracy (fraction)", ""),
        "contrastive_entropy": ("entropy of the softmax (nats)", ""),
        "training_accuracy": ("training accuracy (fraction)", ""),
        "test_knn_k200": ("kNN accuracy, test, last epoch, k = 200 (%)", "%"),
        "test_knn_k20": ("kNN accuracy, test, last epoch, k = 20 (%)", "%"),
        "test_knn_k200_maximum": ("kNN accuracy, test, maximum over epochs, k = 200 (%)", "%"),
        "test_knn_k20_maximum": ("kNN accuracy, test, maximum over epochs, k = 20 (%)", "%"),
        "z_deviation": ("deviation of z (1: even on the sphere)", ""),
        "z_rank": ("effective rank of z", ""),
        "alignment": ("alignment", ""),
        "uniformity": ("uniformity", ""),
        "training_seconds": ("training time (s)", "s"),
        "peak_memory_bytes": ("peak memory (bytes)", "bytes"),
        "epochs": ("epochs", ""),
        "batch": ("batch size", ""),
        "learning_rate": ("learning rate", ""),
        "weight_decay": ("weight decay", ""),
        "train_images": ("training images", ""),
        "validation_images": ("validation images", ""),
        "test_images": ("test images", ""),
    },
    "curves": {
        "epoch": ("epoch", ""),
        "encoded_images": ("encoded views of images", ""),
        "loss": ("loss", ""),
        "contrastive_accuracy": ("contrastive accuracy (fraction)", ""),
        "contrastive_entropy": ("entropy of the softmax (nats)", ""),
        "training_accuracy": ("training accuracy (fraction)", ""),
        "validation_knn": ("kNN accuracy, validation, running BN (%)", "%"),
        "validation_linear": ("linear accuracy, validation, running BN (%)", "%"),
        "test_knn_k200": ("kNN accuracy, test, k = 200 (%)", "%"),
        "test_knn_k20": ("kNN accuracy, test, k = 20 (%)", "%"),
        "z_deviation": ("deviation of z (1: even on the sphere)", ""),
        "z_rank": ("effective rank of z", ""),
        "learning_rate": ("learning rate", ""),
    },
    "images": {
        "accuracy": ("accuracy", ""),
        "seeds": ("seeds", ""),
        "images": ("images", ""),
        "seed_sd": ("standard deviation over seeds (points)", "%"),
        "image_sd": ("standard deviation over images (points)", "%"),
        "rest_sd": ("residual standard deviation (points)", "%"),
        "seed_error": ("standard error over seeds (points)", "%"),
        "whole_error": ("standard error over seeds and images (points)", "%"),
    },
}
COLLAPSED = 0.1  # a run with a smaller z_deviation has collapsed
SETTINGS = ("epochs", "batch", "learning_rate", "weight_decay")  # of a run, not measured, so coordinates may use them
OF_A_RUN = ("format", "state", "training", "notes", "device", "torch", "kornia", "commit", "compiled")  # not numbers
OF_A_LOSS = ("contrastive_accuracy", "contrastive_entropy", "training_accuracy")  # that several methods measure
# Columns of a table that describe its run.
DESCRIBED = (
    *("method", "dataset", "encoder", "shared", "views", "epochs", "batch", "precision", "trained_on", "optimizer"),
    *("learning_rate", "weight_decay", "schedule"),
)
PREDICTED = ("evaluation", "image", "label", "predicted")

_ENDINGS = "|".join((*STATISTICS, TUNED))
# The split is the last word that can be one: a probe's task may be named "validation".
_COLUMN = re.compile(rf"(?P<evaluation>.+)_(?P<split>{'|'.join(SPLITS)})_(?P<quantity>.+)_(?P<statistics>{_ENDINGS})")
_WITHOUT_SPLIT = re.compile(rf"(?P<evaluation>.+)_(?P<quantity>penalty|steps)_(?P<statistics>{_ENDINGS})")
_OF_ANOTHER = re.compile(rf"(?P<quantity>.+_.+)_(?P<statistics>{_ENDINGS})")  # where its evaluation ends is unknown
_IMAGES = re.compile(rf"(?P<evaluation>.+)_(?P<split>{'|'.join(SPLITS)})_(?P<quantity>images)")
_SETTING = re.compile(r"(?P<evaluation>.+)_(?P<setting>k\d+_t[\d.e+-]+)")
_OF_A_USER = re.compile(  # behind the evaluation's label
    rf"(((?P<setting>.+)_)?(?P<split>{'|'.join(SPLITS)})_)?(?P<quantity>.+)_(?P<statistics>{_ENDINGS})"
)
_REPRESENTATION = re.compile(r"z|stem|stage\d+|map\d+")  # columns omit h
_TOP = re.compile(r"(^|[^a-z])top-?\d", re.IGNORECASE)
_ACCURACY = re.compile(r"(^|[^a-z])(test|val|train)?(top[ _-]?\d|acc(urac(y|ies))?)([^a-z]|$)")
_OF_A_PROTOCOL = re.compile(  # an accuracy named by its protocol alone
    r"((test|val(idation)?|train)[ _-]+)?"
    r"(lin(ear)?|\d*-?k?[ -]?nn|(linear[ _-]?)?(prob(e|ing)|eval(uation)?|classifier)|fine[ _-]?tun(e|ed|ing))"
    r"([ _-]*(z|h|test|val(idation)?|running|recalibrated|percent|\(?%\)?|\d+))*"
)
OURS = ("linear_sgd", "fine_tune", "knn", "linear", "probe", "invariance")  # names of the suite's evaluations
_SHOWN = {"knn": "kNN", "svm": "SVM", "fine_tune": "fine-tuning", "linear_sgd": "linear (SGD)"}


BEST = ("highest", "lowest", "")  # which value of a metric is the best; "": none
Measures = Mapping[str, Mapping[str, Sequence[str]]]  # unit and best value, by a user's evaluation and its metric


def measures_of(evaluations: Iterable[Any]) -> dict[str, dict[str, tuple[str, str]]]:
    """By the label of each of a user's evaluations: unit and best value of the metrics that state them. Raises
    InvalidSpec if they are stated in another form."""
    return {each.label: _stated(each) for each in evaluations if not is_ours(type(each))}


def _stated(evaluation: Any) -> dict[str, tuple[str, str]]:
    metrics = getattr(evaluation, "metrics", ())
    if not isinstance(metrics, Mapping):
        return {}
    for name, stated in metrics.items():
        pair = isinstance(stated, tuple) and len(stated) == 2 and isinstance(stated[0], str)
        if not (isinstance(name, str) and pair and stated[1] in BEST):
            raise InvalidSpec(
                f"{type(evaluation).__name__}.metrics[{name!r}] must be a unit and which value is the best, but got "
                f"{stated!r}. Write ('%', 'highest'), ('', 'lowest'), or ('', '') if neither is the best."
            )
    return dict(metrics)


def reads_as_accuracy(name: str) -> bool:
    """Whether the name of a column or metric, also a user's, means an accuracy."""
    words = words_of(name)
    return bool(_ACCURACY.search(words) or _OF_A_PROTOCOL.fullmatch(words))


def words_of(name: str) -> str:
    """ "error rate" of ErrorRate."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()


@dataclass(frozen=True)
class Metric:
    """A column of numbers.

    evaluation: the label of the evaluation that measures it ("linear", "linear_z", "probe_rotation"), "" for none.
    setting: one of several settings of the evaluation ("k10_t0.1"), "" for the first. split: "train", "validation" or
    "test", "" for none. quantity: "top1", "top5", or another name. statistics: "running", "recalibrated" or "tuned".
    of_a_user: whether a user's class measures it, whose label has no known parts. stated: its unit, and which value is
    the best, if that class states them.
    """

    evaluation: str = ""
    setting: str = ""
    split: str = ""
    quantity: str = ""
    statistics: str = ""
    of_a_user: bool = False
    stated: tuple[str, str] | None = None

    @classmethod
    def of(cls, column: str, measures: Measures | None = None) -> Metric:
        """The metric of a column. A column that fits no evaluation has its whole name as quantity. measures: of the
        users' evaluations in its table."""
        labels = [label for label in measures or () if column.startswith(f"{label}_")]
        if labels and (metric := cls._of_a_user(column, max(labels, key=len), measures)):
            return metric
        if any(column in table for table in MEASURED.values()):
            return cls(quantity=column)
        forms = (_COLUMN, _WITHOUT_SPLIT, _OF_ANOTHER, _IMAGES)
        if match := next(filter(None, (form.fullmatch(column) for form in forms)), None):
            parts = match.groupdict()
            setting = _SETTING.fullmatch(parts.get("evaluation", ""))
            return cls(**parts | (setting.groupdict() if setting else {}))
        evaluation, _, rest = column.rpartition("_")
        return cls(evaluation=evaluation, quantity=rest) if rest == "seconds" and evaluation else cls(quantity=column)

    @classmethod
    def _of_a_user(cls, column: str, label: str, measures: Measures) -> Metric | None:
        rest = column.removeprefix(f"{label}_")
        if match := _OF_A_USER.fullmatch(rest):
            parts = {name: text or "" for name, text in match.groupdict().items()}
            stated = measures[label].get(rest.removesuffix(f"_{parts['statistics']}"))
            return cls(**parts, evaluation=label, of_a_user=True, stated=tuple(stated) if stated else None)
        if rest == "seconds":
            return cls(evaluation=label, quantity=rest, of_a_user=True)
        images = _IMAGES.fullmatch(column)
        return cls(**images.groupdict(), of_a_user=True) if images and images["evaluation"] == label else None

    @property
    def name(self) -> str:
        """The column."""
        parts = (self.evaluation, self.setting, self.split, self.quantity, self.statistics)
        return "_".join(filter(None, parts))

    @property
    def protocol(self) -> str:
        """ "linear", "knn", "probe", ...: the evaluation without its representation and task. A user's evaluation is a
        protocol of its own, whatever its name begins with."""
        ours = () if self.of_a_user else OURS
        known = next((name for name in ours if f"{self.evaluation}_".startswith(f"{name}_")), None)
        before, _, last = self.evaluation.rpartition("_")
        return known or (before if before and _REPRESENTATION.fullmatch(last) else self.evaluation)

    @property
    def _words(self) -> list[str]:
        """The label of the evaluation behind its protocol: representation, data set or task, share of labels."""
        return self.evaluation.removeprefix(self.protocol).split("_")[1:]

    @property
    def on(self) -> str:
        """The representation, such as "z"; "h" by default."""
        words = self._words
        return words[0] if words and _REPRESENTATION.fullmatch(words[0]) else "h"

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a percentage of images, larger is better."""
        return self.quantity in ("top1", "top5") or self.name in ("validation_knn", "validation_linear")

    @property
    def highest_is_best(self) -> bool | None:
        """True for accuracies in percent, False for the suite's other columns, such as a loss or seconds; None for a
        number that the suite does not know. What a user's evaluation states has precedence."""
        if self.stated:
            return self.stated[1] == "highest"
        if self.is_accuracy:
            return True
        counts = self.quantity == "seconds" or _IMAGES.fullmatch(self.name)
        if counts or any(self.name in table for table in MEASURED.values()):
            return False
        return True if self.unit == "%" else None

    @property
    def lowest_is_best(self) -> bool:
        """Only if a user's evaluation states it."""
        return self.stated is not None and self.stated[1] == "lowest"

    @property
    def has_a_best(self) -> bool:
        """Whether a table may mark the best: not if an evaluation does not say whether its number is an error. Whoever
        draws a table of their own takes the highest."""
        unknown = self.highest_is_best is None and not self.evaluation
        return self.highest_is_best is True or self.lowest_is_best or unknown

    @property
    def unit(self) -> str:
        if self.stated:
            return self.stated[0]
        if self.quantity == "seconds":
            return "s"
        measured = next((table[self.name] for table in MEASURED.values() if self.name in table), None)
        if measured:
            return measured[1]
        return "%" if self.is_accuracy or _TOP.search(self.name) or "%" in self.name else ""

    @property
    def unit_of_differences(self) -> str:
        return "points" if self.unit == "%" else self.unit

    @property
    def digits(self) -> int:
        """Decimals in tables and figures."""
        return 1 if self.unit in ("%", "s") else 2

    @property
    def label(self) -> str:
        """The label of an axis: "linear accuracy (%)". It omits test, h and recalibrated, the defaults."""
        measured = next((table[self.name] for table in MEASURED.values() if self.name in table), None)
        if measured:
            return measured[0]
        if self.evaluation and self.quantity == "seconds":
            return f"{self.evaluated} evaluation (s)"
        if _IMAGES.fullmatch(self.name):
            return f"{'training' if self.split == 'train' else self.split} images of {self.evaluated}"
        if not self.statistics:
            unit = f" ({self.unit})" if self.unit and "(" not in self.name else ""
            return self.name.replace("_", " ") + unit
        on = f" on {self.on}" if self.on != "h" else ""
        parts = [
            f"{self._measured}{on}",
            f"{self._share} % of labels" if self._share else "",
            re.sub(r"^k(\d+)_t", r"k = \1, T = ", self.setting).replace("_", " "),
        ]
        parts += [{"train": "training", "test": ""}.get(self.split, self.split)]
        parts += ["running BN"] if self.statistics == "running" else []
        return ", ".join(filter(None, parts)) + (f" ({self.unit})" if self.unit else "")

    @property
    def short(self) -> str:
        """The label without the unit: "linear accuracy"."""
        return re.sub(r" \([^()]*\)$", "", self.label)

    @property
    def evaluated(self) -> str:
        """ "linear", "rotation probe"."""
        task = [word for word in self._words if word != self.on and word != self._share]
        return " ".join([*task, _SHOWN.get(self.protocol, self.protocol.replace("_", " "))])

    @property
    def _share(self) -> str:
        """The percentage of labels that an evaluation trains on, "" for all."""
        if self.protocol not in ("fine_tune", "linear_sgd") or not self._words:
            return ""
        return self._words[-1] if re.fullmatch(r"[\d.e+-]+", self._words[-1]) else ""

    @property
    def _measured(self) -> str:
        if self.protocol == "invariance":
            return f"cosine under {self.quantity}"
        named = {"top1": "accuracy", "top5": "top-5 accuracy"}
        return f"{self.evaluated} {named.get(self.quantity, self.quantity.replace('_', ' '))}".strip()

    @classmethod
    def images(cls, evaluation: str, split: str) -> Metric:
        """The number of images of a split: the training's, or those of an evaluation that has its own."""
        return cls(evaluation=evaluation, split=split, quantity="images")

    def on_split(self, split: str) -> Metric:
        """The same metric on another split."""
        return replace(self, split=split)


def is_reserved(name: str) -> bool:
    """Whether a metric of a loss would hide a column of the table or of the learning curve."""
    reserved = {*MEASURED[""], *MEASURED["curves"], *OF_A_RUN, *DESCRIBED, "seed"} - set(OF_A_LOSS)
    return name in reserved or name.startswith("validation_") or name.endswith("_images")


def is_column(axis: str, labels: tuple[str, ...]) -> bool:
    """Whether the suite writes a column of this name, which no axis may have. labels: of the evaluations."""
    measured = {name for table in ("", "curves") for name in MEASURED[table]} - set(SETTINGS)
    evaluations = tuple(f"{label}_" for label in (*labels, "linear", "knn", "probe", "invariance"))
    return axis in (*measured, *OF_A_RUN, *PREDICTED) or axis.endswith("_images") or axis.startswith(evaluations)
