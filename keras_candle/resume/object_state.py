"""Convert the state of objects to plain values and restore it, without pickle.

A state is a list that begins with its kind. For an object with an identity a number comes second;
further references to it become `["seen", number]`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import random
import site
import sys
import sysconfig
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle import random_state
from keras_candle.checkpoints.plain import is_plain
from keras_candle.keras_private import callbacks as keras_callbacks
from keras_candle.training.shared_state import seed_generators

_OUTSIDE, _LOST = ["outside"], ["lost"]
_MISSING = object()
_BASES: tuple[type, ...] = (Counter, OrderedDict, defaultdict, deque, dict, list)
_MUTABLE = (*_BASES, set, bytearray, np.ndarray)
# Objects of these packages control a process, describe code, or belong to the bookkeeping of this
# package or Keras Tuner: they hold no training state.
_NO_STATE = (
    *("_thread", "functools", "inspect", "keras_candle", "keras_tuner", "logging"),
    *("pathlib", "re", "threading", "types", "warnings", "weakref", "zoneinfo"),
)
# Objects of these packages that hold variables are known; all others describe computations.
_LIBRARIES = ("keras", "numpy", "tensorflow")
# Objects of these packages are bound to this process, whatever attributes they have.
_OF_PROCESS = (
    *("asyncio", "concurrent", "http", "io", "multiprocessing", "queue", "select", "socket"),
    *("sqlite3", "ssl", "subprocess", "tempfile", "urllib"),
)
_NUMPY_BITS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class Capture:
    """Captures the states of objects, including shared references between them.

    Args:
        outside: ids of objects whose state is saved elsewhere.
        copies: False where the states are only compared, so that arrays need no copies.

    Attributes:
        lost: path and type of each object whose state cannot be captured.
    """

    def __init__(self, outside: Collection[int] = (), *, copies: bool = True) -> None:
        self._outside, self._copies = outside, copies
        self._seen: dict[int, tuple[int, Any]] = {}
        self.lost: dict[str, str] = {}

    def take(self, value: Any, path: str) -> list[Any]:
        """Return the state of a value.

        Args:
            value: any object.
            path: its name in `lost`.
        """
        if id(value) in self._outside:
            return _OUTSIDE
        if isinstance(value, Enum):
            return ["enum", name_of(type(value)), value.name]
        if isinstance(value, tuple) and not is_plain(value):
            return ["tuple", name_of(type(value)), self._items(value, path)]
        if not isinstance(value, _MUTABLE) and is_plain(value):
            return ["value", value]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)][0]]
        number = len(self._seen)
        self._seen[id(value)] = (number, value)  # a reference, so that its id is not reused
        return self._of_object(value, path, number)

    def _of_object(self, value: Any, path: str, number: int) -> list[Any]:  # noqa: PLR0911
        if isinstance(value, np.memmap):
            return _OUTSIDE  # the content of a file
        if is_plain(value):
            return ["plain", number, copy.deepcopy(value) if self._copies else value]
        if random_state.is_generator(value):
            return ["generator", number, random_state.get_state(value)]
        if _is_variable(value):
            array, facts = _array_of(value), _facts_of(value)
            return _OUTSIDE if array is None else ["variable", number, array, facts]
        if isinstance(value, _tensorflow("Tensor")):
            array = _array_of(value)
            return _OUTSIDE if array is None else ["tensor", number, array]
        if _holds_variables(value):
            states = [self.take(each, path) for each in _variables_of(value)]
            return ["variables", number, states]
        if isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
            return _OUTSIDE
        if isinstance(value, type | ModuleType | BaseException) or (
            _has_no_state(value) and not isinstance(value, keras.callbacks.Callback)
        ):
            return _OUTSIDE
        if isinstance(value, _BASES):
            return self._of_container(value, path, number)
        if _has_attributes(value) and not _is_of_process(type(value)):
            return self._of_attributes(value, path, number)
        return self._lose(value, path)

    def _lose(self, value: Any, path: str) -> list[Any]:
        self.lost[path] = name_of(type(value)).replace(":", ".").removeprefix("builtins.")
        return _LOST

    def _items(self, values: Any, path: str) -> list[list[Any]]:
        return [self.take(each, f"{path}[{place}]") for place, each in enumerate(list(values))]

    def _of_container(self, value: Any, path: str, number: int) -> list[Any]:
        attributes = self._attributes(value, path)
        if not isinstance(value, dict):
            content: list[Any] = self._items(value, path)
        else:
            content = []
            for key, each in list(value.items()):
                if is_plain(key):
                    content.append([key, self.take(each, f"{path}[{key!r}]")])
                else:
                    self._lose(key, f"{path}[{key!r}]")
        facts = {"class": name_of(type(value)), "maxlen": getattr(value, "maxlen", None)}
        return ["container", number, facts, content, attributes]

    def _of_attributes(self, value: Any, path: str, number: int) -> list[Any]:
        before = dict(self.lost)
        attributes = self._attributes(value, path)
        if len(self.lost) > len(before) and is_installed(type(value)):
            # A partial state of another package's object would be worse than none.
            self.lost = before
            return self._lose(value, path)
        return ["object", number, name_of(type(value)), attributes]

    def _attributes(self, value: Any, path: str) -> list[list[Any]]:
        return [[name, self.take(each, f"{path}.{name}")] for name, each in attributes_of(value)]


class Restoration:
    """Restores states in the objects they came from, or in new ones of the same class.

    A missing object is created where that runs no code: a container, a variable, a generator, or
    an object of a class from the same top-level package as `home`.

    Args:
        home: a class whose package may provide the classes of new objects.

    Attributes:
        lost: by path, why a state could not be restored.
    """

    def __init__(self, home: type) -> None:
        self._home = home.__module__.partition(".")[0]
        self._made: dict[int, Any] = {}
        self.lost: dict[str, str] = {}

    def put(self, state: list[Any], current: Any, path: str) -> Any:
        """Restore a state and return the value: `current`, changed, or a new one.

        Args:
            state: a state of `Capture.take`.
            current: the current value.
            path: its name in `lost`.
        """
        kind = state[0]
        if kind in ("outside", "lost"):
            return current
        if kind == "value":
            return state[1]
        if kind == "seen":
            return self._made.get(state[1], current)
        if kind == "enum":
            return self._enum(state, current, path)
        if kind == "tuple":
            return self._tuple(state, current, path)
        put: Callable[..., Any] = getattr(self, f"_{kind}")
        return put(current, path, *state[1:])

    def set_attributes(self, owner: Any, states: list[list[Any]], path: str) -> None:
        """Restore the states of an object's attributes.

        Args:
            owner: the object.
            states: (name, state) of each attribute.
            path: the object's name in `lost`.
        """
        for name, state in states:
            current = dict(attributes_of(owner)).get(name, _MISSING)
            value = self.put(state, current, f"{path}.{name}")
            if value is _MISSING or value is current:
                continue
            if name in getattr(owner, "__dict__", ()) or not _has_slot(owner, name):
                vars(owner)[name] = value
            else:
                object.__setattr__(owner, name, value)

    def _lose(self, current: Any, path: str, why: str) -> Any:
        self.lost[path] = why
        return current

    def _plain(self, current: Any, _: str, number: int, value: Any) -> Any:
        self._made[number] = found = _in_place(current, value)
        return found

    def _generator(self, current: Any, path: str, number: int, state: dict[str, Any]) -> Any:
        found = current if random_state.is_generator(current) else _new_generator(state)
        try:
            random_state.set_state(found, state)
        except (TypeError, ValueError) as cause:
            return self._lose(current, path, str(cause))
        self._made[number] = found
        return found

    def _variable(
        self, current: Any, path: str, number: int, value: NDArray[Any], facts: dict[str, Any]
    ) -> Any:
        if not _is_variable(current):
            facts = dict(facts)
            kind = keras.Variable if facts.pop("keras") else _tensorflow("Variable")
            current = kind(value, **facts)
        elif tuple(current.shape) != value.shape:
            why = f"its shape was {list(value.shape)} and is {list(current.shape)}"
            return self._lose(current, path, why)
        else:
            current.assign(value)
        self._made[number] = current
        return current

    def _tensor(self, current: Any, path: str, number: int, value: NDArray[Any]) -> Any:
        del current, path
        self._made[number] = found = keras.ops.convert_to_tensor(value)
        return found

    def _variables(self, current: Any, path: str, number: int, states: list[list[Any]]) -> Any:
        variables = _variables_of(current) if _holds_variables(current) else []
        if len(variables) != len(states):
            found = f"it had {len(states)} variables and has {len(variables)}"
            return self._lose(current, path, f"{found}: build it before fit")
        for variable, state in zip(variables, states, strict=True):
            self.put(state, variable, f"{path}.{variable.name}")
        self._made[number] = current
        return current

    def _container(
        self,
        current: Any,
        path: str,
        number: int,
        facts: dict[str, Any],
        content: list[Any],
        attributes: list[list[Any]],
    ) -> Any:
        kind = _base_named(facts["class"])
        if name_of(type(current)) == facts["class"]:
            found = current
        elif kind is deque:
            found = deque(maxlen=facts["maxlen"])
        else:
            found = kind() if kind else self._new(facts["class"])
        if found is None:
            return self._lose(current, path, f"there is no {facts['class']}")
        self._made[number] = found
        if isinstance(found, dict):
            _fill(found, {key: self._item(s, found, key, path) for key, s in content})
        else:
            before = dict(enumerate(list(found)))
            _fill(found, [self._item(s, before, at, path) for at, s in enumerate(content)])
        self.set_attributes(found, attributes, path)
        return found

    def _item(self, state: list[Any], before: dict[Any, Any], key: Any, path: str) -> Any:
        found = self.put(state, before.get(key, _MISSING), f"{path}[{key!r}]")
        return self._lose(None, f"{path}[{key!r}]", "it is missing") if found is _MISSING else found

    def _object(
        self, current: Any, path: str, number: int, kind: str, attributes: list[list[Any]]
    ) -> Any:
        found = current if name_of(type(current)) == kind else self._new(kind)
        if found is None:
            return self._lose(current, path, f"there is no {kind.replace(':', '.')}")
        self._made[number] = found
        self.set_attributes(found, attributes, path)
        return found

    def _enum(self, state: list[Any], current: Any, path: str) -> Any:
        _, kind, name = state
        found = type(current) if name_of(type(current)) == kind else _loaded(kind)
        if isinstance(found, type) and issubclass(found, Enum) and name in found.__members__:
            return found[name]
        return self._lose(current, path, f"there is no {kind.replace(':', '.')}.{name}")

    def _tuple(self, state: list[Any], current: Any, path: str) -> Any:
        _, kind, states = state
        before = dict(enumerate(current if isinstance(current, tuple) else ()))
        items = [self._item(each, before, at, path) for at, each in enumerate(states)]
        if kind == name_of(tuple):
            return tuple(items)
        found = type(current) if name_of(type(current)) == kind else self._class_at_home(kind)
        if found is None or not issubclass(found, tuple):
            return self._lose(current, path, f"there is no {kind.replace(':', '.')}")
        return tuple.__new__(found, items)

    def _class_at_home(self, name: str) -> type | None:
        found = _loaded(name)
        at_home = name.partition(":")[0].partition(".")[0] == self._home
        return found if at_home and not hasattr(found, "__del__") else None

    def _new(self, name: str) -> Any:
        """Create an object without running code of its class; None where that is impossible."""
        found = self._class_at_home(name)
        if found is None:
            return None
        kind: Any = found
        base: Any = next((each for each in _BASES if issubclass(kind, each)), object)
        return base.__new__(kind) if kind.__new__ is base.__new__ else None


def outside_of(model: Any, excluded: Iterable[Any] = ()) -> set[int]:
    """Return the ids of objects whose state is saved elsewhere: a model's parts and `excluded`."""
    found = [model, *model.variables, *model.metrics_variables, *seed_generators(model), *excluded]
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        found += [optimizer, *optimizer.variables]
    return set(map(id, found))


