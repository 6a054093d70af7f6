"""docs/parts.md is right: its examples, put where it says, train by its commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/parts.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^```bash\npython (.+?)\n```", PAGE, re.MULTILINE)
TABLE = "src/seedbed/allowed_values.py"


def files(text: str) -> list[tuple[str, str]]:
    """(path, content) of each file that a section shows: the last path named before a block of code is the block's."""
    blocks = re.findall(r"`([\w/]+\.(?:py|yaml))`[^\n]*:\n\n```(?:python|yaml)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == len(re.findall(r"```(?:python|yaml)\n", text))
    return blocks


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with every example in its place."""
    copy = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "train.py", copy)
    for folder in ("conf", "src"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for path, content in files(PAGE):
        file = copy / path
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        if path == TABLE:
            first = "RULES: dict[str, Rule] = {\n"
            assert old.count(first) == 1
            new = old.replace(first, first + content)
        else:
            new = f"{old}\n\n{content}" if old else content
        file.write_text(new, encoding="utf-8")
    return copy


@pytest.mark.parametrize("kind", SECTIONS)
def test_part_is_one_python_file_four_lines_of_yaml_and_at_most_a_line_of_the_table(kind):
    paths = [path for path, _ in files(SECTIONS[kind])]
    assert sum(path.endswith(".py") and path != TABLE for path in paths) == 1
    assert sum(path.endswith(".yaml") for path in paths) == 1
    lines = {path: len(content.splitlines()) for path, content in files(SECTIONS[kind])}
    assert lines.get(TABLE, 0) <= 1 and all(count <= 4 for path, count in lines.items() if path.endswith(".yaml"))


def test_page_shows_every_kind_of_part():
    assert set(SECTIONS) == {"Model", "Loss", "Init", "Optimiser", "Schedule", "Data set"}
    assert len(COMMANDS) == len(SECTIONS) + 1


@pytest.mark.parametrize("command", COMMANDS)
def test_command_trains(project, command):
    env = {**os.environ, "PYTHONPATH": str(project / "src")}
    words = [sys.executable, *command.split(), "trainer.accelerator=cpu"]
    done = subprocess.run(words, cwd=project, env=env, capture_output=True, text=True, timeout=120)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "completed" in output and "failed" not in output, output
    if "launcher=fused" in command:
        assert "trained 4 runs" in output, output
