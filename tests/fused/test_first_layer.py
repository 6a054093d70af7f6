"""A stack's first layer, with and without the zeros, on any number of cores, computes the dense float64 product."""

import sys

import pytest
import torch

from seedbed.data import rows
from seedbed.data.loader import Loader
from seedbed.data.row_product import RowLinear, RowLinears, networks_last, outputs_last
from seedbed.data.rows import Source
from seedbed.fused.build import build_stack
from seedbed.fused.checkpoints import StackCheckpoints
from seedbed.fused.cores import shares
from seedbed.training.build import Parts, build_data, build_trainer
from seedbed.training.datamodule import NORMALIZE

# relative to the largest number of the float64 result: float32's 6e-8 times the root of 150 summands
BOUND = 2e-6


def close(value: torch.Tensor, expected: torch.Tensor) -> bool:
    return (value - expected).abs().max() <= BOUND * expected.abs().max()


def floats(pixels: torch.Tensor, normalize: str) -> torch.Tensor:
    """The images as a model sees them, float64 [N, I]."""
    divisor, shift = NORMALIZE[normalize](pixels)
    return Loader((pixels, pixels), 1, divisor=divisor, shift=shift).convert(pixels).flatten(1).double()


@pytest.fixture(scope="module")
def pixels():
    """Two channels of 12 × 13 pixels, a fifth of them not 0."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (200, 2, 12, 13), generator=generator)
    return (pixels * (torch.rand(pixels.shape, generator=generator) < 0.2)).to(torch.uint8)


@pytest.mark.parametrize("layout", [networks_last, outputs_last], ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("outputs", [1, 5, 30, 70])
@pytest.mark.parametrize("normalize", NORMALIZE)
def test_first_layer_is_the_dense_product_in_float64(pixels, normalize, outputs, layout):
    torch.manual_seed(0)
    # the first image is empty
    pixels = torch.cat([torch.zeros_like(pixels[:1]), pixels[1:]])
    source = Source(pixels, *NORMALIZE[normalize](pixels))
    weight, bias = layout(torch.randn(9, outputs, 312)), torch.randn(9, outputs)
    x = floats(pixels, normalize)
    weight.requires_grad_(), bias.requires_grad_()
    rows = torch.randint(0, 200, (3, 64))
    rows[:, 0] = 0
    pieces = [(rows[0], slice(0, 2)), (rows[1], slice(2, 8)), (rows[2], slice(8, 9))]
    output = RowLinears.apply(weight, bias, source, pieces, torch.empty_like(weight))
    upstream = torch.randn_like(output)
    output.backward(upstream)

    exact = [p.detach().double().requires_grad_() for p in (weight, bias)]
    expected = torch.cat([
        torch.einsum("bi,moi->mbo", x[batch], exact[0][members]) + exact[1][members, None]
        for batch, members in pieces
    ])  # fmt: skip
    expected.backward(upstream.double())
    assert close(output, expected)
    assert close(weight.grad, exact[0].grad) and close(bias.grad, exact[1].grad)


def test_a_networks_bits_do_not_depend_on_the_others(pixels):
    """Nor on the number of columns that are computed together, as cores that share the members would have it."""
    source, weight, rows = Source(pixels, 255.0, 0.0), torch.randn(9, 7, 312), torch.arange(64)
    together = RowLinears.apply(networks_last(weight), None, source, [(rows, slice(0, 9))], None)
    for m in range(9):
        alone = RowLinear.apply(outputs_last(weight[m]), None, source, rows)
        assert torch.equal(alone, together[m])


def test_weights_in_another_order_are_refused(pixels):
    with pytest.raises(ValueError, match="beside each other"):
        RowLinear.apply(torch.randn(7, 312), None, Source(pixels, 255.0, 0.0), torch.arange(9))


def test_zeros_are_skipped_where_it_pays(pixels):
    sparse, dense = Source(pixels, 255.0, 0.0), Source(pixels.clamp_min(1), 255.0, 0.0)
    assert sparse.pays(300_000, 64) and not dense.pays(300_000, 64)
    assert not sparse.pays(1_000, 64) and not sparse.pays(300_000, 8)


@pytest.mark.parametrize(
    ("words", "groups", "path"),
    [
        (["seed=0"], 1, True),
        (["seed=0", "optim=adam", "data.normalize=standard", "loss=bce"], 1, True),
        (["model.hidden=[100]"], 3, True),
        ([], 9, True),
        (["model.hidden=[40]", "optim=adam", "data.normalize=standard", "loss=bce"], 9, True),
        (["model=linear", "+trainer.gradient_clip_val=0.1"], 3, True),
        (["data.batch_size=16"], 9, False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_cores_and_skipped_zeros_change_no_member(composed, tmp_path, monkeypatch, words, groups, path):
    # it pays in longer runs than this
    monkeypatch.setattr(rows, "LEAST_IMAGES", 0)
    config, _ = composed(*words, "trainer.max_epochs=1", "+trainer.limit_train_batches=9")
    configs = [{**config, "optim": {**config["optim"], "lr": 0.01 * (k + 1)}} for k in range(9)]

    def train(cores: int, may_skip: bool = True) -> dict[str, torch.Tensor]:
        data = build_data(configs[0])
        data.seed = list(range(groups))
        stack = build_stack(Parts(), configs, groups, data, may_skip=may_skip)
        assert stack.net.skips_zeros == (path and may_skip)
        before = torch.get_num_threads()
        torch.set_num_threads(cores)
        try:
            build_trainer(configs[0], False, [StackCheckpoints(tmp_path)]).fit(stack, data)
            assert torch.get_num_threads() == cores
        finally:
            torch.set_num_threads(before)
        return stack.final | {name: value for name, value in stack.history[-1].items()}

    one, two, plain = train(1), train(2), train(1, may_skip=False)
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name, value in plain.items():
        assert (one[name] - value).norm() <= 1e-4 * value.norm() + 1e-12, name


def test_without_the_compiler_the_product_is_dense(composed, monkeypatch):
    # Python's way to say that a module cannot be imported
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    config, _ = composed()
    stack = build_stack(Parts(), [config] * 9, 9, build_data(config))
    assert not stack.net.skips_zeros and not stack.takes_rows


def test_shares_hold_every_member_once():
    for members, cores in ((1, 4), (5, 2), (100, 3), (7, 7)):
        found = shares(members, cores)
        assert [m for share in found for m in range(share.start, share.stop)] == list(range(members))
