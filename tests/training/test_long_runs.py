"""Long runs and long sweeps: memory stays flat, no handle is left open, files do not outgrow the epochs."""

import gc
import os
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest

from seedbed.training.datamodule import DataModule

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")

TINY = ["model=linear", "+trainer.limit_train_batches=1", "+trainer.limit_val_batches=1", "data.batch_size=64"]


def use() -> tuple[int, int]:
    """Return the resident memory in kB and the number of open files of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]), len(os.listdir("/proc/self/fd"))


class Watch(pl.Callback):
    def __init__(self, *epochs: int):
        self.epochs, self.seen = epochs, []

    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch in self.epochs:
            self.seen.append(use())


@pytest.mark.slow
def test_memory_is_flat_and_events_are_bounded_over_3000_epochs(fit):
    watch = Watch(300, 2900)
    run = fit(*TINY, "trainer.max_epochs=3000", callbacks=[watch])
    (memory, handles), (later, handles_later) = watch.seen
    assert later < 1.05 * memory and handles_later == handles
    (events,) = run.folder.glob("events.out.tfevents.*")
    # an epoch adds two validation values in one event of about 70 bytes; the losses have at most 200 points
    assert events.stat().st_size < 3000 * 200
    assert len(run.events("train/loss")) <= 201


def alive() -> list:
    """Return the data modules and trainers of this process that something still holds."""
    gc.collect()
    return [o for o in gc.get_objects() if isinstance(o, DataModule | pl.Trainer)]


def test_process_keeps_nothing_of_the_jobs_that_it_has_trained(sweep):
    # earlier tests in this process may still hold data modules and trainers
    sweep("basic", *TINY, "trainer.max_epochs=1", "seed=0,1")
    before, (_, handles) = alive(), use()
    sweep("basic", *TINY, "trainer.max_epochs=1", "seed=0,1,2")
    assert [type(o) for o in alive() if not any(o is other for other in before)] == []
    assert use()[1] <= handles
