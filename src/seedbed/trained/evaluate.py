"""Evaluate a trained network on a set: figures, by class, and pictures of its mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seedbed.data.loader import Loader
from seedbed.data.splits import Split
from seedbed.errors import ConfigError
from seedbed.pictures.confusion import confusion, count_pairs
from seedbed.pictures.digits import worst_mistakes
from seedbed.training.build import build_data
from seedbed.training.datamodule import DataModule
from seedbed.training.evaluation import Answers, answer
from seedbed.training.load import Loaded

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Evaluation:
    """Answers of a network on one part of a data set. classes: their names, None where the targets are numbers."""

    answers: Answers
    inputs: Tensor
    classes: list[str] | None

    @property
    def accuracy(self) -> float:
        return (self.answers.predicted == self.answers.target).double().mean().item()

    def metrics(self, stage: str) -> dict[str, Any]:
        """Return the numbers under the names that metrics.json has for them."""
        found: dict[str, Any] = {f"{stage}/loss": self.answers.loss}
        if self.classes:
            by_class = {name: right / n for name, n, right, _ in self.by_class() if n}
            found |= {f"{stage}/accuracy": self.accuracy, f"{stage}/accuracy_by_class": by_class}
        return found

    def by_class(self) -> list[tuple[str, int, int, str]]:
        """Return (class, its samples, those that are right, class for which it is mistaken most) of each class."""
        counts = count_pairs(self.answers.target, self.answers.predicted, len(self.classes))
        rows = []
        for k, name in enumerate(self.classes):
            wrong = counts[k].copy()
            wrong[k] = 0
            mistaken = f"{self.classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else "–"
            rows.append((name, int(counts[k].sum()), int(counts[k, k]), mistaken))
        return rows

    def figures(self, weights: str, pictures: str) -> dict[str, Figure]:
        """Draw the confusion matrix and the worst mistakes. weights, pictures: what the titles call them."""
        a = self.answers
        drawn = confusion(a.target, a.predicted, self.classes, weights, pictures)
        mistakes = worst_mistakes(
            self.inputs, a.target, a.losses, a.probabilities, a.predicted, self.classes, weights, pictures
        )
        return {"confusion": drawn, "worst_mistakes": mistakes}


def data_of(loaded: Loaded, node: dict[str, Any]) -> DataModule:
    """Load a data set of a config and scale its pixels as the network is used to. Raises ConfigError if it cannot."""
    data = build_data({"data": node})
    if data.splits.shape != loaded.facts.shape:
        shapes = ("×".join(map(str, shape)) for shape in (data.splits.shape, loaded.facts.shape))
        raise ConfigError("data: an input has the shape {}, the network takes {}".format(*shapes))
    if (data.splits.classes is None) != (loaded.facts.classes is None):
        raise ConfigError("data: classes and numbers are two things, and the network has learned one of them")
    data.conversion = {"divisor": loaded.facts.divisor, "shift": loaded.facts.shift}
    data.evaluate_for(getattr(loaded.net, "resized", loaded.facts.shape))
    return data


def known(split: Split, names: list[str] | None, classes: list[str] | None) -> tuple[Split, list[str]]:
    """Return a split with the targets of a network's classes, found by name, and the names that it does not know.

    Samples of those are left out. Raises ConfigError if none is left.
    """
    if names == classes:
        return split, []
    unknown = [name for name in names if name not in classes]
    target = torch.tensor([classes.index(name) if name in classes else -1 for name in names])[split[1]]
    if not (keep := target >= 0).any():
        raise ConfigError(f"data: its classes ({', '.join(names)}) are none of the network's ({', '.join(classes)})")
    return (split[0][keep], target[keep]), unknown


def evaluate(loaded: Loaded, data: DataModule, split: Split, progress=iter) -> Evaluation:
    """Ask the network for every sample of a split. progress: wraps the batches."""
    batches = Loader(split, data.eval_batch, **data.conversion)
    return Evaluation(answer(loaded.net, loaded.loss, progress(batches)), split[0], loaded.facts.classes)
