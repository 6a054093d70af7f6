"""Any choice works beside any preset: a preset's numbers count beside its own choices, else the parts' defaults."""

import json
from collections import Counter
from functools import cache

import hydra
import pytest
import yaml
from omegaconf import OmegaConf
from pairwise import CONF, all_pairs, choices, covering_rows, narrow, noise_files

import seedbed
from seedbed.allowed_values import check
from seedbed.config_values import leaves
from seedbed.errors import ConfigError
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


def some_pairs(pairs):
    """Return, of (preset, choice) pairs, those with numbers, and one other of each preset and part, the least taken."""
    kept, others, taken = [], {}, Counter()
    for pair in pairs:
        (_, preset), (part, choice) = pair
        if numbers(preset, part, choice):
            kept.append(pair)
        else:
            others.setdefault((preset, part), []).append(pair)
    for found in others.values():
        kept.append(min(found, key=lambda pair: taken[pair[1]]))
        taken[kept[-1][1]] += 1
    return kept


@pytest.mark.parametrize("which", [some_pairs, pytest.param(list, marks=pytest.mark.slow)])
def test_every_preset_builds_beside_choices(mnist_root, tmp_path, which):
    files, data = noise_files(tmp_path), cache(lambda node: build_data({"data": json.loads(node)}))
    wanted = which([pair for pair in all_pairs(NAMES, valid=True) if pair[0][0] == "experiment"])
    assert {pair[0] for pair in wanted} == {("experiment", preset) for preset in NAMES["experiment"]}
    assert {pair[1] for pair in wanted} == {(group, name) for group in GROUPS for name in NAMES[group]}
    built = set()
    with hydra_with(CONF):
        defaults = {}
        for k in range(max(len(NAMES[part]) for part in GROUPS)):
            row = {part: NAMES[part][k % len(NAMES[part])] for part in GROUPS}
            config, _ = compose(*(f"{part}={choice}" for part, choice in row.items()), *files.get(row["data"], []))
            defaults |= {(part, choice): config[part] for part, choice in row.items()}
        for row in covering_rows(NAMES, wanted, tries=200):
            words = [f"{group}={choice}" for group, choice in row.items()]
            config, node = compose(*words, *files.get(row["data"], []))
            for part in GROUPS:
                own = defaults[part, row[part]] | numbers(row["experiment"], part, row[part])
                assert config[part] == own, (part, words)
            assert set(node.sweeper.params or ()) <= {*GROUPS, *dict(leaves(config))}, words
            check(config)
            # tests/test_product.py builds every pair of choices: here each part is built once with each of its numbers
            new = {json.dumps(config[part]) for part in GROUPS} - built
            built |= new
            if new:
                Parts().module(narrow(config), data(json.dumps(config["data"])))
                assert len(build_callbacks(config)) == len(config["callbacks"])
                assert len(build_loggers(config, tmp_path)) == len(config["logger"])


# what Hydra, a failed build or a traceback answered before
BESIDE = {
    "experiment=resnet18_one_cycle optim=momentum": (
        "beside optim=momentum: optim.lr=0.1 'optim.betas=[0.95,0.99]' optim.eps=1e-05"
    ),
    "experiment=gan optim=sgd": "beside optim=sgd: optim.lr=0.002 'optim.betas=[0.5,0.99]'",
    "experiment=speedrun optim=sgd loss=nll model=mlp": (
        "beside loss=nll: loss.label_smoothing=0.1; "
        "beside model=mlp: 'model.channels=[8,40]' 'model.hidden=[64]' model.batch_norm=true; "
        "beside optim=sgd: optim.lr=0.02 'optim.betas=[0.9,0.999]' optim.fused=true"
    ),
    "experiment=mlp_10class model=linear": "beside model=linear: 'model.hidden=[128,64]'",
    "experiment=approximate model=quadratic": "beside model=quadratic: model.lines=1,2,4,8,16,32",
}


@pytest.mark.parametrize(("words", "left_out"), BESIDE.items(), ids=BESIDE)
def test_run_says_which_numbers_it_left_out(words, left_out, tmp_path, monkeypatch, capsys, mnist_root):
    monkeypatch.chdir(tmp_path)
    limits = ["trainer.max_epochs=1", "+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1"]
    run = seedbed.train(*words.split(), *limits, "trainer.accelerator=cpu")
    assert run.metrics["status"] == "completed" and run.metrics["steps"] == 2
    output = capsys.readouterr().out
    assert output.count("left out") == 1 and f"{words.split()[0]}: left out {left_out}\n" in output
    assert f": left out {left_out}\n" in (run.folder / "train.log").read_text()


def test_refused_run_says_only_why(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^trainer\.accumulate_grad_batches=2: [^\n]*$"):
        seedbed.train("experiment=gan", "optim=sgd", "trainer.accumulate_grad_batches=2", "trainer.accelerator=cpu")
    assert capfd.readouterr() == ("", "")


def test_sweep_says_once_what_is_left_out_and_the_command_line_wins(sweep, capsys, mnist_root):
    limits = ["trainer.max_epochs=1", "+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1"]
    folder = sweep("basic", "experiment=lesson9", "model=linear,mlp", "optim.lr=0.3", "optim=sgd,adam", *limits)
    output = capsys.readouterr().out
    assert output.count("left out") == 1
    assert "left out beside model=linear: 'model.hidden=[50]'; beside optim=adam: optim.lr=0.5\n" in output
    jobs = [yaml.safe_load((folder / str(n) / ".hydra/config.yaml").read_text()) for n in range(4)]
    assert [job["model"].get("hidden") for job in jobs] == [None, None, [50], [50]]
    assert [job["optim"]["lr"] for job in jobs] == [0.3] * 4 and [job["data"]["batch_size"] for job in jobs] == [64] * 4


def test_presets_own_choices_leave_nothing_out(composed):
    from seedbed.presets import left_out

    sources = [OmegaConf.create({"schema": "file", "path": str(CONF)})]
    presets = [composed(f"experiment={preset}")[1] for preset in ("linear", "linear_scratch", "speedrun", "none")]
    assert left_out(presets, sources) == []
    assert left_out([{**presets[0], "optim": "basic"}], sources) == [
        "experiment=linear: left out beside optim=basic: optim.lr=1.0"
    ]


def test_group_that_is_taken_away_leaves_its_none(composed):
    without, _ = composed("callbacks=[]", "~init", "~schedule", "~logger")
    assert without == composed("logger=none")[0] == composed("~callbacks", "logger=[]")[0]
