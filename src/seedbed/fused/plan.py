"""Decide which jobs of a sweep train as one tensor program, and with which others."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seedbed.files import write_whole

Config = Mapping[str, Any]
SUPERVISED = "seedbed.training.supervised.Supervised"
LOGGERS = ({}, {"tensorboard": {"_target_": "seedbed.training.logger.RunLogger"}})
# a stack applies this callback to each member, if it has only the options in STOPS_BY
EARLY_STOPPING = "lightning.pytorch.callbacks.EarlyStopping"
STOPS_BY = {"_target_", "monitor", "mode", "patience", "min_delta"}
# options of the Trainer that mean the same for a stack
TRAINER = {"_target_", "max_epochs", "accelerator", "devices", "strategy", "precision", "gradient_clip_val"}
TRAINER |= {"loop", "threads", "capture", "accumulate_grad_batches", "limit_train_batches", "deterministic"}
TRAINER |= {"benchmark", "log_every_n_steps"}


@dataclass
class StackPlan:
    """Jobs to train as one: `jobs` lists them group by group, each group's members share their batches.

    may_skip: whether they may get their batches as `Rows`, to skip zeros. A stack that an earlier version planned
    resumes without skipping.
    """

    jobs: list[int]
    groups: int
    may_skip: bool = False


def why_alone(config: Config) -> str | None:
    """Return the reason why a job cannot be stacked, or None."""
    if config["ckpt_path"] is not None:
        return "it goes on from a checkpoint"
    if config["trainer"]["devices"] != 1:
        return "it runs on several devices"
    if config["module"]["_target_"] != SUPERVISED:
        return "its module trains otherwise than a stack"
    if any(node["_target_"] != EARLY_STOPPING for node in config["callbacks"].values()):
        return "its callbacks look at one network"
    if len(config["callbacks"]) > 1 or any(node.keys() - STOPS_BY for node in config["callbacks"].values()):
        return "its early stopping has rules that a stack does not have"
    if config["logger"] not in LOGGERS:
        return "its logger follows one run"
    if unknown := config["trainer"].keys() - TRAINER:
        return f"a stack has no trainer.{min(unknown)}"
    if config["trainer"]["precision"] in ("16-true", "bf16-true"):
        return "a stack's weights have 32 or 64 bits"
    if config["optim"].get("groups"):
        return "a stack has one group of parameters"
    if config["trainer"]["max_epochs"] == 0:
        return "it trains no epoch"
    return None


def architecture(config: Config) -> str:
    """Return what a stack's members share: the config without seeds, init, schedule, numbers of optimiser and loss."""
    fixed = {k: v for k, v in config.items() if k not in ("seed", "init", "schedule", "optimized_metric")}
    fixed["data"] = {k: v for k, v in config["data"].items() if k != "seed"}
    fixed["optim"] = {k: v for k, v in config["optim"].items() if k.startswith("_") or isinstance(v, bool)}
    fixed["loss"] = config["loss"]["_target_"]
    return json.dumps(fixed, sort_keys=True)


def order_of(config: Config) -> int | None:
    """Return the seed of the order in which a job sees its data; None if it keeps the set's own order."""
    return config["data"]["seed"] if config["data"]["shuffle"] else None


def plan(configs: Mapping[int, Config], max_members: int) -> list[StackPlan]:
    """Partition jobs into stacks of at most `max_members` members; each stack's groups are of one size."""
    by_architecture: dict[str, dict[int | None, list[int]]] = defaultdict(lambda: defaultdict(list))
    for job, config in configs.items():
        by_architecture[architecture(config)][order_of(config)].append(job)
    stacks = []
    for groups in by_architecture.values():
        by_size: dict[int, list[Sequence[int]]] = defaultdict(list)
        for members in groups.values():
            for chunk in _chunks(members, max_members):
                by_size[len(chunk)].append(chunk)
        for size, equal in by_size.items():
            for chunk in _chunks(equal, max(1, max_members // size)):
                stacks.append(StackPlan([job for group in chunk for job in group], len(chunk), True))
    return stacks


def _chunks(items: Sequence, max_members: int) -> list[Sequence]:
    """Cut items into as few pieces of at most `max_members` as possible, of nearly equal length."""
    pieces = -(-len(items) // max_members)
    cuts = [len(items) * i // pieces for i in range(pieces + 1)]
    return [items[a:b] for a, b in itertools.pairwise(cuts)]


def record(folder: Path, stacks: Sequence[StackPlan], alone: Sequence[int]) -> None:
    """Write down which jobs train together: free memory and timings decided it, and may decide otherwise next time."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"stacks": [asdict(stack) for stack in stacks], "alone": list(alone)}
    write_whole(folder / f"plan-{len(list(folder.glob('plan-*.json'))):06d}.json", json.dumps(content))


def recorded(folder: Path) -> tuple[list[StackPlan], list[int]]:
    """Return the stacks and the lone jobs of a killed sweep; a later plan replaces the stacks that it split."""
    stacks: list[StackPlan] = []
    alone: list[int] = []
    for path in sorted(folder.glob("plan-*.json")):
        plan = json.loads(path.read_text(encoding="utf-8"))
        replanned = {n for stack in plan["stacks"] for n in stack["jobs"]}
        stacks = [stack for stack in stacks if not replanned & set(stack.jobs)] + [
            StackPlan(s["jobs"], s["groups"], s.get("may_skip", False)) for s in plan["stacks"]
        ]
        alone += plan["alone"]
    return stacks, alone
