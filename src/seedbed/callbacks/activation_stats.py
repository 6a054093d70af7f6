"""Statistics of every layer's activations, weights and gradients over training, in TensorBoard and as pictures."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from typing import Any

import numpy as np
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from seedbed.callbacks.layer_stats import KINDS, LayerStats
from seedbed.pictures.layer_series import Series, Values
from seedbed.pictures.layers import histogram_over_time, overview
from seedbed.pictures.publish import event_writer, publish

WRITE_EVERY = 5.0  # seconds
MERGED = 4  # bins of ours in one of TensorBoard's, which shows 30 and whose files are slow to write
SCALARS = dict.fromkeys(("activations", "gradients"), ("mean", "std", "near_zero"))


class ActivationStats(Callback):
    """Records all layers at every mini-batch whose number, counted from the run's first (0), `every` divides.

    It records the activations and the gradients of the loss by them (of the scaled loss, under precision 16-mixed):
    mean, std and share near zero as scalars, and a histogram; of weights and the gradients by them a histogram. For a
    layer with very many values, all are those of a sample (`layer_stats.sample`). An activation is near zero if
    |x| < 0.05, a gradient if it is at most a thousandth of the largest |gradient| of its layer and mini-batch.
    TensorBoard's step is the mini-batch: one training step has trainer.accumulate_grad_batches of them, and the
    gradients are of the mini-batch's own loss. At the end of training, one picture of each layer and one of all layers
    are drawn. The weights have the same bits as without. A resumed run records from where it resumes.
    """

    def __init__(self, every: int = 100):
        self.every = every
        self._stats: LayerStats | None = None

    def on_train_start(self, trainer, module) -> None:
        if trainer.is_global_zero:
            done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            batches = trainer.num_training_batches
            self._stats = LayerStats(module.net, self.every, done, lambda step: module.window(step % batches))
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
        """Write what was recorded since the last call: one TensorBoard record for each layer and step."""
        writer = event_writer(trainer)
        for name, series in self._stats.series().items():
            self._parts[name].append(series)
            if writer:
                write(writer, name, series)
        self._written = time.monotonic()

    def _draw(self, trainer) -> None:
        layers = {name: concatenated(parts) for name, parts in self._parts.items()}
        if layers:
            publish(trainer, "activations", overview(layers))
        refresh = {"mininterval": 0.1 if sys.stderr.isatty() else 10.0, "delay": 2.0}
        for name, series in tqdm(layers.items(), "drawing layers", leave=False, **refresh):
            publish(trainer, f"activations/{name}", histogram_over_time(name, series))


def concatenated(parts: list) -> Any:
    """Concatenate series, or their fields, along time."""
    if parts[0] is None:
        return None
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return type(parts[0])(**{field: concatenated([getattr(p, field) for p in parts]) for field in vars(parts[0])})


def write(writer, name: str, series: Series) -> None:
    """Write the TensorBoard records of one layer.

    A step without gradients has no record of them, one whose values are not finite no histogram.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    for i, step in enumerate(series.steps):
        records = []
        for kind in KINDS:
            values = getattr(series, kind)
            if values is None or np.isnan(values.counts[i]).any():
                continue
            for column in SCALARS.get(kind, ()):
                tag = f"{kind[:-1]}_{column}/{name}"
                records.append(Summary.Value(tag=tag, simple_value=getattr(values, column)[i]))
            if np.isfinite(values.edges[i]).all():
                records.append(Summary.Value(tag=f"{kind}/{name}", histo=histogram(values, i)))
        writer.add_summary(Summary(value=records), int(step))


def histogram(values: Values, i: int):
    """Return TensorBoard's histogram of step i, without the empty bins at its ends, which exceed low and high."""
    from tensorboard.compat.proto.summary_pb2 import HistogramProto

    counts, mean, std = values.counts[i].reshape(-1, MERGED).sum(1), values.mean[i], values.std[i]
    first, last = np.flatnonzero(counts)[[0, -1]]
    n = counts.sum()
    return HistogramProto(
        min=values.low[i],
        max=values.high[i],
        num=n,
        sum=n * mean,
        sum_squares=n * (std**2 + mean**2),
        bucket_limit=values.edges[i, MERGED::MERGED][first : last + 1],
        bucket=counts[first : last + 1],
    )
