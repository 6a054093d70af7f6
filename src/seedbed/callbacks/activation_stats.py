"""Statistics of every layer's activations and gradients over training, in TensorBoard and as pictures."""

from __future__ import annotations

import sys
import time
from collections import defaultdict

import numpy as np
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from seedbed.callbacks.layer_stats import LayerStats, Series, Values
from seedbed.pictures.layers import histogram_over_time, overview
from seedbed.pictures.publish import publish

WRITE_EVERY = 5.0  # seconds
MERGED = 4  # bins of ours in one of TensorBoard's, which shows 30, and whose files take their time byte by byte
SCALARS = ("mean", "std", "near_zero")


class ActivationStats(Callback):
    """Records the layers at the mini-batches divisible by `every`, counted from the run's first, which is 0.

    For each layer and recorded mini-batch, of the activations and of the gradients of the loss with respect to them
    (of the scaled loss, under precision 16-mixed): mean, std and share near zero as scalars, and a histogram; of a
    layer with very many values, of a sample spread over them (`layer_stats.sample`). An activation is near zero if
    |x| < 0.05, a gradient if it is at most a thousandth of the largest |gradient| of its layer and mini-batch.
    TensorBoard's step is the mini-batch, of which trainer.accumulate_grad_batches make one step of train/loss; the
    gradients are of the mini-batch's own loss. At the end one picture a layer and one of all. The weights come out the
    same to the bit. A resumed run records from where it resumes.
    """

    def __init__(self, every: int = 100):
        self.every = every
        self._stats: LayerStats | None = None

    def on_train_start(self, trainer, module) -> None:
        if trainer.is_global_zero:
            done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            self._stats = LayerStats(module.net, self.every, done, module.accumulate)
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


def joined(parts: list) -> Series | Values | np.ndarray:
    """One after the other in time."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return type(parts[0])(**{field: joined([getattr(p, field) for p in parts]) for field in vars(parts[0])})


def write(writer, name: str, series: Series) -> None:
    """TensorBoard's records of one layer; no histogram where values are not finite, no gradients where none came."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    for i, step in enumerate(series.steps):
        found = []
        for kind, values in (("activation", series.activations), ("gradient", series.gradients)):
            if np.isnan(values.counts[i]).any():
                continue
            for column in SCALARS:
                found.append(Summary.Value(tag=f"{kind}_{column}/{name}", simple_value=getattr(values, column)[i]))
            if np.isfinite(values.edges[i]).all():
                found.append(Summary.Value(tag=f"{kind}s/{name}", histo=histogram(values, i)))
        writer.add_summary(Summary(value=found), int(step))


def histogram(values: Values, i: int):
    """TensorBoard's of step i, without the empty bins at its ends, which reach beyond the least and largest value."""
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
