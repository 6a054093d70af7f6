"""Train the jobs of a sweep stack by stack and write each one's folder as its solo run would have."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seedbed.allowed_values import check
from seedbed.errors import ConfigError
from seedbed.fused.build import Unfit, build_stack
from seedbed.fused.capacity import capacity, device_of
from seedbed.fused.checkpoints import MemberCheckpoints, StackCheckpoints
from seedbed.fused.events import hparams_records
from seedbed.fused.halving import Halving
from seedbed.fused.member_events import MemberEvents
from seedbed.fused.members import MemberRecords
from seedbed.fused.plan import StackPlan, order_of, plan, record, recorded, why_alone
from seedbed.fused.stack import Stack
from seedbed.history import write_history
from seedbed.optim.stacked import stacked
from seedbed.sweeps.columns import read_columns
from seedbed.sweeps.states import finished
from seedbed.training.build import Parts, build_data, build_trainer
from seedbed.training.checkpoints import checkpoint_options
from seedbed.training.datamodule import DataModule
from seedbed.training.divergence import first_diverged_layer, lr_at, tell
from seedbed.training.hparams import final, hparams
from seedbed.training.interruption import StopOnSignal
from seedbed.training.progress import RunProgress
from seedbed.training.row_reader import SKIPS_ZEROS
from seedbed.training.run import write_metrics
from seedbed.training.threads import run_threads

log = logging.getLogger(__name__)
# to find the layer at fault, the runs of a stack's first REPEATED members that diverged are repeated, 55 ms each, if
# they diverged within REPEATED_STEPS
REPEATED, REPEATED_STEPS = 20, 500


@dataclass
class FusedJob:
    """A job of a sweep. choices: of the config groups."""

    config: Mapping[str, Any]
    folder: Path
    choices: Mapping[str, Any]


class FusedSweep:
    """The stacks of one sweep; implements the protocol seedbed.sweeps.batch.Stacks.

    jobs: number → (config, folder, choices). sweep: its folder. max_stack: largest number of members of a stack; None:
    as many as fit in memory. halving: `factor` and `first` of each stack's `Halving`, which uses the jobs'
    `optimized_metric`; a factor of None drops no member.
    """

    def __init__(
        self,
        jobs: Mapping[int, tuple[Mapping[str, Any], Path, Mapping[str, Any]]],
        sweep: Path,
        max_stack: int | None = None,
        halving: Mapping[str, int] | None = None,
    ):
        self.jobs = {number: FusedJob(*job) for number, job in jobs.items()}
        self.scratch = sweep / ".stacks"  # the stacks' own checkpoints
        self.columns = read_columns(sweep)
        self.max_stack = max_stack
        self.halving = dict(halving) if halving and halving["factor"] else None
        self.parts = Parts()
        self._why_alone: dict[tuple[torch.optim.Optimizer, frozenset[str]], str | None] = {}
        self.data: dict[str, DataModule] = {}  # data node → the set in memory, loaded once

    def plan(self, left: set[int]) -> tuple[list[dict], dict[int, str], list[int]]:
        """Partition the jobs that are left: (stacks, jobs alone with the reason, jobs with a value not allowed).

        A killed sweep keeps its stacks; jobs that are in none yet get new ones.
        """
        refused = [n for n in sorted(left) if not _is_allowed(self.jobs[n].config)]
        left = left.difference(refused)
        before, alone_before = recorded(self.scratch)
        before = [stack for stack in before if left.intersection(stack.jobs)]
        members = {n for stack in before for n in stack.jobs}
        alone = {n: "as before" for n in alone_before if n in left}
        new = sorted(left - members - alone.keys())
        if not new:
            return [asdict(stack) for stack in before], alone, refused
        alone_now = {n: reason for n in new if (reason := why_alone(self.jobs[n].config) or self.why_alone(n))}
        stacks = self.stacks([n for n in new if n not in alone_now])
        alone_now |= {stack.jobs[0]: "no other job can share its stack" for stack in stacks if len(stack.jobs) == 1}
        stacks, unfit = self.fitting([stack for stack in stacks if len(stack.jobs) > 1])
        record(self.scratch, stacks, [*alone_now, *unfit])
        return [asdict(stack) for stack in before + stacks], alone | alone_now | unfit, refused

    def why_alone(self, number: int) -> str | None:
        """Return what the job's optimiser or schedule has and a stack lacks; None if the job can be stacked."""
        config = self.jobs[number].config
        try:
            optimizer, driven = self.parts.optimizer(config), frozenset(self.parts.schedule(config).curves)
        except ConfigError as error:  # run alone, only this job fails
            return str(error)
        if (optimizer, driven) not in self._why_alone:  # many jobs share them
            try:
                stacked(type(optimizer), [optimizer.defaults], [torch.empty(1, 1)], driven)
                self._why_alone[optimizer, driven] = None
            except TypeError as error:
                self._why_alone[optimizer, driven] = str(error)
        return self._why_alone[optimizer, driven]

    def stacks(self, jobs: Sequence[int], max_members: int | None = None) -> list[StackPlan]:
        return plan({n: self.jobs[n].config for n in jobs}, max_members or self.max_stack or len(jobs))

    def fitting(self, stacks: Sequence[StackPlan]) -> tuple[list[StackPlan], dict[int, str]]:
        """Return the stacks, split where they do not fit, and the jobs that run better alone, each with the reason."""
        pieces, alone = [], {}
        for stack in stacks:
            try:
                data = self._data(stack)
                config = self.jobs[stack.jobs[0]].config
                device = device_of(config["trainer"])
                x = data.splits.train[0][: config["data"]["batch_size"]].to(device).float() / 255
                nets = [net.to(device) for net in self._nets(stack.jobs, 4, data)]
                max_members = capacity(nets, x, stack.groups / len(stack.jobs))
            except Exception as reason:  # too slow, or one of them is at fault: run alone, only that job fails
                alone |= dict.fromkeys(stack.jobs, next(iter(str(reason).splitlines()), repr(reason)))
            else:
                pieces += [stack] if len(stack.jobs) <= max_members else self.stacks(stack.jobs, max_members)
        return pieces, alone

    def _data(self, stack: StackPlan) -> DataModule:
        config = self.jobs[stack.jobs[0]].config
        key = json.dumps({k: v for k, v in config["data"].items() if k != "seed"}, sort_keys=True)
        if key not in self.data:
            self.data[key] = build_data(config)
        data = self.data[key]
        members = len(stack.jobs) // stack.groups
        data.seed = [order_of(self.jobs[n].config) for n in stack.jobs[::members]]
        return data

    def _nets(self, jobs: Sequence[int], count: int, data: DataModule) -> list[nn.Module]:
        """Return the networks of the first `count` jobs that can be built. Raises ConfigError if none can."""
        nets: list[nn.Module] = []
        for n in jobs:
            try:
                nets.append(self.parts.net(self.jobs[n].config, data)[0])
            except ConfigError as error:
                reason = error
            if len(nets) == count:
                break
        if not nets:
            raise reason
        return nets

    def train(self, stack: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Train one stack of `plan`, or resume it where it was killed.

        Yields (job, metrics) when the job's folder is complete.
        """
        pieces = [StackPlan(**stack)]
        while pieces:
            piece = pieces.pop(0)
            try:
                yield from self._train_piece(piece, self._data(piece))
            except Unfit as unfit:
                alone = [piece.jobs[place] for place in unfit.places]
                log.info(
                    "%d of %d runs cannot be built: they leave the stack, and each fails by itself",
                    len(alone),
                    len(piece.jobs),
                )
                pieces = self._split_stack(piece, None, alone) + pieces
            except torch.OutOfMemoryError:  # the capacity was an estimate
                half = (len(piece.jobs) + 1) // 2
                if half == len(piece.jobs):
                    raise
                log.info("%d runs do not fit into memory: split", len(piece.jobs))
                torch.cuda.empty_cache()
                pieces = self._split_stack(piece, half, []) + pieces

    def _split_stack(self, piece: StackPlan, max_members: int | None, alone: Sequence[int]) -> list[StackPlan]:
        """Return new stacks of a piece's jobs, of at most `max_members` members, without the jobs in `alone`."""
        shutil.rmtree(self._folder(piece), ignore_errors=True)
        stacks = self.stacks([n for n in piece.jobs if n not in alone], max_members)
        record(self.scratch, stacks, alone)
        return stacks

    def _folder(self, piece: StackPlan) -> Path:
        return self.scratch / f"stack-{piece.jobs[0]}"

    def _train_piece(self, piece: StackPlan, data: DataModule) -> Iterator[tuple[int, dict[str, Any]]]:
        jobs = [self.jobs[n] for n in piece.jobs]
        config = jobs[0].config
        with run_threads(config) as choose_threads:
            configs = [job.config for job in jobs]
            halving = Halving(**self.halving, metric=config["optimized_metric"]) if self.halving else None
            stack = build_stack(self.parts, configs, piece.groups, data, halving, piece.may_skip)
            choose_threads((weights[0] for weights in stack.net.stacked), len(jobs))
            data.eval_batch = min(data.eval_batch, max(64, 2**24 // (len(jobs) * _activations_per_row(stack))))
            unfinished = {i: job.folder for i, job in enumerate(jobs) if finished(job.folder) is None}
            events = MemberEvents(stack, unfinished) if config["logger"] else None
            checkpoints = StackCheckpoints(self._folder(piece), events, **checkpoint_options(config))
            bar = RunProgress(f"training {len(jobs)} runs")
            stop = StopOnSignal(checkpoints.folder)
            trainer = build_trainer(config, logger=False, callbacks=[stop, checkpoints, bar])
            start = time.perf_counter()
            last = checkpoints.folder / "last.ckpt"
            trainer.fit(stack, data, ckpt_path=last if last.exists() else None)
            seconds = stack.seconds_before + time.perf_counter() - start
            stop.check()
            stack.use_final()
            if data.splits.test is not None:
                trainer.test(stack, data, verbose=False)
        planned = len(jobs) * len(stack.history)
        saved = f": {stack.epochs_trained:,} of {planned:,} epochs" if stack.epochs_trained < planned else ""
        log.info("trained %d runs in %.1f s%s", len(jobs), seconds, saved)
        yield from self._write(piece, stack, data, checkpoints, seconds)
        shutil.rmtree(checkpoints.folder, ignore_errors=True)

    def _write(
        self, piece: StackPlan, stack: Stack, data: DataModule, checkpoints: StackCheckpoints, seconds: float
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        files = MemberCheckpoints(stack, checkpoints.progress, torch.get_rng_state())
        records, events, now = MemberRecords(stack, checkpoints.steps()), checkpoints.events, time.time()
        share = seconds / sum(records.epochs)  # of an epoch of a member
        curves = events.rest(checkpoints.steps()) if events else repeat(b"")
        for i, (number, rest) in enumerate(zip(piece.jobs, curves, strict=False)):
            job = self.jobs[number]
            if finished(job.folder):
                continue  # written before the sweep was killed
            path = {"first_layer": SKIPS_ZEROS} if stack.takes_rows else {}
            metrics = {**records.metrics(i, share), "seed": job.config["seed"], **path}
            rows = records.rows(i, share)
            if metrics["status"] == "diverged":
                metrics |= self._divergence(job, data, stack, i)
            files.write(job.folder / "checkpoints", i, self.parts.optimizer(job.config, len(stack.net.stacked)), rows)
            write_history(job.folder, rows)
            if events:
                record, logged = hparams(job.config, job.choices, self.columns), final(records.logged(metrics))
                events.append(i, rest + hparams_records(record, logged, now))
            log_file = job.folder / "train.log"
            epochs, dropped = metrics["epochs"], "stopped" in metrics
            left = f"; halving dropped it after {epochs} epochs: others were better" if dropped else ""
            text = f"{tell(metrics)}: one of {len(piece.jobs)} runs of a stack{left}\n"
            log_file.write_text(text, encoding="utf-8")
            write_metrics(job.folder, metrics)  # last: the job is complete
            yield number, metrics

    def _divergence(self, job: FusedJob, data: DataModule, stack: Stack, i: int) -> dict[str, Any]:
        """Return the step, lr and layer at which member i diverged; to find the layer, its run is repeated alone."""
        step, data = int(stack.diverged_at[i]), copy(data)  # type: ignore[index]
        data.seed = order_of(job.config)
        repeated = step <= REPEATED_STEPS and int(stack.diverged[:i].sum()) < REPEATED
        layer = first_diverged_layer(job.config, data, step) if repeated else None
        lr = lr_at(step, stack.total_steps, self.parts.optimizer(job.config), stack.schedules[i])
        return {"diverged_at": step, "diverged_lr": lr, "diverged_layer": layer}


def _activations_per_row(stack: Stack) -> int:
    """Return about how many numbers the layers of a member put out for one image."""
    return max(1, sum(p.shape[1] for name, p in stack.net.stacked_state().items() if name.endswith("bias")))


def _is_allowed(config: Mapping[str, Any]) -> bool:
    try:
        check(config)
    except ConfigError:
        return False
    return True
