"""Ask one question, with a table and a picture for an answer: python scripts/study.py study=NAME [study.seeds=…]

    why_sqrt5   what each init does to the layers' activations and gradients, before and after training
    explosion   what a hundred random matrices do to a vector
    init        which init trains which model best
    loss        which loss trains best, each at its best learning rate
    depth       which init still trains a deep network

Each takes at most two minutes on two slow cores, prints its table, and leaves PNG, CSV and TensorBoard's events in
outputs/studies/<date>/<time>-<n>.
"""

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seedbed.errors import ConfigError
from seedbed.startup.command import command

log = logging.getLogger("seedbed")
TRAIN = Path(__file__).resolve().parents[1] / "train.py"


@command("../conf", "study")
def main(cfg: DictConfig) -> None:
    from seedbed.studies.lab import Lab

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        findings = instantiate(cfg.study, _convert_="all")(Lab(run_config, TRAIN, folder))
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


def run_config(words: tuple[str, ...]) -> dict:
    """The config of `train.py` with these words. Raises ConfigError where Hydra would say that there is none."""
    try:
        return OmegaConf.to_container(hydra.compose("config", list(words)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        said, _, _ = str(error).partition("Config search path")
        raise ConfigError(" ".join(said.split())) from error


if __name__ == "__main__":
    main()
