"""Why accuracy is no loss: a small change of a weight changes the loss a little, and the accuracy not at all.

Source: fastbook ch. 4, "The MNIST loss function".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seedbed.errors import ConfigError
from seedbed.inits.schemes import layers
from seedbed.studies.findings import Findings, canvas
from seedbed.tables import show

POINTS = 101  # of each curve
NAMES = ("accuracy", "loss")


def accuracy_gradient(
    lab, changes: Sequence[float], near: float, far: float, seed: int, overrides: Sequence[str]
) -> Findings:
    """Change the weight of the first layer with the largest gradient by each of `changes`.

    near, far: the picture shows the weight's neighbourhood up to these distances. Raises ConfigError where there is no
    weight or no accuracy.
    """
    module, data = lab.module(overrides, seed)
    net, loss = module.net.double().eval(), module.loss
    images, labels = (torch.cat(parts) for parts in zip(*data.train_in_order(), strict=True))
    images = images.double()
    weight = next((layer.weight for layer in layers(net)), None)
    if weight is None or data.num_classes is None:
        raise ConfigError(f"study.overrides={show(overrides)}: a model with weights and data with classes are needed")
    (gradient,) = torch.autograd.grad(loss(net(images), labels), weight)
    place = int(gradient.abs().argmax())
    value, slope = weight.view(-1)[place].item(), gradient.view(-1)[place].item()

    @torch.no_grad()
    def measure(change: float) -> tuple[float, float]:
        """Return (accuracy, loss) on the training set with the weight changed."""
        weight.view(-1)[place] = value + change
        output = net(images)
        return (loss.predict(output) == labels).double().mean().item(), loss(output, labels).item()

    accuracy, start = measure(0.0)
    rows = []
    for change in changes:
        new_accuracy, new_loss = measure(change)
        per_change = ((new_accuracy - accuracy) / change, (new_loss - start) / change)
        right = round((new_accuracy - accuracy) * len(labels))
        rows.append(
            [show(change), f"{new_accuracy:.6f}", f"{right:+d}", per_change[0], f"{new_loss:.9f}", per_change[1]]
        )
    return Findings(
        f"{len(labels)} images; accuracy {accuracy:.6f}, loss {start:.9f}. Weight {place} of the first layer is "
        f"{value:.4g};\nthe slope of the loss is {slope:.4g}, and that of the accuracy is 0 or does not exist.",
        ["change of weight", "accuracy", "images", "accuracy / change", "loss", "loss / change"],
        rows,
        {"accuracy_gradient": _picture(measure, slope, start, near, far)},
    )


def _picture(measure: Callable[[float], tuple[float, float]], slope: float, loss: float, near: float, far: float):
    fig, axes = canvas(11, 7, 2, 2)
    for row, distance in zip(axes, (far, near), strict=True):
        changes = torch.linspace(-distance, distance, POINTS, dtype=torch.float64).tolist()
        measured: Tensor = torch.tensor([measure(change) for change in changes])
        for ax, numbers, name, style in zip(row, measured.T.tolist(), NAMES, ("steps-mid", "default"), strict=True):
            ax.plot(changes, numbers, color="C0" if name == "loss" else "C1", drawstyle=style, label=name)
            ax.set(xlabel="change of the weight", ylabel=f"training {name}")
            ax.set_title(f"{name}, weight changed by up to {distance:g}", fontsize=10)
            ax.ticklabel_format(useOffset=False)
            ax.locator_params(axis="x", nbins=5)
            ax.grid(alpha=0.3)
        ends = [-distance / 2, distance / 2]
        row[1].plot(ends, [loss + slope * end for end in ends], color="C3", label=f"slope {slope:.3g}")
        row[1].legend()
    fig.suptitle("Accuracy is a staircase, flat almost everywhere; the loss has a slope to follow")
    return fig
