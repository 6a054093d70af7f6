"""Runs that were trained as a user trains them, and the commands that use them."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """trained("model=linear", …) → the folder of that run; each is trained once."""
    import seedbed

    folders: dict[tuple[str, ...], Path] = {}

    def train(*overrides: str) -> Path:
        if overrides not in folders:
            folder = tmp_path_factory.mktemp("run") / "run"
            folders[overrides] = seedbed.train(
                f"hydra.run.dir={folder}", "trainer.accelerator=cpu", "trainer.max_epochs=1", *overrides
            ).folder
        return folders[overrides]

    return train


@pytest.fixture
def command(monkeypatch, capsys):
    """command("predict", run, …) → (exit code, stdout, stderr) of a script, run in this process."""

    def run(name: str, *arguments) -> tuple[int, str, str]:
        spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        capsys.readouterr()
        code = script.main()
        return code, *capsys.readouterr()

    return run
