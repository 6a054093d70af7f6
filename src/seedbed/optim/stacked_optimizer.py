"""The optimiser of a stack of M independent members: `torch.optim`'s arithmetic with one number per member.

Operations, their order and their roundings are those of torch.optim, so that in float32 on a CPU every member's bits
are those of its solo run. A stacked parameter is [M, *shape], a hyperparameter float64 [M]. Where all members agree on
it, it is a float and costs what it costs torch.optim (nothing, if it is 0); else it is broadcast as [M, 1, …].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from seedbed.schedules import Schedule

# Elements updated at once. On a CPU they stay in the cache, and temporaries on malloc's heap: with temporaries of the
# stack's size, in fresh pages at each step, Adam took 7 times as long. On a GPU this bounds the temporaries' memory.
PIECE = {"cpu": 2**17, "cuda": 2**26}

Number: TypeAlias = float | Tensor  # equal for all members, or [M]


class StackedOptimizer(torch.optim.Optimizer):
    """M members' optimisers in one: member i's numbers are numbers[name][i], a flag is common to all.

    `defaults` keep the given numbers; `param_groups` hold those of the next step, as `drive` set them. The rest is in
    `state` under torch.optim's names, [M, *shape] except the common `step`, so `state_dict()` is complete.
    Raises ValueError for a parameter or number whose first dimension is not M.

    A subclass names its `numbers` and `flags` and defines `_state_names`, `_coefficients` and `_update`.
    """

    numbers: ClassVar[tuple[str, ...]]
    flags: ClassVar[tuple[str, ...]] = ()
    momentum: ClassVar[str] = "momentum"  # the number that a schedule of the momentum drives
    counts_steps: ClassVar[bool] = False  # whether its state has a `step`
    # map(call, items) returns the results; a stack sets it to `Cores.map`, which uses several cores
    map: Callable[[Callable, Sequence], list] = staticmethod(lambda call, items: [call(item) for item in items])
    corrects_bias: ClassVar[bool] = False  # whether coefficients depend on the number of the step

    def __init__(self, params: Sequence[Tensor], numbers: dict[str, Any]):
        super().__init__(params, numbers)
        [group] = self.param_groups
        members = len(numbers["lr"])
        for name in self.numbers:
            if numbers[name].shape != (members,) or numbers[name].dtype != torch.float64:
                raise ValueError(f"{name} must be float64 of shape [{members}], is {numbers[name]}")
        for p in group["params"]:
            if p.shape[:1] != (members,):
                raise ValueError(f"a parameter of shape {list(p.shape)} in a stack of {members}")
        self._reset()

    def __setstate__(self, state: dict) -> None:  # the last thing load_state_dict does
        super().__setstate__(state)
        self._reset()

    def _reset(self) -> None:
        group = self.param_groups[0]
        self._number = {name: shared(group[name]) for name in self.numbers} | {k: group[k] for k in self.flags}
        self._names = self._state_names()
        self._seen = {name: group[name] for name in self.numbers}
        self._last: tuple[float | None, dict] | None = None  # step and its coefficients
        self._casts: dict[tuple, tuple[Tensor, Tensor]] = {}

    @property
    def lr(self) -> Tensor:
        """The learning rates of the next step, float64 [M]."""
        return self.param_groups[0]["lr"]

    def take(self, rows: Tensor) -> None:
        """Keep only the members `rows` [m]; the parameters have been cut down already."""
        [group] = self.param_groups
        for name in self.numbers:
            self.defaults[name], group[name] = self.defaults[name][rows], group[name][rows]
        for p, state in self.state.items():
            # with p's order in memory
            state |= {k: torch.empty_like(p).copy_(v[rows.to(v.device)]) for k, v in state.items() if v.dim()}
        self._reset()

    def drive(self, schedules: Sequence[tuple[Schedule, Tensor]], progress: float) -> None:
        """Set what the schedules drive, from the numbers given; each is paired with the places [m] of its members."""
        if len(schedules) == 1:
            schedules = [(schedules[0][0], slice(None))]
        for number in {number for schedule, _ in schedules for number in schedule.curves}:
            name = self.momentum if number == "momentum" else number
            if name not in self.numbers:
                continue
            given = self.defaults[name]
            now = torch.empty_like(given)
            for schedule, places in schedules:
                now[places] = schedule(progress, number, given[places])
            self.param_groups[0][name] = now

    # --- defined by a subclass

    _state_names: Callable[[], tuple[str, ...]]
    _coefficients: Callable[..., dict[str, Number | bool]]  # (step from 1, **numbers, **flags), in float64
    _update: Callable[..., None]  # (p, grad, *state, **coefficients): sequences of tensors; p and state change

    # --- a step

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for step, params in self._due().items():
            self.update(params, self.coefficients(step))
        return loss

    def update(self, params: Sequence[Tensor], coefficients: dict[str, Number | bool]) -> None:
        """Change `params` and their state by their gradients."""
        buffers = [name for name in self._names if name != "step"]
        differing = [name for name, value in coefficients.items() if isinstance(value, Tensor)]
        rows = []
        for p in params:
            state = [self.state[p][name] for name in buffers]
            rows.append((p, p.grad, *state, *(self._like(p, name, coefficients[name]) for name in differing)))
        split = 2 + len(buffers)

        def update(piece):
            columns = list(zip(*piece, strict=True))
            # no_grad holds for one thread, and each piece may run in another
            with torch.no_grad():
                self._update(*columns[:split], **coefficients | dict(zip(differing, columns[split:], strict=True)))

        self.map(update, list(_pieces(rows, PIECE.get(params[0].device.type, PIECE["cuda"]))))

    def _due(self) -> dict[float | None, list[Tensor]]:
        """Return the parameters that have a gradient, by the number of their step (None if it does not matter)."""
        due = defaultdict(list)
        for p in self.param_groups[0]["params"]:
            if p.grad is None:
                continue
            state = self.state[p] if self._names else {}
            if not state:
                state |= {name: torch.tensor(0.0) if name == "step" else torch.zeros_like(p) for name in self._names}
            if "step" in state:
                state["step"] += 1
            due[state["step"].item() if self.corrects_bias else None].append(p)
        return due

    def coefficients(self, step: float | None) -> dict[str, Number | bool]:
        """Return the arguments of `_update` for a step, from 1 on; step=None where the number does not matter."""
        for name, seen in self._seen.items():
            now = self.param_groups[0][name]
            if seen is not now and not torch.equal(seen, now):
                self._seen[name], self._number[name], self._last = now, shared(now), None
        if self._last is None or self._last[0] != step:
            self._last = step, self._coefficients(step, **self._number)
        return self._last[1]

    def _like(self, p: Tensor, name: str, values: Tensor) -> Tensor:
        """Return values [M] as [M, 1, …] for p, cast from float64 once for all parameters, until the values change.

        If the last dimension of p varies more slowly in memory than the members, the result is [M, O, 1], so that the
        arithmetic still runs over long rows.
        """
        wide = p.dim() == 3 and p.stride(2) > p.stride(0)
        key = name, p.dtype, p.device, p.shape[1] if wide else 1
        source, cast = self._casts.get(key, (None, None))
        if source is not values:
            cast = _cast(values, *key[1:])
            self._casts[key] = values, cast
        return cast.view(len(values), -1, 1) if wide else cast.view(-1, *[1] * (p.dim() - 1))

    def refresh(self, coefficients: dict[str, Number | bool]) -> None:
        """Write coefficients that are tensors where `update` has read them before: into the same memory."""
        for key, (source, cast) in self._casts.items():
            values = coefficients[key[0]]
            if isinstance(values, Tensor) and source is not values:
                # equal for all members, as an expanded tensor: no transfer
                cast.copy_(_cast(values, *key[1:])) if values.stride(0) else cast.fill_(values[0])
                self._casts[key] = values, cast


def _cast(values: Tensor, dtype: torch.dtype, device: torch.device, repeats: int) -> Tensor:
    # the host does not wait: CUDA takes so few bytes along before the call returns
    cast = values.to(device, dtype, non_blocking=True)
    return cast.repeat_interleave(repeats) if repeats > 1 else cast


def shared(values: Tensor) -> Number:
    """Return the number that all members have, or `values` [M] itself if they differ."""
    first = values[0].item()
    return first if bool((values == first).all()) else values


def used(number: Number) -> bool:
    """Return whether the number of any member is not 0."""
    return isinstance(number, Tensor) or number != 0


def _pieces(rows: list[tuple[Tensor, ...]], size: int) -> Iterator[list[tuple[Tensor, ...]]]:
    """Cut rows of tensors [M, …] into batches of rows [m, …] with at most `size` elements of p, or of one row each."""
    if sum(row[0].numel() for row in rows) <= size:
        yield rows
        return
    piece, filled = [], 0
    for row in rows:
        members, elements = row[0].shape[0], row[0].numel()
        cut = max(1, size * members // max(1, elements))
        for part in zip(*(t.split(cut) for t in row), strict=True) if cut < members else [row]:
            if piece and filled + part[0].numel() > size:
                yield piece
                piece, filled = [], 0
            piece.append(part)
            filled += part[0].numel()
    yield piece