def take_safely(capture: Capture, value: Any, path: str) -> list[Any]:
    """Call `capture.take` for a value that may be nested too deeply."""
    try:
        return capture.take(value, path)
    except RecursionError:
        capture.lost[path] = "nested too deeply"
        return _LOST


def name_of(kind: type) -> str:
    """Return a class's name in states: `module:Outer.Inner`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def _loaded(name: str) -> type | None:
    """Return the class with a name of `name_of`, where its module is imported already."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) else None


def _base_named(name: str) -> Any:
    return next((each for each in _BASES if name_of(each) == name), None)


def _in_place(current: Any, value: Any) -> Any:
    """Return a plain value, filled into the current container where that has its type."""
    if type(current) is not type(value) or current is value:
        return value
    if isinstance(value, np.ndarray):
        same = current.shape == value.shape and current.dtype == value.dtype
        if not (same and current.flags.writeable):
            return value
        current[...] = value
    elif isinstance(value, deque) and current.maxlen != value.maxlen:
        return value
    else:
        _fill(current, value)
    return current


def _fill(container: Any, content: Any) -> None:
    """Replace a container's content without calling methods of a subclass."""
    if isinstance(container, dict):
        base: Any = OrderedDict if isinstance(container, OrderedDict) else dict
        base.clear(container)
        for key, value in content.items():
            base.__setitem__(container, key, value)
    elif isinstance(container, set):
        set.clear(container)
        set.update(container, content)
    elif isinstance(container, deque):
        deque.clear(container)
        deque.extend(container, content)
    else:
        base = bytearray if isinstance(container, bytearray) else list
        base.__setitem__(container, slice(None), content)


