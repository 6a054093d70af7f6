"""The configs with which a sweep began, for jobs that start hours later, in other processes or on other machines."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override, open_dict, read_write

from hydra_plugins._seedbed_compose import QuickJob, QuickLoader

WORD = "hydra.frozen="


class FrozenLoader:
    """The ConfigLoader of a launcher: a job's overrides end in a word that carries its config, and that is the config.

    Else a file of conf/ that is edited while a sweep runs would change its later jobs (Hydra #1945). Launchers show no
    word that begins with `hydra.`. control: keys of a sweep as a whole, with their values.
    """

    def __init__(self, quick: QuickLoader, control: dict[str, Any]) -> None:
        self.loader, self.quick, self.control = quick.loader, quick, control
        self._nodes: dict[str, DictConfig] = {}  # {"hydra": …} as Hydra composed it; nearly always one for all jobs

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # asked of a copy that is being unpickled
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "quick": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a worker, where torch is not imported yet: threads that wait for each other cost more than they bring."""
        os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
        vars(self).update(state)

    def word(self, job: QuickJob, subdir: str, **more: str) -> str:
        """The word for a job that runs in `subdir` of the sweep's folder; `more` goes into its config."""
        config, of_hydra, node = job.unresolved()
        if node not in self._nodes:
            with open_dict(job.template.cfg):
                self._nodes[node] = OmegaConf.masked_copy(job.template.cfg, "hydra")
        job_node = {"num": job.num, "id": str(job.num), "override_dirname": of_hydra["job"]["override_dirname"]}
        changes = {
            "job": job_node,
            "overrides": {"task": of_hydra["overrides"]["task"]},
            "runtime": {"choices": job.choices},
            "sweep": {"dir": os.path.abspath(of_hydra["sweep"]["dir"]), "subdir": subdir},  # a worker may be elsewhere
        }
        return WORD + json.dumps([node, config | self.control | more, changes])

    @staticmethod
    def without(words: Sequence[str]) -> list[str]:
        return [word for word in words if not word.startswith(WORD)]

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        if not sweep_overrides or not sweep_overrides[-1].startswith(WORD):  # one that could not be composed
            return self.loader.load_sweep_config(master_config, list(sweep_overrides))
        node, config, changes = json.loads(sweep_overrides[-1].removeprefix(WORD))
        cfg = copy.deepcopy(self._nodes[node])
        with read_write(cfg), open_dict(cfg), flag_override(cfg, "struct", False):
            cfg.hydra.job.merge_with(changes["job"])
            cfg.hydra.overrides.task = changes["overrides"]["task"]
            cfg.hydra.runtime.choices = changes["runtime"]["choices"]
            cfg.hydra.sweep.merge_with(changes["sweep"])
            cfg.merge_with(config)
        OmegaConf.set_struct(cfg, True)
        OmegaConf.copy_cache(from_config=master_config, to_config=cfg)
        return cfg
