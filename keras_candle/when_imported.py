"""Change a package when the user's program imports it: `keras.Model.fit` for CandleCallback.

A program may set KERAS_BACKEND or TF_CPP_MIN_LOG_LEVEL before it imports Keras, or not import it
at all: changes of Keras have to wait for the program's own import.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from keras_candle.launcher_messages import work

Action = Callable[[ModuleType], None]


def when_imported(name: str, action: Action) -> None:
    """Call action(module) as soon as a module has been imported, at once if it already is.

    Args:
        name: the module's full name.
        action: called once, before the import statement returns, which raises its exceptions.

    Example:
        >>> when_imported("json", lambda module: print(module.__name__))
        json
    """
    if name in sys.modules:
        action(sys.modules[name])
        return
    sys.meta_path.insert(0, _Finder(name, action))


def hasten_import(*names: str) -> None:
    """Pause the garbage collector while the program imports large packages.

    It would search them again and again as they grow, an eighth of the time of `import keras`.

    Args:
        names: the packages' names. Those that are not imported yet are waited for.
    """
    for name in names:
        when_imported(name, lambda _: None)


class _Finder(MetaPathFinder):
    def __init__(self, name: str, action: Action) -> None:
        self._name, self._action = name, action
        self._is_searching = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - importlib's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != self._name or self._is_searching:
            return None
        self._is_searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._is_searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._imported)
        return spec

    def _imported(self, module: ModuleType) -> None:
        # Not before: an import can fail and be tried again (TensorFlow does so with Keras), and
        # find_spec alone imports nothing.
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self._action(module)


class _Loader(Loader):
    def __init__(self, plain: Any, imported: Action) -> None:
        self._plain, self._imported = plain, imported

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._plain.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        # A package's own code asks its spec and its loader for its files.
        module.__spec__.loader = module.__loader__ = self._plain  # type: ignore[union-attr]
        with _collector_paused():
            self._plain.exec_module(module)
        self._imported(module)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            _make_all_old()
            gc.enable()


def _make_all_old() -> None:
    """Put all objects into the oldest generation: the next collections would search them, too."""
    if gc.get_freeze_count() == 0:
        gc.freeze()
        gc.unfreeze()


def wrap_fit() -> None:
    """Wrap `keras.Model.fit` when Keras is imported, so that a CandleCallback can run around it.

    A callback alone sees neither the remaining callbacks nor the data. `model.fit(x, y,
    callbacks=[candle.CandleCallback(...)])` looks `fit` up before it creates the CandleCallback,
    so `fit` is wrapped as soon as Keras is imported.
    """
    when_imported("keras", _wrap_fit)


def _wrap_fit(keras: ModuleType) -> None:
    plain = keras.Model.fit

    @functools.wraps(plain)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = sys.modules.get("keras_candle.callback.candle_callback")
        if ours is None:
            work.begin(can_resume=False)
            return plain(self, *args, **kwargs)
        return ours.fit(plain, self, *args, **kwargs)

    keras.Model.fit = fit
