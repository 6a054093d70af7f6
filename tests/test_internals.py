"""docs/internals.md lists every private name of another package, with a test that exists."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import torch

from seedbed.training.checkpoints import dump

ROOT = Path(__file__).resolve().parents[1]
FILES = [ROOT / "train.py", *(path for top in ("src", "scripts", "tests") for path in (ROOT / top).rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
PAGE = (ROOT / "docs/internals.md").read_text(encoding="utf-8")
PROMISES = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
# documented although it begins with an underscore
PUBLIC = {"_exit"}


def is_private(name: str) -> bool:
    """Whether a part of a dotted name is private; __name__ is special, and Hydra's _target_ is no Python name."""
    parts = name.split(".")
    return any(part.startswith("_") and not part.startswith("__") and part not in PUBLIC for part in parts)


def own_names() -> set[str]:
    """The names that our code gives to functions, classes, variables and attributes of self."""
    names = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return names


def private_names(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """Attributes that our code does not define; imported modules and names; keywords; modules named in a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr not in own:
            yield node.attr
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.module.startswith("seedbed"):
            yield node.module
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.keyword) and node.arg and not node.arg.endswith("_"):
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^(?:torch|lightning|hydra|torchmetrics)\._\w+", node.value)


def listed() -> set[str]:
    """The names in the first column of the table of private names."""
    table = PAGE.split("## Private names")[1].split("\n## ")[0]
    return {name for line in table.splitlines() for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])}


def is_of(name: str, entry: str) -> bool:
    """Whether an entry, which may be dotted and end with a star, is of this name."""
    return fnmatch(name, entry) or fnmatch(name, entry.rpartition(".")[2])


def test_every_private_name_is_listed_and_every_listed_one_is_used():
    own = own_names()
    used = {name: path for path, tree in TREES.items() for name in private_names(tree, own) if is_private(name)}
    missing = {name: path for name, path in used.items() if not any(is_of(name, entry) for entry in listed())}
    assert not missing
    unused = [entry for entry in listed() if not any(is_of(name, entry) for name in used)]
    # not private by the rule
    assert unused == ["torchmetrics.__about__"]


def test_every_test_and_file_on_the_page_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE + PROMISES)
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
    # a promise in each row
    rows = [line for line in PROMISES.splitlines() if re.match(r"\| [A-Z`]", line)]
    assert rows and all("::test_" in row for row in rows)
    for pattern in re.findall(r"`([a-z_]+/[\w/*]+\.py)`", PAGE):
        places = (ROOT, ROOT / "src", ROOT / "src/seedbed")
        assert any(True for place in places for _ in place.glob(pattern)), pattern


def test_dumped_checkpoint_is_what_lightning_saves(fit, tmp_path):
    run = fit("trainer.max_epochs=1", "optim=adam")
    run.trainer.save_checkpoint(tmp_path / "saved.ckpt")
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    dumped = dump(run.trainer)
    assert dumped.keys() == saved.keys()
    for name in ("state_dict", "optimizer_states", "loops", "callbacks", "epoch", "global_step"):
        torch.testing.assert_close(dumped[name], saved[name], rtol=0, atol=0)
