"""Folders that cannot be written, logging that is off, and terminals without our characters."""

import ast
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import seedbed
from seedbed.config_values import typed
from seedbed.errors import ConfigError, Refusal
from seedbed.startup.words import check_words

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
SHORT = ["model=linear", "trainer.max_epochs=1", "+trainer.limit_train_batches=2", "trainer.accelerator=cpu"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("place", ["file/run", "file", "x" * 300, "/proc/nowhere/run"])
def test_run_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"^hydra.run.dir={place}: cannot be written: [A-Z][a-z ]*$"):
        seedbed.train(*SHORT, f"hydra.run.dir={place}")
    with pytest.raises(ConfigError, match=f"^hydra.sweep.dir={place}: cannot be written: [A-Z][a-z ]*$"):
        seedbed.sweep(*SHORT, "seed=0,1", f"hydra.sweep.dir={place}")
    assert os.listdir(tmp_path) == ["file"]


def test_outputs_that_is_a_file_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").write_bytes(b"")
    for call, words in ((seedbed.train, []), (seedbed.sweep, ["seed=0,1"])):
        with pytest.raises(ConfigError, match="cannot be written: Not a directory; choose another"):
            call(*SHORT, *words)


def test_file_in_the_place_of_a_jobs_folder_is_one_line(tmp_path):
    (tmp_path / "01-seed1").write_bytes(b"")
    with pytest.raises(ConfigError, match="the folder of job 1 cannot be made: a file has its name"):
        seedbed.sweep(*SHORT, "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert os.listdir(tmp_path) == ["01-seed1"]


@pytest.mark.parametrize("choice", ["none", "disabled"])
def test_logging_may_be_off(tmp_path, choice):
    run = seedbed.train(*SHORT, f"hydra.run.dir={tmp_path}/run", f"hydra/job_logging={choice}")
    assert run.metrics["status"] == "completed" and not (tmp_path / "run/train.log").exists()
    assert not logging.getLogger("seedbed").disabled


def test_locale_of_ascii_prints_a_question_mark_and_writes_utf_8(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "-m", *SHORT, "optim.lr=1,-1", "seed=0,1"]
    env = {**os.environ, **ASCII}
    done = subprocess.run(
        [*command, f"hydra.sweep.dir={tmp_path}"], env=env, cwd=tmp_path, capture_output=True, timeout=300
    )
    assert done.returncode == 1 and b"Error" not in done.stdout + done.stderr and b"? 95 %" in done.stdout
    assert "±" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_every_text_file_is_opened_with_its_encoding():
    """Without one, the locale of the machine decides."""
    wrong = []
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("scripts/**/*.py"), ROOT / "train.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _opens_text(node) and not _has_encoding(node):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


def _opens_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return True
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if name != "open" or owner in ("os", "gzip", "tarfile", "Image", "archive", "self"):
        return False
    modes = [a.value for a in [*call.args, *(k.value for k in call.keywords)] if isinstance(a, ast.Constant)]
    return not any(isinstance(mode, str) and "b" in mode and len(mode) < 4 for mode in modes)


def _has_encoding(call: ast.Call) -> bool:
    positional = isinstance(call.func, ast.Attribute) and call.func.attr == "read_text" and bool(call.args)
    return positional or any(keyword.arg == "encoding" for keyword in call.keywords)


@pytest.mark.parametrize("name", ["it's", "[1]", 'a "b"', "{x}", "a{", "'", "a[b]", "back\\\\", "a, b"])
def test_path_with_signs_of_hydras_grammar_is_refused_with_what_to_type(name):
    parse = OverridesParser.create().parse_override
    for key in ("resume", "hydra.sweep.dir"):
        (word,) = shlex.split(typed(key, name))
        assert parse(word).value() == name
        check_words([word, "model=linear"], CONF)
    if name not in ("a, b", "back\\\\"):  # two values of a sweep; a sign that stands for itself
        with pytest.raises(Refusal, match="has characters that mean something else to Hydra") as refused:
            check_words([f"resume={name}"], CONF)
        assert str(refused.value).endswith(typed("resume", name)) and refused.value.code == 2


def test_formula_that_hydra_does_not_read_is_refused_with_what_to_type():
    for formula in ("sin(3*x)/x", "(x>0)*x", "log(x)", "where(x > 0, 1, 0)"):
        with pytest.raises(Refusal, match="to Hydra: type ") as refused:
            check_words([f"data.expression={formula}"], CONF)
        (word,) = shlex.split(str(refused.value).partition(": type ")[2])
        assert OverridesParser.create().parse_override(word).value() == formula


def test_paths_that_hydra_reads_as_they_are_pass():
    words = ["resume=latest", "hydra.run.dir=outputs/a-b.c", "ckpt_path=a.ckpt,b.ckpt", "data.root='a b'", "x={"]
    check_words(words, CONF)
