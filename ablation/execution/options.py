"""The options of an executor; those of the commands inherit from them."""

from __future__ import annotations

from dataclasses import dataclass

from ablation.execution.executor import JobOptions
from ablation.spec import InvalidSpec
from ablation.training.checkpoint import folder_of


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """As on the command line (`ablation run --help`). checkpoint_every: minutes."""

    results: str = "results"
    device: str | None = None
    workers: int | None = None
    ray: str | None = None
    gpus_per_run: float | None = None
    checkpoints: str | None = None
    checkpoint_every: float = 5.0
    keep_checkpoints: bool = False

    def check(self) -> None:
        """Raises InvalidSpec for options that exclude each other, before anything is read."""
        from ablation.execution.devices import choose_devices, choose_workers  # here, since they need torch

        if self.ray and self.device:
            raise InvalidSpec("--device names devices of this machine, --ray those of a cluster. Write one of them.")
        if self.gpus_per_run is not None and not self.ray:
            raise InvalidSpec("--gpus-per-run is the share of a Ray task. Name a cluster with --ray, or omit it.")
        if not self.checkpoint_every > 0:
            raise InvalidSpec(f"--checkpoint-every must be above 0 minutes, but got {self.checkpoint_every}.")
        choose_workers(self.workers, ["cpu"])
        if self.device:
            choose_devices(self.device)

    def jobs(self, device: str, *, compiled: bool = False) -> JobOptions:
        """The options of jobs. On a cluster, whose nodes do not see this machine's folders, checkpoints need
        --checkpoints."""
        folder = None if self.ray and not self.checkpoints else folder_of(self.checkpoints, self.results)
        return JobOptions(device, compiled, folder, 60 * self.checkpoint_every, self.keep_checkpoints)
