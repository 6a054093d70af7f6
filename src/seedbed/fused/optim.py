"""Optimisers of a stack of M independent members: `torch.optim`'s arithmetic with one number per member.

A stacked parameter is [M, *shape], a hyperparameter float64 [M]. Where all members agree on it, it is a float and
costs what it costs torch.optim (nothing, if it is 0); else it is broadcast as [M, 1, …]. Operations, their order and
their roundings are those of torch.optim, so that in float32 on a CPU every member's bits are those of its solo run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from seedbed.optim import BasicOptim

# Elements updated at once. On a CPU they then stay in the cache and temporaries on malloc's heap: with temporaries of
# the stack's size, in fresh pages at each step, Adam took 7 times as long. On a GPU it bounds their memory.
PIECE = {"cpu": 2**17, "cuda": 2**26}

Number = float | Tensor  # equal for all members, or [M]
Tensors = Sequence[Tensor]
Coefficient = float | Tensors  # equal for all members, or a tensor [m, 1, …] for each of those it goes with


class StackedOptimizer(torch.optim.Optimizer):
    """M members' optimisers in one: member i's numbers are numbers[name][i], a flag is common to all.

    `defaults` stay what was given; the next step uses what `drive` made of lr and momentum. Numbers are in
    `param_groups`, the rest in `state` under torch.optim's names, [M, *shape] but for the common `step`; so
    `state_dict()` has everything. Raises ValueError where a parameter or number is not stacked M high.
    """

    numbers: ClassVar[tuple[str, ...]]
    flags: ClassVar[tuple[str, ...]] = ()
    momentum: ClassVar[str] = "momentum"  # what a schedule of the momentum drives
    corrects_bias: ClassVar[bool] = False  # coefficients depend on the number of the step

    def __init__(self, params: Sequence[Tensor], numbers: dict[str, Tensor | bool]):
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
        self._number = {name: _shared(group[name]) for name in self.numbers} | {k: group[k] for k in self.flags}
        self._names = self._state_names()
        self._seen = {"lr": group["lr"], self.momentum: group[self.momentum]}
        self._last: tuple[float | None, dict] | None = None  # step and its coefficients
        self._casts: dict[tuple, tuple[Tensor, Tensor]] = {}

    @property
    def lr(self) -> Tensor:
        """float64 [M]: what the next step uses."""
        return self.param_groups[0]["lr"]

    def take(self, rows: Tensor) -> None:
        """Go on with these members only, rows [m]; the parameters have been cut down already."""
        [group] = self.param_groups
        for name in self.numbers:
            self.defaults[name], group[name] = self.defaults[name][rows], group[name][rows]
        for state in self.state.values():
            state |= {name: value[rows.to(value.device)] for name, value in state.items() if value.dim()}
        self._reset()

    def drive(self, lr: Number, momentum: Number) -> None:
        """Multiply what was given; multipliers are floats or float64 [M]."""
        for name, multiplier in (("lr", lr), (self.momentum, momentum)):
            self.param_groups[0][name] = self.defaults[name] * multiplier

    # --- what makes a kind of optimiser

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
        buffers = [name for name in self._names if name != "step"]
        for step, params in self._due().items():
            coefficients = self._coefficients_at(step)
            differing = [name for name, value in coefficients.items() if isinstance(value, Tensor)]
            rows = []
            for p in params:
                state = [self.state[p][name] for name in buffers]
                rows.append((p, p.grad, *state, *(self._like(p, name, coefficients[name]) for name in differing)))
            split = 2 + len(buffers)
            for piece in _pieces(rows, PIECE.get(params[0].device.type, PIECE["cuda"])):
                columns = list(zip(*piece, strict=True))
                self._update(*columns[:split], **coefficients | dict(zip(differing, columns[split:], strict=True)))
        return loss

    def _due(self) -> dict[float | None, list[Tensor]]:
        """Parameters that have a gradient, by the number of the step that they make (None: it does not matter)."""
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

    def _coefficients_at(self, step: float | None) -> dict[str, Number | bool]:
        for name, seen in self._seen.items():
            now = self.param_groups[0][name]
            if seen is not now and not torch.equal(seen, now):
                self._seen[name], self._number[name], self._last = now, _shared(now), None
        if self._last is None or self._last[0] != step:
            self._last = step, self._coefficients(step, **self._number)
        return self._last[1]

    def _like(self, p: Tensor, name: str, values: Tensor) -> Tensor:
        """[M] → [M, 1, …] for p: cast from float64 once, for all parameters and for as long as `values` stay."""
        key = name, p.dtype, p.device
        source, cast = self._casts.get(key, (None, None))
        if source is not values:
            cast = values.to(p.device, p.dtype)
            self._casts[key] = values, cast
        return cast.view(-1, *[1] * (p.dim() - 1))


class StackedSGD(StackedOptimizer):
    """`torch.optim.SGD` without dampening, and `BasicOptim`."""

    numbers = ("lr", "momentum", "weight_decay")
    flags = ("nesterov",)

    def _state_names(self):
        return ("momentum_buffer",) if _used(self._number["momentum"]) else ()

    def _coefficients(self, step, lr, **numbers):
        return {"minus_lr": -lr, **numbers}

    def _update(self, p, grad, buffer=(), *, minus_lr, momentum, weight_decay, nesterov):
        if weight_decay:
            grad = _plus(grad, p, weight_decay)
        if buffer:
            torch._foreach_mul_(buffer, momentum)
            torch._foreach_add_(buffer, grad)
            grad = _plus(grad, buffer, momentum) if nesterov else buffer
        _plus_(p, grad, minus_lr)


class StackedAdam(StackedOptimizer):
    """`torch.optim.Adam` and, with decoupled_weight_decay, `AdamW`; no amsgrad."""

    numbers = ("lr", "beta1", "beta2", "eps", "weight_decay")
    flags = ("decoupled_weight_decay",)
    momentum = "beta1"
    corrects_bias = True

    def _state_names(self):
        return ("step", "exp_avg", "exp_avg_sq")

    def _coefficients(self, step, lr, beta1, beta2, eps, weight_decay, decoupled_weight_decay):
        return {
            "keep": 1 - lr * weight_decay if decoupled_weight_decay and _used(weight_decay) else 1.0,
            "weight_decay": 0.0 if decoupled_weight_decay else weight_decay,
            "of_grad": 1 - beta1,
            "beta2": beta2,
            "of_square": 1 - beta2,
            "correction": (1 - beta2**step) ** 0.5,
            "eps": eps,
            "minus_size": -(lr / (1 - beta1**step)),
        }

    def _update(
        self, p, grad, mean, square, *, keep, weight_decay, of_grad, beta2, of_square, correction, eps, minus_size
    ):
        if keep != 1.0:
            torch._foreach_mul_(p, keep)
        if weight_decay:
            grad = _plus(grad, p, weight_decay)
        torch._foreach_lerp_(mean, grad, of_grad)
        torch._foreach_mul_(square, beta2)
        _plus_square_(square, grad, of_square)
        root = torch._foreach_sqrt(square)
        torch._foreach_div_(root, correction)
        torch._foreach_add_(root, eps)
        _plus_quotient_(p, mean, root, minus_size)


class StackedRMSprop(StackedOptimizer):
    """`torch.optim.RMSprop`, not centered."""

    numbers = ("lr", "alpha", "eps", "momentum", "weight_decay")

    def _state_names(self):
        return ("step", "square_avg", *(("momentum_buffer",) if _used(self._number["momentum"]) else ()))

    def _coefficients(self, step, lr, alpha, momentum, **numbers):
        into_buffer, into_p = 1.0, -lr
        if isinstance(momentum, Tensor):  # torch.optim multiplies by lr before it divides where momentum is 0
            without = (momentum == 0).double()
            into_buffer, into_p = _shared(without * -lr + (1 - without)), without + (1 - without) * -lr
        now = {"into_buffer": into_buffer, "into_p": into_p}
        return {"alpha": alpha, "of_square": 1 - alpha, "momentum": momentum, **numbers, **now}

    def _update(
        self, p, grad, square, buffer=(), *, weight_decay, alpha, of_square, eps, momentum, into_buffer, into_p
    ):
        if weight_decay:
            grad = _plus(grad, p, weight_decay)
        torch._foreach_mul_(square, alpha)
        _plus_square_(square, grad, of_square)
        root = torch._foreach_sqrt(square)
        torch._foreach_add_(root, eps)
        if buffer:
            torch._foreach_mul_(buffer, momentum)
            _plus_quotient_(buffer, grad, root, into_buffer)
            _plus_(p, buffer, into_p)
        else:
            _plus_quotient_(p, grad, root, into_p)


# --- arithmetic with a coefficient that is a float or differs from member to member, rounding alike


def _plus(x: Tensors, y: Tensors, c: Coefficient) -> Tensors:
    """x + c·y"""
    return torch._foreach_add(x, y, alpha=c) if isinstance(c, float) else torch._foreach_addcmul(x, y, c)


def _plus_(x: Tensors, y: Tensors, c: Coefficient) -> None:
    """x += c·y"""
    if isinstance(c, float):
        torch._foreach_add_(x, y, alpha=c)
    else:
        torch._foreach_addcmul_(x, y, c)


def _plus_square_(x: Tensors, y: Tensors, c: Coefficient) -> None:
    """x += c·y·y"""
    if isinstance(c, float):
        torch._foreach_addcmul_(x, y, y, value=c)
    else:
        torch._foreach_addcmul_(x, torch._foreach_mul(y, c), y)


def _plus_quotient_(x: Tensors, y: Tensors, z: Tensors, c: Coefficient) -> None:
    """x += c·y / z"""
    if isinstance(c, float):
        torch._foreach_addcdiv_(x, y, z, value=c)
    else:
        torch._foreach_addcdiv_(x, torch._foreach_mul(y, c), z)


def _shared(values: Tensor) -> Number:
    first = values[0].item()
    return first if bool((values == first).all()) else values


def _used(number: Number) -> bool:
    return isinstance(number, Tensor) or number != 0


def _pieces(rows: list[tuple[Tensor, ...]], size: int) -> Iterator[list[tuple[Tensor, ...]]]:
    """Rows of tensors [M, …] → batches of rows of [m, …]: one update works on `size` elements of p, or on one row."""
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


# --- from the members' own optimisers

KINDS: dict[type[torch.optim.Optimizer], type[StackedOptimizer]] = {
    BasicOptim: StackedSGD,
    torch.optim.SGD: StackedSGD,
    torch.optim.Adam: StackedAdam,
    torch.optim.AdamW: StackedAdam,
    torch.optim.RMSprop: StackedRMSprop,
}
ANY = ("foreach", "fused")  # options that say how fast, not what


def stacked(
    kind: type[torch.optim.Optimizer], defaults: Sequence[dict[str, Any]], params: Sequence[Tensor]
) -> StackedOptimizer:
    """The optimiser of a stack whose member i would have a `kind` with `.defaults == defaults[i]`.

    Raises TypeError for what a stack does not do: another kind, an option such as amsgrad, flags that differ, numbers
    that are tensors, parameters in half precision.
    """
    if kind not in KINDS:
        known = ", ".join(k.__name__ for k in KINDS)
        raise TypeError(f"no stacked version of {kind.__module__}.{kind.__qualname__}; there is one of {known}")
    for p in params:
        if p.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"a stack's parameters are float32 or float64, not {p.dtype}")
    cls = KINDS[kind]
    if "betas" in defaults[0]:
        defaults = [{**d, "beta1": d["betas"][0], "beta2": d["betas"][1], "betas": None} for d in defaults]
    numbers: dict[str, Tensor | bool] = {name: False for name in cls.flags}
    for name in sorted(set(cls.numbers).union(*defaults).difference(ANY)):
        values = [d.get(name, 0.0) for d in defaults]
        if name in cls.numbers:
            if not all(isinstance(v, (int, float)) for v in values):
                raise TypeError(f"{name} of a stack's members must be plain numbers, not {values[:3]}")
            numbers[name] = torch.tensor(values, dtype=torch.float64)
        elif any(bool(v) != bool(values[0]) for v in values):
            raise TypeError(f"{name} differs between members of a stack of {kind.__name__}")
        elif name in cls.flags:
            numbers[name] = bool(values[0])
        elif values[0]:
            raise TypeError(f"a stack of {kind.__name__} does not do {name}={values[0]}")
    return cls(params, numbers)
