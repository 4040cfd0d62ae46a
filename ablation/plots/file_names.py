"""The files of the figures' folder, by their names: NAME-SCALE.csv, and NAME-SCALE-KIND beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Artifact:
    """name: of the experiment; scale; kind: "" for the table itself, "curves" and the like for a table beside it,
    "views", or the name of a figure."""

    name: str
    scale: str
    kind: str = ""

    @classmethod
    def of(cls, stem: str) -> Artifact | None:
        """The artifact of a file name without its ending; None if it belongs to no experiment at a known scale."""
        from ablation.study.scales import SCALES  # here, since it imports torch, which figures do not need

        scales = "|".join(sorted(SCALES, key=len, reverse=True))
        found = re.fullmatch(rf"(?P<name>.+)-(?P<scale>{scales})(?:-(?P<kind>.+))?", stem)
        return cls(found["name"], found["scale"], found["kind"] or "") if found else None

    @property
    def stem(self) -> str:
        return "-".join(filter(None, (self.name, self.scale, self.kind)))


def tables_in(folder: Path) -> dict[str, Path]:
    """The tables of experiments in a folder by their stems, without the tables beside them."""
    found = {csv.stem: Artifact.of(csv.stem) for csv in sorted(folder.glob("*.csv"))}
    return {stem: folder / f"{stem}.csv" for stem, artifact in found.items() if artifact and not artifact.kind}


def table_beside(stem: str, tables: Iterable[str]) -> str | None:
    """The stem of the table to which a file with this stem belongs: the longest one that is its beginning."""
    return max((table for table in tables if f"{stem}-".startswith(f"{table}-")), key=len, default=None)
