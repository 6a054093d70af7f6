"""hydra/launcher=ray: hydra-ray-launcher over clusters that run already, and without shared storage.

Hydra imports this at start-up: nothing heavy here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class RayLauncherConf:
    """scratch: null where all nodes see the sweep's folder; else a folder of each node, from which results are sent.

    ray.init.address: null for a cluster of this machine alone, auto or host:port for one that runs. ray.remote: of a
    job: it has as many threads as num_cpus; max_retries is for jobs whose node died.
    """

    _target_: str = "hydra_plugins.seedbed_ray_launcher.RayLauncher"
    scratch: str | None = None
    ray: dict[str, Any] = field(
        # the plugin would set object_store_memory, which Ray refuses where a cluster runs already
        default_factory=lambda: {
            "init": {"address": None, "object_store_memory": None},
            "remote": {"num_cpus": 1, "max_retries": 3},
        }
    )


try:
    import hydra_plugins.hydra_ray_launcher._config  # noqa: F401  # before ours, which takes the place of its `ray`
except ImportError:
    pass  # the extra `ray` is not installed
else:
    ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayLauncherConf, provider="seedbed")


class RayLauncher(Launcher):
    """Hydra's Ray launcher. Where jobs run in scratch, the files of each come home as soon as it is over.

    The sweep has to be started on a node of the cluster then.
    """

    def __init__(self, ray: DictConfig, scratch: str | None = None):
        self.ray, self.scratch = ray, scratch

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from hydra_plugins._seedbed_ray import inner

        return inner(self).launch(job_overrides, initial_job_idx)
