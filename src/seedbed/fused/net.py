"""M networks of one architecture as one: every parameter stacked to [M, …], run under vmap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from seedbed.models.linear import LinearLayer


class StackedNet(nn.Module):
    """G groups of M/G networks each: the members of a group see the same batch.

    Called in training with x [G, B, …], where members g·M/G … belong to group g, and in evaluation with one batch
    [B, …] for all; gives [M, B, K]. Where the networks begin with a linear layer on the flattened input, one matrix
    product serves a whole group.
    """

    def __init__(self, nets: Sequence[nn.Module], groups: int):
        super().__init__()
        self.members, self.groups = len(nets), groups
        params, buffers = stack_module_state(list(nets))
        self.names = list(params)
        self.stacked = nn.ParameterList(params.values())
        self.buffer_names = list(buffers)
        for i, buffer in enumerate(buffers.values()):
            self.register_buffer(f"stacked_buffer_{i}", buffer)
        skeleton = deepcopy(nets[0]).to("meta")
        self.first = _first_linear(skeleton)
        if self.first:
            for name in _leading(skeleton, 2):
                skeleton.set_submodule(name, nn.Identity())
        self.skeleton = [skeleton]  # in a list: its parameters are not the stack's

    def stacked_state(self) -> dict[str, Tensor]:
        """name of a network's parameter or buffer → [M, …]."""
        buffers = {name: getattr(self, f"stacked_buffer_{i}") for i, name in enumerate(self.buffer_names)}
        return dict(zip(self.names, self.stacked, strict=True)) | buffers

    def hold(self, state: dict[str, Tensor], groups: int) -> None:
        """Be these networks from now on, more or fewer: what `stacked_state` gave, [M, …] with another M."""
        for name, value in self.stacked_state().items():
            value.data = state[name].detach().to(value.device)
        self.members, self.groups = len(next(iter(state.values()))), groups

    def forward(self, x: Tensor) -> Tensor:
        groups = self.groups if self.training else 1
        x = x if self.training else x.unsqueeze(0)
        state = {k: v.unflatten(0, (groups, self.members // groups)) for k, v in self.stacked_state().items()}
        net = self.skeleton[0].train(self.training)
        inner = (0, None)
        if self.first:
            x, inner = self._first_product(x.flatten(2), state), (0, 0)

        def call(member_state: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(net, member_state, (x,))

        if not state:  # the linear layer was all
            return x.flatten(0, 1)
        group = vmap(call, in_dims=inner, randomness="different")
        return vmap(group, randomness="different")(state, x).flatten(0, 1)

    def _first_product(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        """[G, B, I] · [G, m, O, I] → [G, m, B, O]; takes the layer's weights out of `state`."""
        weight, bias = state.pop(f"{self.first}.weight"), state.pop(f"{self.first}.bias", None)
        groups, members, outputs, inputs = weight.shape
        # one product for a whole group; this way round its gradient, too, is a product over contiguous rows of x
        product = torch.bmm(weight.reshape(groups, members * outputs, inputs), x.mT)
        product = product.unflatten(1, (members, outputs)).mT
        return product if bias is None else product + bias.unsqueeze(2)


def _leaves(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Leaf modules in the order in which they are called, as far as nn.Sequential vouches for it."""
    if isinstance(net, nn.Sequential):
        for name, child in net.named_children():
            yield from _leaves(child, f"{prefix}{name}.")
    else:
        yield prefix.rstrip("."), net


def _leading(net: nn.Module, count: int) -> list[str]:
    return [name for (name, _), _ in zip(_leaves(net), range(count), strict=False)]


def _first_linear(net: nn.Module) -> str | None:
    """Name of the linear layer with which `net` begins behind a Flatten; None if it begins otherwise."""
    leading = [module for (_, module), _ in zip(_leaves(net), range(2), strict=False)]
    if len(leading) == 2 and isinstance(leading[0], nn.Flatten) and isinstance(leading[1], nn.Linear | LinearLayer):
        return _leading(net, 2)[1]
    return None
