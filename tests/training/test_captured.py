"""Recorded steps are those of the usual loop, bit for bit, on a CPU whose operations are recorded and repeated.

The recorder here does what a CUDA graph does: it keeps the operations with the memory that they read and write, and
repeats them without Python. A number or a tensor that a recording froze by mistake gives other weights.
"""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seedbed.fused.build import build_stack
from seedbed.training.build import Parts, build_data, build_trainer
from seedbed.training.captured import CapturedSteps, why_uncaptured
from seedbed.training.fast_loop import FastLoop


def tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Operations(TorchDispatchMode):
    """Lists operations with their arguments, results, and whether the results have memory of their own."""

    def __init__(self):
        super().__init__()
        self.made: list[tuple] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        given = {t.untyped_storage().data_ptr() for t in tensors((args, kwargs))}
        new = [t.untyped_storage().data_ptr() not in given for t in tensors(result)]
        self.made.append((operation, args, kwargs, result, new))
        return result


class Recorder:
    """Records on the CPU, where a recorded call is made at once."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def run(self, call):
        return call()

    def record(self, call):
        with Operations() as operations:
            call()
        self.recorded += 1
        is_first = [True]

        def replay() -> None:
            if is_first:
                is_first.clear()
                return
            self.replayed += 1
            for operation, args, kwargs, result, new in operations.made:
                again = tensors(operation(*args, **kwargs))
                for old, now, is_new in zip(tensors(result), again, new, strict=True):
                    if is_new:
                        old.copy_(now)

        return torch.no_grad()(replay)


class CapturedLoop(FastLoop):
    recorder: Recorder

    def on_run_start(self, data_fetcher) -> None:
        super().on_run_start(data_fetcher)
        if self._captured is None:
            assert why_uncaptured(self.trainer) is None
            self._captured = CapturedSteps(self.trainer, self.recorder)


def train(configs, captured: bool | Recorder, callbacks=()):
    """Train one run or a stack of two in the fast loop; return its tensors, its metrics and its recorder."""
    data = build_data(configs[0])
    if len(configs) > 1:
        data.seed = [0, 1]
        module = build_stack(Parts(), configs, 2, data, may_skip=False)
    else:
        module = Parts().module(configs[0], data)
    trainer = build_trainer(configs[0], False, callbacks)
    recorder = Recorder() if captured is True else captured
    if captured:
        loop = trainer.fit_loop.epoch_loop = CapturedLoop(trainer, configs[0]["trainer"], required=True)
        loop.recorder = recorder
    trainer.fit(module, data)
    tensors = {f"net.{name}": value for name, value in module.net.state_dict().items()}
    for index, values in trainer.optimizers[0].state_dict()["state"].items():
        tensors |= {f"{index}.{k}": v for k, v in values.items() if isinstance(v, torch.Tensor)}
    return tensors, module.metrics, recorder


# 12 full batches and, of an epoch's end, a smaller one
SHORT = ["trainer.max_epochs=5", "data.batch_size=1000"]
SHORT += ["+trainer.enable_progress_bar=false", "+trainer.enable_checkpointing=false"]
ROWS = [
    ["model=linear", "optim=sgd"],
    ["model=mlp", "optim=momentum", "schedule=one_cycle", "trainer.gradient_clip_val=0.05"],
    ["model=mlp", "optim=adam", "schedule=one_cycle", "model.dropout=0.3", "trainer.precision=64-true"],
    pytest.param(
        ["model=convnet", "optim=adamw", "schedule=cosine", "loss=cross_entropy", "data.batch_size=1500"],
        marks=pytest.mark.slow,
    ),
    ["model=linear_scratch", "optim=basic", "schedule=linear", "trainer.precision=bf16-mixed"],
    ["model=linear", "optim=rmsprop", "+trainer.gradient_clip_algorithm=value", "trainer.gradient_clip_val=0.01"],
    [
        "model=mlp",
        "optim=momentum",
        "schedule=values",
        "+schedule.weight_decay=[0.0,0.0,0.01]",
        "optim.weight_decay=0.1",
    ],
]


@pytest.mark.parametrize("words", ROWS, ids=" ".join)
def test_recorded_run_has_the_bits_of_the_usual_one(composed, words):
    configs = [composed(*SHORT, *words)[0]]
    plain, metrics, _ = train(configs, captured=False)
    recorded, recorded_metrics, recorder = train(configs, captured=True)
    assert recorder.replayed > 30
    bound = {"rtol": 1e-12, "atol": 1e-14} if "trainer.precision=64-true" in words else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(recorded, plain, **bound)
    assert recorded_metrics == pytest.approx(metrics, rel=1e-12)


@pytest.mark.parametrize("words", [["optim=adam", "model=mlp"], ["optim=momentum", "schedule=one_cycle"]], ids=" ".join)
@pytest.mark.parametrize("change", ["optim.lr=0.003", "seed=7"])
def test_recorded_stack_has_the_bits_of_the_usual_one(composed, words, change):
    configs = [composed(*SHORT, *words)[0], composed(*SHORT, *words, change)[0]]
    plain, metrics, _ = train(configs, captured=False)
    recorded, recorded_metrics, recorder = train(configs, captured=True)
    assert recorder.replayed > 30
    torch.testing.assert_close(recorded, plain, rtol=0, atol=0)
    torch.testing.assert_close(recorded_metrics, metrics, rtol=0, atol=0)


class Fails(Recorder):
    def record(self, call):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")


def test_run_goes_on_where_recording_fails(composed, caplog):
    configs = [composed(*SHORT, "optim=adam", "schedule=one_cycle")[0]]
    plain, _, _ = train(configs, captured=False)
    failed, _, _ = train(configs, Fails())
    torch.testing.assert_close(failed, plain, rtol=0, atol=0)
    [line] = [record.getMessage() for record in caplog.records if "trainer.capture" in record.getMessage()]
    assert line.endswith(
        "so the run goes on step by step: CUDA error: operation not permitted when stream is capturing"
    )


class Replaces(pl.Callback):
    """Gives the network weights in other memory, frozen biases and, once, half of them, as a hook may."""

    __module__ = "seedbed.somewhere"

    def on_train_epoch_start(self, trainer, module) -> None:
        if trainer.current_epoch == 2:
            for name, p in module.net.named_parameters():
                p.data = p.data.clone() / 2
                p.requires_grad_("bias" not in name)


def test_step_is_recorded_anew_where_a_hook_has_changed_the_network(composed):
    configs = [composed(*SHORT, "optim=momentum")[0]]
    plain, _, _ = train(configs, captured=False, callbacks=[Replaces()])
    recorded, _, recorder = train(configs, captured=True, callbacks=[Replaces()])
    torch.testing.assert_close(recorded, plain, rtol=0, atol=0)
    assert recorder.recorded == 2


class Layer(nn.Linear):
    """A layer of the user's own."""


