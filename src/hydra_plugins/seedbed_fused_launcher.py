"""hydra/launcher=fused: the jobs of a sweep trained as stacks. Hydra imports this at start-up: nothing heavy here."""

# no `from __future__ import annotations`: Hydra executes plugins outside sys.modules, where dataclasses look types up
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class HalvingConf:
    """Of each stack the best 1/factor stay after `first` epochs, of those again after first·factor, …; null: all."""

    factor: int | None = None
    first: int = 1


@dataclass
class FusedLauncherConf:
    """max_stack: members of a stack at most; null: as many as fit in memory. workers: a launcher, or null."""

    _target_: str = "hydra_plugins.seedbed_fused_launcher.FusedLauncher"
    max_stack: int | None = None
    halving: HalvingConf = field(default_factory=HalvingConf)
    workers: Any = None


ConfigStore.instance().store(group="hydra/launcher", name="fused", node=FusedLauncherConf, provider="seedbed")


class FusedLauncher(Launcher):
    """Trains jobs that differ in numbers only as one tensor program; the others one after another.

    With workers, another launcher, each stack is one of its jobs, and so is each job that is in no stack.
    """

    def __init__(self, max_stack: int | None, halving: DictConfig, workers: Launcher | None = None):
        self.max_stack, self.workers = max_stack, workers
        self.halving = dict(halving) if halving.factor else None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.frozen = hydra_context.config_loader  # a FrozenLoader
        self.quick = self.frozen.quick
        self.context, self.task_function, self.config = hydra_context, task_function, config
        if self.workers is not None:
            from hydra_plugins._seedbed_workers import StackTask

            self.workers.setup(hydra_context=hydra_context, task_function=StackTask(task_function), config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        from seedbed.startup.quick_import import import_torch

        import_torch()
        from hydra_plugins._seedbed_launch import Launch

        return Launch(self, [(initial_job_idx + i, words) for i, words in enumerate(job_overrides)]).run()
