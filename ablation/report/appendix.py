"""Every setting of an experiment, from its table and the settings written when it was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from ablation.analysis.settings import Settings
from ablation.analysis.tables import numbers
from ablation.spec import Metric, view_label, written

HIDDEN = ("type", "version", "source", "views", "shared")  # views and operators have their own rows


def appendix(settings: Settings, table: pd.DataFrame) -> pd.DataFrame:
    """Rows (setting, value): hyper-parameters, data set, evaluations, views, operators' laws, and the cost.

    A setting shared by all runs has one value; others have all values, or their number.
    """
    runs = table[table["training"].isin(settings.trainings)]
    ids = list(dict.fromkeys(runs["training"]))
    found: dict[str, dict[str, None]] = {}
    for training_id in ids:
        described = settings.training(training_id)
        # Older runs do not record a schedule; all of them used the cosine.
        described["optimization"].setdefault("schedule", {"type": "Cosine", "floor": 0})
        for name, value in _flat(described, ""):
            found.setdefault(name, {})[value] = None
    for evaluation in dict.fromkeys(each for ids in settings.evaluations.values() for each in ids):
        for name, value in _flat([settings.whole({"@": evaluation})], "evaluations"):
            found.setdefault(name, {})[value] = None
    names = [("dataset.name", ", ".join(map(str, runs["dataset"].dropna().unique())))] if "dataset" in runs else []
    sizes = ", ".join(map(str, dict.fromkeys(settings.sizes.values())))
    rows = [*names, *((name, _listed(list(values))) for name, values in found.items())]
    rows += [("images, pixels a side", sizes), *_views(settings, runs), *_laws(settings, ids)]
    rows += [("settings", f"written again at the commit {settings.reconstructed}")] if settings.reconstructed else []
    facts = table.drop(columns=settings.axes, errors="ignore")
    return pd.DataFrame(rows + _cost(facts), columns=["setting", "value"])


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """The fields of a description, with those of nested descriptions."""
    if isinstance(value, dict) and "type" in value:
        if prefix:
            yield prefix, value["type"]
        for name, inner in value.items():
            if name not in HIDDEN:
                yield from _flat(inner, f"{prefix}.{name}".strip("."))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield from _flat(item, f"{prefix}.{item['type']}")
    else:
        yield prefix, f"({', '.join(map(str, value))})" if isinstance(value, list) else str(value)


def _operators(settings: Settings, filed: Sequence) -> list[str]:
    """The ids of a view's operators."""
    return [each["@"] for each in filed]


def _variants(settings: Settings, ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the different operators of the trainings, by label."""
    found: dict[str, list[str]] = {}
    for training_id in ids:
        filed = settings.trainings[training_id]
        for view in (filed["shared"], *filed["views"]):
            for key in _operators(settings, view):
                known = found.setdefault(settings.operators[key]["label"], [])
                known += [key] if key not in known else []
    return found


def _views(settings: Settings, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """A row for each different pair of views, with the common coordinates of its cells except the seed; `_laws` has
    the numbers."""
    variants = _variants(settings, list(dict.fromkeys(runs["training"])))

    def named(view: Sequence) -> str:
        labels = []
        for key in _operators(settings, view):
            label = settings.operators[key]["label"]
            many = len(variants[label]) > 1
            labels.append(f"{label} ({variants[label].index(key) + 1})" if many else label)
        return view_label(labels)

    places: dict[str, dict[tuple, None]] = {}
    axes = [axis for axis in settings.axes if axis != "seed" and axis in runs]
    for row in runs[["training", *axes]].to_dict("records"):
        filed = settings.trainings[row["training"]]
        shared = f"{named(filed['shared'])} shared, then " if filed["shared"] else ""
        place = tuple((axis, written(row[axis])) for axis in axes if pd.notna(row[axis]))
        places.setdefault(shared + " | ".join(map(named, filed["views"])), {})[place] = None
    rows = []
    for number, (views, (first, *others)) in enumerate(places.items(), start=1):
        common = [f"{axis} {value}" for axis, value in first if all((axis, value) in other for other in others)]
        common += [f"{1 + len(others)} cells"] if others else []
        rows.append((f"views {number}", ": ".join(filter(None, (views, ", ".join(common))))))
    return rows


def _laws(settings: Settings, ids: Sequence[str]) -> list[tuple[str, str]]:
    """A row for each operator: the laws of all its variants."""
    rows = []
    for label, keys in _variants(settings, ids).items():
        texts = [_at_sizes(settings.operators[key]["law"]) for key in keys]
        alike = [texts.count(text) > 1 for text in texts]  # the descriptions omit the difference
        fields = [", ".join(f"{n}={v}" for n, v in _flat(settings.whole({"@": key}), "") if n) for key in keys]
        texts = [f"{t}, {f}" if same else t for t, f, same in zip(texts, fields, alike, strict=True)]
        numbered = [f"({number}) {text}" for number, text in enumerate(texts, start=1)]
        rows.append((f"operator {label}", "; ".join(numbered) if len(texts) > 1 else texts[0]))
    return rows


def _at_sizes(law: dict[str, str]) -> str:
    texts = {text: size for size, text in reversed(law.items())}
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"at {size} px {text}" for text, size in reversed(texts.items()))


def _listed(values: list[str]) -> str:
    return ", ".join(values) if len(values) <= 6 else f"{', '.join(values[:3])}, ... ({len(values)} values)"


def _cost(table: pd.DataFrame) -> list[tuple[str, str]]:
    evaluations = [column for column in table if Metric.of(column).quantity == "seconds"]
    table = numbers(table, [c for c in (*evaluations, "training_seconds", "peak_memory_bytes") if c in table])
    done = table.dropna(subset=["training"]).drop_duplicates("training")
    rows = [("runs", str(len(done)))]
    if "training_seconds" in done:
        rows.append(("training, hours in all", f"{done['training_seconds'].sum() / 3600:.2f}"))
    if evaluations:  # cells with the same training may have different evaluations
        parts = [table.dropna(subset=["training"]).drop_duplicates(["training", c])[c].sum() for c in evaluations]
        rows.append(("evaluation, hours in all", f"{sum(parts) / 3600:.2f}"))
    for column in ("device", "torch", "kornia", "commit"):
        if column in done:
            rows.append((column, ", ".join(map(str, done[column].dropna().unique()))))
    if "peak_memory_bytes" in done:
        rows.append(("peak memory, MiB", f"{done['peak_memory_bytes'].max() / 2**20:.0f}"))
    return rows