def own_network(in_shape, num_outputs, **options):
    return nn.Sequential(nn.Flatten(), Layer(784, num_outputs))


class Looks(pl.Callback):
    pass


class Hooks(pl.Callback):
    __module__ = "seedbed.somewhere"

    def on_train_start(self, trainer, module) -> None:
        module.net[0].register_forward_hook(lambda *args: None)


@pytest.mark.parametrize(
    ("words", "callback", "reason"),
    [
        (["trainer.accumulate_grad_batches=2"], None, "a step has several batches"),
        (
            ["schedule=linear", "schedule.drives=dropout", "model.dropout=0.5"],
            None,
            "the schedule drives dropout, which",
        ),
        (["optim.groups=[{params: '*bias', lr_scale: 2}]"], None, "a stack has one group of parameters"),
        (["+optim.dampening=0.5", "optim=momentum"], None, "a stack of SGD does not do dampening=0.5"),
        (["trainer.precision=bf16-true"], None, "a stack's parameters are float32 or float64, not torch.bfloat16"),
        ([f"model._target_={__name__}.own_network"], None, "Layer may do other things"),
        ([], Looks(), "Looks may do other things than those that can be recorded"),
        ([], Hooks(), "a hook looks at the network's layers"),
    ],
)
def test_reasons_for_the_usual_steps(composed, words, callback, reason):
    config = composed(*SHORT, "model=mlp", *words, "trainer.max_epochs=1", "+trainer.limit_train_batches=1")[0]
    data = build_data(config)
    trainer = build_trainer(config, False, [callback] if callback else [])
    trainer.fit(Parts().module(config, data), data)
    assert why_uncaptured(trainer).startswith(reason)
