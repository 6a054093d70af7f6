"""Commands of the README and of docs/ compose; those of docs/lessons.md run, long ones for two batches."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

from seedbed.startup.command import hydra_with

ROOT = Path(__file__).resolve().parents[1]
# docs/parts.md uses parts that it adds: tests/test_parts.py runs it
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.stem != "parts")]
CONFIGS = {"train.py": "config", "scripts/study.py": "study", "scripts/lr_find.py": "lr_find"}


def commands(page: Path) -> list[list[str]]:
    """Return the words of each `python …` line of a page's bash blocks, comments left out."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("python ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def one_value(word: str) -> str | None:
    """Return an override with the first of the values that it sweeps over, None for an interval."""
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return word
    return None if override.is_interval_sweep() else f"{override.key_or_group}={next(override.sweep_string_iterator())}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_composes(page):
    for script, *words in commands(page):
        assert (ROOT / script).is_file(), script
        words = [word for word in words if not word.startswith("-")]
        if script not in CONFIGS or any("…" in word for word in words):
            continue
        with hydra_with(ROOT / "conf"):
            compose(CONFIGS[script], [plain for word in words if (plain := one_value(word))], return_hydra_config=True)


@pytest.mark.slow
def test_every_command_of_the_lessons_runs(tmp_path, mnist_root):
    environment = {**os.environ, "SEEDBED_DATA": str(mnist_root)}
    for script, *words in commands(ROOT / "docs/lessons.md"):
        short = ["trainer.max_epochs=1", "+trainer.limit_train_batches=2", "+trainer.limit_val_batches=2"]
        if script != "train.py":
            short = ["study.seeds=2"] if words in (["study=why_sqrt5"], ["study=init"]) else []
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *words, *short],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, (script, words, done.stdout[-1000:], done.stderr[-2000:])
