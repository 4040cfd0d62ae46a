"""From a question to cells: ordered pairs of operators, and cartesian products of any axes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ablation.specs import Cell, InvalidSpec, Run, plain


def pairwise(operators: Iterable[Any], make: Callable[[tuple], Run], *, seeds: Iterable[int]) -> tuple[Cell, ...]:
    """Every ordered pair of operators, and on the diagonal each alone (Chen et al. 2020, Figure 5).

    make(view) gives the run of a view, `(first, second)` or `(first,)`; its seed is set here. Coordinates:
    "first" and "second", the operators' labels, and "seed".
    """
    operators, seeds = tuple(operators), _several(seeds)
    cells = []
    for (i, first), (j, second) in itertools.product(enumerate(operators), repeat=2):
        run = make((first,) if i == j else (first, second))
        for seed in seeds:
            coords = {"first": first.label, "second": second.label, "seed": seed}
            cells.append(Cell(coords=coords, run=run.with_seed(seed)))
    return tuple(cells)


def sweep(make: Callable[..., Run], *, seeds: Iterable[int], **axes: Any) -> tuple[Cell, ...]:
    """The cartesian product of named axes; `make(axis=value, ...)` gives the run, its seed is set here.

    An axis is a mapping from labels to values, or a sequence of values; a value without a `label` stands for
    itself as the coordinate.
    """
    named, seeds = {}, _several(seeds)
    for axis, values in axes.items():
        pairs = list(values.items()) if isinstance(values, Mapping) else [(getattr(v, "label", v), v) for v in values]
        pairs = [(plain(label), plain(value)) for label, value in pairs]
        for label, _ in pairs:
            if not isinstance(label, (str, int, float)):
                raise InvalidSpec(
                    f"sweep.{axis} must have values that are strings, numbers or have a label, but got {label!r}. "
                    f"Give labels: {axis}={{'name': value, ...}}."
                )
        named[axis] = pairs
    cells = []
    for combination in itertools.product(*named.values()):
        run = make(**{axis: value for axis, (_, value) in zip(named, combination, strict=True)})
        coords = {axis: label for axis, (label, _) in zip(named, combination, strict=True)}
        cells += [Cell(coords={**coords, "seed": seed}, run=run.with_seed(seed)) for seed in seeds]
    return tuple(cells)


def _several(seeds: Iterable[int]) -> tuple[int, ...]:
    if not isinstance(seeds, Iterable):
        raise InvalidSpec(f"seeds must be several numbers, but got {seeds!r}. Write seeds=range({seeds}).")
    return tuple(map(plain, seeds))
