"""Answer one question with a table and a picture: python scripts/study.py study=NAME [study.seeds=…]

    pixels      a digit as a table of numbers
    descent     gradient descent on x², with too large steps too; a parabola with its parameters varied
    one_step    weights, gradients and new weights; gradients that are not cleared
    accuracy_gradient   why accuracy is no loss
    from_scratch        the training loop from scratch, beside the library's
    broadcasting        a matrix product in pure Python, with broadcasting and as a matmul
    gains       Kaiming's init with a = 0, 1 and √5: one layer, and the layers of a network
    why_sqrt5   activations and gradients of every layer under each init, before and after training
    explosion   a vector after a hundred random matrices
    init        which init trains which model best
    loss        which loss trains best, each at its best learning rate
    depth       which init still trains a deep network

The first seven take seconds, the others at most two minutes on two slow cores. Each prints its table, and writes
pictures (PNG), tables (CSV) and TensorBoard's events to outputs/studies/<date>/<time>-<n>.
"""

import logging
import sys
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from seedbed.errors import ConfigError
from seedbed.startup.command import command

log = logging.getLogger("seedbed")


@command("../conf", "study")
def main(cfg: DictConfig) -> None:
    from seedbed.studies.lab import Lab, compose

    GlobalHydra.instance().clear()  # there is one at a time; the study composes the configs of its runs with its own
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        findings = instantiate(cfg.study, _convert_="all")(Lab(compose, folder))
    except ConfigError as error:
        log.error("%s", error)
        sys.exit(2)
    findings.write(folder)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    log.info("\n%s\n\n%s\n", findings.conclusion, findings.text())
    for name in findings.figures:
        log.info("picture: %s", shown / f"{name}.png")
    log.info("table:   %s", shown / "table.csv")
    log.info("look:    tensorboard --logdir %s", shown)


if __name__ == "__main__":
    main()
