"""Pictures of the data, the first layer's weights, the schedule and the mistakes, in TensorBoard and as PNG files."""

from __future__ import annotations

from lightning.pytorch.callbacks import Callback
from torch import Tensor

from seedbed.data.loader import Loader
from seedbed.errors import ConfigError
from seedbed.event_files import read_scalars
from seedbed.metrics import LR, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS
from seedbed.optim.numbers import number_of
from seedbed.pictures.confusion import confusion
from seedbed.pictures.curves import curves
from seedbed.pictures.digits import class_means, samples, worst_mistakes
from seedbed.pictures.publish import event_writer, publish
from seedbed.pictures.schedule import schedule
from seedbed.pictures.weights import first_weights
from seedbed.training.evaluation import Answers, answer
from seedbed.training.gan import GAN

CURVES = (TRAIN_LOSS, VAL_LOSS, VAL_ACCURACY, LR)


class Pictures(Callback):
    """Draws samples and class means at the start; curves, schedule, confusion matrix and worst mistakes at the end.

    The first layer's weights are drawn at the start, after every `every` epochs and at the end, if they form pictures
    (linear over the pixels, or kernels over 1 or 3 channels). Mistakes are those of the last weights on the validation
    set. Data without classes has neither samples nor mistakes. Training gives the same bits with and without this
    callback.
    Raises ConfigError for a GAN, whose critic knows no classes of digits.
    """

    def __init__(self, every: int = 10):
        self.every = every

    def on_fit_start(self, trainer, module) -> None:
        if isinstance(module, GAN):
            raise ConfigError("callbacks=pictures draws what a classifier sees: callbacks=generated for a GAN")
        if trainer.is_global_zero:
            splits = trainer.datamodule.splits
            if splits.classes:
                images, targets = splits.train
                publish(trainer, "samples", samples(images, targets, splits.classes), shared=True)
                publish(trainer, "class_means", class_means(images, targets, splits.classes), shared=True)
            self._draw_weights(trainer, module)

    def on_train_epoch_end(self, trainer, module) -> None:
        done = trainer.current_epoch + 1
        if trainer.is_global_zero and done % self.every == 0 and done < trainer.max_epochs:
            self._draw_weights(trainer, module)

    def on_fit_end(self, trainer, module) -> None:
        if not trainer.is_global_zero:
            return
        self._draw_weights(trainer, module)
        self._draw_curves(trainer, module)
        self._draw_schedule(trainer, module)
        splits = trainer.datamodule.splits
        if splits.classes:
            a = evaluated(trainer, module)
            mistakes = worst_mistakes(splits.valid[0], a.target, a.losses, a.probabilities, a.predicted, splits.classes)
            publish(trainer, "confusion", confusion(a.target, a.predicted, splits.classes))
            publish(trainer, "worst_mistakes", mistakes)

    def _draw_weights(self, trainer, module) -> None:
        figure = first_weights(module.net, trainer.datamodule.splits.shape, f"after {trainer.global_step} steps")
        if figure:
            publish(trainer, "first_weights", figure)

    def _draw_curves(self, trainer, module) -> None:
        """Draw TensorBoard's values by step, with those from before a resume; without TensorBoard, the values by epoch.

        Before the first step there is no curve to draw.
        """
        if not module.steps:
            return
        if writer := event_writer(trainer):
            writer.flush()
        by_step = read_scalars(trainer.default_root_dir, CURVES)
        rows = module.history
        by_epoch = {name: {row["epoch"]: row[name] for row in rows if row.get(name) is not None} for name in CURVES}
        if figure := curves(by_step or by_epoch, "training step" if by_step else "epoch"):
            publish(trainer, "curves", figure)

    def _draw_schedule(self, trainer, module) -> None:
        """Draw the numbers that the schedule drives, if there was a step and the optimiser has an lr."""
        options = trainer.optimizers[0].defaults if trainer.optimizers else {}
        if module.total_steps and LR in options:
            given = {name: number_of(options, name) for name in (LR, *module.schedule.curves)}
            given["dropout"] = next((vars(m)["given_p"] for m in module.net.modules() if "given_p" in vars(m)), None)
            given = {name: number for name, number in given.items() if number is not None}
            publish(trainer, "schedule", schedule(module.schedule, module.total_steps, given), shared=True)


def evaluated(trainer, module) -> Answers:
    """Return the answers to the validation set, in its order."""
    data = trainer.datamodule
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    plugin = trainer.precision_plugin

    def ask(x: Tensor) -> Tensor:
        with plugin.val_step_context():
            return module(plugin.convert_input(x.to(module.device)))

    answers = answer(ask, module.loss, Loader(data.splits.valid, data.eval_batch, **data.conversion))
    for m, mode in modes:
        m.training = mode
    return answers
