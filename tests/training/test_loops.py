"""Lightning's loop and the fast one give the same bits, and a run goes on under either."""

import lightning.pytorch as pl
import pytest
import torch

from seedbed.errors import ConfigError
from seedbed.fused.build import build_stack
from seedbed.fused.checkpoints import StackCheckpoints
from seedbed.training.build import Parts, build_data, build_trainer
from seedbed.training.fast_loop import why_plain
from seedbed.training.progress import RunProgress

SHORT = ["trainer.max_epochs=2", "+trainer.limit_train_batches=11"]
CLIP, ACCUMULATE = "trainer.gradient_clip_val=0.05", "trainer.accumulate_grad_batches=3"
# every model kind, optimiser, schedule, precision, clipping and accumulation is in some row, and most pairs
ROWS = [
    ["model=mlp", "optim=momentum", "schedule=one_cycle", CLIP, ACCUMULATE],
    ["model.dropout=0.3", "optim=rmsprop", "schedule=exponential", "trainer.precision=64-true", ACCUMULATE],
    ["model=linear", "optim=adam", "schedule=cosine", "trainer.precision=bf16-mixed", CLIP],
    ["model=linear_scratch", "init=normal", "optim=basic", "schedule=linear", "+trainer.gradient_clip_algorithm=norm"],
    ["model=linear", "optim=sgd", "loss=cross_entropy", CLIP, "+trainer.gradient_clip_algorithm=value", ACCUMULATE],
    ["model=convnet", "optim=adamw", "schedule=combined", "loss=nll", "data.batch_size=16"],
    ["data=function", "model=rectified_lines", "loss=rmse", "optim=adam", "trainer.precision=bf16-true", ACCUMULATE],
    ["data=roller_coaster", "model=quadratic", "loss=mse", "optim=momentum", "schedule=cosine", "+trainer.max_steps=7"],
]


def state(module) -> dict[str, torch.Tensor]:
    """Weights, and the tensors of the optimisers."""
    tensors = {f"net.{name}": value for name, value in module.net.state_dict().items()}
    for i, optimizer in enumerate(module.trainer.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"{i}.{index}.{k}": v for k, v in values.items() if isinstance(v, torch.Tensor)}
    return tensors


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def without_time(metrics: dict) -> dict:
    return {name: value for name, value in metrics.items() if name != "fit_seconds"}


@pytest.mark.parametrize("words", ROWS, ids=lambda words: " ".join(words[:4]))
def test_fast_loop_gives_the_bits_of_lightnings(fit, words):
    plain, fast = (fit(*SHORT, *words, f"trainer.loop={loop}") for loop in ("plain", "fast"))
    assert_same_bits(state(plain.module), state(fast.module))
    assert without_time(plain.metrics) == without_time(fast.metrics)
    assert plain.trainer.global_step == fast.trainer.global_step == fast.module.steps > 0


def test_hooks_of_the_optimiser_are_called_in_the_fast_loop(fit):
    steps = []

    class Hooked(pl.Callback):
        def on_train_start(self, trainer, module) -> None:
            trainer.optimizers[0].register_step_post_hook(lambda *_: steps.append(None))

    fit(*SHORT, "trainer.loop=fast", callbacks=[Hooked()])
    assert len(steps) == 2 * 11


@pytest.fixture
def stack(composed, tmp_path):
    """stack("optim.lr=1", …) → the trained stack of seeds 0 and 1."""

    def train(*words: str):
        configs = [composed(*words, f"seed={seed}")[0] for seed in (0, 1)]
        data = build_data(configs[0])
        data.seed = [0, 1]
        stack = build_stack(Parts(), configs, 2, data)
        build_trainer(configs[0], False, [StackCheckpoints(tmp_path), RunProgress()]).fit(stack, data)
        return stack

    return train


