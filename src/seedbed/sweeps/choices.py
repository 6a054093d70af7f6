"""The choices of hydra/launcher and hydra/sweeper.

They are stored in Hydra's ConfigStore and not in files of conf/, because Hydra, or a plugin that happens to be
installed, has some of the names too (`basic`, `joblib`, `ray`): a file of such a name would be checked against the
other's schema. They are stored by each command, for its own process: other Hydra apps of the environment see nothing
of them.
"""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins

from seedbed.sweeps.folders import register_resolvers
from seedbed.sweeps.hydra_versions import store

SLURM = (  # options of submitit.AutoExecutor
    "timeout_min cpus_per_task gpus_per_node tasks_per_node mem_gb nodes name stderr_to_stdout partition qos comment "
    "constraint exclude gres cpus_per_gpu gpus_per_task mem_per_gpu mem_per_cpu account signal_delay_s "
    "additional_parameters array_parallelism setup"
)
STACKS = {
    "max_stack": None,  # members of a stack; null: as many as fit in memory
    # keep the best 1/factor of a stack's members after `first` epochs, again after first·factor, …; null: keep all
    "halving": {"factor": None, "first": 1},
}


def launcher(workers: str | None = None, **options: Any) -> dict[str, Any]:
    """Return a launcher's node. Its `workers` take each option from hydra.launcher.<option>, unless set on them."""
    node = {"_target_": "hydra_plugins.seedbed.SeedbedLauncher", "_recursive_": False, **options}
    if workers:
        node["workers"] = {"_target_": f"seedbed.sweeps.workers.{workers}", **_references(options, "hydra.launcher")}
    return node


def fused(node: dict[str, Any], max_stack: int | None = None) -> dict[str, Any]:
    """Return the launcher's node with stacks: jobs that differ in numbers only train as one tensor program."""
    stacks = {"_target_": "seedbed.fused.sweep.FusedSweep", "_partial_": True, **_references(STACKS, "hydra.launcher")}
    return {**node, **STACKS, "max_stack": max_stack, "stacks": stacks}


def _references(options: dict[str, Any], path: str) -> dict[str, Any]:
    return {
        name: _references(value, f"{path}.{name}") if isinstance(value, dict) else f"${{{path}.{name}}}"
        for name, value in options.items()
    }


BASIC = launcher()
# n_jobs: null for one for each of the GPUs, or else one for each core; gpus: null if each worker may see all
PROCESSES = launcher("processes.Processes", n_jobs=None, gpus=None)
SLURM_ARRAY = launcher(
    "slurm.Slurm",
    cluster="slurm",
    **{"folder": "${hydra.sweep.dir}/.submitit/%j", "timeout_min": 60} | dict.fromkeys(SLURM.split()[1:]),
)
RAY = launcher(
    "ray.Ray",
    # address: null for a cluster of this machine alone; auto or host:port for one that runs
    ray={"init": {"address": None}, "remote": {"num_cpus": 1, "max_retries": 3}},
    scratch=None,  # null where all nodes see the sweep's folder; else a folder of each node
)
LAUNCHERS = {
    "basic": BASIC,
    "fused": fused(BASIC),
    "processes": PROCESSES,
    "slurm": SLURM_ARRAY,
    "ray": RAY,
    "fused_processes": fused(PROCESSES, 100),
    "fused_slurm": fused(SLURM_ARRAY, 100),
    "fused_ray": fused(RAY, 100),
    # older names
    "joblib": PROCESSES,
    "submitit_slurm": SLURM_ARRAY,
    "submitit_local": {**SLURM_ARRAY, "cluster": "local"},
    "fused_joblib": fused(PROCESSES, 100),
}
SWEEPERS: dict[str, dict[str, Any]] = {
    "basic": {"_target_": "hydra_plugins.seedbed.SeedbedSweeper", "max_batch_size": None, "params": None},
    "optuna": {
        "_target_": "hydra_plugins.seedbed.OptunaSweeper",
        "_recursive_": False,
        "defaults": [{"sampler": "tpe"}, "_self_"],
        "n_trials": 20,
        "n_jobs": 2,  # trials of a batch
        "max_failure_rate": 1.0,  # of a batch: a larger share of failures stops the search
        "storage": None,  # a database, as sqlite:///search.db, whose study several sweeps continue
        "study_name": None,
        "params": None,
    },
}
SAMPLERS: dict[str, dict[str, Any]] = {  # Optuna's; seed: null takes the config's seed
    "tpe": {"_target_": "optuna.samplers.TPESampler", "seed": None, "n_startup_trials": 10, "constant_liar": True},
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": None},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "seed": None, "n_startup_trials": 1},
}


def register_choices() -> None:
    """Store the choices, in the place of others of the same name, and the resolvers of folders."""
    Plugins.instance()  # imports the installed plugins, which store theirs
    for group, choices in (("launcher", LAUNCHERS), ("sweeper", SWEEPERS), ("sweeper/sampler", SAMPLERS)):
        for name, node in choices.items():
            store(f"hydra/{group}", name, node)
    register_resolvers()
