"""From an experiment to its missing runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ablation.execution.executor import Job, Work
from ablation.execution.store import Identified, Results, Standing
from ablation.spec import DataError, InvalidSpec, Metric, Run, check_fit, contents_read_once, is_ours
from ablation.spec.metric import SPLITS
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


@dataclass
class DataChecks:
    """Checks of jobs against their images, before any of them starts. Remembers what it has read: a search brings its
    jobs one by one."""

    results: Results
    facts: dict[Any, tuple[int, bool]] = field(default_factory=dict)  # channels, and whether labelled, by data set
    steps: dict[tuple, int] = field(default_factory=dict)  # by data set and optimization
    tuned: set[tuple] = field(default_factory=set)  # evaluations that train whose batch was checked, with their images
    compared: set[tuple] = field(default_factory=set)  # data sets with the ids of a run

    def check(self, jobs: Sequence[Job], cells: Sequence[Identified]) -> int:
        """Reads every data set once; raises DataError or InvalidSpec with the cure. Returns the number of training
        steps of all jobs. cells: their finished runs must have had the same images."""
        with contents_read_once():
            total = sum(map(self._check_job, jobs))
            for dataset in dict.fromkeys(dataset for job in jobs for dataset in _datasets(job.work)):
                self._check_same_data(dataset, cells)
        return total

    def _check_job(self, job: Job) -> int:
        """Returns the number of its training steps."""
        from ablation.data import loaded
        from ablation.training.loop import check_batch

        training, optimization = job.work.training, job.work.training.optimization
        for dataset in _datasets(job.work):
            if dataset not in self.facts:
                data = loaded(dataset, "cpu")
                _warn_of_classes(dataset, data)
                self.facts[dataset] = data.channels, data.labelled
        check_fit(training, job.work.evaluations, self.facts.__getitem__)
        key = (training.dataset, optimization)
        if key not in self.steps:
            data = loaded(training.dataset, "cpu")
            count = len(data.train) + (len(data.validation) if optimization.with_validation else 0)
            check_batch(training, count)
            self.steps[key] = optimization.epochs * (count // optimization.batch)
        for evaluation in job.work.evaluations:
            dataset = getattr(evaluation, "dataset", None) or training.dataset
            if hasattr(evaluation, "training") and (evaluation, dataset) not in self.tuned:
                self.tuned.add((evaluation, dataset))
                labelled = evaluation.labelled_part(loaded(dataset, "cpu"))
                check_batch(evaluation.training(training, training.seed), len(labelled.train), evaluation.label)
        return self.steps[key] if job.weights is None and training.method.trains else 0

    def _check_same_data(self, dataset: Any, cells: Sequence[Identified]) -> None:
        """Raises DataError if a user's data set loads other images or labels than those of the finished runs: without a
        `fingerprint` the id does not depend on its files."""
        from ablation.data import loaded

        if is_ours(type(dataset)):
            return
        using = {(dataset, c.training_id, c.evaluation_ids): c for c in cells if dataset in _datasets(c.cell.run)}
        for key, item in using.items():
            document = None if key in self.compared else self.results.training(item.training_id)[0]
            self.compared.add(key)
            if document:
                data = loaded(dataset, "cpu")
                if item.cell.run.training.dataset == dataset:
                    _check_same(dataset, data, document, self.results)
                _check_same_evaluated(dataset, data, item, self.results)


def check_top5(where: str, column: str, runs: Iterable[Run | Work]) -> None:
    """Raises InvalidSpec if `column` is a top-5 accuracy that all of these runs would measure on five classes or
    fewer."""
    from ablation.data import loaded

    if Metric.of(column).quantity != "top5":
        return
    counts: dict[Any, int] = {}
    for run in runs:
        for evaluation in run.evaluations:
            dataset = getattr(evaluation, "dataset", None) or run.training.dataset
            if is_ours(type(evaluation)) and column in evaluation.columns() and dataset not in counts:
                counts[dataset] = len(loaded(dataset, "cpu").classes)
                if counts[dataset] > 5:
                    return
    for dataset, count in counts.items():
        raise InvalidSpec(
            f"{where} must be a column of the runs, but got {column!r}, and {dataset.label} has {count} classes, too "
            f"few for top-5. Write {column.replace('_top5_', '_top1_')!r}."
        )


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


def _check_same(dataset: Any, data: Any, document: dict, results: Results) -> None:
    """document: of a training; or of an evaluation on these images, which holds their numbers and classes."""
    now = {
        "numbers of images": {split: len(part) for split, part in data.splits().items()},
        "classes": list(data.classes),
        "mean": [round(value, 5) for value in data.mean.tolist()],
        "standard deviation": [round(value, 5) for value in data.std.tolist()],
    }
    rounded = {name: [round(value, 5) for value in each] for name, each in document.get("normalization", {}).items()}
    then = [document.get("images"), document.get("classes"), rounded.get("mean"), rounded.get("std")]
    for (name, value), before in zip(now.items(), then, strict=True):
        if before not in (None, value):
            raise _changed(dataset, results, f"the {name} are {value} and were {before}")


def _check_same_evaluated(dataset: Any, data: Any, item: Identified, results: Results) -> None:
    """Against the finished evaluations on these images; the earlier labels lie beside their predictions."""
    import numpy as np

    labels = {split: part.labels.numpy() for split, part in data.splits().items()} if data.labelled else {}
    for evaluation, evaluation_id in zip(item.cell.run.evaluations, item.evaluation_ids, strict=True):
        if (getattr(evaluation, "dataset", None) or item.cell.run.training.dataset) != dataset:
            continue
        content, _ = results.content(item.training_id, f"{evaluation_id}.npz", evaluation_id)
        if content is None:
            continue
        _check_same(dataset, data, results.evaluation(item.training_id, evaluation_id)[0], results)
        with np.load(io.BytesIO(content)) as found:
            then = {split: found[f"{split}_labels"] for split in SPLITS if f"{split}_labels" in found}
        if labels.keys() != then.keys():  # a document of an earlier version states no classes
            raise _changed(dataset, results, f"it {'has' if labels else 'lacks'} labels now")
        for split, now in labels.items():
            if len(now) != len(then[split]):
                raise _changed(dataset, results, f"{split} has {len(now):,} images and had {len(then[split]):,}")
            if apart := int((now != then[split]).sum()):
                raise _changed(dataset, results, f"{apart:,} of the {len(now):,} labels of {split} differ")


def _changed(dataset: Any, results: Results, difference: str) -> DataError:
    return DataError(
        f"{type(dataset).__name__} ({dataset.label!r}): load() must return the same data as for the finished runs of "
        f"{results.root}, but {difference}. Add `def fingerprint(self) -> str` with a digest of its files, so that "
        "other images or labels make other runs; or name another folder: --results."
    )
