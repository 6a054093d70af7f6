"""One run on several devices: a process for each, all alike, that train one model together (DDP).

Lightning's own ways of starting them suit neither a sweep nor a config: `ddp` executes the command line again, which of
a sweep would begin the sweep again, and `ddp_spawn` pickles the parts and leaves the module's results behind. Here each
process builds the parts from the config, as a single one does, and finds itself in the environment that Lightning
expects of a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from multiprocessing import parent_process
from threading import Thread
from typing import Any

from seedbed.errors import ConfigError
from seedbed.startup.quick_exit import quick_exit

Config = Mapping[str, Any]


def spread(train: Callable[..., Any], config: Config, *rest: Any) -> Any:
    """train(config, *rest) in a process for each device that the config asks for; returns what it does on rank 0.

    In this process if that is one. Raises ConfigError where one of them does, RuntimeError where one fails otherwise:
    the others are ended then, as they are when this process dies.
    """
    count = _devices(config)
    if count == 1:
        return train(_for_strategy(config, "auto"), *rest)
    from lightning.fabric.plugins.environments.lightning import find_free_network_port
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import ProcessException, spawn

    answers = get_context("spawn").SimpleQueue()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "WORLD_SIZE": str(count)}
    try:
        spawn(_rank, (place, answers, train, _for_strategy(config, "ddp"), rest), nprocs=count)
    except ProcessException as error:
        if not answers.empty():
            raise ConfigError(answers.get()) from None
        raise RuntimeError(f"rank {error.error_index}: {str(error).strip().splitlines()[-1]}") from error
    return answers.get()


def _devices(config: Config) -> int:
    if config["trainer"]["devices"] != "auto":
        return config["trainer"]["devices"]
    from seedbed.training.build import build_trainer

    return build_trainer(config, logger=False, callbacks=[]).num_devices


def _for_strategy(config: Config, strategy: str) -> dict[str, Any]:
    """The same with another strategy, and with these processes even where Lightning would see those of a cluster."""
    trainer = {**config["trainer"], "strategy": strategy}
    if strategy == "ddp":
        trainer["plugins"] = {"_target_": "lightning.fabric.plugins.environments.LightningEnvironment"}
    return {**config, "trainer": trainer}


def _rank(rank: int, place: dict[str, str], answers, train: Callable[..., Any], config: Config, rest: tuple) -> None:
    """The life of one process."""
    # torch asks for a SIGINT at the parent's death, which a command started in the background ignores
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {**place, "LOCAL_RANK": str(rank), "NODE_RANK": "0"}  # before Lightning is imported, which asks
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // int(place["WORLD_SIZE"])))
    try:
        result = train(config, *rest)
    except ConfigError as error:
        answers.put(str(error))
        raise
    if rank == 0:
        answers.put(result)
    quick_exit()  # else a thread of gloo may abort it


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
