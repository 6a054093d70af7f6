"""The DataModule: a data set as tensors on the training device, served by stateful loaders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from seedbed.data.loader import Loader
from seedbed.data.rows import Source
from seedbed.data.splits import Split, Splits
from seedbed.errors import ConfigError
from seedbed.training.contracts import check_is

# images of 28 × 28 pixels in an evaluation batch: all of MNIST_SAMPLE's validation set in one
EVAL_BATCH = 2048


class DataModule(pl.LightningDataModule):
    """Serves the data set that `source(**options)` returns.

    normalize: unit (pixels in 0–1), symmetric (pixels in −1–1) or standard ((x − mean)/std of the training set, for
    each channel). Inputs that are not uint8 are no pixels and stay as they are. The order of the training data follows
    from `seed` and the epoch; the validation data keep the set's order.
    """

    def __init__(
        self,
        source: Callable[..., Splits],
        batch_size: int,
        seed: int | list[int | None],
        shuffle: bool = True,
        drop_last: bool = False,
        normalize: str = "unit",
        **options: Any,
    ):
        super().__init__()
        self.source = partial(source, **options)
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.normalize = normalize
        self.splits: Splits | None = None
        self.eval_batch = EVAL_BATCH
        self._sources: dict[int, Source] = {}
        self._moved: dict[tuple[int, torch.device], Split] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits is None:
            self.splits = check_is("data", self.source())
            x = self.splits.train[0]
            divisor, shift = NORMALIZE[self.normalize](x) if x.dtype == torch.uint8 else (1.0, 0.0)
            self.conversion = {"divisor": divisor, "shift": shift}
        if stage == "fit":
            self._check_batches()

    def _check_batches(self) -> None:
        """Raise ConfigError if drop_last, or a limit of the Trainer's, leaves a split without a batch.

        In evaluation, where batches are few and large, a share of a split gives at least one batch.
        """
        for name, split, size, drop_last in (
            ("train", self.splits.train, self.batch_size, self.drop_last),
            ("val", self.splits.valid, self.eval_batch, False),
            ("test", self.splits.test, self.eval_batch, False),
        ):
            if split is None:
                continue
            try:
                batches = len(Loader(split, size, drop_last=drop_last, world=self.trainer.world_size))
            except ValueError as error:
                raise ConfigError(str(error)) from error
            argument = f"limit_{name}_batches"
            limit = getattr(self.trainer, argument)  # a number of batches, or a share of them
            if (limit if isinstance(limit, int) else int(limit * batches)) >= 1:
                continue
            if name == "train" or limit == 0:
                typed = "overfit_batches" if self.trainer.overfit_batches else argument
                raise ConfigError(f"trainer.{typed}={limit}: leaves none of {batches} batches; raise it")
            setattr(self.trainer, argument, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the facts about the data that load.py needs to use a network without them."""
        return {"shape": list(self.splits.shape), "classes": self.splits.classes, **self.conversion}

    def evaluate_for(self, shape: Sequence[int]) -> None:
        """Size `eval_batch` for a network that works on inputs of this shape, [C, H, W].

        Memory grows with the pixels: larger images make smaller batches, of as many pixels as EVAL_BATCH images of
        MNIST.
        """
        self.eval_batch = max(1, min(EVAL_BATCH, EVAL_BATCH * 28 * 28 // math.prod(shape[1:])))

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None where the targets are numbers."""
        return len(self.splits.classes) if self.splits.classes else None

    @cached_property
    def sample(self) -> Tensor:
        """Training images spread over the whole set, as a model sees them: float [256, C, H, W]."""
        images, targets = self.splits.train
        every = max(1, len(images) // 256)
        split = images[::every][:256], targets[::every][:256]
        return Loader(split, 1, **self.conversion).convert(split[0])

    def _loader(self, split: Split, batch_size: int, trains: bool = False, **options) -> Loader:
        device, rank, world, source = torch.device("cpu"), 0, 1, None
        if self.trainer is not None:
            if getattr(self.trainer.lightning_module, "takes_rows" if trains else "evaluates_rows", False):
                source = self.source_of(split)
            device = self.trainer.strategy.root_device
            rank, world = self.trainer.global_rank, self.trainer.world_size
        split = self._on(device, split)
        conversion = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.conversion.items()}
        return Loader(split, batch_size, rank=rank, world=world, source=source, **conversion, **options)

    def _on(self, device: torch.device, split: Split) -> Split:
        """Return a split on the device, to which it is moved once."""
        key = id(split[0]), device
        if key not in self._moved:
            self._moved[key] = split[0].to(device), split[1].to(device)
        return self._moved[key]

    def source_of(self, split: Split) -> Source:
        """Return the `Source` of a split, from which its `Rows` are read; it is made once."""
        key = id(split[0])
        if key not in self._sources:
            self._sources[key] = Source(split[0], **self.conversion)
        return self._sources[key]

    def train_dataloader(self) -> Loader:
        shuffle = self.shuffle and not (self.trainer is not None and self.trainer.overfit_batches)
        seed = self.seed if shuffle or isinstance(self.seed, list) else None
        return self._loader(self.splits.train, self.batch_size, True, seed=seed, drop_last=self.drop_last)

    def train_in_order(self) -> Loader:
        """Return a loader of the training set in large batches and in the set's own order."""
        return self._loader(self.splits.train, self.eval_batch)

    def val_dataloader(self) -> Loader:
        return self._loader(self.splits.valid, self.eval_batch, keep=True)

    def test_dataloader(self) -> Loader:
        return self._loader(self.splits.test, self.eval_batch)


def _standard(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (std, mean/std) of each channel of x uint8 [N, C, H, W], [C, 1, 1] each.

    Exact, because they are computed from the counts of the 256 values.
    """
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([x[:, c].flatten().bincount(minlength=256) for c in range(x.shape[1])]).double()
    mean = (counts @ values) / counts.sum(1)
    std = ((counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)).sqrt()
    # a constant channel becomes 0
    std = std.where(std > 0, 1.0)
    return std.float()[:, None, None], (mean / std).float()[:, None, None]


# normalize → f(training images) → (divisor, shift) with x = pixels / divisor − shift
NORMALIZE: dict[str, Callable[[Tensor], tuple]] = {
    "unit": lambda x: (255.0, 0.0),
    "symmetric": lambda x: (127.5, 1.0),
    "standard": _standard,
}
