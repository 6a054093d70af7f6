"""The LightningModule of the course's GAN: a generator and its critic, trained in turns."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from seedbed.errors import ConfigError
from seedbed.metrics import GENERATOR_LOSS, TRAIN_LOSS
from seedbed.training.loss_record import LossRecord
from seedbed.training.supervised import Supervised

FAKE, REAL = 0, 1  # the critic's classes


class GAN(Supervised):
    """Trains a critic to tell real pictures from generated ones, and a generator to deceive it.

    Each step updates the critic, then the generator (Goodfellow et al. 2014, the non-saturating form). The
    loss is that of a classifier of fake (0) and real (1): bce is the paper's, mse the least-squares GAN's. Each network
    has its own optimiser; both follow the schedule. Logs train/loss (the critic's), train/generator_loss, lr, and as
    val/loss the Fréchet distance between the pixels of the validation pictures and of as many generated ones.
    """

    LOSSES = (TRAIN_LOSS, GENERATOR_LOSS)

    def __init__(self, net: nn.Module, *parts: Any):
        super().__init__(net, *parts)
        pairs = [m for m in net.modules() if hasattr(m, "generator")]
        if not pairs:
            raise ValueError("a GAN needs a generator beside its critic: model=gan")
        self.generator, self.latent = pairs[0].generator, pairs[0].latent
        # the critic's loss and the generator's
        self.record = LossRecord((2,))
        self._validation_pictures: list[Tensor] = []

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1:
            raise ConfigError("a GAN trains on one device; use trainer.devices=1")
        if (accumulate := self.trainer.accumulate_grad_batches) > 1:
            raise ConfigError(f"trainer.accumulate_grad_batches={accumulate}: a GAN steps after each batch")
        # not earlier: Lightning would refuse gradient_clip_val, not knowing that `training_step` obeys it
        self.automatic_optimization = False

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        generators = {id(p) for p in self.generator.parameters()}
        critic = [p for p in self.net.parameters() if id(p) not in generators]
        return [self.optim(critic), self.optim(self.generator.parameters())]

    # --- training

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        # real pictures [B, C, H, W]
        real, _ = batch
        critic, generator = self.optimizers()
        for optimizer in (critic, generator):
            self.set_rates(optimizer, self.steps / self.total_steps)
        if not self._skips:
            fake = self.generate(torch.randn(len(real), self.latent, device=self.device))
            # the critic's turn: detached, its loss does not reach the generator
            critic_loss = (self._loss_as(real, REAL) + self._loss_as(fake.detach(), FAKE)) / 2
            self._descend(critic, critic_loss)
        if not self._skips:
            # the generator's turn: the critic passes the gradient on and gets none itself
            self.toggle_optimizer(generator)
            generator_loss = self._loss_as(fake, REAL)
            self._descend(generator, generator_loss)
            self.untoggle_optimizer(generator)
        made, self._skips = not self._skips, False
        if made:
            self.record.add(torch.stack([critic_loss, generator_loss]).detach(), len(real))
            self.end_step()
        # Lightning counts a step for each optimiser; a run's step is both
        count = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        count.increment_by(self.steps - count.total.completed)
        return critic_loss if made else None

    def generate(self, z: Tensor) -> Tensor:
        """Return pictures as the critic sees them, [B, C, H, W], from noise [B, latent]."""
        return self.as_input(self.generator(z))

    def as_input(self, pixels: Tensor) -> Tensor:
        """Convert pixels in 0–1 as the data's are converted."""
        conversion = self.trainer.datamodule.conversion
        divisor, shift = (v.to(pixels.device) if isinstance(v, Tensor) else v for v in conversion.values())
        return (255 * pixels / divisor - shift).to(pixels.dtype)

    def _loss_as(self, x: Tensor, kind: int) -> Tensor:
        """Return the critic's loss on x with `kind` (FAKE or REAL) as the target of all."""
        return self.loss(self.net(x), torch.full((len(x),), kind, device=x.device))

    def _descend(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        self.manual_backward(loss)
        trainer = self.trainer
        self.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        # without gradients, where a callback skips the batch, the optimiser changes nothing
        optimizer.step()
        optimizer.zero_grad()

    # --- evaluation

    def evaluate_batch(self, batch: tuple[Tensor, Tensor]) -> None:
        self._validation_pictures.append(batch[0])

    def evaluation_metrics(self) -> dict[str, Tensor | float]:
        real, self._validation_pictures = torch.cat(self._validation_pictures), []
        fake = self.generate(noise(len(real), self.latent).to(real))
        return {"loss": frechet_distance(real, fake)}


def noise(count: int, latent: int) -> Tensor:
    """Return the same [count, latent] at each call, without a draw from the global generator."""
    return torch.randn(count, latent, generator=torch.Generator().manual_seed(0))


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return |μx − μy|² + tr(Cx + Cy − 2 (Cx Cy)^½) of two sets of rows [N, …].

    That is the distance between the normal distributions with their means and covariances (Dowson & Landau 1982); FID
    is this distance between a network's features.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    values, vectors = torch.linalg.eigh(x.T.cov(correction=0))
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    between = torch.linalg.eigvalsh(root @ y.T.cov(correction=0) @ root).clamp_min(0).sqrt().sum()
    means = (x.mean(0) - y.mean(0)).square().sum()
    spread = x.var(0, correction=0).sum() + y.var(0, correction=0).sum()
    return (means + spread - 2 * between).item()
