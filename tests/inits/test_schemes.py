"""Every init gives each layer the distribution of its formula.

The standard deviation of n samples is known to about 1/√(2n): the narrowest weight here has 51,200 entries, 0.3 %, so
WITHIN = 2 % is more than six of these and no seed fails by chance.
"""

import math

import pytest
import torch
from torch import nn

from seedbed.inits import schemes as inits
from seedbed.models.linear import linear_scratch

WITHIN = 0.02
# layer → fan_in, fan_out: receptive field × channels
FANS = {"linear": (1024, 256), "scratch": (1024, 256), "conv": (25 * 32, 25 * 64)}
RANDOM = [
    inits.normal,
    inits.kaiming_normal,
    inits.kaiming_uniform,
    inits.kaiming_scratch,
    inits.xavier_normal,
    inits.xavier_uniform,
    inits.orthogonal,
    inits.lecun_normal,
]


def network(kind):
    torch.manual_seed(0)
    if kind == "scratch":
        return linear_scratch((1, 32, 32), 256)
    return nn.Sequential(nn.Linear(1024, 256) if kind == "linear" else nn.Conv2d(32, 64, 5))


def weights(init, kind, **options):
    """The only weight of a network after the init, float64."""
    net = network(kind)
    init(net, **options)
    (layer,) = inits.layers(net)
    return layer.weight.detach().double()


def beyond_one_std(w):
    """Share of entries more than one standard deviation from 0: 1 − erf(1/√2) of a normal, 1 − 1/√3 of a uniform."""
    return (w.abs() > w.std()).double().mean().item()


NORMAL, UNIFORM = 1 - math.erf(1 / math.sqrt(2)), 1 - 1 / math.sqrt(3)  # 0.317 and 0.423


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("a", [0.0, 1.0, math.sqrt(5)])
@pytest.mark.parametrize(
    ("init", "shape"), [(inits.kaiming_normal, NORMAL), (inits.kaiming_uniform, UNIFORM)], ids=["normal", "uniform"]
)
def test_kaiming_std_is_gain_over_the_root_of_the_fan(init, shape, a, mode, kind):
    w = weights(init, kind, a=a, mode=mode)
    fan = FANS[kind][mode == "fan_out"]
    assert w.std().item() == pytest.approx(math.sqrt(2 / (1 + a**2)) / math.sqrt(fan), rel=WITHIN)
    assert beyond_one_std(w) == pytest.approx(shape, rel=WITHIN)
    assert abs(w.mean()) < 0.02 * w.std()  # known to 1/√n = 0.4 % of the std


@pytest.mark.parametrize(("a", "gain"), [(1.0, "1.0000"), (0.0, "1.4142"), (math.sqrt(5), "0.5774")])
def test_kaiming_gain_to_the_printed_digits(a, gain):
    w = weights(inits.kaiming_uniform, "linear", a=a)  # 262,144 entries: the largest is within 1e-5 of the bound …
    assert f"{w.abs().max() * math.sqrt(FANS['linear'][0] / 3):.4f}" == gain  # … ±gain·√(3/fan)


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("a", [0.0, 1.0, math.sqrt(5)])
@pytest.mark.parametrize("uniform", [False, True])
def test_kaiming_from_scratch_gives_the_bits_of_pytorchs(kind, mode, a, uniform):
    found = network(kind)
    inits.kaiming_scratch(found, a=a, mode=mode, uniform=uniform)
    (layer,) = inits.layers(network(kind))  # leaves the generator where the other network left it
    (nn.init.kaiming_uniform_ if uniform else nn.init.kaiming_normal_)(layer.weight, a, mode)
    assert torch.equal(next(inits.layers(found)).weight, layer.weight)


@pytest.mark.parametrize("kind", FANS)
def test_fans_are_channels_times_the_receptive_field(kind):
    assert inits.fans(next(inits.layers(network(kind))).weight) == FANS[kind]


@pytest.mark.parametrize(("a", "gain"), [(1.0, "1.0000"), (0.0, "1.4142"), (math.sqrt(5), "0.5774")])
def test_kaiming_scratch_gain_to_the_printed_digits(a, gain):
    w = weights(inits.kaiming_scratch, "linear", a=a, uniform=True)
    assert f"{w.abs().max() * math.sqrt(FANS['linear'][0] / 3):.4f}" == gain


def test_lecun_normal_with_selu_normalises_itself_through_32_layers():
    torch.manual_seed(0)
    blocks = [layer for _ in range(32) for layer in (nn.Linear(512, 512), nn.SELU())]
    net = nn.Sequential(*blocks)
    inits.lecun_normal(net)
    out = net(torch.randn(512, 512))
    assert abs(out.mean().item()) < 0.2 and 0.7 < out.var().item() < 1.4  # the fixed point of the paper: 0 and 1


