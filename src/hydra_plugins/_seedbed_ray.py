"""hydra/launcher=ray: Hydra's Ray launcher, whose jobs may run in folders that this machine does not see."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_ray_launcher import ray_launcher
from omegaconf import DictConfig


class RayLauncher(ray_launcher.RayLauncher):
    """scratch: a folder of each node in which the jobs run, or None for the sweep's own.

    From scratch the files of each job come to the sweep's folder as soon as the job is over. The process that starts
    the sweep has to be on a node of the cluster then, as it is without `ray://`.
    """

    def __init__(self, ray: DictConfig, scratch: str | None = None):
        super().__init__(ray)
        self.scratch = scratch

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.home, self.task = Path(config.hydra.sweep.dir).resolve(), task_function
        if self.scratch is not None:
            name = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
            loader = ElsewhereLoader(hydra_context.config_loader, f"{self.scratch}/{self.home.name}-{name}")
            hydra_context = HydraContext(config_loader=loader, callbacks=hydra_context.callbacks)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

        start_ray(self.ray_cfg.init)
        if self.scratch is not None:
            import ray

            self.task_function = SendHome(self.task, self.home, ray.get_runtime_context().get_node_id())
        return super().launch(job_overrides, initial_job_idx)


class ElsewhereLoader:
    """A ConfigLoader whose jobs run in `folder`, each in a sweep's folder of its own there."""

    def __init__(self, loader: ConfigLoader, folder: str):
        self.loader, self.folder = loader, folder

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        config = self.loader.load_sweep_config(master_config, sweep_overrides)
        config.hydra.sweep.dir = f"{self.folder}/{config.hydra.sweep.subdir}"
        return config


class SendHome:
    """`task`, after which each finished job's folder goes to `home` on the node where the sweep was started."""

    def __init__(self, task: TaskFunction, home: Path, node: str):
        self.task, self.home, self.node = task, home, node

    def __call__(self, cfg: DictConfig) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        scratch = Path(HydraConfig.get().sweep.dir)
        here = NodeAffinitySchedulingStrategy(self.node, soft=False)
        receive = ray.remote(write).options(num_cpus=0, scheduling_strategy=here)
        try:
            return self.task(cfg)
        finally:
            for metrics in sorted(scratch.rglob("metrics.json")):
                folder = self.home / metrics.parent.relative_to(scratch)
                ray.get(receive.remote(folder, dict(files(metrics.parent))))
            shutil.rmtree(scratch, ignore_errors=True)


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Of a job's folder (path in it, content); metrics.json comes last, with which a job is over."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: path.name == "metrics.json"):
        yield str(path.relative_to(folder)), path.read_bytes()


def write(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.write_bytes(content)
        os.replace(temporary, path)