@pytest.mark.parametrize("extra", [[], [CLIP, ACCUMULATE, "optim=adam", "optim.lr=0.01"]], ids=" ".join)
def test_stack_gives_the_same_bits_in_both(stack, extra):
    stacks = [stack(*SHORT, *extra, f"trainer.loop={loop}", "schedule=one_cycle") for loop in ("plain", "fast")]
    assert_same_bits(*(stack.final for stack in stacks))
    assert all(map(torch.equal, *(stack.history[-1].values() for stack in stacks)))


def test_last_step_of_an_epoch_has_as_many_batches_as_are_left(fit, stack):
    """Of 49 batches, 98 that are to accumulate are as 49."""
    words = ["trainer.max_epochs=1", "optim.lr=1"]
    half, whole = (f"trainer.accumulate_grad_batches={n}" for n in (49, 98))
    for loop in ("plain", "fast"):
        a, b = (fit(*words, accumulate, f"trainer.loop={loop}") for accumulate in (half, whole))
        assert a.metrics["steps"] == b.metrics["steps"] == 1
        assert_same_bits(state(a.module), state(b.module))
    assert_same_bits(stack(*words, half).final, stack(*words, whole).final)


@pytest.mark.parametrize("loop", ["plain", "fast"])
def test_accumulation_that_a_callback_sets_is_that_of_the_trainer(fit, loop):
    words = ["trainer.max_epochs=2", "schedule=linear", f"trainer.loop={loop}"]
    node = "{_target_: lightning.pytorch.callbacks.GradientAccumulationScheduler, scheduling: {0: 3}}"
    a, b = fit(*words, ACCUMULATE), fit(*words, f"+callbacks.own={node}")
    assert_same_bits(state(a.module), state(b.module))
    assert a.metrics["lr"] == b.metrics["lr"] and a.module.total_steps == b.module.total_steps == 34


@pytest.mark.parametrize("loops", [("plain", "fast"), ("fast", "plain")], ids=" → ".join)
@pytest.mark.parametrize("step", [6, 11], ids=lambda step: f"after {step} of 22 steps")
def test_run_goes_on_under_the_other_loop(fit, tmp_path, loops, step):
    words = [*SHORT, "optim=adam", "model.dropout=0.2"]
    whole = fit(*words)
    fit(*words, f"trainer.loop={loops[0]}", f"+trainer.max_steps={step}", folder=tmp_path)
    last = tmp_path / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["steps"] == step
    resumed = fit(*words, f"trainer.loop={loops[1]}", f"ckpt_path={last}")
    assert_same_bits(state(whole.module), state(resumed.module))
    assert without_time(whole.metrics) == without_time(resumed.metrics)


def looks(hook: str):
    return type("Looks", (pl.Callback,), {hook: lambda self, *args: None})()


@pytest.mark.parametrize(
    ("words", "callbacks", "reason"),
    [
        ([], [looks("on_before_backward")], "the callback Looks looks at single batches"),
        (["callbacks=ema"], [], "the callback EMAWeightAveraging looks at single batches"),
        (["+trainer.val_check_interval=5"], [], "trainer.val_check_interval works in Lightning's own loop only"),
        (["experiment=gan"], [], "GAN has its own way of optimising"),
    ],
    ids=["callback", "ema", "trainer", "gan"],
)
def test_fast_loop_is_refused_where_it_would_not_do(fit, words, callbacks, reason):
    words = [*words, "trainer.max_epochs=1", "+trainer.limit_train_batches=6"]
    with pytest.raises(ConfigError, match=f"^trainer.loop=fast: {reason}$"):
        fit(*words, "trainer.loop=fast", callbacks=callbacks)
    assert fit(*words, callbacks=callbacks).metrics["steps"] == 6


def test_default_run_takes_the_fast_loop(fit):
    run = fit("trainer.max_epochs=1", "+trainer.limit_train_batches=2", "callbacks=pictures")
    assert why_plain(run.trainer, {"max_epochs": 1, "detect_anomaly": False}) is None
