"""Import torch and Lightning in a third of the time.

Of what `import lightning` brings along, a run uses next to nothing: torch's compiler, whose class Lightning knows to
tell compiled modules from others and whose `disable` and `graph_break` torch's optimisers call; torchmetrics, whose
hundred metrics bring torchvision, scipy and the compiler again, and whose plots matplotlib; a counter of operations,
which brings triton. Until something else of theirs is asked for, a `Late` module with these few names stands in the
place of each.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


def import_torch() -> None:
    """What every run needs and --help, --cfg and completion do without: imported with the garbage collector off.

    Imports make objects, not garbage, and neither is there any among torch's when Python exits.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    import torch  # noqa: F401

    gc.freeze()
    Late(COMPILER, OptimizedModule=lambda: _OptimizedModule, disable=lambda: _disable, graph_break=lambda: _graph_break)
    sys.meta_path.insert(0, _Submodules())
    Late("torch.utils.flop_counter", called=["FlopCounterMode"])
    Late(
        "torchmetrics",
        __version__=lambda: import_module("torchmetrics.__about__").__version__,
        Metric=lambda: _torchmetrics("metric").Metric,
        MetricCollection=lambda: _torchmetrics("collections").MetricCollection,
        _logger=lambda: logging.getLogger("torchmetrics"),
    )
    Late(
        "torchmetrics.utilities.plot",
        called=["plot_single_or_multi_val"],
        _AX_TYPE=lambda: object,  # as it has them itself where there is no matplotlib
        _PLOT_OUT_TYPE=lambda: object,
    )
    import lightning.pytorch  # noqa: F401

    gc.enable()


class Late(ModuleType):
    """A module that is executed when a name is asked for that is none of `early`, or when one of `called` is called."""

    def __init__(self, name: str, called: Sequence[str] = (), **early: Callable[[], Any]):
        super().__init__(name)
        root, *rest = name.split(".")
        folders = [os.path.join(path, *rest[:-1]) for path in sys.modules[root].__path__] if rest else None
        self.__spec__ = PathFinder.find_spec(name, folders)  # unlike importlib.util.find_spec, imports no parent
        self.__loader__, self.__file__ = self.__spec__.loader, self.__spec__.origin
        self.__package__ = self.__spec__.parent
        if self.__spec__.submodule_search_locations:
            self.__path__ = self.__spec__.submodule_search_locations
        self._early = early | {name: partial(partial, _call, self, name) for name in called}
        sys.modules[name] = self

    def __getattr__(self, name: str) -> Any:
        if name in self._early:
            return self._early[name]()
        if name.startswith("__"):
            raise AttributeError(name)
        self.execute()
        return getattr(self, name)

    def execute(self) -> None:
        self.__class__ = ModuleType
        self.__loader__.exec_module(self)


def _call(module: ModuleType, name: str, /, *args: Any, **kwargs: Any) -> Any:
    if isinstance(module, Late):
        module.execute()
    return getattr(module, name)(*args, **kwargs)


def _torchmetrics(submodule: str) -> ModuleType:
    import_module("torchmetrics.utilities")  # the right end of a circle of imports
    return import_module(f"torchmetrics.{submodule}")


def _is_late(name: str) -> bool:
    return isinstance(sys.modules[name], Late)


class _Submodules(MetaPathFinder, Loader):
    """Executes the compiler's package before the first of its submodules is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{COMPILER}.") or not _is_late(COMPILER):
            return None
        sys.modules[COMPILER].execute()
        self.module = sys.modules.pop(name, None)  # by now it has been executed itself, which is not to happen twice
        return self.module and ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.spec = self.module.__spec__
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _AsksCompiler(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return not _is_late(COMPILER) and isinstance(instance, sys.modules[COMPILER].OptimizedModule)


class _OptimizedModule(metaclass=_AsksCompiler):
    """To isinstance what the compiler's class of that name is; nothing is one before it is there."""


def _disable(function: Callable, recursive: bool = True, **options: Any) -> Callable:
    """Before the compiler is there, there is nothing to keep a function from."""
    disabled = None

    @wraps(function)
    def call(*args, **kwargs):
        nonlocal disabled
        if _is_late(COMPILER):
            return function(*args, **kwargs)
        disabled = disabled or sys.modules[COMPILER].disable(function, recursive, **options)
        return disabled(*args, **kwargs)

    return call


def _graph_break(message: str = "") -> None:
    """Nothing to break."""
