"""What a config that came from elsewhere may name."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from seedbed.allowed_targets import check_targets
from seedbed.errors import ConfigError

CONF = Path(__file__).resolve().parents[1] / "conf"
GROUPS = ("data", "model", "loss", "init", "optim", "schedule", "callbacks", "module", "logger", "experiment")


@pytest.mark.parametrize("group", [group for group in GROUPS if (CONF / group).is_dir()])
def test_every_choice_may_be_named(group):
    for path in (CONF / group).glob("*.yaml"):
        node = OmegaConf.to_container(OmegaConf.load(path))
        check_targets(node if group == "experiment" else {group: {k: v for k, v in node.items() if k != "defaults"}})


def test_the_composed_default_may_be_named(composed):
    config, _ = composed("callbacks=[pictures,early_stopping,ema]", "schedule=combined")
    check_targets(config)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "torch.utils.model_zoo.load_url",
        "torch.nn.modules.module.torch.load",
        "torch.nn.init.torch.load",
        "torch.nn.functional",
        "timm.models.load_checkpoint",
        "seedbed.models.convnet.torch.load",
        "seedbed.models.mlp.nn.Linear",
        "seedbed.models.curves._require_numbers",
        "seedbed.models.mlp.mlp.__call__",
        "seedbed.models.mlp",
        "seedbed.losses.MSE",
        "seedbed.files.write_whole",
        "seedbed.modelsX.evil",
        "${oc.env:HOME}",
        ["os.system"],
        None,
        "",
    ],
)
def test_nothing_else_may_be_named_as_a_model(target):
    for node in ({"_target_": target}, {"_target_": "seedbed.models.mlp.mlp", "hidden": [{"_target_": target}]}):
        with pytest.raises(ConfigError, match="model"):
            check_targets({"model": node})


@pytest.mark.parametrize(
    "key, value",
    [
        ("data", {"source": {"_target_": "seedbed.data.idx_file.gzip.open"}}),
        ("data", {"source": {"_target_": "seedbed.data.idx.fetch", "name": "MNIST", "folder": "x"}}),  # writes files
        ("data", {"source": {"_target_": "torchvision.datasets.CIFAR10"}}),  # unpickles its files
        ("anything", {"_target_": "seedbed.models.mlp.mlp"}),
        ("trainer", {"plugins": [{"_target_": "os.system"}]}),
        ("model", {"_target_": "timm.create_model", "checkpoint_path": "evil.pth"}),
        ("model", {"_target_": "seedbed.models.timm.timm", "pretrained_cfg": {"file": "evil.pth"}}),
        ("model", {"hidden": "${oc.create:{_target_: os.system, _args_: [ls]}}"}),
    ],
)
def test_nor_in_another_part(key, value):
    with pytest.raises(ConfigError, match=f"^{key}"):
        check_targets({key: value})


def test_a_package_that_is_trusted_gives_what_it_defines_and_no_module_that_it_imports(tmp_path, monkeypatch):
    package = tmp_path / "mine_own"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nfrom os import system\nfrom .net import Net as Network\n")
    (package / "net.py").write_text("import subprocess\nclass Net: ...\ndef net(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    for target in ("mine_own.net.Net", "mine_own.net.net", "mine_own.Network"):
        check_targets({"model": {"_target_": target}}, allow=["mine_own"])
        with pytest.raises(ConfigError):
            check_targets({"model": {"_target_": target}})
    for target in ("mine_own.os.system", "mine_own.system", "mine_own.net.subprocess.run", "mine_own.nothing.Net"):
        with pytest.raises(ConfigError):
            check_targets({"model": {"_target_": target}}, allow=["mine_own"])
