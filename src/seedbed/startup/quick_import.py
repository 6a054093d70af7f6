"""Import torch and Lightning in a third of the time.

`import lightning` imports much that a run never uses: torch's compiler, because Lightning tells compiled modules from
others and torch's optimisers call its `disable` and `graph_break`; and torchmetrics, whose hundred metrics import
torchvision, scipy and the compiler again, and whose plots import matplotlib. A `Late` module takes the place of each.
It has the few names that are needed, and executes the real module when any other is asked for.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from seedbed.startup import PLAIN

COMPILER, METRICS, PLOTS = "torch._dynamo", "torchmetrics", "torchmetrics.utilities.plot"


def import_torch() -> None:
    """Import torch and Lightning with `Late` modules, unless torch is imported already or SEEDBED_PLAIN=1.

    The garbage collector is off meanwhile, and later ignores what torch made: imports make objects, not garbage.

    torch's OpenMP threads wait for each other at the end of an operation. They are told to sleep soon: otherwise they
    spin for milliseconds, and on a busy machine keep the core from the thread that they wait for.
    """
    if PLAIN or "torch" in sys.modules:
        return
    gc.disable()
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # turns of a loop, some microseconds; of GNU's OpenMP
    import torch  # noqa: F401

    gc.freeze()
    Late(COMPILER, OptimizedModule=lambda: _OptimizedModule, disable=lambda: _disable, graph_break=lambda: _graph_break)
    sys.meta_path.insert(0, _CompilerFinder())
    Late(
        METRICS,
        __version__=lambda: import_module("torchmetrics.__about__").__version__,
        Metric=lambda: _torchmetrics("metric").Metric,
        MetricCollection=lambda: _torchmetrics("collections").MetricCollection,
        _logger=lambda: logging.getLogger("torchmetrics"),
    )
    # the two types are what the module itself has where matplotlib is not installed
    Late(PLOTS, plot_single_or_multi_val=lambda: _plot, _AX_TYPE=lambda: object, _PLOT_OUT_TYPE=lambda: object)
    import lightning.pytorch  # noqa: F401

    gc.enable()


class Late(ModuleType):
    """A module that is executed when it is asked for a name that is not in `early` (name → function of its value)."""

    def __init__(self, name: str, **early: Callable[[], Any]):
        super().__init__(name)
        root, *rest = name.split(".")
        folders = [os.path.join(path, *rest[:-1]) for path in sys.modules[root].__path__] if rest else None
        # importlib.util.find_spec would import the parents
        self.__spec__ = PathFinder.find_spec(name, folders)
        self.__loader__, self.__file__ = self.__spec__.loader, self.__spec__.origin
        self.__package__ = self.__spec__.parent
        if self.__spec__.submodule_search_locations:
            self.__path__ = self.__spec__.submodule_search_locations
        self._early = early
        sys.modules[name] = self

    def __getattr__(self, name: str) -> Any:
        if name in self._early:
            return self._early[name]()
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_executed(self.__name__), name)


def _is_late(name: str) -> bool:
    return isinstance(sys.modules[name], Late)


def _executed(name: str) -> ModuleType:
    """Return the module, executed first if it is late."""
    module = sys.modules[name]
    if isinstance(module, Late):
        module.__class__ = ModuleType  # type: ignore[assignment]
        module.__spec__.loader.exec_module(module)
    return module


def _torchmetrics(submodule: str) -> ModuleType:
    # torchmetrics' modules import each other in a circle, which has to be entered here
    import_module("torchmetrics.utilities")
    return import_module(f"torchmetrics.{submodule}")


def _plot(*args: Any, **kwargs: Any) -> Any:
    return _executed(PLOTS).plot_single_or_multi_val(*args, **kwargs)


class _CompilerFinder(MetaPathFinder, Loader):
    """Executes the compiler's package before the first of its submodules is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{COMPILER}.") or not _is_late(COMPILER):
            return None
        _executed(COMPILER)
        # the package may have imported the submodule: it must not be executed twice
        self.module = sys.modules.pop(name, None)
        return ModuleSpec(name, self) if self.module else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.spec = self.module.__spec__
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _AsksCompiler(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return not _is_late(COMPILER) and isinstance(instance, sys.modules[COMPILER].OptimizedModule)


class _OptimizedModule(metaclass=_AsksCompiler):
    """Stands for the compiler's class of that name in `isinstance`: without the compiler, nothing is compiled."""


def _disable(function: Callable, recursive: bool = True, **options: Any) -> Callable:
    """Wrap a function so that the compiler, if it is ever imported, skips it."""
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
    """Do nothing: without a compiler there is no graph."""
