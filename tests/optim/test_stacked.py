"""A member of a stack is stepped as torch.optim steps it alone.

In float32, on Linux and x86-64, all bits are equal, for the stack rounds where torch.optim rounds. Elsewhere a
compiler may not fuse p + c·g where torch.optim does: half a unit in the last place (6e-8) a step, 3e-7 after the 100
steps here. In float64 beta**step is torch's instead of Python's, which differ in the last place.
"""

import io
import platform
import random

import pytest
import torch
import torch.nn.functional as F

from seedbed.optim import stacked_optimizer
from seedbed.optim.basic import BasicOptim
from seedbed.optim.stacked import stacked
from seedbed.optim.stacked_adam import StackedAdam
from seedbed.optim.stacked_sgd import StackedSGD
from seedbed.schedules import Schedule, linear

EXACT = (platform.system(), platform.machine()) == ("Linux", "x86_64")
BOUNDS = {
    torch.float32: {"rtol": 0, "atol": 0} if EXACT else {"rtol": 1e-6, "atol": 1e-6},
    torch.float64: {"rtol": 1e-13, "atol": 1e-15},
}
M = 6
SHAPES = [(16, 12), (16,), (3, 16), (3,)]


def log(rng, low, high):
    return 10 ** rng.uniform(low, high)


def some(rng, value):
    return rng.choice([0.0, value])


KINDS = {
    "basic": lambda r: (BasicOptim, {"lr": log(r, -3, 0)}),
    "sgd": lambda r: (torch.optim.SGD, {"lr": log(r, -3, 0), "weight_decay": some(r, log(r, -4, -1))}),
    "sgd_all_equal": lambda r: (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}),
    "momentum": lambda r: (
        torch.optim.SGD,
        {"lr": log(r, -3, -1), "momentum": some(r, r.uniform(0.1, 0.95)), "weight_decay": some(r, 1e-2)},
    ),
    "nesterov": lambda r: (
        torch.optim.SGD,
        {"lr": log(r, -3, -1), "momentum": r.uniform(0.1, 0.95), "weight_decay": log(r, -4, -1), "nesterov": True},
    ),
    "adam": lambda r: (torch.optim.Adam, {"lr": log(r, -4, -2)}),
    "adam_all": lambda r: (torch.optim.Adam, adam_numbers(r)),
    "adamw": lambda r: (torch.optim.AdamW, {"lr": log(r, -4, -2)}),
    "adamw_all": lambda r: (torch.optim.AdamW, adam_numbers(r)),
    "rmsprop": lambda r: (torch.optim.RMSprop, {"lr": log(r, -4, -2)}),
    "rmsprop_all": lambda r: (
        torch.optim.RMSprop,
        {
            "lr": log(r, -4, -2),
            "alpha": r.uniform(0.5, 0.999),
            "eps": log(r, -10, -4),
            "momentum": some(r, r.uniform(0.1, 0.95)),
            "weight_decay": some(r, log(r, -4, -1)),
        },
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors here are tiny: on a busy machine, threads that wait for each other made the tests 10 times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def adam_numbers(r):
    betas = (r.uniform(0, 0.99), r.uniform(0.5, 0.9999))
    return {"lr": log(r, -4, -2), "betas": betas, "eps": log(r, -10, -4), "weight_decay": some(r, log(r, -4, -1))}


def cross_entropy_of_mlp(params, x, y):
    w1, b1, w2, b2 = params
    return F.cross_entropy(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2), y)


def times(multipliers):
    """A schedule that is constant over the run."""
    return Schedule({name: lambda progress, given, by=by: given * by for name, by in multipliers.items()})


