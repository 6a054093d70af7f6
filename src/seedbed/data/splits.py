"""The contract of a data source: a function f(**options) → Splits, named by `source._target_` in conf/data/*.yaml.

- It is called once a run (once for all runs of a stack), before the model is built: the model's input shape and number
  of outputs follow from what it returns.
- It returns the whole set in memory: images as uint8 [N, C, H, W] with their classes as int64 [N], or numbers as float
  [N, 1] with float targets [N]. The loader converts pixels to floats; numbers stay as they are.
- Its options are the keys of its YAML besides those of conf/loader.yaml (conf/points.yaml for numbers).
- Randomness comes from an option of its own, such as noise_seed, never from torch's global generator.
- Where the data are missing or damaged it raises OSError or ValueError. The message is one line that names the key, the
  value and what to do; the command ends with it, exit code 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Split = tuple[Tensor, Tensor]  # inputs and targets


@dataclass
class Splits:
    """The training, validation and test samples of a data set. `test` is None for a set without test samples.

    classes[k] is the name of class k; `classes` is None where the targets are numbers.
    Raises ValueError if a split is empty, its inputs and targets differ in number, or a target has no class.
    """

    train: Split
    valid: Split
    test: Split | None
    classes: list[str] | None
    axes: tuple[str, str] = ("x", "y")  # names of input and target, for the axes of a figure; only for numbers

    def __post_init__(self):
        if self.classes is not None and len(self.classes) < 2:
            raise ValueError(f"data: there is one class only ({', '.join(self.classes)}), give at least two")
        for name, split in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            if split is None:
                continue
            inputs, targets = split
            if not len(inputs) == len(targets) > 0:
                raise ValueError(f"data: the {name} split has {len(inputs)} inputs and {len(targets)} targets")
            if self.classes is not None and not 0 <= targets.min() <= targets.max() < len(self.classes):
                shown = f"{targets.min():d} to {targets.max():d}"
                raise ValueError(f"data: the {name} split has targets {shown}, but {len(self.classes)} classes")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input: (C, H, W) of an image."""
        return tuple(self.train[0].shape[1:])