@pytest.mark.parametrize(("nonlinearity", "gain"), [("linear", 1), ("relu", math.sqrt(2)), ("tanh", 5 / 3)])
def test_kaiming_gain_follows_the_nonlinearity(nonlinearity, gain):
    w = weights(inits.kaiming_normal, "linear", nonlinearity=nonlinearity)
    assert w.std().item() == pytest.approx(gain / math.sqrt(1024), rel=WITHIN)


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize("gain", [1.0, 3.0])
@pytest.mark.parametrize(
    ("init", "shape"), [(inits.xavier_normal, NORMAL), (inits.xavier_uniform, UNIFORM)], ids=["normal", "uniform"]
)
def test_xavier_std_is_gain_times_root_of_2_over_fan_in_plus_fan_out(init, shape, gain, kind):
    w = weights(init, kind, gain=gain)
    assert w.std().item() == pytest.approx(gain * math.sqrt(2 / sum(FANS[kind])), rel=WITHIN)
    assert beyond_one_std(w) == pytest.approx(shape, rel=WITHIN)


@pytest.mark.parametrize("kind", FANS)
def test_lecun_normal_std_is_1_over_the_root_of_fan_in(kind):
    w = weights(inits.lecun_normal, kind)
    assert w.std().item() == pytest.approx(1 / math.sqrt(FANS[kind][0]), rel=WITHIN)
    assert beyond_one_std(w) == pytest.approx(NORMAL, rel=WITHIN)


@pytest.mark.parametrize("gain", [1.0, 2.0])
@pytest.mark.parametrize("layer", [nn.Linear(64, 256), nn.Linear(256, 64), nn.Conv2d(8, 256, 3), nn.Conv2d(32, 16, 3)])
def test_orthogonal_columns_or_rows_have_gram_matrix_gain_squared(layer, gain):
    inits.orthogonal(layer, gain=gain)
    w = layer.weight.detach().double().flatten(1)  # [out, fan_in]
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    # 1e-5: float32 rounds each of up to 288 products to 6e-8
    torch.testing.assert_close(gram, gain**2 * torch.eye(len(gram), dtype=torch.double), rtol=0, atol=1e-5 * gain**2)


@pytest.mark.parametrize("init", RANDOM)
def test_channels_last_kernels_have_the_std_of_contiguous_ones(init):
    net = network("conv").to(memory_format=torch.channels_last)
    init(net)
    w = net[0].weight
    assert w.is_contiguous(memory_format=torch.channels_last)
    assert w.std().item() == pytest.approx(weights(init, "conv").std().item(), rel=WITHIN)


def test_orthogonal_gives_channels_last_kernels_the_same_numbers():
    net = network("conv").to(memory_format=torch.channels_last)
    inits.orthogonal(net)
    assert torch.equal(net[0].weight.double(), weights(inits.orthogonal, "conv"))


@pytest.mark.parametrize("std", [1.0, 0.01])
def test_normal_draws_weights_and_biases_with_its_std(std):
    layer = nn.Linear(64, 20_000)
    inits.normal(layer, std=std)
    for p in (layer.weight, layer.bias):  # 20,000 biases: their std is known to 0.5 %, a fourth of WITHIN
        assert p.std().item() == pytest.approx(std, rel=WITHIN)
        assert beyond_one_std(p.detach()) == pytest.approx(NORMAL, rel=0.05)  # a share of 20,000: known to 1 %


@pytest.mark.parametrize("kind", FANS)
def test_default_leaves_everything_as_it_is(kind):
    net = network(kind)
    before = {name: p.clone() for name, p in net.state_dict().items()}
    inits.default(net)
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_default_is_kaiming_uniform_with_a_root_5(kind):
    w, same = weights(inits.default, kind), weights(inits.kaiming_uniform, kind, a=math.sqrt(5))
    assert w.std().item() == pytest.approx(same.std().item(), rel=WITHIN)
    assert w.abs().max().item() == pytest.approx(1 / math.sqrt(FANS[kind][0]), rel=1e-3)


@pytest.mark.parametrize("kind", FANS)
@pytest.mark.parametrize("init", [init for init in RANDOM if init is not inits.normal])
def test_biases_become_zero(init, kind):
    net = network(kind)
    init(net)
    (layer,) = inits.layers(net)
    assert layer.bias.eq(0).all()


@pytest.mark.parametrize("init", RANDOM)
def test_every_layer_is_drawn_anew_and_normalisation_is_left_alone(init):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 3)),
    )
    before = {name: p.clone() for name, p in net.state_dict().items()}
    init(net)
    changed = {name for name, p in net.state_dict().items() if not torch.equal(p, before[name])}
    assert changed == {"0.weight", "2.1.weight", "2.1.bias", "2.2.weight", "2.2.bias"}


@pytest.mark.parametrize("init", RANDOM)
def test_weights_follow_from_the_global_seed(init):
    assert torch.equal(weights(init, "linear"), weights(init, "linear"))
