"""A generator and its critic, trained in turns: the course's GAN as a LightningModule."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from seedbed.errors import ConfigError
from seedbed.training.supervised import Supervised

FAKE, REAL = 0, 1  # the critic's classes


class GAN(Supervised):
    """Each step is one of the critic, which is to tell real pictures from generated ones, then one of the generator,
    which is to be taken for real (Goodfellow et al. 2014, the non-saturating form).

    The loss is that of a classifier of fake (0) and real (1): bce is the paper's, mse the least-squares GAN's. Both
    networks have an optimiser and the schedule. Logs train/loss (the critic's), train/generator_loss, lr, and as
    val/loss the Fréchet distance between the pixels of the validation pictures and of as many generated ones.
    """

    def __init__(self, net: nn.Module, *parts: Any, **of_steps: Any):
        super().__init__(net, *parts, **of_steps)
        pairs = [m for m in net.modules() if hasattr(m, "generator")]
        if not pairs:
            raise ValueError("a GAN needs a generator beside its critic: model=gan")
        if self.accumulate > 1:
            raise ValueError(f"a GAN steps after each batch: accumulate_grad_batches={self.accumulate} is not for it")
        self.generator, self.latent = pairs[0].generator, pairs[0].latent
        self._trained = self._zeros(3)  # this epoch's sums of the critic's and the generator's losses, samples
        self._seen: list[Tensor] = []  # validation pictures

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        made = {id(p) for p in self.generator.parameters()}
        critic = [p for p in self.net.parameters() if id(p) not in made]
        return [self.optim(critic), self.optim(self.generator.parameters())]

    # --- training

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.trainer.world_size > 1:
            raise ConfigError("a GAN trains on one device: trainer.devices=1")

    def on_train_start(self) -> None:
        self.total_steps = self.trainer.estimated_stepping_batches

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, _ = batch
        critic, generator = self.optimizers()
        for optimizer in (critic, generator):
            self._set_rates(optimizer.optimizer, self._progress())
        fake = self.generate(torch.randn(len(real), self.latent, device=self.device))
        told = (self._judged(real, REAL) + self._judged(fake.detach(), FAKE)) / 2
        self._descend(critic, told)
        self.toggle_optimizer(generator)  # the critic only passes the gradient on
        taken = self._judged(fake, REAL)
        self._descend(generator, taken)
        self.untoggle_optimizer(generator)
        self._count(batches=1, steps=1, counted=2)  # two optimisers, one step
        self._trained += torch.tensor([told.item() * len(real), taken.item() * len(real), len(real)])

    def _progress(self) -> float:
        return self.trainer.global_step / self.total_steps

    def generate(self, z: Tensor) -> Tensor:
        """Pictures as the critic sees them, [B, C, H, W], from noise [B, latent]."""
        return self.as_input(self.generator(z))

    def as_input(self, pixels: Tensor) -> Tensor:
        """Pixels of 0–1 converted as the data's are."""
        conversion = self.trainer.datamodule.conversion
        divisor, shift = (v.to(pixels.device) if isinstance(v, Tensor) else v for v in conversion.values())
        return 255 * pixels / divisor - shift

    def _judged(self, x: Tensor, kind: int) -> Tensor:
        """The critic's loss if all of x is of that kind."""
        return self.loss(self.net(x), torch.full((len(x),), kind, device=x.device))

    def _descend(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        self.manual_backward(loss)
        if self.clip:
            self._clip(optimizer.param_groups[0]["params"])
        optimizer.step()
        optimizer.zero_grad()

    def on_train_epoch_end(self) -> None:
        critic, generator, samples = self._trained
        self._trained = self._zeros(3)
        self._log({"train/loss": critic / samples, "train/generator_loss": generator / samples, "lr": self._rates()})
        self._stop_if_diverged()

    def _rates(self) -> float:
        return self.optimizers()[0].param_groups[0]["lr"]

    # --- evaluation

    def _evaluate(self, batch: tuple[Tensor, Tensor]) -> None:
        self._seen.append(batch[0])

    def _log_evaluation(self, stage: str) -> None:
        real, self._seen = torch.cat(self._seen), []
        fake = self.generate(noise(len(real), self.latent).to(self.device))
        self._log({f"{stage}/loss": frechet_distance(real, fake)})


def noise(count: int, latent: int) -> Tensor:
    """The same [count, latent] at each call, without a draw from the global generator."""
    return torch.randn(count, latent, generator=torch.Generator().manual_seed(0))


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|μx − μy|² + tr(Cx + Cy − 2 (Cx Cy)^½) of two sets of rows [N, …]: how far the normal distributions with their
    means and covariances lie apart (Dowson & Landau 1982); FID is this distance of a network's features.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    values, vectors = torch.linalg.eigh(x.T.cov(correction=0))
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    between = torch.linalg.eigvalsh(root @ y.T.cov(correction=0) @ root).clamp_min(0).sqrt().sum()
    means = (x.mean(0) - y.mean(0)).square().sum()
    spread = x.var(0, correction=0).sum() + y.var(0, correction=0).sum()
    return (means + spread - 2 * between).item()
