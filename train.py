"""Train one model on one data set.

python train.py                                     MLP on MNIST's 3s and 7s: 0.982 after about two seconds of training
python train.py model=linear optim.lr=1
python train.py -m optim.lr=0.01,0.1,1 'seed=range(0,5)'
tensorboard --logdir outputs
"""

import os
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # during the slow imports a signal ends the process at once; `command` then handles it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))

import logging
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seedbed.errors import ConfigError, Refusal, unwritten
from seedbed.own_code import full_traceback, own_error, shown
from seedbed.startup.command import command
from seedbed.startup.driven import is_debugged
from seedbed.task import train, without_room

log = logging.getLogger("seedbed")


@command("conf", "config")
def main(cfg: DictConfig) -> float | None:
    """Train the run that the config describes; return the metric that a sweeper sees.

    Exit codes of a single run: 0 completed or diverged, 1 failed, 2 refused. The launcher of a sweep gets the error.
    """
    try:
        return train(cfg)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        if isinstance(error, ConfigError):
            raise Refusal(str(error)) from error
        if (reason := unwritten(error)) and not own_error(error) and not full_traceback():
            log.error("failed: %s", without_room(reason, Path(HydraConfig.get().runtime.output_dir)))
            sys.exit(1)
        log.error("failed: %s\n%s", error, shown(error).rstrip())
        if is_debugged():
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
