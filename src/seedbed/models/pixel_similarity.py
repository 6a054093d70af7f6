"""A baseline that learns nothing by gradient: the class whose mean picture is nearest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from seedbed.models.convnet import require_images

NORMS = {"l1": 1.0, "l2": 2.0}


class PixelSimilarity(nn.Module):
    """Scores classes by how near an image is to the mean of their training images (fastbook ch. 4).

    means: [C, *in_shape], zero until `fit`. distance: l1 (mean absolute difference) or l2 (root mean squared one).
    The output is minus the distances, [B, C]. With one output for two classes it is [B, 1]: how much nearer class 1 is
    than class 0, plus 1 where it is nearer, so that thresholds of 0 and of 0.5 both decide right.
    """

    def __init__(self, in_shape: Sequence[int], num_outputs: int, distance: str = "l1"):
        super().__init__()
        require_images("pixel_similarity", in_shape)
        self.num_outputs, self.norm = num_outputs, NORMS[distance]
        self.register_buffer("means", torch.zeros(max(2, num_outputs), *in_shape))

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take the means of all images x [B, *in_shape] with target y [B]; a class without images keeps zeros."""
        sums = torch.zeros_like(self.means, dtype=torch.float64)
        counts = torch.zeros(len(sums), dtype=torch.float64)
        for x, y in batches:
            sums.index_add_(0, y.cpu(), x.cpu().double())
            counts += y.cpu().bincount(minlength=len(sums))
        self.means.copy_((sums.flatten(1) / counts.clamp_min(1)[:, None]).view_as(sums))

    def forward(self, x: Tensor) -> Tensor:
        # float32 errs by 3e-7, and the two nearest means of an image of MNIST can be 1e-6 apart; MPS has no float64
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        x, means = x.to(wide).flatten(1), self.means.to(wide).flatten(1)
        distance = torch.cdist(x, means, self.norm, compute_mode="donot_use_mm_for_euclid_dist")
        distance = distance / x.shape[1] ** (1 / self.norm)  # from a norm over all pixels to a mean over them
        if self.num_outputs > 1:
            return -distance
        nearer = distance[:, :1] - distance[:, 1:]
        return nearer + (nearer > 0)
