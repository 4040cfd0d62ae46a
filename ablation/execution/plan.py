"""From an experiment to its missing runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablation.execution.executor import Job, Work
from ablation.execution.store import Identified, Results, Standing
from ablation.spec import DataError, Run, check_fit, is_ours
from ablation.system.terminal import printable


@dataclass(frozen=True)
class Plan:
    """The missing jobs of an experiment, the state of each cell on disk, and a summary."""

    cells: list[Identified]
    jobs: list[Job]
    states: list[str]
    standing: Standing
    complaints: list[str]  # on invalid files on disk

    def of_shard(self, index: int, count: int) -> Plan:
        """Only the jobs whose training id modulo `count` is `index`."""
        return replace(self, jobs=[job for job in self.jobs if int(job.training_id, 16) % count == index])


def make_plan(cells: list[Identified], results: Results) -> Plan:
    """One job per training that is missing or lacks evaluations; cells with the same training share it."""
    jobs: dict[str, Job] = {}
    states: list[str] = []
    standing = Standing()
    complaints: list[str] = []
    looked = [(item, results.look(item.training_id, item.evaluation_ids, whole=True)) for item in cells]
    unfinished = {item.training_id for item, found in looked if found.state != "finished"}
    for item, found in looked:
        states.append(found.state)
        standing.add(item.training_id, found)
        complaints += found.wrong
        if item.training_id not in unfinished:
            continue
        weights = results.weights(item.training_id, found.training) if found.training else None
        if found.state == "finished" and weights is not None:
            continue  # without weights another cell trains again, and this cell's evaluations join that job
        if found.training and weights is None:
            complaints.append(f"the weights of {item.training_id} are missing or damaged, so it is trained again")
        wanted = item.evaluation_ids if weights is None else tuple(found.missing)
        work = Work(item.cell.run.training, ())
        if item.training_id in jobs:  # another cell of the same training
            earlier = jobs[item.training_id]
            wanted, work = tuple(dict.fromkeys(earlier.evaluation_ids + wanted)), earlier.work
        jobs[item.training_id] = Job(item.training_id, wanted, item.cell.name, work.and_of(item.cell.run), weights)
    return Plan(cells, list(jobs.values()), states, standing, list(dict.fromkeys(complaints)))


def check_data(jobs: list[Job]) -> int:
    """Reads every data set once, before any training starts; raises DataError with the cure.

    Returns the number of training steps of all jobs.
    """
    from ablation.data import loaded
    from ablation.training.loop import check_batch

    steps: dict[tuple, int] = {}  # by data set and optimization
    facts: dict[Any, tuple[int, bool]] = {}  # channels, and whether there are labels, by data set
    tuned: set[tuple] = set()  # evaluations that train whose batch was checked, with their images
    total = 0
    for job in jobs:
        training, optimization = job.work.training, job.work.training.optimization
        for dataset in _datasets(job.work):
            if dataset not in facts:
                data = loaded(dataset, "cpu")
                _warn_of_classes(dataset, data)
                facts[dataset] = data.channels, data.labelled
        check_fit(training, job.work.evaluations, facts.__getitem__)
        key = (training.dataset, optimization)
        if key not in steps:
            data = loaded(training.dataset, "cpu")
            count = len(data.train) + (len(data.validation) if optimization.with_validation else 0)
            check_batch(training, count)
            steps[key] = optimization.epochs * (count // optimization.batch)
        for evaluation in job.work.evaluations:
            dataset = getattr(evaluation, "dataset", None) or training.dataset
            if hasattr(evaluation, "training") and (evaluation, dataset) not in tuned:
                tuned.add((evaluation, dataset))
                labelled = evaluation.labelled_part(loaded(dataset, "cpu"))
                check_batch(evaluation.training(training, training.seed), len(labelled.train), evaluation.label)
        total += steps[key] if job.weights is None and training.method.trains else 0
    return total


def _datasets(work: Work | Run) -> list[Any]:
    """The data sets of a training and of its evaluations."""
    own = [getattr(evaluation, "dataset", None) for evaluation in work.evaluations]
    return list(dict.fromkeys([work.training.dataset, *(each for each in own if each is not None)]))


CLASSES = 8  # most classes to print


def _warn_of_classes(dataset: Any, data: Any) -> None:
    """Prints the numbers of images and the classes of a user's data set, so that the user notices folders that
    were wrongly read as classes."""
    generated = is_ours(type(dataset)) and not hasattr(dataset, "fingerprint")
    if generated or getattr(dataset, "images", None) is not None:
        return
    counts = [f"{len(part):,} {split}" for split, part in data.splits().items()]
    shown = ", ".join(data.classes[:CLASSES])
    more = f" and {len(data.classes) - CLASSES:,} more" if len(data.classes) > CLASSES else ""
    classes = f"of {len(data.classes):,} classes: {printable(shown)}{more}" if data.labelled else "without labels"
    print(f"ablation: {dataset.label}: {', '.join(counts)} images {classes}", file=sys.stderr)


def check_same_data(jobs: Sequence[Job], cells: Sequence[Identified], results: Results) -> None:
    """Raises DataError if a user's data set loads other images or labels than those of the finished trainings: without
    a `fingerprint` the id does not depend on its files."""
    from ablation.data import loaded

    for dataset in dict.fromkeys(dataset for job in jobs for dataset in _datasets(job.work)):
        using = {item.training_id: item for item in cells if dataset in _datasets(item.cell.run)}
        finished = {} if is_ours(type(dataset)) else {each: results.training(each)[0] for each in sorted(using)}
        if any(finished.values()):
            data = loaded(dataset, "cpu")
            labels = {split: part.labels.tolist() for split, part in data.splits().items()} if data.labelled else {}
            for training_id, document in finished.items():
                if document and using[training_id].cell.run.training.dataset == dataset:
                    _check_same(dataset, data, document, results)
                if document:
                    _check_same_labels(dataset, labels, using[training_id], results)


def _check_same(dataset: Any, data: Any, document: dict, results: Results) -> None:
    now = {
        "numbers of images": {split: len(part) for split, part in data.splits().items()},
        "classes": list(data.classes),
        "mean": [round(value, 5) for value in data.mean.tolist()],
        "standard deviation": [round(value, 5) for value in data.std.tolist()],
    }
    rounded = {name: [round(value, 5) for value in each] for name, each in document["normalization"].items()}
    then = dict(zip(now, [document["images"], document["classes"], rounded["mean"], rounded["std"]], strict=True))
    changed = [name for name in now if now[name] != then[name]]
    if changed:
        raise _changed(dataset, results, f"the {changed[0]} are {now[changed[0]]} and were {then[changed[0]]}")


def _check_same_labels(dataset: Any, labels: Mapping[str, list[int]], item: Identified, results: Results) -> None:
    """labels: the current labels by split. The earlier ones lie beside the predictions of an evaluation."""
    import numpy as np

    for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
        if (getattr(evaluation, "dataset", None) or item.cell.run.training.dataset) != dataset:
            continue
        content, _ = results.content(item.training_id, f"{evaluation_id}.npz", evaluation_id)
        if content is None:
            continue
        with np.load(io.BytesIO(content)) as found:
            then = {split: found[f"{split}_labels"].tolist() for split in labels}
        for split, now in labels.items():
            if len(now) != len(then[split]):
                raise _changed(dataset, results, f"{split} has {len(now):,} images and had {len(then[split]):,}")
            if apart := sum(one != other for one, other in zip(now, then[split], strict=True)):
                raise _changed(dataset, results, f"{apart:,} of the {len(now):,} labels of {split} differ")
        return


def _changed(dataset: Any, results: Results, difference: str) -> DataError:
    return DataError(
        f"{type(dataset).__name__} ({dataset.label!r}): load() must return the same data as for the finished runs of "
        f"{results.root}, but {difference}. Add `def fingerprint(self) -> str` with a digest of its files, so that "
        "other images or labels make other runs; or name another folder: --results."
    )
