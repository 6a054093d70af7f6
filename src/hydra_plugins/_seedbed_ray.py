"""Jobs that run in folders of their nodes, and whose files come to the sweep's folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray
from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher as HydraRayLauncher
from omegaconf import DictConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from seedbed.training.hparams import NAME as KINDS

if TYPE_CHECKING:
    from hydra_plugins.seedbed_ray_launcher import RayLauncher


def inner(outer: RayLauncher) -> Launcher:
    """hydra-ray-launcher's, connected to the cluster, for jobs that run where `outer` says."""
    context, task = outer.context, outer.task_function
    if outer.scratch is not None:
        start_ray(outer.ray.init)
        home = Path(outer.config.hydra.sweep.dir).resolve()
        loader = Elsewhere(context.config_loader, outer.scratch, home)
        context = HydraContext(config_loader=loader, callbacks=context.callbacks)
        task = SendHome(task, home, ray.get_runtime_context().get_node_id())
    launcher = HydraRayLauncher(outer.ray)
    launcher.setup(hydra_context=context, task_function=task, config=outer.config)
    return launcher


class Elsewhere:
    """A ConfigLoader whose jobs have, each, a sweep's folder of its own in `scratch`; `home` is the real one."""

    def __init__(self, loader: ConfigLoader, scratch: str, home: Path):
        digest = hashlib.sha256(str(home).encode()).hexdigest()[:16]
        self.loader, self.folder = loader, os.path.join(os.path.abspath(scratch), f"{home.name}-{digest}")

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        config = self.loader.load_sweep_config(master_config, sweep_overrides)
        config.hydra.sweep.dir = os.path.join(self.folder, config.hydra.sweep.subdir)
        return config


class SendHome:
    """`task`, after which the folders of the jobs that it has finished go to `home` on `node`, the driver's."""

    def __init__(self, task: TaskFunction, home: Path, node: str):
        self.task, self.home, self.node = task, home, node
        self.kinds = (home / KINDS).read_bytes()  # which each job looks for in its sweep's folder

    def __call__(self, cfg: DictConfig) -> Any:
        scratch = Path(HydraConfig.get().sweep.dir)
        (scratch / KINDS).write_bytes(self.kinds)
        try:
            return self.task(cfg)
        finally:
            for metrics in sorted(scratch.rglob("metrics.json")):
                self._send(metrics.parent, self.home / metrics.parent.relative_to(scratch))
            shutil.rmtree(scratch, ignore_errors=True)

    def _send(self, folder: Path, target: Path) -> None:
        there = NodeAffinitySchedulingStrategy(self.node, soft=False)
        ray.get(ray.remote(write).options(num_cpus=0, scheduling_strategy=there).remote(target, dict(files(folder))))


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(path in the folder, content) of each file; metrics.json comes last, with which a job is over."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: path.name == "metrics.json"):
        yield str(path.relative_to(folder)), path.read_bytes()


def write(folder: Path, contents: dict[str, bytes]) -> None:
    for events in folder.glob("events.out.tfevents.*"):  # of a try that failed
        events.unlink()
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.write_bytes(content)
        os.replace(temporary, path)
