"""A search: Optuna proposes the jobs of a sweep, a batch at a time, from the results of those before.

A search that was killed begins anew: with the same seed Optuna proposes the same jobs, and the launcher returns the
results of the finished ones at once. If a proposal differs from the manifest (a job that had failed has a result now,
or Optuna was updated), the manifest's job is run instead. A study in `storage` gets each trial as it ends; the next
sweep of that study knows them all and adds new ones.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from seedbed.errors import Refusal
from seedbed.metrics import smaller_is_better
from seedbed.sweeps.manifest import Manifest

log = logging.getLogger("seedbed")


class Search:
    """One sweep's search for the best `optimized_metric`; a name that ends in "loss" is minimised."""

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig):
        self.context, self.task, self.config = context, task, config
        self.folder, self.options = Path(config.hydra.sweep.dir), config.hydra.sweeper
        self.parser = OverridesParser.create(config_loader=context.config_loader)
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def run(self, arguments: Sequence[str]) -> None:
        """Run all trials; write optimization_results.yaml. arguments: the command's overrides."""
        params = [f"{key}={value}" for key, value in (self.options.params or {}).items()]
        overrides = {o.get_key_element(): o for o in self.parser.parse_overrides([*params, *arguments])}
        self.space = {key: distribution(o) for key, o in overrides.items() if o.is_sweep_override()}
        self.fixed = [o.input_line for o in overrides.values() if not o.is_sweep_override()]
        if not self.space:
            raise Refusal("hydra/sweeper=optuna: nothing to search; give a key a range, as optim.lr=interval(0.01,1)")
        self._open()
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )
        try:
            OmegaConf.save(self.config, self.folder / "multirun.yaml")
            self._search()
        finally:
            self.launcher.close()

    def _search(self) -> None:
        for first in range(0, self.options.n_trials, self.options.n_jobs):
            results = self._batch(range(first, min(first + self.options.n_jobs, self.options.n_trials)))
            failed = results.count(None)
            if self.launcher.stopped:
                break
            if failed > self.options.max_failure_rate * len(results):
                self._end(f"{failed} of {len(results)} trials failed, more than hydra.sweeper.max_failure_rate allows")
        ended = len(self.study.get_trials(states=[TrialState.COMPLETE]))
        if not ended:
            self._end(f"no trial has a finite {self.config.optimized_metric}")
        lines = _lines(self.study.best_trial)
        best = {o.get_key_element(): o.value() for o in self.parser.parse_overrides(lines)}
        results = {"name": "optuna", "best_params": best, "best_value": self.study.best_value}
        OmegaConf.save(OmegaConf.create(results), self.folder / "optimization_results.yaml")
        log.info("best of %d trials: %s", ended, " ".join(lines))

    def _open(self) -> None:
        """Make the study, in memory, with the trials that other sweeps left in the stored one."""
        metric = self.config.optimized_metric
        direction = "minimize" if smaller_is_better(metric) else "maximize"
        earlier, self.kept, self.stored = [], [], None
        if self.options.storage:
            name = self.options.study_name or "seedbed"
            self.stored = optuna.create_study(
                storage=self.options.storage, study_name=name, direction=direction, load_if_exists=True
            )
            if self.stored.direction.name.lower() != direction:
                raise Refusal(f"hydra.sweeper.study_name={name}: that study is not one to {direction} {metric}")
            ended = [t for t in self.stored.trials if t.state.is_finished()]
            self.kept = [t for t in ended if t.user_attrs.get("sweep") == str(self.folder.absolute())]
            earlier = [t for t in ended if t not in self.kept]
        sampler = OmegaConf.to_container(self.options.sampler)
        if "seed" in sampler and sampler["seed"] is None:
            sampler["seed"] = self.config.get("seed", 0) + len(earlier)  # not the trials of an earlier sweep again
        make_sampler = get_class(sampler.pop("_target_"))
        self.study = optuna.create_study(direction=direction, sampler=make_sampler(**sampler))
        self.study.add_trials(earlier)
        self.recorded = {n: line["overrides"] for n, line in Manifest(self.folder).jobs.items()}

    def _batch(self, numbers: Sequence[int]) -> list[float | None]:
        proposals = [self._propose(n) for n in numbers]
        returns = self.launcher.launch([lines for _, lines in proposals], initial_job_idx=numbers[0])
        results = [returned.return_value for returned in returns]
        for n, (trial, _), result in zip(numbers, proposals, results, strict=True):
            trial.set_user_attr("job", n)
            trial.set_user_attr("sweep", str(self.folder.absolute()))
            self._store(self.study.tell(trial, result, TrialState.FAIL if result is None else TrialState.COMPLETE))
        return results

    def _propose(self, number: int) -> tuple[Trial, list[str]]:
        """Return the next trial and the overrides of its job: those of the manifest, if it has the job."""
        trial = self.study.ask(self.space)
        lines, recorded = _lines(trial), self.recorded.get(number, [])
        values = dict(line.split("=", 1) for line in recorded if "=" in line)
        if not self.space.keys() <= values.keys():
            return trial, lines + self.fixed
        if not set(lines) <= set(recorded):
            self.study.tell(trial, state=TrialState.FAIL)
            kinds = {FloatDistribution: float, IntDistribution: int, CategoricalDistribution: str}
            self.study.enqueue_trial({key: kinds[type(d)](values[key]) for key, d in self.space.items()})
            trial = self.study.ask(self.space)
        return trial, recorded

    def _store(self, trial: FrozenTrial) -> None:
        kept = [(t.user_attrs["job"], t.state, t.params) for t in self.kept]  # stored before the kill
        if self.stored and (trial.user_attrs["job"], trial.state, trial.params) not in kept:
            self.stored.add_trial(trial)

    def _end(self, reason: str) -> None:
        log.error(reason)
        self.context.callbacks.on_multirun_end(config=self.config)  # sums up the sweep
        sys.exit(1)


def _lines(trial: Trial | FrozenTrial) -> list[str]:
    """Return a trial's values as overrides; numbers with six digits, since they name the job's folder."""

    def shown(value: Any, drawn_from: BaseDistribution) -> Any:
        if not isinstance(value, float):
            return value
        return min(max(float(f"{value:.6g}"), drawn_from.low), drawn_from.high)

    return [f"{key}={shown(value, trial.distributions[key])}" for key, value in trial.params.items()]


def distribution(override: Override) -> BaseDistribution:
    """Return what Optuna draws from: a number of an interval or a range, else one of the values as they are typed."""
    value = override.value()
    if override.is_interval_sweep():
        kind = IntDistribution if isinstance(value.start, int) and isinstance(value.end, int) else FloatDistribution
        return kind(value.start, value.end, log="log" in value.tags)
    if override.is_range_sweep():
        numbers = sorted(override.sweep_iterator())
        kind = IntDistribution if all(isinstance(number, int) for number in numbers) else FloatDistribution
        return kind(numbers[0], numbers[-1], step=abs(value.step))
    if override.is_choice_sweep() and hasattr(value, "shuffle"):
        value.shuffle = False  # the same order when the search is resumed
    return CategoricalDistribution(list(override.sweep_string_iterator()))
