"""Stacks, and the jobs in none of them, as jobs of another launcher: processes, Slurm's arrays, Ray's tasks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.types import TaskFunction
from omegaconf import DictConfig

from hydra_plugins._seedbed_compose import QuickJob
from hydra_plugins._seedbed_resume import Numbers

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher

    from hydra_plugins._seedbed_frozen import FrozenLoader
    from seedbed.fused.plan import StackPlan
    from seedbed.fused.sweep import FusedSweep


class StackTask:
    """What a worker does with a job: train the stack that its config carries, or else what `train_job` does."""

    def __init__(self, train_job: TaskFunction):
        self.train_job = train_job

    def __call__(self, cfg: DictConfig) -> Any:
        if "stack" not in cfg:
            return self.train_job(cfg)
        from seedbed.startup.quick_import import import_torch

        import_torch()
        from seedbed.fused.plan import StackPlan
        from seedbed.fused.sweep import FusedJob, FusedSweep
        from seedbed.sweeps.job import only_one
        from seedbed.sweeps.manifest import result

        hydra, stack = HydraConfig.get(), json.loads(cfg.stack)
        root, folder = Path(hydra.sweep.dir), Path(hydra.runtime.output_dir)
        jobs = {n: FusedJob(config, root / path, hparams) for n, config, path, hparams in stack["jobs"]}
        with only_one(folder):
            if any(result(job.folder) is None for job in jobs.values()):
                sweep = FusedSweep(jobs, folder.parent, None, stack["halving"])
                list(sweep.train(StackPlan(list(jobs), stack["groups"])))
        return None


def hand_out(
    workers: Launcher,
    frozen: FrozenLoader,
    stacks: Sequence[tuple[StackPlan, QuickJob]],
    sweep: FusedSweep,
    alone: Mapping[int, Sequence[str]],
    folder: Path,
) -> tuple[list[JobReturn], list[JobReturn]]:
    """What came of the stacks, each with one of its jobs that is to run, and of the jobs alone: number → overrides."""
    words, numbers = [], []
    for stack, job in stacks:
        each = [(n, sweep.jobs[n]) for n in stack.jobs]
        jobs = [(n, member.config, os.path.relpath(member.folder, folder), member.hparams) for n, member in each]
        carried = json.dumps({"groups": stack.groups, "jobs": jobs, "halving": sweep.halving})
        name = f".stacks/stack-{stack.jobs[0]}-{len(stack.jobs)}"
        words.append([f"{len(stack.jobs)} runs as one", frozen.word(job, name, stack=carried)])
        numbers.append(stack.jobs[0])
    words += [list(line) for line in alone.values()]
    numbers += alone
    if not words:
        return [], []
    found = list(workers.launch(words, initial_job_idx=Numbers(numbers)))
    return found[: len(stacks)], found[len(stacks) :]
