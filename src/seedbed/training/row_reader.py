"""A run whose network reads `Rows`: its first linear layer skips the zeros of the images (seedbed.data.rows)."""

from __future__ import annotations

from torch import Tensor, nn

from seedbed.data.rows import Rows
from seedbed.models.first_linear import leaves

# the words of metrics.json and of a checkpoint
SKIPS_ZEROS = "skips zeros"


def first_layer(skips: bool) -> str:
    """Return how a run computes its first layer, as a checkpoint says it."""
    return SKIPS_ZEROS if skips else "dense"


class RowReader:
    """Computes a network's outputs from `Rows`. The network begins with Flatten and a linear layer."""

    def __init__(self, net: nn.Module):
        _, (_, self.first), *self.behind = leaves(net)

    def lay_out(self) -> None:
        """Lay the first layer's weights out in memory as the product reads them; their shape and values stay."""
        from seedbed.data.row_product import outputs_last

        weight = self.first.weight
        weight.data = outputs_last(weight.data)

    def lay_out_as_usual(self) -> None:
        self.first.weight.data = self.first.weight.data.contiguous()

    def __call__(self, x: Rows) -> Tensor:
        from seedbed.data.row_product import RowLinear

        y = RowLinear.apply(self.first.weight, self.first.bias, x.source, x.rows)
        for _, layer in self.behind:
            y = layer(y)
        return y
