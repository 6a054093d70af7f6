"""Which classes and functions a config that came with a checkpoint, a run's folder or a sweep may name.

Building a config calls what its `_target_`s name, so a stranger's config could call anything: `os.system`, but also
`torch.load` or `seedbed.data.idx.subprocess.run`, a module that one of ours happens to import. Therefore a target must
be a public name that is defined in a module of its group in MODULES, and nothing behind a further dot:

- of Seedbed and of the packages that the user adds (`allow`), a class or function of the module's own source file, or
  one that it imports from its own package; the file is read, not executed;
- of libraries, a class of exactly that module. Functions are left out: among torch's are some that run code or unpickle
  files (`torch.load`, `torch.hub.load`, `torch.jit.load`, …), and so are torchvision's data sets.

Arguments by which timm would load a file of its own choice are refused, and so is a `${…}` that is left once the config
is resolved: Hydra would resolve it a second time, behind this check.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seedbed.errors import ConfigError

LIGHTNING = tuple(
    f"lightning.pytorch.{name}" for name in ("callbacks", "loggers", "plugins", "profilers", "strategies")
)
# group → modules whose classes and (of Seedbed) functions may be named, or a single name
MODULES: dict[str, tuple[str, ...]] = {
    "data": ("seedbed.data", "seedbed.training.datamodule", "torchvision.transforms", "torchvision.transforms.v2"),
    "model": ("seedbed.models", "torch.nn", "timm.create_model"),
    "loss": ("seedbed.losses", "torch.nn"),
    "init": ("seedbed.inits",),
    "optim": ("seedbed.optim", "torch.optim", "timm.optim"),
    "schedule": ("seedbed.schedules",),
    "callbacks": ("seedbed.callbacks", "lightning.pytorch.callbacks"),
    "logger": ("seedbed.training.logger", "lightning.pytorch.loggers"),
    "module": ("seedbed.training.supervised", "seedbed.training.gan"),
    "trainer": ("lightning.pytorch.Trainer", *LIGHTNING, "lightning.fabric.plugins.environments"),
}
REFUSED = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")  # timm's, of files to load


def check_targets(config: Mapping[str, Any], allow: Sequence[str] = ()) -> None:
    """Raise ConfigError for the first thing in a resolved config that a stranger's may not name.

    allow: packages or modules whose classes and functions may be named besides.
    """
    for key, value in _values(config):
        group, name = key.partition(".")[0], key.rpartition(".")[2]
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{key}={value}: an interpolation that is left when all are resolved")
        if name in REFUSED and value is not None:
            raise ConfigError(f"{key}={value}: a config from elsewhere may not name a file to load")
        if name == "_target_" and not _is_allowed(value, MODULES.get(group, ()), allow):
            known = ", ".join(MODULES.get(group, ())) or f"nothing ({group} is no group)"
            raise ConfigError(
                f"{key}={value}: a config from elsewhere may name here only what is defined in {known} "
                "and in packages that you trust (--allow)"
            )


def _values(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in a config, the values of dicts and lists included."""
    for name, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        yield f"{prefix}{name}", value
        if isinstance(value, Mapping | list):
            yield from _values(value, f"{prefix}{name}.")


def _is_allowed(target: Any, modules: Sequence[str], allow: Sequence[str]) -> bool:
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return False
    module, _, name = target.rpartition(".")
    if not module or name.startswith("_"):
        return False
    sources = [m for m in modules if m.startswith("seedbed.")] + list(allow)
    if any(module == m or module.startswith(f"{m}.") for m in sources):
        return _is_part(module, name)
    return target in modules or (module in modules and name[0].isupper())


def _is_part(module: str, name: str) -> bool:
    """Return whether the module's source defines the class or function, or imports it from its own package.

    In Seedbed's data/ only what is annotated `-> Splits`: other functions there write files.
    """
    try:
        spec = find_spec(module)
    except ImportError:
        return False
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return False
    for node in ast.parse(Path(spec.origin).read_bytes()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return (
                not module.startswith("seedbed.data") or ast.unparse(getattr(node, "returns", None) or node) == "Splits"
            )
        if isinstance(node, ast.ImportFrom) and not module.startswith("seedbed."):
            own = node.level or node.module.split(".")[0] == module.split(".")[0]
            if own and name in (alias.asname or alias.name for alias in node.names):
                return True
    return False