class Twins:
    """A stack and its members alone: same start, numbers, batches and schedule; each learns from its own weights."""

    def __init__(self, kind, seed=0, shapes=SHAPES, dtype=torch.float32):
        rng = random.Random(seed)
        self.made = [KINDS[kind](rng) for _ in range(M)]
        self.batches = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.stack = [torch.randn(M, *shape, dtype=dtype).mul_(0.3).requires_grad_() for shape in shapes]
        self.solo = [self.members_parameters(i) for i in range(M)]
        self.optims = [self.build(i, params) for i, params in enumerate(self.solo)]
        self.stacked = stacked(self.made[0][0], [opt.defaults for opt in self.optims], self.stack)
        self.steps = 0

    def members_parameters(self, i):
        return [p[i].detach().clone().requires_grad_() for p in self.stack]

    def build(self, i, params):
        cls, numbers = self.made[i]
        return cls(params, **numbers)

    def drive(self, lrs, momentum, decay=1.0):
        """Multiply the numbers given: `lrs` one for each member, the others alike for all."""
        multipliers = [{"lr": lr, "momentum": momentum, "weight_decay": decay} for lr in lrs]
        if len(set(lrs)) == 1:
            schedules = [(times(multipliers[0]), torch.arange(M))]
        else:
            schedules = [(times(m), torch.tensor([i])) for i, m in enumerate(multipliers)]
        self.stacked.drive(schedules, 0.0)
        for opt, lr in zip(self.optims, lrs, strict=True):
            group, given = opt.param_groups[0], opt.defaults
            group["lr"] = given["lr"] * lr
            if "betas" in given:
                group["betas"] = (given["betas"][0] * momentum, given["betas"][1])
            elif "momentum" in given:
                group["momentum"] = given["momentum"] * momentum
            if "weight_decay" in given:
                group["weight_decay"] = given["weight_decay"] * decay

    def step(self):
        self.stacked.step()
        for opt in self.optims:
            opt.step()

    def train(self, steps):
        for _ in range(steps):
            lrs = [1 - self.steps / (120 + i * (self.steps > 50)) for i in range(M)]
            self.drive(lrs, 1 - self.steps / 500, 1 - self.steps / 200)
            self.steps += 1
            x = torch.randn(32, 12, generator=self.batches)
            y = torch.randint(3, (32,), generator=self.batches)
            of_stack = []
            for i, params in enumerate(self.solo):
                member = self.members_parameters(i)
                of_stack.append(torch.autograd.grad(cross_entropy_of_mlp(member, x, y), member))
                for p, grad in zip(
                    params, torch.autograd.grad(cross_entropy_of_mlp(params, x, y), params), strict=True
                ):
                    p.grad = grad
            for p, grads in zip(self.stack, zip(*of_stack, strict=True), strict=True):
                p.grad = torch.stack(grads)
            self.step()

    def give_gradients(self, generator):
        """Random ones, equal for the stack and the members."""
        for j, p in enumerate(self.stack):
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            for i, params in enumerate(self.solo):
                params[j].grad = p.grad[i].clone()

    def assert_equal(self):
        for j, p in enumerate(self.stack):
            solo = torch.stack([params[j].detach() for params in self.solo])
            torch.testing.assert_close(p.detach(), solo, **BOUNDS[p.dtype])


def assert_same_state(ours, theirs):
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index, state in theirs["state"].items():
        assert ours["state"][index].keys() == state.keys()
        for name, value in state.items():
            torch.testing.assert_close(ours["state"][index][name], value, **BOUNDS[value.dtype])


# --- each member is its own run


