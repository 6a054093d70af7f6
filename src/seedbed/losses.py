"""A loss is an nn.Module: (output [B, K], target [B]) → scalar, that says how many outputs K it wants.

It also says how a prediction is read from the output (`predict`) and which last layer the network needs (`finish`):
both follow from the loss, so that nothing else in a config has to change with it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedbed.from_scratch import log_softmax


class Loss(nn.Module):
    """A loss with an output for each class, argmax as the prediction and no extra last layer, unless overridden."""

    def finish(self, net: nn.Module) -> nn.Module:
        """Return the network with the last layer that this loss needs."""
        return net

    def num_outputs(self, num_classes: int | None) -> int:
        """Return K for C classes, or for numbers as targets (None). Raises ValueError for targets it does not take."""
        if num_classes is None:
            raise ValueError(f"{type(self).__name__} needs classes, and this data's targets are numbers: mse, rmse, l1")
        return num_classes

    def predict(self, output: Tensor) -> Tensor:
        """Return the predicted class of each row: [B, K] → [B]."""
        return output.argmax(1)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the probability of each class: [B, K] → [B, C]."""
        return output.softmax(1)  # right for log-probabilities too


class TargetLoss(Loss):
    """A loss against numbers: for two classes the 0/1 target itself (K = 1), for more its one-hot row."""

    threshold = 0.0  # an output above it means class 1, where K = 1

    def num_outputs(self, num_classes: int | None) -> int:
        return 1 if num_classes == 2 else super().num_outputs(num_classes)

    def predict(self, output: Tensor) -> Tensor:
        return (output[:, 0] > self.threshold).long() if output.shape[1] == 1 else output.argmax(1)

    def estimate(self, output: Tensor) -> Tensor:
        """Return the output as numbers in 0–1, as the loss compares them with the target."""
        return output.sigmoid()

    def probabilities(self, output: Tensor) -> Tensor:
        p = self.estimate(output)
        return torch.cat([1 - p, p], 1) if p.shape[1] == 1 else p

    def numbers(self, output: Tensor, target: Tensor) -> Tensor:
        """Return targets [B], class indices or numbers, as numbers of the output's shape [B, K].

        For a stack: targets [m, B] or [B] for an output [m, B, K].
        """
        if output.dim() < 2:
            raise ValueError(f"the output must be [B, K]: got {[*output.shape]}")
        target, outputs = target.unsqueeze(-1), output.shape[-1]
        if outputs == 1:
            return target.to(output.dtype)
        # a comparison instead of F.one_hot, which looks for the largest value and so waits for a GPU
        return (target == torch.arange(outputs, device=target.device)).to(output.dtype)


class MnistLoss(TargetLoss):
    """Mean of 1 − p where the target is 1 and p where it is 0, with p = sigmoid(output) (fastbook ch. 4)."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        # the last two dimensions, because this loss STACKS
        return (self.numbers(output, target) - output.sigmoid()).abs().mean((-2, -1))


class BCE(TargetLoss):
    """Binary cross-entropy from logits."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output, self.numbers(output, target))


class ErrorLoss(TargetLoss):
    """A loss of the output itself (no sigmoid) against the 0/1 target, or against a number."""

    threshold = 0.5

    def num_outputs(self, num_classes: int | None) -> int:
        return 1 if num_classes is None else super().num_outputs(num_classes)

    def estimate(self, output: Tensor) -> Tensor:
        return output.clamp(0, 1)


class MSE(ErrorLoss):
    """Mean squared error; half of it with half=True, so that the gradient is the error itself."""

    def __init__(self, half: bool = False):
        super().__init__()
        self.half = half

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        mse = F.mse_loss(output, self.numbers(output, target))
        return mse / 2 if self.half else mse


class RMSE(ErrorLoss):
    """Square root of the mean squared error; at an error of 0 its gradient is 0, not the nan of a bare root."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        mse = F.mse_loss(output, self.numbers(output, target))
        return mse.clamp_min(torch.finfo(mse.dtype).tiny).sqrt()


class L1(ErrorLoss):
    """Mean absolute error."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(output, self.numbers(output, target))


class CrossEntropy(Loss):
    """PyTorch's softmax cross-entropy from logits."""

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, label_smoothing=self.label_smoothing)


class CrossEntropyScratch(Loss):
    """Softmax cross-entropy written from scratch: the mean of the picked negative log-probabilities."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return -log_softmax(output).gather(1, target.unsqueeze(1)).mean()


class NLL(Loss):
    """Negative log-likelihood; the network ends in a log-softmax layer."""

    def finish(self, net: nn.Module) -> nn.Module:
        return nn.Sequential(net, nn.LogSoftmax(dim=1))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(output, target)


# losses that take an output [m, B, K] with targets [m, B] or [B], too, and return the losses [m] of m networks. Others
# do so under vmap, for 0.2 ms more.
STACKS = (MnistLoss,)
