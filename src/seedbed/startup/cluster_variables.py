"""Variables by which a cluster tells a process its rank, which Lightning and torch would obey."""

from __future__ import annotations

import os

TORCHRUN = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK NODE_RANK MASTER_ADDR MASTER_PORT"
SLURM = "SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_NTASKS SLURM_NTASKS_PER_NODE SLURM_STEP_NUM_TASKS"
LSF = "JSM_NAMESPACE_RANK JSM_NAMESPACE_LOCAL_RANK JSM_NAMESPACE_SIZE LSB_DJOB_RANKFILE"
MPI = "OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_SIZE PMI_RANK PMI_SIZE PMIX_RANK"
VARIABLES = f"TORCHELASTIC_RUN_ID {TORCHRUN} {SLURM} {LSF} {MPI}".split()  # names in a row read better


def forget_cluster() -> None:
    """Remove the variables from this process, before Lightning is imported.

    A run is a process of its own: rank 0 of 1, or the parent of a process for each device (training/processes.py).
    """
    for name in VARIABLES:
        os.environ.pop(name, None)
