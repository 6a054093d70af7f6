"""The LightningModule of a stack: M runs that differ in numbers only, trained as one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.func import vmap

from seedbed.data.rows import Rows
from seedbed.fused.cores import Cores, KnownGradients, shares
from seedbed.fused.halving import Halving, still_running
from seedbed.fused.net import StackedNet
from seedbed.losses import STACKS, Loss
from seedbed.metrics import TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS, validation_merit
from seedbed.optim.stacked import stacked
from seedbed.optim.stacked_optimizer import StackedOptimizer
from seedbed.schedules import Schedule
from seedbed.training.loss_record import LossRecord
from seedbed.training.supervised import Supervised, by_class, exact


class Stack(Supervised):
    """Trains M members as `Supervised` trains one run; every metric is a tensor [M].

    Each of the G groups is M/G consecutive members, which share their batches. Members may differ in the numbers of the
    optimiser (`defaults` of its class `kind`), in their schedules and in the numbers of the loss. `history` holds each
    epoch's metrics; `best` and `final` hold the tensors of the members' checkpoints.

    A member stops when its loss has left all bounds (checked every tenth step and at the end of an epoch), when
    `stopper`, the EarlyStopping of its solo run, says so at the end of an epoch, or when it falls behind at a rung of
    `halving`. Members that stopped leave the stack: networks and optimiser then hold only the m members whose numbers
    are in `rows` [m]. Results are kept for all M.
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
    ):
        self.members, self.all_groups = len(nets), groups
        super().__init__(StackedNet(nets, groups), losses[0], None, None)
        self.record = LossRecord((self.members,))
        self.kind, self.defaults, self.losses, self.schedules = kind, defaults, losses, schedules
        self.stopper, self.halving = stopper, halving
        self.cores: Cores | None = None
        self._hold(torch.arange(self.members))
        self.metrics: dict[str, Tensor] = {}
        # epoch 0: the metrics of the untrained members and the wall time; then one entry at the end of each epoch
        self.untrained: dict[str, Tensor] = {}
        self.began = 0.0
        self.history: list[dict[str, Tensor]] = []
        self.wall_times: list[float] = []
        # (step, train/loss [M], lr [M]), nan for members that left
        self.points: list[tuple[int, Tensor, Tensor]] = []
        # [M, C]
        self.accuracy_by_class: Tensor | None = None
        # epochs that the members trained, added up
        self.epochs_trained = 0
        # [M]: the epoch in which a member stopped before the others, or -1, and its steps then; the step at which it
        # diverged, or 0; whether it was dropped at a rung, and whether it diverged
        self.ended_at = torch.full((self.members,), -1)
        self.ended_steps = torch.full((self.members,), -1)
        self.diverged_at = torch.zeros(self.members, dtype=torch.long)
        self.dropped = torch.zeros(self.members, dtype=torch.bool)
        self.diverged: Tensor = torch.zeros(self.members, dtype=torch.bool)
        # [M]: the best value of the metric that `stopper` monitors, and the epochs since
        self.stop_score = stopper.best_score.expand(self.members) if stopper else None
        self.stop_wait = torch.zeros(self.members, dtype=torch.long)
        self.best_score = torch.full((self.members,), -torch.inf, dtype=torch.float64)
        self.best_epoch = torch.full((self.members,), -1)
        self.best: dict[str, Tensor] = {}
        self.final: dict[str, Tensor] = {}

    def new_sums(self, count: int) -> Tensor:
        """Return float64 zeros [count, m]."""
        return torch.zeros(count, self.net.members, dtype=torch.float64)

    @property
    def is_over(self) -> bool:
        return bool((self.ended_at >= 0).all())

    def configure_optimizers(self) -> StackedOptimizer:
        optimizer = stacked(self.kind, [self.defaults[i] for i in self.rows], list(self.net.stacked))
        if self.cores:
            optimizer.map = self.cores.map
        return optimizer

    def setup(self, stage: str) -> None:
        if self.takes_rows:
            self.cores = Cores()
            self._hold(self.rows)

    def teardown(self, stage: str) -> None:
        if self.cores:
            self.cores.close()
            self.cores = None

    # --- training

    def on_train_start(self) -> None:
        super().on_train_start()
        # the stack has moved to its device since it was made
        self._hold(self.rows)
        self._serve_only_groups_left(torch.arange(self.all_groups))

    def batch_losses(self, x: Tensor | Rows, y: Tensor) -> tuple[Tensor, Tensor]:
        # the members of a group share its targets: y [G, B] → [m, B]
        y = y.repeat_interleave(self.net.members // self.net.groups, 0)
        if isinstance(x, Rows):
            losses, gradients = self._losses_and_gradients(x, y)
            return KnownGradients.apply(losses.sum(), gradients, *self.net.stacked), losses
        # x [G, B, …] → output [m, B, K]
        output = self.net(x)
        # members share no weights, so the gradient of the sum holds each member's own gradient
        losses = _member_losses(self._distinct_losses, output, y, 0)
        return losses.sum(), losses.detach()

    def _losses_and_gradients(self, x: Rows, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the losses [m] and their gradients with respect to the stack's parameters, computed on all cores."""
        gradients = [torch.empty_like(p) for p in self.net.stacked]

        def compute(share: int) -> Tensor:
            place = self._shares[share]
            params = [p.detach()[place].requires_grad_() for p in self.net.stacked]
            written = [g[place] for g in gradients]
            with torch.enable_grad():
                output = self.net.outputs_of(place, params, x, written)
                losses = _member_losses(self._losses_of_share[share], output, y[place], 0)
            for into, gradient in zip(written, torch.autograd.grad(losses.sum(), params), strict=True):
                if into.data_ptr() != gradient.data_ptr():
                    into.copy_(gradient)
            return losses.detach()

        return torch.cat(self.cores.map(compute, range(len(self._shares)))), gradients

    def set_rates(self, optimizer: StackedOptimizer, progress: float) -> None:
        optimizer.drive(self._distinct_schedules, progress)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        """Clip each member by its own norm, as `clip_grad_norm_` clips a run."""
        grads = [p.grad for p in self.net.stacked if p.grad is not None]
        if not grads or not gradient_clip_val:
            return
        # the norm [m] over all of a member's parameters, from the norms [m] of each parameter
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads]).norm(dim=0)
        scale = (gradient_clip_val / (norms + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))

    def learning_rate(self) -> Tensor:
        return self._optimizer.lr.clone()

    def log_points(self, ended: bool = False) -> None:
        for step, losses in self.take_points(ended):
            self.points.append(
                (step, *map(self._of_all, (torch.from_numpy(losses).float(), self._lrs.pop(step).float())))
            )

    def _of_all(self, values: Tensor) -> Tensor:
        """Spread values [m, …] of the members still held over [M, …]; those that left get nan."""
        return values.new_full((self.members, *values.shape[1:]), torch.nan).index_copy(0, self.rows, values)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self._keep_best()
        self.epochs_trained += self.net.members
        self._drop()

    def keep_epoch(self) -> None:
        if self.trainer.sanity_checking:
            self.untrained, self.began = dict(self.metrics), time.time()
            return
        self.history.append(dict(self.metrics))
        self.wall_times.append(time.time())

    def _drop(self) -> None:
        """Drop the members that fell behind at a rung; else those that stopped, once that halves the work.

        `places` index the m members that the stack holds, `rows` translates them to members of the whole stack.
        """
        epochs, stopped, groups = self.current_epoch + 1, self.ended_at[self.rows] >= 0, self.net.groups
        if epochs == self.trainer.max_epochs or stopped.all():
            return
        if self.halving and self.halving.is_rung(epochs):
            places, groups = self.halving.survivors(self.metrics[self.halving.metric][self.rows], stopped, groups)
            # [M]: held until now, not a survivor, and not stopped for another reason
            leave = torch.ones(self.members, dtype=torch.bool).index_fill(0, self.rows[places], False)
            leave &= self.ended_at < 0
            self.dropped |= leave
            self._end(leave)
        else:
            places, groups = still_running(stopped, groups)
            if 2 * len(places) > len(stopped):
                return
        self._reduce_to(places, groups)

    def _reduce_to(self, places: Tensor, groups: int) -> None:
        """Hold only the members at `places` from now on, in `groups` groups of one size."""
        self.log_points()
        before = self._groups_left()
        self.net.hold({name: value[places] for name, value in self.net.stacked_state().items()}, groups)
        self.optimizers().optimizer.take(places)
        self._hold(self.rows[places])
        self.record.take(places)
        self._evaluated = self.new_sums(2)
        self._serve_only_groups_left(before)

    def _hold(self, rows: Tensor) -> None:
        self.rows = rows
        losses = [self.losses[i] for i in rows]
        self._distinct_losses = _distinct(losses, self.device)
        # the members [m] of each core, and their losses
        self._shares = shares(len(losses), self.cores.count if self.cores else 1)
        self._losses_of_share = [_distinct(losses[share]) for share in self._shares]
        self._distinct_schedules = _distinct([self.schedules[i] for i in rows])

    def _groups_left(self) -> Tensor:
        """Return the numbers of the original groups that the stack still holds."""
        return (self.rows // (self.members // self.all_groups)).unique()

    def _serve_only_groups_left(self, served: Tensor) -> None:
        left = self._groups_left()
        if len(left) < self.all_groups:
            self.trainer.train_dataloader.sampler.keep(torch.isin(served, left).nonzero()[:, 0].tolist())

    def stop_if_diverged(self) -> None:
        """End the runs of members that diverged; stop when all have ended."""
        step = torch.zeros_like(self.diverged_at).index_copy(0, self.rows, self.record.diverges_at())
        new = (self.ended_at < 0) & (step > 0)
        self.diverged |= new
        self.diverged_at = torch.where(new, step, self.diverged_at)
        self._end(new)

    def end_epoch(self) -> None:
        """End the runs of members that diverged, or that EarlyStopping ends; stop when all have ended."""
        stops_early = self._stops_early()
        losses = self.metrics[TRAIN_LOSS] + self.metrics.get(VAL_LOSS, 0.0)
        self.record.mark_diverged(losses[self.rows])
        self.stop_if_diverged()
        self._end((self.ended_at < 0) & stops_early)

    def _end(self, members: Tensor) -> None:
        """End the runs of the members marked in `members`, bool [M], with the weights they have now."""
        if members.any():
            self.ended_at[members], self.ended_steps[members] = self.current_epoch, self.steps
            self._keep(self.final, members)
            self.trainer.should_stop |= self.is_over

    def _stops_early(self) -> Tensor:
        """Apply EarlyStopping's rule to each member: bool [M]."""
        if self.stopper is None:
            return torch.zeros(self.members, dtype=torch.bool)
        # Lightning's copy of a metric is float32
        score = self.metrics[self.stopper.monitor].float()
        better = self.stopper.monitor_op(score - self.stopper.min_delta, self.stop_score)
        self.stop_score = torch.where(better, score, self.stop_score)
        self.stop_wait = torch.where(better, 0, self.stop_wait + 1)
        return ~torch.isfinite(score) | ~better & (self.stop_wait >= self.stopper.patience)

    def _keep_best(self) -> None:
        score = validation_merit(self.metrics)
        if score is not None:
            ended = (self.ended_at >= 0) & (self.ended_at != self.current_epoch)
            # weights that are nan have an accuracy too, which does not count
            better = (score > self.best_score) & ~ended & ~self.diverged
            self.best_score[better], self.best_epoch[better] = score[better], self.current_epoch
            self._keep(self.best, better)

    def on_fit_end(self) -> None:
        # not in `on_train_end`, which Lightning leaves out where no epoch was left to train
        self._keep(self.final, self.ended_at < 0)

    def _keep(self, copies: dict[str, Tensor], members: Tensor) -> None:
        """Copy the current weights and optimiser state of the members marked in `members`, bool [M]."""
        places = members[self.rows].nonzero()[:, 0]
        if len(places):
            for name, value in self.member_tensors().items():
                if name not in copies:
                    copies[name] = value.new_zeros(self.members, *value.shape[1:])
                # after a resume the copies lie on the CPU
                kept = copies[name]
                kept[self.rows[places].to(kept.device)] = value[places.to(value.device)].to(kept.device)

    def member_tensors(self) -> dict[str, Tensor]:
        """Return the state of the members held, [m, …] each: net.<name>, optim.<index of parameter>.<name>, stop.…"""
        tensors = {f"net.{name}": value.detach() for name, value in self.net.stacked_state().items()}
        optimizer = self.optimizers().optimizer
        for i, p in enumerate(self.net.stacked):
            for name, value in optimizer.state.get(p, {}).items():
                if isinstance(value, Tensor) and value.dim() and len(value) == self.net.members:
                    tensors[f"optim.{i}.{name}"] = value
        if self.stopper is not None:
            tensors |= {"stop.score": self.stop_score[self.rows], "stop.wait": self.stop_wait[self.rows]}
        return tensors

    # --- evaluation

    def use_final(self) -> None:
        """Hold all M members, each with the weights it ended with: some stopped before the others."""
        self.net.hold({name: self.final[f"net.{name}"] for name in self.net.stacked_state()}, self.all_groups)
        self._hold(torch.arange(self.members))
        self._evaluated = self.new_sums(2)

    def evaluate_batch(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        if isinstance(x, Rows):
            shares = self.cores.map(lambda share: self._outputs_of_share(share, x), range(len(self._shares)))
            output = torch.cat(shares)
        else:
            output = self.net(x)
        losses = _member_losses(self._distinct_losses, output, y, None)
        self.add_evaluated(exact(losses * len(y)), len(y))
        if not y.is_floating_point():
            # predictions are row by row: all members' rows in one call
            predicted = self.loss.predict(output.flatten(0, 1)).view(self.net.members, len(y))
            self._answered += by_class(y, predicted == y, self.trainer.datamodule.num_classes)

    @torch.no_grad()
    def _outputs_of_share(self, share: int, x: Rows) -> Tensor:
        place = self._shares[share]
        return self.net.outputs_of(place, [p[place] for p in self.net.stacked], x)

    def keep_classes(self) -> None:
        if VAL_ACCURACY not in self.metrics:
            return
        now = self._of_all(self._accuracies)
        kept = now if self.accuracy_by_class is None else self.accuracy_by_class
        running = (self.ended_at < 0) | (self.ended_at == self.current_epoch)
        self.accuracy_by_class = torch.where(running[:, None], now, kept)

    def log_metrics(self, metrics: dict[str, Tensor]) -> None:
        """Keep values [m] as [M], nan for members that left the stack."""
        for name, values in metrics.items():
            self.metrics[name] = self._of_all(values)
        shown = {VAL_ACCURACY: torch.max, TRAIN_LOSS: torch.nanmedian, VAL_LOSS: torch.nanmedian}
        # the progress bar shows the best accuracy and the median losses
        for name in shown.keys() & metrics.keys():
            self.trainer.callback_metrics[name] = shown[name](metrics[name])

    # --- the stack's own resume point

    KEPT = ("history", "wall_times", "ended_at", "ended_steps", "diverged", "diverged_at", "stop_score", "stop_wait")
    KEPT += ("best_score", "best_epoch", "best", "final", "dropped", "epochs_trained")
    KEPT += ("untrained", "began", "points", "accuracy_by_class")

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["stack"] = {name: getattr(self, name) for name in self.KEPT}
        checkpoint["rows"], checkpoint["groups"] = self.rows, self.net.groups

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        super().on_load_checkpoint(checkpoint)
        for name, value in checkpoint["stack"].items():
            setattr(self, name, value)
        # the stack takes the size that it was saved with, before Lightning loads weights and optimiser state of that
        # size
        rows = checkpoint["rows"]
        self.net.hold({name: value[rows] for name, value in self.net.stacked_state().items()}, checkpoint["groups"])
        self._hold(rows)
        self._evaluated = self.new_sums(2)


def _distinct(parts: Sequence, device: torch.device | str = "cpu") -> list[tuple[Any, Tensor]]:
    """Return each distinct object with the indices of the members that have it, on the device."""
    indices: dict[int, list[int]] = {}
    for i, part in enumerate(parts):
        indices.setdefault(id(part), []).append(i)
    return [(parts[members[0]], torch.tensor(members, device=device)) for members in indices.values()]


def _member_losses(distinct: Sequence[tuple[Loss, Tensor]], output: Tensor, y: Tensor, y_dim: int | None) -> Tensor:
    """Return [m] losses of output [m, B, K] against y [m, B], or against y [B] for all with y_dim=None.

    distinct: each loss, with the members that have it.
    """
    if len(distinct) == 1:
        loss, _ = distinct[0]
        # a class of the user's may derive from one that stacks
        return loss(output, y) if type(loss) in STACKS else vmap(loss, in_dims=(0, y_dim))(output, y)
    # one call for each distinct loss
    losses = output.new_empty(len(output))
    for loss, members in distinct:
        targets = y if y_dim is None else y[members]
        losses = losses.index_put((members,), vmap(loss, in_dims=(0, y_dim))(output[members], targets))
    return losses
