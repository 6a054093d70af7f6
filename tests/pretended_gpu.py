"""A GPU without a GPU: tensors on DEVICE have shapes but no values, and transfers between it and the host are counted.

Every operation that would fail on a GPU because its tensors lie on different devices fails here, too. What a run reads
from the device are ones. Kernels, streams and CUDA graphs cannot be tried this way: the tests marked `gpu` do that.
"""

import traceback
from contextlib import ExitStack, contextmanager

import lightning.pytorch as pl
import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# any kind of device whose operations have no implementation here; of "cuda", autograd would ask the driver
DEVICE = "lazy"
aten = torch.ops.aten


class Waits(TorchDispatchMode):
    """Runs operations on the CPU for real, others on shapes alone, and lists those for which a GPU's host waits.

    calls: (operation, function of Seedbed that made it).
    """

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[str, str]] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        is_there = any(isinstance(leaf, FakeTensor) for leaf in leaves)
        target = torch.device(kwargs["device"]).type if kwargs.get("device") else None
        if not is_there and target != DEVICE:
            with unset_fake_temporarily():
                return operation(*args, **kwargs)
        is_asynchronous = kwargs.get("non_blocking") or (operation is aten.copy_.default and args[2:] == (True,))
        if operation is aten._local_scalar_dense.default:
            self._note("to the host")
            return 1.0 if args[0].is_floating_point() else args[0].dtype != torch.bool
        if operation is aten._to_copy.default and is_there and target == "cpu":
            return self._read(args[0].shape, kwargs.get("dtype") or args[0].dtype)
        crosses = operation is aten.copy_.default and isinstance(args[0], FakeTensor) != isinstance(args[1], FakeTensor)
        if (crosses or (operation is aten._to_copy.default and not is_there)) and not is_asynchronous:
            self._note("to the device")
        return operation(*args, **kwargs)

    def _read(self, shape, dtype: torch.dtype) -> Tensor:
        self._note("to the host")
        with unset_fake_temporarily():
            return torch.zeros(shape, dtype=dtype) if dtype == torch.bool else torch.ones(shape, dtype=dtype)

    def _note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/src/seedbed/" in frame.filename]
        self.calls.append((what, frames[-1].name if frames else ""))


class PretendedGPU(Accelerator):
    """Lightning's view of the device."""

    def setup_device(self, device) -> None: ...

    def teardown(self) -> None: ...

    def get_device_stats(self, device) -> dict:
        return {}

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return [torch.device(DEVICE, 0)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "pretended"


@contextmanager
def pretended_gpu():
    """Yield (options of the Trainer, waits): a run with these options trains on the pretended GPU."""
    strategy = SingleDeviceStrategy(f"{DEVICE}:0", PretendedGPU())
    # the weights stay there: nothing could bring them back
    strategy.teardown = lambda: None
    waits = Waits()
    with ExitStack() as stack:
        # a thread for each device that there is
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(waits)
        yield {"strategy": strategy}, waits


def trainer_on(options: dict, **more) -> pl.Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(**options, **quiet, num_sanity_val_steps=-1, **more)
