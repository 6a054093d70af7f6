"""The LightningModule of a stack: M runs that differ in numbers only, trained as one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.func import vmap

from seedbed.fused.halving import Halving, not_over
from seedbed.fused.net import StackedNet
from seedbed.losses import Loss
from seedbed.optim.stacked import stacked
from seedbed.optim.stacked_optimizer import StackedOptimizer
from seedbed.schedules import Schedule
from seedbed.training.checkpoints import merit
from seedbed.training.supervised import Supervised


class Stack(Supervised):
    """What `Supervised` is for one run, for M members: every metric is a tensor [M].

    Members i·M/G … share the batches of group i. Numbers of the optimiser (`defaults` of its class `kind`), schedules
    and numbers of the loss may differ from member to member. `history` holds each epoch's metrics; `best` and `final`
    what a member's checkpoints need. A member whose loss is no longer finite at an epoch's end stops there, and where
    `stopper`, the EarlyStopping that each solo run would have, says so; at a rung of `halving` those stop that fall
    behind. They leave the stack: networks and optimiser then hold the members in `rows` [m] only, and what a member
    has done is kept for all M.
    """

    def __init__(
        self,
        nets: Sequence[nn.Module],
        groups: int,
        losses: Sequence[Loss],
        kind: type[torch.optim.Optimizer],
        defaults: Sequence[dict],
        schedules: Sequence[Schedule],
        stopper: EarlyStopping | None = None,
        halving: Halving | None = None,
        **of_steps: Any,
    ):
        self.members, self.all_groups = len(nets), groups
        super().__init__(StackedNet(nets, groups), losses[0], None, None, **of_steps)
        self.kind, self.defaults, self.losses, self.schedules = kind, defaults, losses, schedules
        self.stopper, self.halving = stopper, halving
        self._hold(torch.arange(self.members))
        self.dropped = torch.zeros(self.members, dtype=torch.bool)  # at a rung
        self.epochs_trained = 0  # by all members together
        self.history: list[dict[str, Tensor]] = []
        self.wall_times: list[float] = []  # at each epoch's end
        self.metrics: dict[str, Tensor] = {}
        self.ended_at = torch.full((self.members,), -1)  # epoch, -1: not before the others
        self.diverged = torch.zeros(self.members, dtype=torch.bool)
        self.stop_score = stopper.best_score.expand(self.members) if stopper else None  # the best of what it monitors
        self.stop_wait = torch.zeros(self.members, dtype=torch.long)  # epochs since
        self.best_score = torch.full((self.members,), -torch.inf, dtype=torch.float64)
        self.best_epoch = torch.full((self.members,), -1)
        self.best: dict[str, Tensor] = {}
        self.final: dict[str, Tensor] = {}

    def _zeros(self, count: int) -> Tensor:
        return torch.zeros(count, self.net.members, dtype=torch.float64)

    def configure_optimizers(self) -> StackedOptimizer:
        return stacked(self.kind, [self.defaults[i] for i in self.rows], list(self.net.stacked))

    # --- training

    def on_train_start(self) -> None:
        super().on_train_start()
        self._serve_only_groups_left(torch.arange(self.all_groups))

    def _losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        output = self.net(x)  # [M, B, K]
        y = y.repeat_interleave(self.net.members // self.net.groups, 0)  # [G, B] → [M, B]
        each = self._loss_of_each(output, y, 0)
        return each.sum(), each.detach()

    def _loss_of_each(self, output: Tensor, y: Tensor, y_dim: int | None) -> Tensor:
        """[M, B, K] against [M, B], or [B] for all (y_dim=None) → [M]."""
        if len(self._losses_of) == 1:
            return vmap(self._losses_of[0][0], in_dims=(0, y_dim))(output, y)
        each = output.new_empty(self.net.members)
        for loss, members in self._losses_of:
            targets = y if y_dim is None else y[members]
            each = each.index_put((members,), vmap(loss, in_dims=(0, y_dim))(output[members], targets))
        return each

    def _set_rates(self, optimizer: StackedOptimizer, progress: float) -> None:
        if len(self._schedules_of) == 1:
            schedule = self._schedules_of[0][0]
            optimizer.drive(schedule.lr(progress), schedule.momentum(progress))
            return
        lr, momentum = torch.empty(2, self.net.members, dtype=torch.float64)
        for schedule, members in self._schedules_of:
            lr[members], momentum[members] = schedule.lr(progress), schedule.momentum(progress)
        optimizer.drive(lr, momentum)

    def _clip(self, params: list[nn.Parameter]) -> None:
        """Each member by its own norm, as `clip_grad_norm_` would."""
        grads = [p.grad for p in params if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads]).norm(dim=0)  # [M]
        scale = (self.clip / (norms + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))

    def _rates(self) -> Tensor:
        return self.optimizers().optimizer.lr.clone()

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.history.append(dict(self.metrics))
        self.wall_times.append(time.time())
        self._keep_best()
        self.epochs_trained += self.net.members
        self._drop()

    def _drop(self) -> None:
        """At a rung those that fell behind; at any epoch's end those that are over, where that saves half the work."""
        epochs, over, groups = self.current_epoch + 1, self.ended_at[self.rows] >= 0, self.net.groups
        if epochs == self.trainer.max_epochs or over.all():
            return
        if self.halving and self.halving.is_rung(epochs):
            places, groups = self.halving.survivors(self.metrics[self.halving.metric][self.rows], over, groups)
            leave = torch.ones(self.members, dtype=torch.bool).index_fill(0, self.rows[places], False)
            leave &= self.ended_at < 0
            self.ended_at[leave], self.dropped[leave] = self.current_epoch, True
            self._keep(self.final, leave)
        else:
            places, groups = not_over(over, groups)
            if 2 * len(places) > len(over):
                return
        self._go_on_with(places, groups)

    def _go_on_with(self, places: Tensor, groups: int) -> None:
        """places: those of `rows` that stay, in groups of one size."""
        before = self._groups_left()
        self.net.hold({name: value[places] for name, value in self.net.stacked_state().items()}, groups)
        self.optimizers().optimizer.take(places)
        self._hold(self.rows[places])
        self._trained, self._evaluated = self._zeros(2), self._zeros(3)
        self._serve_only_groups_left(before)

    def _hold(self, rows: Tensor) -> None:
        self.rows = rows
        self._losses_of = _distinct([self.losses[i] for i in rows])
        self._schedules_of = _distinct([self.schedules[i] for i in rows])

    def _groups_left(self) -> Tensor:
        """Which of the groups with which the stack began it still holds."""
        return (self.rows // (self.members // self.all_groups)).unique()

    def _serve_only_groups_left(self, served: Tensor) -> None:
        left = self._groups_left()
        if len(left) < self.all_groups:
            self.trainer.train_dataloader.sampler.keep(torch.isin(served, left).nonzero()[:, 0].tolist())

    def _stop_if_diverged(self) -> None:
        """Also where training stops early: what ends a member's run."""
        running = self.ended_at < 0
        finite = torch.isfinite(self.metrics["train/loss"] + self.metrics.get("val/loss", 0.0))
        self.diverged |= running & ~finite
        ends = running & (~finite | self._waited_enough())
        if ends.any():
            self.ended_at[ends] = self.current_epoch
            self._keep(self.final, ends)
        self.trainer.should_stop |= bool((self.ended_at >= 0).all())

    def _waited_enough(self) -> Tensor:
        """bool [M]: EarlyStopping's rule, for each member."""
        if self.stopper is None:
            return torch.zeros(self.members, dtype=torch.bool)
        score = self.metrics[self.stopper.monitor].float()  # Lightning's copy of a metric is float32
        better = self.stopper.monitor_op(score - self.stopper.min_delta, self.stop_score)
        self.stop_score = torch.where(better, score, self.stop_score)
        self.stop_wait = torch.where(better, 0, self.stop_wait + 1)
        return ~torch.isfinite(score) | ~better & (self.stop_wait >= self.stopper.patience)

    def _keep_best(self) -> None:
        score = merit(self.metrics)
        if score is not None:
            better = (score > self.best_score) & ((self.ended_at < 0) | (self.ended_at == self.current_epoch))
            self.best_score[better], self.best_epoch[better] = score[better], self.current_epoch
            self._keep(self.best, better)

    def on_train_end(self) -> None:
        self._keep(self.final, self.ended_at < 0)

    def _keep(self, copies: dict[str, Tensor], members: Tensor) -> None:
        """Copy the marked members' weights and optimiser state as they are now."""
        places = members[self.rows].nonzero()[:, 0]
        if len(places):
            for name, value in self.member_tensors().items():
                if name not in copies:
                    copies[name] = value.new_zeros(self.members, *value.shape[1:])
                copies[name][self.rows[places].to(value.device)] = value[places.to(value.device)]

    def member_tensors(self) -> dict[str, Tensor]:
        """All that those in `rows` are, each [m, …]: "net.<name>", "optim.<index of parameter>.<name>", "stop.…"."""
        found = {f"net.{name}": value.detach() for name, value in self.net.stacked_state().items()}
        optimizer = self.optimizers().optimizer
        for i, p in enumerate(self.net.stacked):
            for name, value in optimizer.state.get(p, {}).items():
                if isinstance(value, Tensor) and value.dim() and len(value) == self.net.members:
                    found[f"optim.{i}.{name}"] = value
        if self.stopper is not None:
            found |= {"stop.score": self.stop_score[self.rows], "stop.wait": self.stop_wait[self.rows]}
        return found

    # --- evaluation

    def use_final(self) -> None:
        """Give every member the weights it ended with: some stopped before the others."""
        self.net.hold({name: self.final[f"net.{name}"] for name in self.net.stacked_state()}, self.all_groups)
        self._hold(torch.arange(self.members))
        self._evaluated = self._zeros(3)

    def _evaluate(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        output = self.net(x)
        self._evaluated[0] += (self._loss_of_each(output, y, None) * len(y)).cpu().double()
        if y.is_floating_point():
            self._evaluated[1] = torch.nan
        else:
            predicted = self.loss.predict(output.flatten(0, 1)).view(self.net.members, len(y))
            self._evaluated[1] += (predicted == y).sum(1).cpu()
        self._evaluated[2] += len(y)

    def _log(self, metrics: dict[str, Tensor]) -> None:
        """[m] each, kept as [M], nan for members that are no longer there."""
        for name, values in metrics.items():
            self.metrics[name] = values.new_full((self.members,), torch.nan).index_copy(0, self.rows, values)
        shown = {"val/accuracy": torch.max, "train/loss": torch.nanmedian, "val/loss": torch.nanmedian}
        for name in shown.keys() & metrics.keys():  # the best accuracy and the middle losses, for the progress bar
            self.trainer.callback_metrics[name] = shown[name](metrics[name])

    # --- the stack's own resume point

    KEPT = ("history", "wall_times", "ended_at", "diverged", "stop_score", "stop_wait")
    KEPT += ("best_score", "best_epoch", "best", "final", "dropped", "epochs_trained")

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["stack"] = {name: getattr(self, name) for name in self.KEPT}
        checkpoint["rows"], checkpoint["groups"] = self.rows, self.net.groups

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        super().on_load_checkpoint(checkpoint)
        for name, value in checkpoint["stack"].items():
            setattr(self, name, value)
        # before the networks' state and the optimiser's are loaded
        rows = checkpoint["rows"]
        self.net.hold({name: value[rows] for name, value in self.net.stacked_state().items()}, checkpoint["groups"])
        self._hold(rows)
        self._evaluated = self._zeros(3)


def _distinct(parts: Sequence) -> list[tuple[object, Tensor]]:
    """Each distinct object with the indices of the members that have it."""
    indices: dict[int, list[int]] = {}
    for i, part in enumerate(parts):
        indices.setdefault(id(part), []).append(i)
    return [(parts[members[0]], torch.tensor(members)) for members in indices.values()]
