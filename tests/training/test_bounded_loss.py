"""ckpt.every_n_steps and ckpt.every_minutes bound what a killed run loses; same_bits says what it goes on with."""

import logging

import pytest
import torch

from seedbed.errors import ConfigError
from seedbed.training.checkpoints import Checkpoints, checkpoint_options

WORDS = ["optim=adam", "trainer.max_epochs=2"]
EPOCH = 49


@pytest.mark.parametrize("loop", ["fast", "plain"])
def test_a_checkpoint_is_written_every_n_steps_in_both_loops(fit, monkeypatch, loop):
    steps = []
    write = Checkpoints._write

    def noted(self, trainer):
        steps.append(trainer.lightning_module.steps)
        write(self, trainer)

    monkeypatch.setattr(Checkpoints, "_write", noted)
    fit(*WORDS, "ckpt.every_n_steps=10", f"trainer.loop={loop}")
    # in the order of steps; at the end, too
    assert steps == [*range(10, 2 * EPOCH, 10), 2 * EPOCH]


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], (5.0, None)), (["ckpt.every_minutes=2"], (120.0, None)), (["ckpt.every_n_steps=7"], (float("inf"), 7))],
    ids=["neither", "minutes", "steps"],
)
def test_options_are_those_of_the_config(composed, words, expected):
    options = checkpoint_options(composed(*words)[0])
    assert (options["every"], options["every_n_steps"]) == expected


def test_checkpoint_of_another_machine_is_told_or_refused(fit, tmp_path, caplog):
    fit(*WORDS, folder=tmp_path)
    path = tmp_path / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["made_with"]["torch"] == torch.__version__ and checkpoint["made_with"]["threads"] == 1
    on = [*WORDS, f"ckpt_path={path}", "trainer.max_epochs=3"]
    fit(*on, "same_bits=required")
    # an earlier version wrote fewer facts down
    del checkpoint["made_with"]["llvmlite"]
    # or such that are no facts any more
    checkpoint["made_with"]["numba"] = "0.68"
    torch.save(checkpoint, path)
    fit(*on, "same_bits=required")
    checkpoint["made_with"] |= {"threads": 64, "machine": "riscv64"}
    torch.save(checkpoint, path)
    with caplog.at_level(logging.WARNING), pytest.raises(ConfigError, match="threads 64, here 1"):
        fit(*on, "same_bits=required")
    fit(*on)
    (said,) = [record.getMessage() for record in caplog.records if "equal bits" in record.getMessage()]
    assert "machine riscv64, here" in said and "\n" not in said
    del checkpoint["made_with"]
    torch.save(checkpoint, path)
    with pytest.raises(ConfigError, match="does not say"):
        fit(*on, "same_bits=required")


def test_checkpoint_of_a_later_format_is_refused(fit, tmp_path):
    fit(*WORDS, folder=tmp_path)
    path = tmp_path / "checkpoints/last.ckpt"
    torch.save(torch.load(path, weights_only=True) | {"format": 99}, path)
    with pytest.raises(ConfigError, match="its format is 99"):
        fit(*WORDS, f"ckpt_path={path}", "trainer.max_epochs=3")
