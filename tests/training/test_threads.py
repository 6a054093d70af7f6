"""A small run uses one thread wherever it runs, unless the user says otherwise."""

import lightning.pytorch as pl
import pytest
import torch

from seedbed.training.run import train_parts

FOUND = 3  # threads that torch would use on this machine
SEEN: list[int] = []  # threads while the parts are built, and while the run trains


def record_init(net, sample) -> None:
    SEEN.append(torch.get_num_threads())


class Record(pl.Callback):
    def on_train_start(self, trainer, module) -> None:
        SEEN.append(torch.get_num_threads())


@pytest.mark.parametrize(
    ("override", "omp", "built", "trained"),
    [
        ("model=mlp", None, 1, 1),
        ("model.hidden=[2000]", None, 1, FOUND),
        ("model=convnet", None, 1, FOUND),
        ("model=mlp", str(FOUND), FOUND, FOUND),
        ("trainer.threads=2", None, 2, 2),
        ("trainer.threads=2", "1", 2, 2),
    ],
)
def test_threads_of_a_run(composed, tmp_path, monkeypatch, override, omp, built, trained):
    monkeypatch.setenv("OMP_NUM_THREADS", omp) if omp else monkeypatch.delenv("OMP_NUM_THREADS")
    config, _ = composed(override, "trainer.max_epochs=1", "+trainer.limit_train_batches=1")
    config["init"] = {"_target_": f"{__name__}.record_init"}
    config["callbacks"] = {"record": {"_target_": f"{__name__}.Record"}}
    SEEN.clear()
    before = torch.get_num_threads()
    torch.set_num_threads(FOUND)
    try:
        train_parts(config, tmp_path, {})
        assert [built, trained, FOUND] == [*SEEN, torch.get_num_threads()]
    finally:
        torch.set_num_threads(before)


def test_stack_of_small_networks_trains_with_one_thread_and_a_large_one_with_all(tmp_path, monkeypatch):
    from seedbed.api import sweep
    from seedbed.fused.stack import Stack

    monkeypatch.delenv("OMP_NUM_THREADS")
    begin, seen = Stack.on_train_start, []

    def recorded(stack) -> None:
        seen.append(torch.get_num_threads())
        begin(stack)

    monkeypatch.setattr(Stack, "on_train_start", recorded)
    before = torch.get_num_threads()
    torch.set_num_threads(FOUND)
    try:
        for model in ("linear", "mlp"):
            limits = ["trainer.accelerator=cpu", "trainer.max_epochs=1", "+trainer.limit_train_batches=1"]
            folder = f"hydra.sweep.dir={tmp_path}/{model}"
            # seven orders of the data: members of a stack with more have a core each
            sweep("hydra/launcher=fused", f"model={model}", "seed=range(0,7)", *limits, folder)
    finally:
        torch.set_num_threads(before)
    assert seen == [1, FOUND]


def test_bits_of_a_small_run_do_not_depend_on_the_cores(composed, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    before, weights = torch.get_num_threads(), []
    try:
        for cores in (1, 4):
            torch.set_num_threads(cores)
            config, _ = composed("init=orthogonal", "data.normalize=standard", "trainer.max_epochs=1")
            train_parts(config, tmp_path / str(cores), {})
            last = torch.load(tmp_path / str(cores) / "checkpoints/last.ckpt", weights_only=True)
            weights.append(last["state_dict"])
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*weights, rtol=0, atol=0)
