"""Real runs in process, and the real MNIST files."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf, open_dict

# of small matrices one thread is as fast as two, and ten times faster where other work holds a core: threads wait
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, for the commands that tests start too

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Run:
    """A finished run and its parts."""

    metrics: dict
    module: Any
    data: Any
    trainer: Any
    folder: Path

    def events(self, tag: str) -> list:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        return EventAccumulator(str(self.folder)).Reload().Scalars(tag)

    def curve(self, tag: str) -> list[float]:
        return [event.value for event in self.events(tag)]

    def hparams(self) -> dict:
        """The HParams records of the event files, as TensorBoard's plugin reads them."""
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        found = {}
        for file in self.folder.glob("events.out.tfevents.*"):
            for event in EventFileLoader(str(file)).Load():
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "hparams":
                        data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                        if value.tag.endswith("/experiment"):
                            found["metrics"] = [m.name.tag for m in data.experiment.metric_infos]
                        if value.tag.endswith("/session_start_info"):
                            assert "hparams" not in found, "two records of one run"
                            infos = data.session_start_info.hparams
                            found["hparams"] = {k: getattr(v, v.WhichOneof("kind")) for k, v in infos.items()}
        return found


@pytest.fixture(scope="session")
def left_in():
    """left_in(folder) → what a run of another process left there."""
    return lambda folder: Run({}, None, None, None, folder)


@pytest.fixture(scope="session")
def composed():
    """Compose a config in process: composed("optim.lr=1", …) → (config, group choices)."""
    from hydra import compose

    from seedbed.startup.command import hydra_with

    def compose_config(*overrides: str):
        with hydra_with(ROOT / "conf"):
            cfg = compose("config", [*overrides, "trainer.accelerator=cpu"], return_hydra_config=True)
        choices = dict(cfg.hydra.runtime.choices)
        with open_dict(cfg):
            del cfg["hydra"]
        return OmegaConf.to_container(cfg, resolve=True), choices

    return compose_config


@pytest.fixture(scope="session")
def fit(composed, tmp_path_factory):
    """Train for real, in process: fit("optim.lr=1", …) → Run. `every`: seconds between checkpoints."""
    from seedbed.training import build
    from seedbed.training.checkpoints import Checkpoints, checkpoint_options
    from seedbed.training.hparams import hparams
    from seedbed.training.progress import RunProgress
    from seedbed.training.run import fit as run_fit

    def train(*overrides: str, folder: Path | None = None, callbacks=(), every: float = 5.0) -> Run:
        config, choices = composed(*overrides)
        folder = folder or tmp_path_factory.mktemp("run")
        data = build.build_data(config)
        module = build.Parts().module(config, data)
        checkpoints = Checkpoints(folder / "checkpoints", **(checkpoint_options(config) | {"every": every}))
        callbacks = [checkpoints, RunProgress(), *build.build_callbacks(config), *callbacks]
        trainer = build.build_trainer(config, build.build_loggers(config, folder), callbacks, folder)
        metrics = run_fit(trainer, module, data, hparams(config, choices), config["ckpt_path"])
        return Run(metrics, module, data, trainer, folder)

    return train


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder in which MNIST's four files lie: found there, or fetched into it the first time."""
    from seedbed.data import idx

    try:
        idx.mnist(None)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return idx.default_root()


@pytest.fixture(scope="session")
def sweep(tmp_path_factory):
    """sweep("fused", "optim.lr=0.1,1", …) → the sweep's folder; the real sweeper and launchers, in this process.

    code: what the command would exit with; folder: the sweep's, of a new one or of one to go on with.
    """
    from seedbed.startup.command import hydra_with

    sys.path.insert(0, str(ROOT))
    import train

    def run(launcher: str, *overrides: str, code: int = 0, folder: Path | None = None) -> Path:
        folder = folder or tmp_path_factory.mktemp(launcher)
        words = [
            f"hydra/launcher={launcher}",
            f"hydra.sweep.dir={folder}",
            "hydra.sweep.subdir=${hydra.job.num}",  # tests/sweeps/test_folders.py has the default
            "hydra.mode=MULTIRUN",
            "trainer.accelerator=cpu",
            *overrides,
        ]
        handlers, exited = logging.getLogger().handlers[:], 0
        with hydra_with(ROOT / "conf") as hydra:
            try:
                hydra.multirun("config", train.main.__wrapped__, words)
            except SystemExit as end:
                exited = end.code
                if exited == 2:
                    print(end, file=sys.stderr)
            finally:
                logging.getLogger().handlers[:] = handlers
        assert exited == code
        return folder

    return run


@pytest.fixture
def killed_sweep(sweep, tmp_path, monkeypatch):
    """killed_sweep("fused", "optim.lr=0.1,1", …) → the folder of a sweep killed when a stack had written two jobs."""
    import seedbed.fused.sweep

    def run(launcher: str, *overrides: str) -> Path:
        write, written = seedbed.fused.sweep.write_metrics, []

        def die(folder, found):
            if len(written) == 2:
                raise KeyboardInterrupt
            written.append(folder)
            write(folder, found)

        with monkeypatch.context() as patch:
            patch.setattr(seedbed.fused.sweep, "write_metrics", die)
            sweep(launcher, *overrides, folder=tmp_path / "killed", code=130)
        return tmp_path / "killed"

    return run
