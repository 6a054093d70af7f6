"""The loader gives every sample once, in an order that follows from (seed, epoch), on any number of ranks."""

from itertools import chain

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seedbed.data import loader
from seedbed.data.loader import Loader, Order
from seedbed.errors import ConfigError
from seedbed.training.datamodule import NORMALIZE

SIZES = {"size": st.integers(1, 60), "batch_size": st.integers(1, 20), "drop_last": st.booleans()}
# pixels converted by one call: a batch, some batches, all of them
BLOCKS = {"block": st.sampled_from([1, 100, 250_000])}


def split(size, shape=(1, 2, 2)):
    """Return random pictures; the target of picture k is k, so that a batch tells which samples it holds."""
    pixels = torch.randint(256, (size, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return pixels, torch.arange(size)


def samples(batches):
    return [y.tolist() for _, y in batches]


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return list(loader)


def assert_equal(batches, expected):
    assert samples(batches) == samples(expected)
    assert all(torch.equal(x, other) for (x, _), (other, _) in zip(batches, expected, strict=True))


def order(seed, epoch, size=1000):
    sampler = Order(size, seed)
    sampler.set_epoch(epoch)
    return sampler.indices().tolist()


def test_order_follows_from_seed_and_epoch_alone():
    first = order(3, 5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert order(3, 5) == first  # in a new object, and whatever the global generator
    assert torch.equal(torch.get_rng_state(), state)  # which is not drawn from


def test_order_differs_for_every_seed_and_epoch():
    orders = {tuple(order(seed, epoch)) for seed in range(8) for epoch in range(8)}
    assert len(orders) == 64


def test_order_of_a_seed_is_the_recorded_one():
    assert order(0, 0, size=10) == [6, 3, 1, 5, 8, 7, 0, 2, 9, 4]
    assert order(42, 0, size=10) == [0, 4, 2, 7, 8, 3, 9, 5, 1, 6]


def test_without_a_seed_the_order_is_that_of_the_set():
    assert order(None, 4) == list(range(1000))


@settings(deadline=None)
@given(seed=st.none() | st.integers(0, 2**32), **SIZES, **BLOCKS)
def test_epoch_is_a_permutation_cut_into_batches(size, batch_size, drop_last, seed, block):
    assume(size >= batch_size or not drop_last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "BLOCK", block)
        x, y = split(size)
        loads = Loader((x, y), batch_size, seed=seed, drop_last=drop_last)
        batches = list(loads)
        expected = order(seed, 0, size)[: size // batch_size * batch_size if drop_last else size]
    assert samples(batches) == [expected[k : k + batch_size] for k in range(0, len(expected), batch_size)]
    assert len(batches) == len(loads)
    assert sorted(expected) == list(range(size)) or drop_last
    for pixels, targets in batches:
        assert torch.equal(pixels, x[targets] / 255)


@settings(deadline=None)
@given(world=st.integers(1, 5), **SIZES, **BLOCKS)
def test_ranks_share_every_batch_without_loss_or_repetition(size, batch_size, drop_last, world, block):
    assume(size >= batch_size * world or not drop_last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "BLOCK", block)
        ranks = [
            Loader(split(size), batch_size, seed=7, drop_last=drop_last, rank=rank, world=world)
            for rank in range(world)
        ]
        given = [samples(rank) for rank in ranks]
        (together,) = {len(rank) for rank in ranks}
        for shares in zip(*ranks, strict=True):
            assert {rank.per_rank for rank in ranks} == {sum(len(y) for _, y in shares) / world}
    whole = samples(Loader(split(size), batch_size * world, seed=7, drop_last=drop_last))
    assert {len(batches) for batches in given} == {together} == {len(whole)}
    for k, batch in enumerate(whole):
        shares = [batches[k] for batches in given]
        assert sorted(chain(*shares)) == sorted(batch)
        assert max(map(len, shares)) <= batch_size
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 3), (2, 3)])
@pytest.mark.parametrize("position", [0, 1, 3, 4, 5, 9, "end"])  # 4 batches to a block
def test_pass_resumed_anywhere_gives_the_same_remaining_batches(monkeypatch, position, rank, world):
    monkeypatch.setattr(loader, "BLOCK", 4 * 8 * 4)
    options = {"batch_size": 8, "seed": 1, "rank": rank, "world": world}
    first, second = (Loader(split(103 * world - 1), **options) for _ in range(2))
    position = len(first) if position == "end" else position
    first.sampler.set_epoch(2)
    whole = []
    for batch in first:
        whole.append(batch)
        if len(whole) == position:
            state = first.state_dict()
    second.load_state_dict(state if position else {"epoch": 2, "position": 0})
    assert_equal(epoch(second, 2), whole[position:])
    assert_equal(epoch(second, 2), whole)  # the second pass starts at its first batch
    assert_equal(epoch(second, 3), epoch(first, 3))


def test_state_of_another_epoch_does_not_shorten_a_pass():
    loads = Loader(split(50), 8, seed=1)
    loads.load_state_dict({"epoch": 2, "position": 3})
    assert_equal(epoch(loads, 4), epoch(Loader(split(50), 8, seed=1), 4))


def test_abandoned_pass_does_not_shift_the_next():
    loads, fresh = Loader(split(50), 8, seed=1), Loader(split(50), 8, seed=1)
    assert len(list(zip(range(3), loads, strict=False))) == 3
    assert_equal(epoch(loads, 0), epoch(fresh, 0))
    next(iter(loads))
    assert_equal(epoch(loads, 1), epoch(fresh, 1))


def standard(x, train):
    """(x − mean)/std of the training set, a channel at a time."""
    std, mean = torch.std_mean(train, (0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / std


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("normalize", "formula"),
    [
        ("unit", lambda x, train: x),
        ("symmetric", lambda x, train: (x - 0.5) / 0.5),
        ("standard", standard),
    ],
    ids=["unit", "symmetric", "standard"],
)
def test_normalize_converts_pixels_by_its_formula(normalize, formula, channels):
    train, other = split(300, (channels, 7, 5))[0], split(20, (channels, 7, 5))
    train[:, 0] //= 3  # channels of different mean and std
    divisor, shift = NORMALIZE[normalize](train)
    ((x, _),) = Loader(other, 20, divisor=divisor, shift=shift)
    assert x.dtype == torch.float32
    expected = formula(other[0].double() / 255, train.double() / 255)
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [1, 20, 250_000])
def test_kept_floats_are_given_again_unless_somebody_has_changed_them(monkeypatch, block):
    monkeypatch.setattr(loader, "BLOCK", block)
    plain, keeping = Loader(split(23), 5), Loader(split(23), 5, keep=True)
    with torch.inference_mode():  # as Lightning validates
        first = list(keeping)
        assert_equal(keeping, plain)
        assert [x.data_ptr() for x, _ in keeping] == [x.data_ptr() for x, _ in first]
        first[2][0].view(-1)[0].add_(1)
        assert_equal(keeping, plain)
    monkeypatch.setattr(loader, "KEPT", 4 * 23 * 4 - 1)
    large = Loader(split(23), 5, keep=True)
    assert not large.keep


def test_batches_kept_in_a_list_are_not_overwritten_and_do_not_touch_the_set():
    x, y = split(100)
    loads = Loader((x.clone(), y.clone()), 8, seed=1)
    kept, copies = [], []
    for batch in loads:
        kept.append(batch)
        copies.append([t.clone() for t in batch])
    list(loads)
    assert all(torch.equal(t, copy) for pair in zip(kept, copies, strict=True) for t, copy in zip(*pair, strict=True))
    for pixels, targets in kept:
        pixels.zero_(), targets.zero_()
    assert torch.equal(loads.x, x) and torch.equal(loads.y, y)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.drop_last=true", "data.batch_size=20000"], "data.batch_size=20000: larger than the split of 12396"),
        (["+trainer.limit_train_batches=0"], "trainer.limit_train_batches=0: leaves none of 49 batches"),
        (["+trainer.limit_train_batches=0.02"], "trainer.limit_train_batches=0.02: leaves none of 49 batches"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_run_without_a_batch_is_refused_before_it_trains(fit, overrides, message):
    with pytest.raises(ConfigError) as raised:
        fit("trainer.max_epochs=1", *overrides)
    assert str(raised.value).startswith(message)


def test_a_limit_of_one_batch_trains_one(fit):
    assert fit("trainer.max_epochs=1", "+trainer.limit_train_batches=0.021").metrics["steps"] == 1


def test_ranks_that_get_no_whole_batch_are_refused():
    assert len(Loader(split(20), 10, drop_last=True, world=2)) == 1
    with pytest.raises(ValueError, match=r"data\.batch_size=11 on 2 devices: larger than the split of 20 samples"):
        Loader(split(20), 11, drop_last=True, world=2)