@each_kind
@pytest.mark.parametrize("seed", range(2))
def test_member_equals_its_run_of_100_steps_with_a_schedule(kind, seed):
    twins = Twins(kind, seed)
    start = [p.detach().clone() for p in twins.stack]
    twins.train(100)
    twins.assert_equal()
    assert all((p - before).flatten(1).abs().amax(1).gt(0).all() for p, before in zip(twins.stack, start, strict=True))


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_member_equals_its_run_when_the_stack_is_updated_in_pieces(kind, dtype, monkeypatch):
    monkeypatch.setitem(stacked_optimizer.PIECE, "cpu", 40)  # some parameters in several pieces, some together in one
    twins = Twins(kind, shapes=[(2, 5, 3), (), (4,), (2,)], dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        twins.give_gradients(generator)
        twins.stack[0].grad = twins.stack[0].grad.mT.contiguous().mT  # as the gradient of a transposed weight is laid
        twins.step()
    twins.assert_equal()


@each_kind
def test_member_with_lr_0_stays_where_it_is(kind):
    twins, generator = Twins(kind), torch.Generator().manual_seed(1)
    before = [p[2].detach().clone() for p in twins.stack]
    twins.drive([1.0, 1.0, 0.0, 1.0, 1.0, 1.0], 1.0)
    for _ in range(3):
        twins.give_gradients(generator)
        twins.step()
    assert all(torch.equal(p[2], q) for p, q in zip(twins.stack, before, strict=True))
    twins.assert_equal()


@each_kind
def test_nan_gradients_of_a_member_leave_the_bits_of_the_others(kind):
    healthy, ill = Twins(kind), Twins(kind)
    for twins in (healthy, ill):
        generator = torch.Generator().manual_seed(1)
        for step in range(10):
            twins.give_gradients(generator)
            if twins is ill and step >= 3:
                for p in twins.stack:
                    p.grad[2] = torch.nan
            twins.stacked.step()
    others = [i for i in range(M) if i != 2]
    for p, q in zip(healthy.stack, ill.stack, strict=True):
        assert torch.equal(p[others], q[others])
        assert q[2].isnan().all()


@each_kind
def test_parameter_without_gradient_is_skipped_and_its_steps_are_counted_apart(kind):
    twins, generator = Twins(kind), torch.Generator().manual_seed(1)
    for step in range(6):
        twins.give_gradients(generator)
        if step in (0, 3):
            for params in (twins.stack, *twins.solo):
                params[1].grad = None
        twins.step()
    twins.assert_equal()


# --- state


@each_kind
def test_stack_goes_on_from_its_saved_state_dict_with_the_same_bits(kind):
    twins, resumed = Twins(kind), Twins(kind, seed=1)  # of other numbers: the saved ones are taken
    twins.train(5)
    resumed.train(1)
    file = io.BytesIO()
    torch.save(twins.stacked.state_dict(), file)
    file.seek(0)
    resumed.stacked.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(resumed.stacked.lr, twins.stacked.lr)
    for p, q in zip(twins.stack, resumed.stack, strict=True):
        q.data.copy_(p)
    for step in range(5):
        for p, q in zip(twins.stack, resumed.stack, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for opt in (twins.stacked, resumed.stacked):
            opt.param_groups[0]["lr"] = opt.lr * (1 - 0.1 * step)
            opt.step()
    assert all(torch.equal(p, q) for p, q in zip(twins.stack, resumed.stack, strict=True))


def test_stack_without_momentum_keeps_no_state():
    twins = Twins("sgd")
    twins.train(2)
    assert twins.stacked.state_dict()["state"] == {}


# --- the learning rate


def stack_of(kind=torch.optim.SGD, rates=(0.1, 0.2), numbers=None):
    p = torch.zeros(len(rates), 3, requires_grad=True)
    p.grad = torch.ones_like(p)
    return p, stacked(kind, [{"lr": lr, **(numbers or {})} for lr in rates], [p])


def test_driven_lr_is_used_and_defaults_keep_the_first():
    p, opt = stack_of(rates=(1.0, 2.0))
    opt.step()
    assert p[:, 0].tolist() == [-1, -2]
    opt.drive([(times({"lr": 1.0}), torch.tensor([0])), (times({"lr": 0.25}), torch.tensor([1]))], 0.0)
    opt.step()
    opt.step()
    assert p[:, 0].tolist() == [-3, -3]
    opt.drive([(times({"lr": 2.0}), torch.arange(2))], 0.0)
    opt.step()
    assert p[:, 0].tolist() == [-5, -7]
    assert opt.param_groups[0]["lr"] is opt.lr
    assert opt.defaults["lr"].tolist() == [1, 2]


def test_absolute_values_reach_every_member():
    p, opt = stack_of(rates=(1.0, 2.0))
    opt.drive([(linear(0.0, 4.0, absolute=True), torch.arange(2))], 0.75)
    opt.step()
    assert p[:, 0].tolist() == [-3, -3]


def test_step_returns_the_loss_of_its_closure():
    p, opt = stack_of()

    def closure():
        loss = (p - 1).square().sum()
        loss.backward()
        return loss

    assert opt.step() is None
    assert opt.step(closure).requires_grad


# --- what it does not do


SGD, ADAM, RMSPROP = torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop


def build(*made):
    return [cls([torch.zeros(3, requires_grad=True)], **options) for cls, options in made]


@pytest.mark.parametrize(
    "made, message",
    [
        ([(torch.optim.Adagrad, {}), (torch.optim.Adagrad, {})], "no stacked version of .*Adagrad"),
        ([(ADAM, {"amsgrad": True}), (ADAM, {"amsgrad": True})], "amsgrad=true"),
        ([(ADAM, {"amsgrad": True}), (ADAM, {})], "amsgrad differs"),
        ([(RMSPROP, {"centered": True}), (RMSPROP, {"centered": True})], "centered=true"),
        ([(SGD, {"maximize": True}), (SGD, {"maximize": True})], "maximize=true"),
        ([(SGD, {"momentum": 0.9, "dampening": 0.5}), (SGD, {})], "dampening differs"),
        ([(SGD, {"momentum": 0.9, "dampening": 0.5})], "dampening=0.5"),
        ([(SGD, {"momentum": 0.9, "nesterov": True}), (SGD, {})], "nesterov differs"),
        ([(ADAM, {}), (ADAM, {"decoupled_weight_decay": True})], "decoupled_weight_decay differs"),
        ([(SGD, {"lr": torch.tensor(0.1)}), (SGD, {"lr": torch.tensor(0.1)})], "lr .* plain numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_type_error_for(made, message):
    solo = build(*made)
    with pytest.raises(TypeError, match=message):
        stacked(made[0][0], [opt.defaults for opt in solo], [torch.zeros(len(solo), 3, requires_grad=True)])


def test_type_error_for_a_schedule_of_what_a_stack_does_not_drive():
    with pytest.raises(TypeError, match="a stack of SGD has no schedule of dropout"):
        stacked(SGD, [{"lr": 0.1}], [torch.zeros(1, 3)], driven=("lr", "momentum", "dropout"))


def test_type_error_for_half_precision():
    with pytest.raises(TypeError, match=r"not torch\.bfloat16"):
        stacked(SGD, [{"lr": 0.1}], [torch.zeros(1, 3, dtype=torch.bfloat16, requires_grad=True)])


def test_value_error_for_what_is_not_stacked_as_high_as_the_numbers():
    p, opt = stack_of()
    with pytest.raises(ValueError, match="stack of 3"):
        stacked(SGD, [{"lr": 0.1}] * 3, [p])
    with pytest.raises(ValueError, match="momentum must be float64"):
        StackedSGD([p], opt.defaults | {"momentum": torch.zeros(2)})


def test_how_fast_the_solo_optimiser_would_be_is_no_matter():
    solo = build((ADAM, {"foreach": True}), (ADAM, {"fused": True}))
    params = [torch.zeros(2, 3, requires_grad=True)]
    assert isinstance(stacked(ADAM, [opt.defaults for opt in solo], params), StackedAdam)
