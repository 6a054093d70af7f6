"""Statistics of every layer's activations and gradients over training, in TensorBoard and as pictures."""

from __future__ import annotations

import sys
import time
from collections import defaultdict

import numpy as np
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from seedbed.drawing.layers import histogram_over_time, overview
from seedbed.drawing.publish import publish
from seedbed.layer_stats import LayerStats, Series

WRITE_EVERY = 5.0  # seconds
SCALARS = {
    "activation_mean": "mean",
    "activation_std": "std",
    "activation_near_zero": "near_zero",
    "gradient_mean": "gradient_mean",
    "gradient_std": "gradient_std",
}


class ActivationStats(Callback):
    """Records the layers at the training steps divisible by `every`: batches, counted from the run's first, which is 0.

    For each layer and recorded step: mean, std and share near zero of the activations, mean and std of the gradients of
    the loss with respect to them (of the scaled loss, under precision 16-mixed) as scalars, and a histogram. At the end
    one histogram over time a layer and one figure of all. The weights come out the same to the bit. A resumed run
    records from where it resumes.
    """

    def __init__(self, every: int = 30):
        self.every = every
        self._stats: LayerStats | None = None

    def on_train_start(self, trainer, module) -> None:
        if trainer.is_global_zero:
            done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            self._stats = LayerStats(module.net, self.every, done)
            self._parts: dict[str, list[Series]] = defaultdict(list)
            self._written = time.monotonic()

    def on_train_epoch_end(self, trainer, module) -> None:
        if self._stats and time.monotonic() - self._written > WRITE_EVERY:
            self._write(trainer)

    def on_train_end(self, trainer, module) -> None:
        if self._stats:
            self._stats.remove()
            self._write(trainer)
            self._draw(trainer)

    def on_exception(self, trainer, module, exception) -> None:
        if self._stats:
            self._stats.remove()

    def _write(self, trainer) -> None:
        """What was recorded since the last time, in one go: a record for each layer and step."""
        found = self._stats.series()
        for name, series in found.items():
            self._parts[name].append(series)
            if trainer.logger is not None:
                write(trainer.logger.experiment._get_file_writer(), name, series)
        self._written = time.monotonic()

    def _draw(self, trainer) -> None:
        whole = {name: joined(parts) for name, parts in self._parts.items()}
        if whole:
            publish(trainer, "activations", overview(whole))
        often = {"mininterval": 0.1 if sys.stderr.isatty() else 10.0, "delay": 2.0}
        for name, series in tqdm(whole.items(), "drawing layers", leave=False, **often):
            publish(trainer, f"activations/{name}", histogram_over_time(name, series))


def joined(parts: list[Series]) -> Series:
    return Series(**{field: np.concatenate([getattr(p, field) for p in parts]) for field in vars(parts[0])})


def write(writer, name: str, series: Series) -> None:
    """TensorBoard's records of one layer; a step whose activations are not finite gets no histogram."""
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    for i, step in enumerate(series.steps):
        values = [
            Summary.Value(tag=f"{tag}/{name}", simple_value=getattr(series, field)[i]) for tag, field in SCALARS.items()
        ]
        low, high, counts = series.low[i], series.high[i], series.counts[i]
        if np.isfinite(high - low):
            n, mean, std = counts.sum(), series.mean[i], series.std[i]
            sums = {"num": n, "sum": n * mean, "sum_squares": n * (std**2 + mean**2)}
            limits = np.linspace(low, high, len(counts) + 1)[1:]
            histogram = HistogramProto(min=low, max=high, **sums, bucket_limit=limits, bucket=counts)
            values.append(Summary.Value(tag=f"activations/{name}", histo=histogram))
        writer.add_summary(Summary(value=values), int(step))
