"""M networks of one architecture as one module: every parameter stacked to [M, …], run under vmap."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import islice

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from seedbed.data.rows import Rows
from seedbed.models.first_linear import first_linear, leaves
from seedbed.models.linear import LinearLayer
from seedbed.models.mlp import ACTIVATIONS

# layers that compute a member's output from that member's numbers alone, without randomness
INDEPENDENT = (nn.Identity, nn.Linear, LinearLayer, nn.LogSoftmax, *ACTIVATIONS.values())
# members that share a batch are computed together, if their first layers have fewer outputs than this
FEW_OUTPUTS = 16


class StackedNet(nn.Module):
    """G groups of M/G networks each: the members of a group see the same batch.

    In training it takes x [G, B, …], a batch for each group of M/G consecutive members; in evaluation one batch
    x [B, …] for all. Returns [M, B, K]. Where the networks begin with a linear layer on the flattened input, one matrix
    product serves a whole group.

    With `takes_rows`, batches may be `Rows` as well, and `outputs_of` computes a slice of the members from them.
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
        self.first_linear = first_linear(skeleton)
        # whether the first layer skips the zeros of `Rows`; its weights' order in memory follows
        self.skips_zeros = False
        if self.first_linear:
            for name, _ in [*islice(leaves(skeleton), 2)]:
                skeleton.set_submodule(name, nn.Identity())
        behind = all(type(module) in INDEPENDENT for _, module in leaves(skeleton))
        self.takes_rows = self.first_linear is not None and behind
        # in a list, because its parameters are not the stack's
        self.skeleton = [skeleton]

    def stacked_state(self) -> dict[str, Tensor]:
        """Return the parameters and buffers by their names in one network, [M, …] each."""
        buffers = {name: getattr(self, f"stacked_buffer_{i}") for i, name in enumerate(self.buffer_names)}
        return dict(zip(self.names, self.stacked, strict=True)) | buffers

    def hold(self, state: dict[str, Tensor], groups: int) -> None:
        """Replace all networks by those of `state`, a `stacked_state` of another number of members."""
        for name, value in self.stacked_state().items():
            value.data = state[name].detach().to(value.device)
        self.members, self.groups = len(next(iter(state.values()))), groups
        if self.skips_zeros:
            self.skip_zeros()

    def skip_zeros(self) -> None:
        """Let the first layer read `Rows` without their zeros."""
        from seedbed.data.row_product import networks_last, outputs_last

        self.skips_zeros = True
        weight = self.stacked[self.names.index(f"{self.first_linear}.weight")]
        together = self.members > self.groups and weight.shape[1] < FEW_OUTPUTS
        weight.data = (networks_last if together else outputs_last)(weight.data)

    def outputs_of(
        self, members: slice, params: Sequence[Tensor], x: Rows, gradients: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Return the outputs [m, B, K] of consecutive members with parameters `params` [m, …].

        gradients: like `params`; a backward pass writes the first layer's gradient there.
        """
        from seedbed.data.row_product import RowLinears

        state, first = dict(zip(self.names, params, strict=True)), self.names.index(f"{self.first_linear}.weight")
        weight, bias = state.pop(f"{self.first_linear}.weight"), state.pop(f"{self.first_linear}.bias", None)
        gradient = gradients[first] if gradients else None
        x = RowLinears.apply(weight, bias, x.source, self._pieces(members, x.rows), gradient)
        for name, layer in leaves(self.skeleton[0]):
            if isinstance(layer, nn.Linear | LinearLayer):
                # x [m, B, I] · weight [m, O, I]
                weight, bias = state[f"{name}.weight"].mT, state.get(f"{name}.bias")
                x = torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight)
            else:
                x = vmap(layer)(x) if isinstance(layer, nn.LogSoftmax) else layer(x)
        return x

    def _pieces(self, members: slice, rows: Tensor) -> list[tuple[Tensor, slice]]:
        """Return the batch [B] and the members of each group in the slice; rows: [G, B], or [B] for all members."""
        rows = rows.view(-1, rows.shape[-1])
        size, begin = self.members // len(rows), members.start
        groups = range(begin // size, (members.stop - 1) // size + 1)
        return [(rows[g], slice(max(g * size - begin, 0), min((g + 1) * size, members.stop) - begin)) for g in groups]

    def forward(self, x: Tensor) -> Tensor:
        # in evaluation all members form one group: x [B, …] → [1, B, …]
        groups = self.groups if self.training else 1
        x = x if self.training else x.unsqueeze(0)
        # [M, …] → [G, M/G, …], for a vmap over groups around a vmap over the members of a group
        state = {k: v.unflatten(0, (groups, self.members // groups)) for k, v in self.stacked_state().items()}
        net = self.skeleton[0].train(self.training)
        # the members of a group share x [B, …], or each has its own output [B, O] of the first layer
        in_dims = (0, None)
        if self.first_linear:
            x, in_dims = self._first_product(x.flatten(2), state), (0, 0)

        def call(member_state: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(net, member_state, (x,))

        # networks that consist of the linear layer alone
        if not state:
            return x.flatten(0, 1)
        group = vmap(call, in_dims=in_dims, randomness="different")
        return vmap(group, randomness="different")(state, x).flatten(0, 1)

    def _first_product(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Apply the first layer: x [G, B, I] · weight [G, m, O, I] → [G, m, B, O]; takes its weights out of `state`."""
        weight, bias = state.pop(f"{self.first_linear}.weight"), state.pop(f"{self.first_linear}.bias", None)
        groups, members, outputs, inputs = weight.shape
        # [G, m·O, I] · [G, I, B]: one product a group. In this order its gradient too is a product over contiguous rows
        # of x, which is faster.
        product = torch.bmm(weight.reshape(groups, members * outputs, inputs), x.mT)
        product = product.unflatten(1, (members, outputs)).mT
        return product if bias is None else product + bias.unsqueeze(2)
