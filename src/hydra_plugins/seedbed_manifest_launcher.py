"""Around any launcher: a sweep that survives. Hydra imports this at start-up: nothing heavy here."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ManifestLauncher(Launcher):
    """Writes a batch of jobs down with their configs, then has `launcher` run those that are not done.

    Preflight puts it around the launcher that was chosen. Ends the process with 2 where the sweep is another one than
    its folder's, with 1 where on_error=stop stopped it.
    """

    def __init__(self, launcher: Any, control: Any, command: Any):
        self.chosen, self.control, self.command = launcher, control, command

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra_plugins._seedbed_resume import Sweep

        self.config, self.sweep = config, Sweep(self, hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return self.sweep.launch(job_overrides, initial_job_idx)
