"""One run on several devices: one process per device, all training the same model together (DDP).

Lightning has two ways to start them. `ddp` executes the command line again in each process: in a sweep that would start
the sweep again. `ddp_spawn` pickles the model and the data, and loses what the module has recorded. Here each process
builds its parts from the config, as a run on one device does, and Lightning sees the environment of a cluster.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import parent_process
from threading import Thread
from typing import Any

from seedbed.errors import ConfigError, Interrupted, summary
from seedbed.own_code import OtherProcess, own_error, shown
from seedbed.startup.quick_exit import exit_without_destruction

Config = Mapping[str, Any]


def spread(train: Callable[..., Any], config: Config, *rest: Any) -> Any:
    """Call train(config, *rest) in one process per device and return the result of rank 0.

    A single device is used from this process. A ConfigError of one process is raised here, a mistake in the user's own
    code as OtherProcess; any other failure becomes a RuntimeError. When one process fails or this one dies, the others
    end. A signal to any of them stops all at the same step, with a checkpoint; Interrupted is raised here.
    """
    count = _devices(config)
    if count == 1:
        from lightning.pytorch.utilities import rank_zero_only

        rank_zero_only.rank = 0  # Lightning may have read another rank from the environment when it was imported
        return train(_for_strategy(config, "auto"), *rest)
    from lightning.fabric.plugins.environments.lightning import find_free_network_port
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import ProcessException, spawn

    # it would log that it ends the other processes
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    answers = get_context("spawn").SimpleQueue()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "WORLD_SIZE": str(count)}
    ranks = spawn(_rank, (place, answers, train, _for_strategy(config, "ddp"), rest), nprocs=count, join=False)
    try:
        while not ranks.join():
            pass
    except ProcessException as error:
        if not answers.empty():
            raise answers.get() from None
        raise RuntimeError(f"rank {error.error_index}: {str(error).strip().splitlines()[-1]}") from error
    except (KeyboardInterrupt, Interrupted):
        with suppress(ProcessException):
            _stop(ranks)
        if not answers.empty() and isinstance(end := answers.get(), Interrupted):
            raise end from None
        raise
    if isinstance(result := answers.get(), Interrupted):
        raise result
    return result


def _stop(ranks: Any) -> None:
    """Pass a signal on to all processes and wait for them; another signal to this one ends all at once."""
    for process in ranks.processes:
        process.terminate()
    while not ranks.join():
        pass


def _devices(config: Config) -> int:
    if config["trainer"]["devices"] != "auto":
        return config["trainer"]["devices"]
    from seedbed.training.build import build_trainer

    return build_trainer(config, logger=False, callbacks=[]).num_devices


def _for_strategy(config: Config, strategy: str) -> dict[str, Any]:
    """Return the config with the strategy; for DDP, Lightning uses these processes even on a cluster's node."""
    trainer = {**config["trainer"], "strategy": strategy}
    if strategy == "ddp":
        trainer["plugins"] = {"_target_": "lightning.fabric.plugins.environments.LightningEnvironment"}
    return {**config, "trainer": trainer}


def _rank(rank: int, place: dict[str, str], answers, train: Callable[..., Any], config: Config, rest: tuple) -> None:
    """Train in one of the processes; rank 0 sends back the result."""
    # torch sends a SIGINT when the parent dies; a command that was started in the background ignores it
    Thread(target=_end_with_parent, daemon=True).start()
    # Lightning reads these when it is imported
    os.environ |= {**place, "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // int(place["WORLD_SIZE"])))
    try:
        result = train(config, *rest)
    except Interrupted as end:
        result = end
    except Exception as error:
        if own := own_error(error):
            answers.put(OtherProcess(f"rank {rank}: {summary(own)}", shown(error)))
        elif isinstance(error, ConfigError):
            answers.put(ConfigError(str(error)))
        raise
    if rank == 0:
        answers.put(result)
    exit_without_destruction()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
