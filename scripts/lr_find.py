"""Suggest a learning rate for any run: python scripts/lr_find.py model=mlp [any override of train.py]

Trains 200 mini-batches with an lr that grows from 1e-5 to 100, then 200 with the suggested lr to check that it trains:
a second or two for an MLP. The steps are those of the run, with its precision, clipping and accumulation, but they are
made on the CPU, without callbacks and without the schedule. The last line is
    suggested optim.lr=…
A picture of the loss against the lr, the losses as CSV and TensorBoard's events are written to
outputs/lr_find/<date>/<time>-<n>.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seedbed.errors import ConfigError
from seedbed.files import write_whole
from seedbed.metrics import TRAIN_LOSS
from seedbed.presets import left_out
from seedbed.startup.command import command
from seedbed.tables import csv_text

log = logging.getLogger("seedbed")


@command("../conf", "lr_find")
def main(cfg: DictConfig) -> float:
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    overrides = " ".join(job.overrides.task)
    try:
        notes = left_out([job.runtime.choices], job.runtime.config_sources)
        return find(OmegaConf.to_container(cfg, resolve=True), folder, overrides, notes)  # Preflight has checked it
    except (ConfigError, ValueError) as error:
        log.error("%s", error)
        sys.exit(2)


def find(config: dict, folder: Path, overrides: str, notes: Sequence[str]) -> float:
    from torch.utils.tensorboard import SummaryWriter

    from seedbed.studies import lr_finder
    from seedbed.training.build import Parts, build_data, build_trainer

    given = config["trainer"]
    if given["accelerator"] not in ("auto", "cpu") or given["devices"] not in ("auto", 1):
        log.info("the steps are made on the CPU in one process: trainer.accelerator and trainer.devices are ignored")
    on_cpu = {**given, "accelerator": "cpu", "devices": 1, "strategy": "auto"}
    trainer = build_trainer({"trainer": on_cpu}, logger=False, callbacks=[])
    data, parts = build_data(config), Parts()
    search = lr_finder.find(
        lambda: parts.module(config, data),
        data.train_dataloader(),
        **config["lr_find"],
        stepping=lr_finder.Stepping(
            trainer.precision_plugin, trainer.gradient_clip_val, trainer.accumulate_grad_batches
        ),
    )
    figure = lr_finder.picture(search, f"lr_find {overrides}".strip())
    figure.savefig(folder / "lr_find.png", dpi=150)
    rows = zip(search.lrs, search.losses, search.smoothed, strict=True)
    write_whole(folder / "lr_find.csv", csv_text(["lr", "loss", "smoothed"], rows))
    with SummaryWriter(str(folder)) as writer:
        writer.add_figure("lr_find", figure)
        for step, (lr, loss) in enumerate(zip(search.lrs, search.losses, strict=True)):
            writer.add_scalar("lr", lr, step)
            writer.add_scalar(TRAIN_LOSS, loss, step)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    for note in notes:
        log.info(note)
    log.info("picture: %s", shown / "lr_find.png")
    if not search.tried:
        log.info(
            "%d steps with this lr, or half, a quarter or an eighth of it, are too few to see it train", len(search.lrs)
        )
    log.info("suggested optim.lr=%.2g", search.suggestion)
    return search.suggestion


if __name__ == "__main__":
    main()
