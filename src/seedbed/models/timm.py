"""Any classification network of timm, by its name."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedbed.models.convnet import require_images

# it says that it will fetch weights, before that may fail
logging.getLogger("timm").setLevel(logging.WARNING)


class Resize(nn.Module):
    """Images [B, C, H, W] → [B, C, size, size], bilinear, antialiased where they shrink."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        shrinks = self.size < max(x.shape[-2:])
        return F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=shrinks)


def timm(
    in_shape: Sequence[int],
    num_outputs: int,
    name: str,
    image_size: int | None = None,
    pretrained: bool = False,
    **options: Any,
) -> nn.Module:
    """timm's network `name` with as many input channels as the images have.

    image_size: pixels to which images are resized on the device; None: they stay as they are. pretrained: start from
    timm's weights, which `init=default` keeps. options: timm's own, such as drop_rate and drop_path_rate.
    Raises ValueError for a name or an option that timm does not know, for weights that cannot be fetched, and for a
    network that does not take images of that size.
    """
    from timm import create_model, is_model, is_model_pretrained, list_models  # a second of import

    require_images("timm", in_shape)
    if not is_model(name):
        near = difflib.get_close_matches(name, list_models(), n=5)
        raise ValueError(f"timm has no model {name}" + f"; near it: {', '.join(near)}" * bool(near))
    if pretrained and not is_model_pretrained(name):
        raise ValueError(f"pretrained: timm has no weights of {name}")
    try:
        with _hub() if pretrained else nullcontext():
            net = create_model(name, pretrained, in_chans=in_shape[0], num_classes=num_outputs, **options)
    except OSError as error:
        needs = "a connection to huggingface.co, or the file in its cache ($HF_HOME)"
        raise ValueError(f"pretrained: the weights of {name} need {needs}: {_first_line(error)}") from error
    except (RuntimeError, TypeError, AssertionError, KeyError) as error:
        raise ValueError(f"timm does not build {name} as a classifier: {_first_line(error)}") from error
    usual = net.pretrained_cfg.get("input_size", (3, 224, 224))[-1]
    if image_size:
        net = nn.Sequential(Resize(image_size), net)
        # [C, H, W], by which evaluation sizes its batches
        net.resized = (in_shape[0], image_size, image_size)
    _try(net, in_shape, num_outputs, name, image_size, usual)
    return net


@contextmanager
def _hub() -> Iterator[None]:
    """Restrict the hub's client to its cache if the hub does not answer within 5 s.

    Otherwise the client would try for most of a minute and log every attempt.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()
    except HTTPError:
        pass
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _try(net: nn.Module, in_shape: Sequence[int], outputs: int, name: str, image_size: int | None, usual: int) -> None:
    """Pass one image through the network; raise ValueError unless the output is [1, outputs]."""
    height, width = (image_size, image_size) if image_size else in_shape[1:]
    refusal = f"timm's {name} does not take images of {height}×{width} pixels (usual: model.image_size={usual})"
    try:
        with torch.no_grad():
            shape = tuple(net.eval()(torch.zeros(1, *in_shape)).shape)
    except (RuntimeError, AssertionError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{refusal}: {_first_line(error)}") from error
    finally:
        net.train()
    if shape != (1, outputs):
        raise ValueError(f"timm's {name} puts out {shape} for one image, not (1, {outputs}): it is no classifier")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
