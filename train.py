"""Train one model on one data set.

python train.py                                     MLP on MNIST's 3s and 7s: 0.982 after about two seconds of training
python train.py model=linear optim.lr=1
python train.py -m optim.lr=0.01,0.1,1 'seed=range(0,5)'
tensorboard --logdir outputs
"""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seedbed.allowed_values import check
from seedbed.errors import ConfigError
from seedbed.startup.quick_exit import quick_exit
from seedbed.startup.quick_import import import_torch

log = logging.getLogger("seedbed")


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    job = HydraConfig.get()
    folder, choices = Path(job.runtime.output_dir), dict(job.runtime.choices)
    if job.mode == RunMode.MULTIRUN:
        from seedbed.sweeps.job import own_checkpoint, run, value

        def train_job() -> None:
            config = checked(cfg)
            config["ckpt_path"] = own_checkpoint(folder) or config["ckpt_path"]
            train(config, folder, choices, Path(job.sweep.dir))

        return value(run(folder, train_job, cfg.seed, cfg.retries, cfg.on_error), cfg.optimized_metric)
    try:
        return train(checked(cfg), folder, choices)
    except ConfigError as error:
        log.error("%s", error)
        discard(folder)
        sys.exit(2)
    except Exception as error:
        log.exception("failed: %s", error)
        from seedbed.sweeps.job import UNKNOWN
        from seedbed.training.run import write_metrics

        write_metrics(folder, {"status": "failed", **dict.fromkeys(UNKNOWN), "seed": cfg.seed})
        sys.exit(1)


def checked(cfg: DictConfig) -> dict:
    config = OmegaConf.to_container(cfg, resolve=True)
    check(config)
    return config


def train(config: dict, folder: Path, choices: dict[str, str], sweep: Path | None = None) -> float | None:
    import_torch()
    from seedbed.training.hparams import hparams, read_kinds
    from seedbed.training.processes import spread
    from seedbed.training.run import report, write_metrics
    from seedbed.training.run import train as train_parts

    record = hparams(config, choices, read_kinds(sweep) if sweep else None)
    metrics = spread(train_parts, config, folder, record)  # in a process for each device
    write_metrics(folder, {**metrics, "seed": config["seed"]})
    log.info(report(metrics, folder, alone=sweep is None))
    return metrics.get(config["optimized_metric"])


def discard(folder: Path) -> None:
    """Remove what this process put into a folder in which nothing was trained; other things in it stay."""
    events = folder.glob(f"events.out.tfevents.*.{os.getpid()}.*")
    for path in (*folder.glob(".hydra/*.yaml"), folder / "train.log", *events):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # a folder that holds something else
        (folder / ".hydra").rmdir()
        folder.rmdir()


if __name__ == "__main__":
    main()
    quick_exit()
