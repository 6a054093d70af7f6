"""The folders of src/seedbed import each other in one direction, and each knows no more than its subject needs."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "seedbed"
HYDRA = {"hydra", "omegaconf", "hydra_plugins"}
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities"}
TORCH = {"torch", "torchvision", "timm", "torchmetrics"}

# folder or file of src/seedbed → those that it may import besides itself and FOUNDATION
FOUNDATION = [
    "allowed_targets",
    "colours",
    "config_values",
    "errors",
    "event_files",
    "files",
    "formats",
    "history",
    "machine",
    "metrics",
    "moved",
    "own_code",
    "owner",
    "presets",
    "statistics",
    "tables",
]  # know no folder
PARTS = ("data", "models", "losses", "inits", "optim", "schedules")
MAY_IMPORT = {
    **dict.fromkeys(FOUNDATION, ()),
    **dict.fromkeys(PARTS, ()),
    "from_scratch": (),
    "losses": ("from_scratch",),
    "optim": ("schedules",),
    "allowed_values": ("optim",),
    "sweeps": (),
    "startup": ("allowed_values", "sweeps"),
    "pictures": (*PARTS,),
    "training": (*PARTS, "allowed_values", "startup"),
    "callbacks": (*PARTS, "allowed_values", "startup", "pictures", "training"),
    "fused": (*PARTS, "allowed_values", "startup", "sweeps", "training"),
    "task": ("allowed_values", "startup", "sweeps", "training"),
    "report": ("sweeps",),
    "trained": (*PARTS, "startup", "pictures", "training"),
    "api": ("allowed_values", "startup", "training", "sweeps", "task"),
    "studies": (
        *PARTS,
        "from_scratch",
        "allowed_values",
        "startup",
        "pictures",
        "training",
        "callbacks",
        "sweeps",
        "api",
    ),
    "__init__": ("api",),
}


def place(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, at any depth, under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: imports are absolute"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def places_imported(path: Path) -> set[str]:
    known = {place(p) for p in SRC.rglob("*.py")}
    second = {name.split(".")[1] for name in imports(path) if name.startswith("seedbed.")}
    return second & known


FILES = sorted(SRC.rglob("*.py"))


def test_folders_import_in_one_direction():
    wrong = []
    for path in FILES:
        allowed = {place(path), *FOUNDATION, *MAY_IMPORT[place(path)]}
        wrong += [f"{path.relative_to(SRC)} imports {other}" for other in places_imported(path) - allowed]
    assert not wrong


def test_the_order_has_no_circle():
    seen: list[str] = []
    left = {name: set(others) for name, others in MAY_IMPORT.items()}
    while left:
        free = [name for name, others in left.items() if others <= set(seen)]
        assert free, f"a circle among {sorted(left)}"
        seen += free
        left = {name: others for name, others in left.items() if name not in free}


def test_parts_know_torch_only():
    assert not [path for path in FILES if place(path) in PARTS and packages(path) & (HYDRA | LIGHTNING)]


def test_sweeps_know_neither_torch_nor_training():
    assert not [path for path in FILES if place(path) == "sweeps" and packages(path) & (TORCH | LIGHTNING)]


def test_import_seedbed_is_light():
    code = "import seedbed, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "seedbed" in loaded
    assert not set(loaded) & (HYDRA | LIGHTNING | TORCH | {"numpy", "pandas"})


def test_no_file_or_folder_of_src_has_a_name_for_anything():
    vague = {"util", "utils", "common", "helper", "helpers", "base", "misc"}
    assert not [path for path in SRC.rglob("*") if path.stem.strip("_") in vague]
