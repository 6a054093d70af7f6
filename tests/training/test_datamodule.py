"""The DataModule sizes the batches of evaluation by what the network works on."""

import pytest
from torch import nn

from seedbed.training.datamodule import EVAL_BATCH, DataModule


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((1,), EVAL_BATCH),
        ((1, 14, 14), EVAL_BATCH),
        ((1, 28, 28), EVAL_BATCH),
        ((3, 28, 28), EVAL_BATCH),
        ((1, 56, 56), EVAL_BATCH // 4),
        ((3, 224, 224), EVAL_BATCH // 64),
        ((1, 4096, 4096), 1),
    ],
)
def test_evaluation_batch_has_at_most_the_pixels_of_mnists(shape, rows):
    data = DataModule(dict, batch_size=1, seed=0)
    data.evaluate_for(shape)
    assert data.eval_batch == rows


@pytest.mark.parametrize(("size", "rows"), [("null", EVAL_BATCH), ("28", EVAL_BATCH), ("112", EVAL_BATCH // 16)])
def test_network_that_resizes_its_images_sizes_the_batches(composed, size, rows):
    from seedbed.training.build import Parts, build_data

    config, _ = composed("model=timm", f"model.image_size={size}", "loss=nll")  # nll wraps the network
    data = build_data(config)
    net, _ = Parts().net(config, data)
    assert isinstance(net, nn.Module) and data.val_dataloader().batch_size == rows
