"""Any choice works beside any preset; a preset's numbers count beside its own choices only."""

import json
from functools import cache

import hydra
import yaml
from omegaconf import OmegaConf
from pairwise import CONF, all_pairs, choices, covering_rows, noise_files

from seedbed.allowed_values import check
from seedbed.config_values import leaves
from seedbed.startup.command import hydra_with
from seedbed.training.build import Parts, build_callbacks, build_data, build_loggers

GROUPS = ("data", "model", "loss", "init", "optim", "schedule", "callbacks", "logger")
NAMES = {group: choices(group) for group in ("experiment", *GROUPS)}


def compose(*words):
    """Return (plain config, Hydra's node)."""
    cfg = hydra.compose("config", list(words), return_hydra_config=True)
    node = cfg.hydra
    config = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    return OmegaConf.to_container(config, resolve=True), node


def numbers(preset, part, choice):
    """Return the preset's numbers for this choice of a part, if it has any."""
    file = CONF / "preset" / part / f"{preset}_{choice}.yaml"
    return yaml.safe_load(file.read_text()).get(part, {}) if file.exists() else {}


def test_every_preset_builds_beside_every_choice(mnist_root, tmp_path):
    files, data = noise_files(tmp_path), cache(lambda node: build_data({"data": json.loads(node)}))
    wanted = [pair for pair in all_pairs(NAMES, valid=True) if pair[0][0] == "experiment"]
    with hydra_with(CONF):
        defaults = cache(lambda part, choice: compose(f"{part}={choice}", *files.get(choice, []))[0][part])
        for row in covering_rows(NAMES, wanted):
            words = [f"{group}={choice}" for group, choice in row.items()]
            config, node = compose(*words, *files.get(row["data"], []))
            for part in GROUPS:
                own = defaults(part, row[part]) | numbers(row["experiment"], part, row[part])
                assert config[part] == own, (part, words)
            assert set(node.sweeper.params or ()) <= {*GROUPS, *dict(leaves(config))}, words
            check(config)
            try:
                Parts().module(config, data(json.dumps(config["data"])))
                assert len(build_callbacks(config)) == len(config["callbacks"])
                assert len(build_loggers(config, tmp_path)) == len(config["logger"])
            except Exception as error:
                raise AssertionError(" ".join(words)) from error
