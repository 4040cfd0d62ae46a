"""The tables of an experiment, from the files of its runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.execution.store import Identified, Results, identified
from ablation.spec import FORMAT, Experiment, InvalidSpec, Metric, view_label
from ablation.spec.metric import COLLAPSED, PREDICTED, SPLITS, TUNED
from ablation.system.terminal import printable

if TYPE_CHECKING:
    import pandas as pd


Cells = Experiment | Sequence[Identified]  # an experiment, or its cells with their ids


def table(cells: Cells, results: Results | str | Path) -> pd.DataFrame:
    """One row per cell: its coordinates, then measurements in percent, seconds and bytes.

    Columns named PROTOCOL_SPLIT_top1_STATISTICS (`linear_test_top1_recalibrated`) are accuracies; `state`
    marks unfinished rows, which have no measurements.
    """
    import pandas as pd  # slower to import than `ablation status` takes, which does not need it

    results = results if isinstance(results, Results) else Results(results)
    cells = _identified(cells)
    # Once per data set: a folder inspects all of its files.
    datasets = {dataset for cell in cells for dataset in cell.cell.run.datasets}
    warnings = {dataset: getattr(dataset, "warning", "") for dataset in datasets}
    return pd.DataFrame([_row(cell, results, [warnings[each] for each in cell.cell.run.datasets]) for cell in cells])


def curves(cells: Cells, results: Results) -> pd.DataFrame:
    """The learning curves: a row per cell and epoch with its coordinates, the loss and other measurements."""
    import pandas as pd

    frames = []
    for item in (cells := _identified(cells)):
        content = _or_warn(*results.content(item.training_id, "history.csv"))
        if content and content.strip():  # empty for an untrained encoder
            frame = pd.read_csv(io.BytesIO(content))
            _, document, _ = results.found(item.training_id, ())
            frame["encoded_images"] = frame["epoch"] * _encoded(item.cell.run.training, document["images"])
            frames.append(frame.assign(**item.cell.coords))
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(frames, ignore_index=True)
    axes = list(dict.fromkeys(axis for item in cells for axis in item.cell.coords))
    first = ("epoch", "encoded_images", "loss", "contrastive_accuracy", "training_accuracy")
    last = [column for column in ("validation_knn", "validation_linear", "learning_rate") if column in rows]
    others = [column for column in rows if column not in (*axes, *first, *last)]  # metrics of a loss
    return rows[[*axes, *(column for column in first if column in rows), *others, *last]]


def _encoded(training: Any, images: Mapping[str, int]) -> int:
    """Views of images that an epoch encodes, those of whole batches. images: the number of each split."""
    optimization = training.optimization
    count = images["train"] + (images["validation"] if optimization.with_validation else 0)
    return count // optimization.batch * optimization.batch * len(training.views)


def variances(cells: Cells, results: Results) -> pd.DataFrame:
    """Variance from seeds and from test images: a row per evaluation that classifies the training's own images from h,
    and per cell with at least two seeds.

    Uses the per-image predictions with recalibrated statistics, see `statistics.seed_and_image_variance`.
    """
    import dataclasses

    import numpy as np
    import pandas as pd

    from ablation.analysis.statistics import seed_and_image_variance

    correct: dict[tuple, list] = {}
    for item in _identified(cells):
        for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
            if evaluation.on != "h" or getattr(evaluation, "dataset", None) is not None:
                continue
            content = _or_warn(*results.content(item.training_id, f"{evaluation_id}.npz", evaluation_id))
            if content is None:
                continue
            coords = {axis: value for axis, value in item.cell.coords.items() if axis != "seed"}
            with np.load(io.BytesIO(content)) as found:
                if len(found.get("test_recalibrated", ())) != len(found.get("test_labels", "none")):
                    continue  # it trains its own weights, or does not classify the test images
                right = found["test_recalibrated"] == found["test_labels"]
            correct.setdefault((*coords.items(), ("evaluation", evaluation.label)), []).append(right)
    rows = [
        dict(cell) | dataclasses.asdict(seed_and_image_variance(np.stack(seeds)))
        for cell, seeds in correct.items()
        if len(seeds) > 1
    ]
    return pd.DataFrame(rows)


def predictions(
    cells: Cells, results: Results | str | Path, *, split: str = "test", statistics: str = "recalibrated"
) -> pd.DataFrame:
    """The predictions of every finished run for every image of a split: a row per cell, evaluation and image.

    Columns: the coordinates, `evaluation` (its label in the table), `image` (the number in the split), `label` and
    `predicted` (names of classes). split: "train", "validation" or "test", if the evaluation classifies it.
    statistics: "running", "recalibrated" or "tuned". Evaluations that train their own weights have only "tuned" and
    are part of all three. Evaluations that do not predict classes, such as probes, are omitted.
    """
    import numpy as np
    import pandas as pd

    results = results if isinstance(results, Results) else Results(results)
    frames = []
    for item in (cells := _identified(cells)):
        found = results.look(item.training_id, item.evaluation_ids)
        for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
            content = _or_warn(*results.content(item.training_id, f"{evaluation_id}.npz", evaluation_id))
            document = found.evaluations[evaluation_id]
            if found.training is None or document is None or content is None:
                continue
            # Documents of earlier versions have no classes; theirs are the training's, unless it had other images.
            classes = document.get("classes") or (
                found.training["classes"] if getattr(evaluation, "dataset", None) is None else None
            )
            if classes is None:
                _or_warn(None, f"the classes of {evaluation.label} in {item.cell.name} are not known: run it again")
                continue
            with np.load(io.BytesIO(content)) as stored:
                labels, tuned = (stored.get(f"{split}_{name}", ()) for name in ("labels", TUNED))
                predicted = stored.get(f"{split}_{statistics}", tuned)
            if len(predicted) == len(labels) > 0:
                names = pd.Index(classes)
                rows = {"evaluation": evaluation.label, "image": np.arange(len(labels))}
                rows |= {"label": names[labels], "predicted": names[predicted]}
                frames.append(pd.DataFrame(rows).assign(**item.cell.coords))
    axes = list(dict.fromkeys(axis for item in cells for axis in item.cell.coords))
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*axes, *PREDICTED])
    return whole[[*(axis for axis in axes if axis in whole), *PREDICTED]]


def _identified(cells: Cells) -> Sequence[Identified]:
    return identified(cells) if isinstance(cells, Experiment) else cells


def _or_warn(content: bytes | None, wrong: str | None) -> bytes | None:
    if wrong:
        print(f"ablation: {printable(wrong)}; omitting it.", file=sys.stderr)
    return content


def _optimized(optimization: Any) -> dict[str, Any]:
    """The columns about optimizer and schedule."""
    optimizer = optimization.optimizer
    rising = f"warm-up {optimization.warmup:g}, " if optimization.warmup else ""
    end = optimization.weight_decay_end
    decaying = "" if end is None else f", weight decay to {end:g} by a cosine"
    return {
        "optimizer": type(optimizer).__name__,
        "learning_rate": getattr(optimizer, "learning_rate", None),
        "weight_decay": getattr(optimizer, "weight_decay", None),
        "schedule": rising + getattr(optimization.schedule, "label", type(optimization.schedule).__name__) + decaying,
    }


def _borrowed_rate(training: Any) -> str:
    """A note if a method uses the learning rate chosen for another."""
    chosen_for = training.optimization.rate_chosen_for
    if not training.method.trains or chosen_for in ("", training.method.label):
        return ""
    return f"the learning rate was chosen for {chosen_for}"


def _row(item: Identified, results: Results, warnings: Sequence[str]) -> dict[str, Any]:
    """warnings: of the data sets; "" for none."""
    training = item.cell.run.training
    facts = {
        "method": training.method.label,
        "dataset": training.dataset.label,
        "encoder": training.encoder.label,
        "shared": view_label(operator.label for operator in training.shared),
        "views": " | ".join(view_label(operator.label for operator in view) for view in training.views),
        "epochs": training.optimization.epochs if training.method.trains else 0,
        "batch": training.optimization.batch,
        "precision": training.optimization.precision,
        **({"trained_on": "train + validation"} if training.optimization.with_validation else {}),
    } | (_optimized(training.optimization) if training.method.trains else {})
    row: dict[str, Any] = facts | dict(item.cell.coords)  # the labels of an axis named "method" win
    row = {name: row[name] for name in dict.fromkeys([*item.cell.coords, *facts])}
    row["format"] = FORMAT
    row["state"], document, evaluations = results.found(item.training_id, item.evaluation_ids)
    row["training"] = item.training_id
    notes = filter(None, [_borrowed_rate(training), *warnings])
    row |= {"notes": text} if (text := "; ".join(notes)) else {}
    if document is None:
        return row
    for evaluation, found in zip(item.cell.run.evaluations, evaluations, strict=True):
        if found:
            measured = {f"{evaluation.label}_{name}": value for name, value in found["metrics"].items()}
            if twice := [name for name in measured if name in row]:
                raise InvalidSpec(
                    f"two columns of {item.cell.name} have the name {twice[0]!r}. Give the evaluation "
                    f"{evaluation.label!r} or its metric another name."
                )
            row |= measured
            row[f"{evaluation.label}_seconds"] = found["seconds"]
            if getattr(evaluation, "dataset", None) is not None:
                images = found.get("images", {})  # documents of earlier versions have none
                row |= {Metric.images(evaluation.label, split).name: images.get(split) for split in SPLITS}
            said = [*filter(None, [row.get("notes")]), *found["notes"]]
            row["notes"] = "; ".join(dict.fromkeys(said))
    if document["last"].get("z_deviation", 1.0) < COLLAPSED:
        said = f"z has collapsed: its deviation is {document['last']['z_deviation']:.2g} of an even spread's"
        row["notes"] = "; ".join(filter(None, [row.get("notes"), said]))
    # If a loss's metric has the name of a coordinate or another column, that one wins.
    measured = document["last"] | document["diagnostics"]
    if hidden := [name for name in measured if name in item.cell.coords]:
        said = f"the loss's metric {hidden[0]!r} has the name of an axis and is not shown"
        row["notes"] = "; ".join(filter(None, [row.get("notes"), said]))
    row |= {name: value for name, value in measured.items() if name not in row}
    row |= {f"{split}_images": count for split, count in document["images"].items()}
    row |= {"training_seconds": document["seconds"], "peak_memory_bytes": document["peak_memory_bytes"]}
    row["compiled"] = document["compiled"]
    row |= {name: document["provenance"][name] for name in ("device", "torch", "kornia", "commit")}
    return row
