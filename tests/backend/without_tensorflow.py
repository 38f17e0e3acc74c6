"""Keras on NumPy, in a process in which importing TensorFlow raises.

Keras's NumPy backend takes functions from JAX that nothing here calls: it gets empty modules.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Anything:
    """Can be called, subclassed, and has every attribute."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *arguments: Any, **_: object) -> Any:
        return arguments[0] if arguments else self

    def __getattr__(self, name: str) -> Any:
        return self


class EmptyModule(ModuleType):
    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything if name[0].isupper() else Anything()


class Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        library = name.partition(".")[0]
        if library == "tensorflow":
            raise ImportError(f"{name} is not for this process")
        return ModuleSpec(name, self, is_package=True) if library in ("jax", "jaxlib") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def prepare() -> None:
    """Choose Keras's backend and forbid TensorFlow, before Keras is imported."""
    if "keras" in sys.modules:
        raise ImportError("Keras has been imported already")
    os.environ["KERAS_BACKEND"] = "numpy"
    sys.meta_path.insert(0, Finder())
