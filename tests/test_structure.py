"""Parts know torch and their own group; Hydra stays in three places; files are called after their subject."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
FILES = [ROOT / "train.py", *sorted(SRC.rglob("*.py"))]
HYDRA = {"hydra", "omegaconf"}
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities"}
GROUPS = ("data", "inits", "losses", "models", "optim", "schedules")


def name(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """Dotted names of all that a file imports, at any depth: `from a import b` gives a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}, line {node.lineno}: imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(path):
    return {found.split(".")[0] for found in imports(path)}


def group(path):
    """seedbed/models/mlp.py → models, seedbed/losses.py → losses; None for what is no part."""
    if not path.is_relative_to(SRC / "seedbed"):
        return None
    first = path.relative_to(SRC / "seedbed").parts[0].removesuffix(".py")
    first = {"fixup": "inits", "lsuv": "inits"}.get(first, first)
    return first if first in GROUPS else None


PARTS = [path for path in FILES if group(path)]


def test_every_group_of_parts_is_looked_at():
    assert {group(path) for path in PARTS} == set(GROUPS)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_hydra_is_imported_by_train_build_and_the_plugins_only(path):
    allowed = path in (ROOT / "train.py", SRC / "seedbed" / "build.py") or path.is_relative_to(SRC / "hydra_plugins")
    assert allowed or not packages(path) & HYDRA


@pytest.mark.parametrize("path", PARTS, ids=name)
def test_part_imports_neither_hydra_nor_lightning(path):
    forbidden = HYDRA if path == SRC / "seedbed" / "data" / "datamodule.py" else HYDRA | LIGHTNING
    assert not packages(path) & forbidden


@pytest.mark.parametrize("path", PARTS, ids=name)
def test_part_imports_nothing_of_seedbed_but_its_own_group(path):
    own = f"seedbed.{group(path)}"
    ours = {found for found in imports(path) if found.split(".")[0] == "seedbed"}
    assert {found for found in ours if found != own and not found.startswith(f"{own}.")} == set()


def test_import_seedbed_brings_neither_hydra_nor_lightning_nor_torch():
    code = "import seedbed, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "seedbed" in loaded
    assert not set(loaded) & (HYDRA | LIGHTNING | {"torch", "torchvision", "numpy"})


def test_no_file_or_folder_of_src_has_a_name_for_anything():
    vague = {"util", "utils", "common", "helper", "helpers", "base", "misc"}
    named = {path for path in SRC.rglob("*") if "egg-info" not in name(path) and path.stem.strip("_") in vague}
    assert named == set()
