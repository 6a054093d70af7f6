"""Statistics of a network's layers over training: what callbacks/layer_stats.py records and layers.py draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR_ZERO = 0.05  # fastai's: an activation with a smaller absolute value is near zero
GRADIENT_NEAR_ZERO = 1e-3  # a gradient is near zero up to this share of the largest one of its layer and step


@dataclass
class Values:
    """Statistics and histograms of one kind of values at T steps, float64.

    A step with values that are not finite has NaN for near_zero and edges; a step without values has NaN throughout.
    """

    mean: np.ndarray  # [T], as all but the last two
    std: np.ndarray
    near_zero: np.ndarray  # share of the values
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray  # [T, B bins]
    edges: np.ndarray  # [T, B + 1]: every step has its own


@dataclass
class Series:
    """One layer at the recorded steps: its activations and its weight, and the gradients of the loss by them."""

    steps: np.ndarray  # int [T]
    activations: Values
    gradients: Values
    weights: Values | None  # None for a layer without a weight
    weight_gradients: Values | None
