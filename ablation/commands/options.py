"""The options of the commands that compute. cli.py parses them and has their help texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablation.execution.options import ExecutionOptions


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(ExecutionOptions):
    """file: a name or a path, of an experiment or a search."""

    file: str
    scale: str = "tiny"
    data: str | None = None
    precision: str | None = None
    figures: Path = Path("figures")
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class RunOptions(ComputeOptions):
    only: str | None = None
    in_full: bool = False
    part: tuple[int, int] = (0, 1)
    shard: tuple[int, int] = (0, 1)

    @property
    def draws(self) -> bool:
        """Whether tables and figures are written; --only and --shard print the rows of their cells."""
        return not self.only and self.shard == (0, 1)


@dataclass(frozen=True, kw_only=True)
class SearchOptions(ComputeOptions):
    """storage: its address; study: the prefix of the studies' names; trials: the budget of each study."""

    storage: str | None = None
    study: str | None = None
    sampler: str = "tpe"
    trials: int | None = None
    trials_only: bool = False
    dashboard: bool = False
    port: int = 8080


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    results: str = "results"
    checkpoints: str | None = None
    cost: bool = False
