"""Record whole optimiser steps as CUDA graphs: one call then starts all kernels of a step.

Python needs longer to start the kernels of a small network, one after another, than a GPU needs to run them. A CUDA
graph records them once, with the addresses that they read and write, and a replay starts all of them. So whatever a
step reads must lie where it lay when the step was recorded:

- batches are copied into tensors that stay, and a batch of another size has a recording of its own;
- numbers that change from step to step are read from the device (`DeviceStep`);
- weights, buffers and the optimiser's state change in place. If a hook replaces them, between two calls of the loop,
  the step is recorded anew;
- random numbers follow torch's generator, which a replay advances.

A replay repeats a step's kernels, not its Python code. So steps are recorded only if the network, the loss and all
callbacks come from KNOWN_PACKAGES, whose Python does the same in every step (`why_uncaptured`). If recording fails, the
run goes on step by step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn

from seedbed.optim.device_step import DeviceStep, stack_of_one

log = logging.getLogger("seedbed")

# steps of each size before one is recorded: libraries choose their kernels and allocate their memory meanwhile
WARM_UP = 3
# packages whose layers and callbacks do the same in every step
KNOWN_PACKAGES = {"seedbed", "torch", "timm", "lightning"}


class CudaGraphs:
    """Records calls on a CUDA device. They run on one stream of their own, because autograd remembers streams."""

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device)

    def run(self, call: Callable[[], Tensor]) -> Tensor:
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = call()
        current.wait_stream(self.stream)
        return result

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            call()
        return graph.replay


@dataclass
class Recording:
    """The recorded step for batches of one size. Each replay reads x and y and writes losses in the same memory."""

    steps: int = 0
    x: Tensor | None = None
    y: Tensor | None = None
    losses: Tensor | None = None
    replay: Callable[[], None] | None = None


class CapturedSteps:
    """Makes the steps of a run or a stack, the first ones as usual; calling it with a batch returns its losses."""

    def __init__(self, trainer: pl.Trainer, recorder: CudaGraphs):
        self.module, self.optimizer, self.recorder = trainer.lightning_module, trainer.optimizers[0], recorder
        self.clip, self.algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        plugin = trainer.precision_plugin
        self.context = nullcontext if type(plugin) is Precision else plugin.train_step_context
        self.params = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.has_failed = False
        self._facts: Any = None
        # None until the first step has shown which parameters get gradients
        self._numbers: DeviceStep | None = None
        self._recordings: dict[Any, Recording] = {}

    def check(self) -> None:
        """Begin again if something that a recording took for granted has changed; called where hooks may have run."""
        net = self.module.net
        facts = [(p.data_ptr(), p.requires_grad) for p in net.parameters()], [b.data_ptr() for b in net.buffers()]
        facts = *facts, [(layer.training, getattr(layer, "p", None)) for layer in net.modules()]
        if facts != self._facts:
            self._facts, self._numbers = facts, None
            self._recordings.clear()

    def __call__(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        module = self.module
        module.set_rates(self.optimizer, module.steps / module.total_steps)
        if self._numbers is None:
            losses = self.recorder.run(lambda: self._first_step(x, y))
        else:
            if not self._numbers.advance():
                self._recordings.clear()
            losses = self._step_of(self._recordings.setdefault((x.shape, y.shape), Recording()), x, y)
        module.record.add(losses, y.shape[-1])
        return losses

    def _step_of(self, recording: Recording, x: Tensor, y: Tensor) -> Tensor:
        recording.steps += 1
        if recording.steps > WARM_UP and recording.replay is None and not self.has_failed:
            self._record(recording, x, y)
        if recording.replay is None:
            return self.recorder.run(lambda: self._step(x, y))
        recording.x.copy_(x)
        recording.y.copy_(y)
        recording.replay()
        # the next replay writes the same memory
        return recording.losses.clone()

    def _record(self, recording: Recording, x: Tensor, y: Tensor) -> None:
        recording.x, recording.y = x.clone(), y.clone()

        def call() -> None:
            recording.losses = self._step(recording.x, recording.y)

        try:
            recording.replay = self.recorder.record(call)
        except RuntimeError as error:
            self.has_failed = True
            self._drop_gradients()
            reason = next(iter(str(error).splitlines()), repr(error))
            log.warning("trainer.capture: the step could not be recorded, so the run goes on step by step: %s", reason)

    def _first_step(self, x: Tensor, y: Tensor) -> Tensor:
        losses = self._gradients(x, y)
        params = [p for p in self.params if p.grad is not None]
        self.optimizer.step()
        self._drop_gradients()
        self._numbers = DeviceStep(self.optimizer, params)
        return losses

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        losses = self._gradients(x, y)
        self._numbers.update()
        self._drop_gradients()
        return losses

    def _gradients(self, x: Tensor, y: Tensor) -> Tensor:
        with self.context():
            loss, losses = self.module.batch_losses(x, y)
        loss.backward()
        if self.clip:
            self.module.configure_gradient_clipping(self.optimizer, self.clip, self.algorithm)
        return losses

    def _drop_gradients(self) -> None:
        for p in self.params:
            p.grad = None


def captured_steps(trainer: pl.Trainer, capture: str) -> CapturedSteps | None:
    """Return the recorded steps of a run on a CUDA device, with capture=auto; None elsewhere.

    A line in the log says why a run on such a device has none.
    """
    device = trainer.strategy.root_device
    if capture != "auto" or device.type != "cuda":
        return None
    if reason := why_uncaptured(trainer):
        log.info("trainer.capture: steps are not recorded: %s", reason)
        return None
    return CapturedSteps(trainer, CudaGraphs(device))


def why_uncaptured(trainer: pl.Trainer) -> str | None:
    """Return why the steps of a run in the fast loop cannot be recorded, None if they can."""
    module, optimizer = trainer.lightning_module, trainer.optimizers[0]
    if trainer.accumulate_grad_batches > 1:
        return "a step has several batches"
    if module.schedule is not None and "dropout" in module.schedule.curves:
        return "the schedule drives dropout, which kernels do not read from the device"
    try:
        stack_of_one(optimizer, [p for group in optimizer.param_groups for p in group["params"]])
    except TypeError as error:
        return str(error)
    for part in (module, *_layers(module), *trainer.callbacks):
        if type(part).__module__.partition(".")[0] not in KNOWN_PACKAGES:
            return f"{type(part).__name__} may do other things than those that can be recorded"
    if any(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks for layer in _layers(module)):
        return "a hook looks at the network's layers"
    return None


def _layers(module: nn.Module) -> Iterable[nn.Module]:
    """Yield the layers of the network, which a stack keeps in its skeleton, and of the loss."""
    for part in (module.net, *getattr(module.net, "skeleton", ()), module.loss):
        yield from part.modules()
