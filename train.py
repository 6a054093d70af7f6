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
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seedbed.check import ConfigError, check
from seedbed.quick_import import import_torch

log = logging.getLogger("seedbed")


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    try:
        config = OmegaConf.to_container(cfg, resolve=True)
        check(config)
        return train(config, folder, dict(job.runtime.choices), alone=job.mode == RunMode.RUN)
    except ConfigError as error:
        log.error("%s", error)
        if job.mode == RunMode.RUN:
            discard(folder)
            sys.exit(2)
        raise CompactHydraException(str(error)) from None
    except Exception as error:
        log.exception("failed: %s", error)
        from seedbed.run import write_metrics

        write_metrics(folder, {"status": "failed", "val/loss": None, "val/accuracy": None, "seed": cfg.seed})
        if job.mode == RunMode.RUN:
            sys.exit(1)
        raise


def train(config: dict, folder: Path, choices: dict[str, str], alone: bool) -> float | None:
    import_torch()
    from seedbed.build import Parts, build_callbacks, build_data, build_trainer, hparams
    from seedbed.callbacks.checkpoints import Checkpoints
    from seedbed.callbacks.progress import RunProgress
    from seedbed.run import fit, report, write_metrics
    from seedbed.run_logger import RunLogger

    data = build_data(config)
    module = Parts().module(config, data)
    callbacks = [Checkpoints(folder / "checkpoints"), RunProgress(), *build_callbacks(config)]
    trainer = build_trainer(config, RunLogger(folder), callbacks)
    metrics = fit(trainer, module, data, hparams(config, choices), config["ckpt_path"])
    write_metrics(folder, {**metrics, "seed": config["seed"]})
    log.info(report(metrics, folder, alone))
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