def attributes_of(value: Any) -> list[tuple[str, Any]]:
    """Return an object's attributes by name, with containers that its class holds."""
    found = dict(getattr(value, "__dict__", {}))
    for name in _slots_of(type(value)):
        with contextlib.suppress(AttributeError):  # not assigned yet
            found[name] = object.__getattribute__(value, name)
    for kind in _kinds_of(value):
        for name, each in list(vars(kind).items()):
            if is_installed(kind):
                break
            if isinstance(each, _MUTABLE) and not name.startswith("__"):
                found.setdefault(name, each)
    if isinstance(value, keras.callbacks.Callback):
        kind_of_callback: Any = type(value)
        ignored = keras_callbacks.ignored_attributes(kind_of_callback)
        return [(name, each) for name, each in found.items() if name not in ignored]
    return list(found.items())


def _kinds_of(value: Any) -> list[type]:
    kinds: list[type] = list(type(value).__mro__)
    return kinds[:-1]


def _slots_of(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        slots = vars(each).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                yield f"_{each.__name__.lstrip('_')}{name}" if _is_mangled(name) else name


def _is_mangled(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _has_slot(value: Any, name: str) -> bool:
    return name in _slots_of(type(value))


def _has_attributes(value: Any) -> bool:
    """Whether an object's attributes are its whole state, with none in C code."""
    kind = type(value)
    slots = len(list(_slots_of(kind)))
    of_python = all(each.__flags__ & _HEAP_TYPE for each in kind.__mro__[:-1])
    # Beside the slots, room for the dict of attributes and for weak references.
    size = kind.__basicsize__ - 8 * slots
    return of_python and bool(hasattr(value, "__dict__") or slots) and size <= _LARGEST_OBJECT


_HEAP_TYPE = 1 << 9
_LARGEST_OBJECT = object.__basicsize__ + 16


def _has_no_state(value: Any) -> bool:
    kind = type(value)
    if any(value is each for each in (sys.stdin, sys.stdout, sys.stderr, ...)):
        return True
    if any(_package(each) in _NO_STATE for each in kind.__mro__[:-1]):
        return True
    if _package(kind) in _LIBRARIES:
        return not (hasattr(value, "__next__") or isinstance(value, np.ndarray))
    # A function of Keras's, such as a loss.
    return callable(value) and str(value.__module__).partition(".")[0] in _LIBRARIES


def _is_of_process(kind: type) -> bool:
    return any(_package(each) in _OF_PROCESS for each in kind.__mro__)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def is_installed(kind: type) -> bool:
    """Whether a class is of the standard library or of an installed package."""
    return _is_module_installed(kind.__module__)


@functools.cache
def _is_module_installed(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return name != "__main__"
    paths = sysconfig.get_paths()
    folders = [paths["stdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return any(file.startswith(f"{each}/") for each in folders)


def _tensorflow(name: str) -> Any:
    """Return a class of TensorFlow; an empty tuple where TensorFlow is not imported."""
    return getattr(sys.modules.get("tensorflow"), name, ())


def _is_variable(value: Any) -> bool:
    return isinstance(value, (keras.Variable, _tensorflow("Variable")))


def _holds_variables(value: Any) -> bool:
    kinds = (keras.layers.Layer, keras.optimizers.Optimizer, keras.metrics.Metric)
    return isinstance(value, (*kinds, _tensorflow("Module")))


def _variables_of(value: Any) -> list[Any]:
    found = list(value.variables)
    optimizer = getattr(value, "optimizer", None) if isinstance(value, keras.Model) else None
    return found if optimizer is None else [*found, *optimizer.variables]


def _array_of(value: Any) -> NDArray[Any] | None:
    """Return the value of a variable or tensor; None for a symbolic one or text."""
    try:
        found = np.array(keras.ops.convert_to_numpy(value))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None
    # Exact, and NumPy can write it.
    found = found.astype(np.float32) if found.dtype.name == "bfloat16" else found
    return found if is_plain(found) else None


def _facts_of(variable: Any) -> dict[str, Any]:
    return {
        "keras": isinstance(variable, keras.Variable),
        "dtype": getattr(variable.dtype, "name", variable.dtype),
        "trainable": bool(variable.trainable),
        "name": str(variable.name).partition(":")[0].rpartition("/")[2],
    }


def _new_generator(state: dict[str, Any]) -> Any:
    """Create a generator of a state's kind; None for an unknown kind."""
    kind, _, bits = str(state.get("kind")).partition(" ")
    if kind == "Generator" and bits in _NUMPY_BITS:
        return np.random.Generator(getattr(np.random, bits)())
    makers: dict[str, Callable[[], Any]] = {
        "Random": random.Random,
        "RandomState": np.random.RandomState,
        "SeedGenerator": lambda: keras.random.SeedGenerator(0),
    }
    return makers[kind]() if kind in makers else None
