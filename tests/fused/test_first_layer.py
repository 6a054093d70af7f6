"""A stack's first layer, with and without the zeros, on any number of cores, computes the dense float64 product."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from seedbed.data.loader import Loader
from seedbed.data.rows import Source
from seedbed.fused import own_batches
from seedbed.fused.build import build_stack
from seedbed.fused.checkpoints import StackCheckpoints
from seedbed.fused.cores import shares
from seedbed.fused.first_layer import FirstLayer, own_layout, skipping_layout
from seedbed.fused.own_batches import OwnBatches
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


@pytest.mark.parametrize(
    ("outputs", "by_member"), [(1, False), (30, False), (1, True), (30, True), (70, True)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("normalize", NORMALIZE)
def test_first_layer_is_the_dense_product_in_float64(pixels, normalize, outputs, by_member):
    torch.manual_seed(0)
    # the first image is empty
    pixels = torch.cat([torch.zeros_like(pixels[:1]), pixels[1:]])
    source = Source(pixels, *NORMALIZE[normalize](pixels))
    weight, bias = torch.randn(9, outputs, 312), torch.randn(9, outputs)
    weight = (own_layout if by_member else skipping_layout)(weight)
    x = floats(pixels, normalize)
    weight.requires_grad_(), bias.requires_grad_()
    rows = torch.randint(0, 200, (3, 64))
    rows[:, 0] = 0
    pieces = [(rows[0], slice(0, 2)), (rows[1], slice(2, 8)), (rows[2], slice(8, 9))]
    if by_member:
        own = rows[torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 2])]
        output = OwnBatches.apply(weight, bias, source, own, torch.empty_like(weight))
    else:
        output = FirstLayer.apply(weight, bias, source, pieces, torch.empty_like(weight))
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


def test_empty_images_and_large_batches_have_lists(pixels):
    images = torch.cat([torch.zeros_like(pixels[:1]), pixels, torch.zeros_like(pixels[:1])])
    source = Source(images, 255.0, 0.0)
    rows = torch.arange(len(images)).repeat(5)
    lists, batch = source.lists(rows)
    x = floats(images, "unit")[rows]
    weight, gradient = torch.randn(312, 3), torch.randn(len(rows), 3)
    assert close(lists.times(weight), x @ weight.double())
    assert close(source.transposed(batch).times(gradient), x.T @ gradient.double())


def test_zeros_are_skipped_where_it_pays(pixels):
    sparse, dense = Source(pixels, 255.0, 0.0), Source(pixels.clamp_min(1), 255.0, 0.0)
    assert sparse.skips(300, 256) and not sparse.skips(30, 256) and not dense.skips(300, 256)
    # a row's number would not fit beside the column and the pixel
    assert not sparse.skips(300, 2**16)


@pytest.mark.parametrize(
    ("words", "groups", "path"),
    [
        (["seed=0"], 1, "skips zeros"),
        (["seed=0", "optim=adam", "data.normalize=standard", "loss=bce"], 1, "skips zeros"),
        (["model.hidden=[100]"], 3, "skips zeros"),
        ([], 9, "skips zeros, compiled"),
        ([], 3, None),
        (["model.hidden=[40]", "optim=adam", "data.normalize=standard", "loss=bce"], 9, "skips zeros, compiled"),
        (["model=linear", "+trainer.gradient_clip_val=0.1"], 9, "skips zeros, compiled"),
        (["data.batch_size=32"], 9, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_cores_and_skipped_zeros_change_no_member(composed, tmp_path, words, groups, path):
    config, _ = composed(*words, "trainer.max_epochs=1", "+trainer.limit_train_batches=9")
    configs = [{**config, "optim": {**config["optim"], "lr": 0.01 * (k + 1)}} for k in range(9)]

    def train(cores: int, by_rows: bool = True) -> dict[str, torch.Tensor]:
        data = build_data(configs[0])
        data.seed = list(range(groups))
        stack = build_stack(Parts(), configs, groups, data, by_rows=by_rows)
        assert stack.net.first_layer == (path if by_rows else None)
        before = torch.get_num_threads()
        torch.set_num_threads(cores)
        try:
            build_trainer(configs[0], False, [StackCheckpoints(tmp_path)]).fit(stack, data)
            assert torch.get_num_threads() == cores
        finally:
            torch.set_num_threads(before)
        return stack.final | {name: value for name, value in stack.history[-1].items()}

    one, two, plain = train(1), train(2), train(1, by_rows=False)
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name, value in plain.items():
        assert (one[name] - value).norm() <= 1e-4 * value.norm() + 1e-12, name


def test_without_numba_the_product_is_dense(composed, monkeypatch):
    # Python's way to say that a module cannot be imported
    monkeypatch.setitem(sys.modules, "numba", None)
    config, _ = composed()
    stack = build_stack(Parts(), [config] * 9, 9, build_data(config))
    assert stack.net.first_layer is None and not stack.takes_rows


def test_compiled_loops_need_no_folder_to_be_kept_in(tmp_path):
    """As in an installation that nobody may write to, for a user without a home."""
    shutil.copy(own_batches.__file__, tmp_path / "own_batches.py")
    in_the_way = tmp_path / "__pycache__"
    in_the_way.touch()
    nowhere = {"HOME": str(in_the_way), "XDG_CACHE_HOME": str(in_the_way), "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import own_batches"], env=os.environ | nowhere, check=True)


def test_shares_hold_every_member_once():
    for members, cores in ((1, 4), (5, 2), (100, 3), (7, 7)):
        found = shares(members, cores)
        assert [m for share in found for m in range(share.start, share.stop)] == list(range(members))
