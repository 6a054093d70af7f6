"""A checkpoint made from a template is, byte for byte, the one that torch.save writes."""

import io

import numpy as np
import torch

from seedbed.fused.templates import Template, marks


def checkpoint(numbers, w: torch.Tensor, b: torch.Tensor) -> dict:
    """Return a checkpoint that names its numbers and tensors in an order of its own, and the rng state twice."""
    rng, (a, b_, c) = torch.arange(5), numbers
    return {"run": [{"n": 3, "x": c}, (a, True)], "rng": rng, "b": b, "w": {"w": w, "again": w}, "y": b_, "rng2": rng}


def test_filled_template_is_what_torch_saves():
    draw = torch.Generator().manual_seed(0)
    places = marks()
    tensors = torch.randn(2, 784, generator=draw), torch.tensor(1.0, dtype=torch.float64)
    template = Template(checkpoint([next(places) for _ in range(3)], *tensors), tensors)
    for numbers in ([1.5, -0.0, 1e300], [float("nan"), float("inf"), 5e-324]):
        tensors = torch.randn(2, 784, generator=draw), torch.tensor(numbers[0], dtype=torch.float64)
        expected = io.BytesIO()
        torch.save(checkpoint(numbers, *tensors), expected)
        found = template.filled(numbers, [np.frombuffer(tensor.numpy().tobytes(), np.uint8) for tensor in tensors])
        assert found == expected.getvalue()
