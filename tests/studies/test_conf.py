"""Every study's config composes, has the study's arguments, and a rule for each of its values."""

from inspect import signature
from pathlib import Path

import pytest
from hydra import compose
from hydra.utils import get_method
from omegaconf import OmegaConf

from seedbed.allowed_values import RULES, leaves
from seedbed.startup.command import hydra_with

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed_by(name: str, *overrides: str) -> dict:
    with hydra_with(CONF):
        return OmegaConf.to_container(compose(name, list(overrides)), resolve=True)


@pytest.mark.parametrize("study", sorted(path.stem for path in (CONF / "study").glob("*.yaml")))
def test_study_composes_and_is_checked_throughout(study):
    config = composed_by("study", f"study={study}")
    assert all(RULES[key].holds(value) for key, value in leaves(config))
    arguments = {key: value for key, value in config["study"].items() if not key.startswith("_")}
    signature(get_method(config["study"]["_target_"])).bind("lab", **arguments)


def test_lr_find_has_the_config_of_train_and_its_own():
    config = composed_by("lr_find", "model=linear")
    own = config.pop("lr_find")
    assert config == composed_by("config", "model=linear")
    assert all(RULES[f"lr_find.{key}"].holds(value) for key, value in own.items())
