"""The classes that Hydra must find in hydra_plugins. It imports this file at every start: nothing heavy here."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from seedbed.errors import Refusal


class SeedbedLauncher(Launcher):
    """Every choice of hydra/launcher (seedbed.sweeps.choices); the work is done by seedbed.sweeps.launcher.

    workers, stacks: nodes of the classes that run jobs elsewhere and train stacks; they refer to the other options.
    """

    def __init__(self, workers: DictConfig | None = None, stacks: DictConfig | None = None, **options: Any):
        # a key that the command adds to a group of options, as +ray.remote.num_gpus=1, is one of the workers' too
        for name, group in options.items():
            if workers is not None and OmegaConf.is_dict(workers.get(name)):
                workers = OmegaConf.merge(workers, {name: OmegaConf.merge(group, workers[name])})
        self.nodes = [node and OmegaConf.to_container(node, resolve=True) for node in (workers, stacks)]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from seedbed.sweeps.launcher import SweepLauncher

        self.launcher = SweepLauncher(*self.nodes)
        self.launcher.setup(hydra_context, task_function, config)

    @property
    def stopped(self) -> bool:
        """True if a job failed under on_error=stop: no other job is run."""
        return self.launcher.stopped

    def close(self) -> None:
        """Release the sweep's folder."""
        self.launcher.manifest.close()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return self.launcher.launch(job_overrides, initial_job_idx)


class SeedbedSweeper(BasicSweeper):
    """hydra/sweeper=basic: every combination of the values."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave it to the launcher, which composes all jobs of a batch before the first one starts."""

    def sweep(self, arguments: Sequence[str]) -> Any:
        try:
            return super().sweep(arguments)
        finally:
            self.launcher.close()


class OptunaSweeper(Sweeper):
    """hydra/sweeper=optuna: a search (seedbed.sweeps.search), with the options of hydra.sweeper."""

    def __init__(self, **options: Any):
        """Hydra gives the options; the search reads them in the config."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        try:
            from seedbed.sweeps.search import Search
        except ImportError:
            raise Refusal('hydra/sweeper=optuna needs Optuna 4 or later: pip install "seedbed[optuna]"') from None
        self.search = Search(hydra_context, task_function, config)

    def sweep(self, arguments: Sequence[str]) -> None:
        self.search.run(arguments)
