"""Get and set the states of random number generators: a process's global ones, an object's own.

A PyDataset or a callback may draw from generators of its own, which no global seed reaches.
"""

from __future__ import annotations

import functools
import inspect
import random
import sys
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import PosixPath
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import keras
import numpy as np

from keras_candle.keras_private.models import global_seed_generator

_LEAVES = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, range, slice, PosixPath}
    | {np.ndarray, np.bool_, np.str_, np.int32, np.int64, np.float32, np.float64}
)
_GLOBAL_DRAWS = frozenset(
    name
    for module in (random, np.random)
    for name, each in vars(module).items()
    if isinstance(getattr(each, "__self__", None), random.Random | np.random.RandomState)
)
# A function that calls one of these may draw from a generator of its own.
_NEW_GENERATORS = frozenset({"default_rng", "Generator", "Random", "RandomState"})
# Objects of these packages are large and hold no generator of the user, except by a known name.
# fmt: off
_LIBRARIES = frozenset((
    "_thread", "asyncio", "builtins", "collections", "concurrent", "cv2", "h5py", "io", "jax",
    "jaxlib", "keras", "keras_candle", "logging", "multiprocessing", "numpy", "pandas",
    "pathlib", "polars", "pyarrow", "queue", "re", "scipy", "tensorflow", "threading", "torch",
    "weakref",
))
# fmt: on


def find_generators(root: object, outside: Collection[int] = ()) -> dict[str, Any]:
    """Find the generators that an object draws from.

    Searched are attributes, those of its class, and what they refer to: lists, tuples, dicts,
    objects, Keras layers, functions with their closures, and globals that its methods name.

    Args:
        root: any object, such as a `keras.utils.PyDataset`.
        outside: ids of objects that are not searched.

    Returns:
        The generators by path, e.g. `"rng"` or `"augmenters[0].rng"`: of NumPy (`Generator`,
        `RandomState`, `BitGenerator`), `random.Random`, `keras.random.SeedGenerator`,
        `tf.random.Generator` and `torch.Generator`. Each one once, under its shortest path.
        Without those of a model that trains on several ranks, which differ by rank on purpose.

    Example:
        >>> class Data:
        ...     def __init__(self):
        ...         self.rng, self.augmenters = random.Random(1), [np.random.default_rng(2)]
        >>> list(find_generators(Data()))
        ['rng', 'augmenters[0]']
    """
    kinds = tuple(each for each, *_ in _kinds())
    found: dict[str, Any] = {}
    seen = {id(root), *outside}
    waiting = deque([("", root)])
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, kinds):
            found[path] = value
            continue
        for step, child in _children(value, is_root=value is root):
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append((f"{path}{step}".lstrip("."), child))
    return {path: each for path, each in found.items() if is_generator(each)}


def draws_in(owner: Any, method: str) -> bool:
    """Whether a method of an object draws random numbers, as far as its code shows.

    Read are the code of the method and of the owner's methods that it calls, and of functions of
    the same file: their use of the owner's generators and of the global ones.

    Args:
        owner: an object of the user's, such as a `keras.utils.PyDataset`.
        method: the method's name.
    """
    waiting, seen = [method], {method}
    while waiting:
        name = waiting.pop()
        for kind in type(owner).__mro__[:-1]:
            function = inspect.unwrap(_function_of(vars(kind).get(name)))
            if not isinstance(function, FunctionType) or is_of_library(kind):
                continue
            if _holds_generator(function):
                return True
            for each in set(_global_names(function.__code__)) - seen:
                seen.add(each)
                value = inspect.getattr_static(owner, each, None)
                if isinstance(_function_of(value), FunctionType):
                    waiting.append(each)
                if _holds_generator(value):
                    return True
    return False


def _function_of(value: Any) -> Any:
    """Return the function of a method or property of a class, and any value else unchanged."""
    return getattr(value, "fget", None) or getattr(value, "__func__", value)


def _holds_generator(value: Any) -> bool:
    if isinstance(value, FunctionType):
        functions = [value, *(each for _, each in _of_function(value))]
        if any(isinstance(each, FunctionType) and _draws_globally(each) for each in functions):
            return True
    return not isinstance(value, ModuleType) and bool(find_generators(value))


def _draws_globally(function: FunctionType) -> bool:
    """Whether a function names a global generator's method, such as np.random.normal."""
    names = set(_global_names(function.__code__))
    return "random" in names and bool(names & _GLOBAL_DRAWS) and not names & _NEW_GENERATORS


def is_generator(value: object) -> bool:
    """Whether a value is a generator whose state can be read and set."""
    return isinstance(value, tuple(each for each, *_ in _kinds())) and not isinstance(
        value, random.SystemRandom
    )


def get_state(generator: Any) -> dict[str, Any]:
    """Return the state of a generator as plain values: numbers, text, arrays, dicts and tuples.

    Args:
        generator: a generator of `find_generators`.

    Returns:
        A dict with the generator's kind, for `set_state`.

    Example:
        >>> generator = np.random.default_rng(1)
        >>> state = get_state(generator)
        >>> first = generator.random()
        >>> set_state(generator, state)
        >>> generator.random() == first
        True
    """
    get, _ = _access_to(generator)
    return {"kind": _kind_name(generator), "state": get(generator)}


def set_state(generator: Any, state: dict[str, Any]) -> None:
    """Set a generator to a state of `get_state`, possibly from another process.

    Args:
        generator: a generator of the same kind.
        state: a state of `get_state`.

    Raises:
        ValueError: when the state is of another kind of generator.
    """
    kind = _kind_name(generator)
    if state["kind"] != kind:
        raise ValueError(f"Got the state of a {state['kind']} for a {kind}, expected its own kind.")
    _, set_ = _access_to(generator)
    set_(generator, state["state"])


def fold_in(generator: Any, number: int) -> None:
    """Reseed a generator from its state and a number, such as a rank.

    Args:
        generator: a generator of `find_generators`.
        number: at least 0.

    Example:
        >>> first, second = np.random.default_rng(1), np.random.default_rng(1)
        >>> fold_in(second, 1)
        >>> first.random() == second.random()
        False
    """
    with np.printoptions(threshold=sys.maxsize):
        seed = zlib.crc32(f"{number} {get_state(generator)}".encode())
    if isinstance(generator, random.Random):
        generator.seed(seed)
    elif isinstance(generator, np.random.RandomState):
        bits = getattr(np.random, generator.get_state(legacy=False)["bit_generator"])
        generator.set_state(np.random.RandomState(bits(seed)).get_state(legacy=False))
    elif isinstance(generator, np.random.Generator | np.random.BitGenerator):
        bits = getattr(generator, "bit_generator", generator)
        bits.state = type(bits)(seed).state
    elif hasattr(generator, "manual_seed"):
        generator.manual_seed(seed)
    else:
        state = _variable_value(generator)
        state.flat[0] ^= seed
        _set_variable_value(generator, state)


_Access = tuple[Callable[[Any], Any], Callable[[Any, Any], None]]


def _kinds() -> Iterator[tuple[type, Callable[[Any], Any], Callable[[Any, Any], None]]]:
    """Yield (class, get, set) for the generators of imported libraries."""
    yield random.Random, _python_state, _set_python_state
    yield np.random.RandomState, _legacy_state, lambda each, state: each.set_state(state)
    yield np.random.Generator, _numpy_state, _set_numpy_state
    yield np.random.BitGenerator, _bits_state, _set_bits_state
    for module, path, get, set_ in (
        ("keras", "random.SeedGenerator", _variable_value, _set_variable_value),
        ("tensorflow", "random.Generator", _variable_value, _set_variable_value),
        ("torch", "Generator", _torch_state, _set_torch_state),
    ):
        kind: Any = sys.modules.get(module)
        for name in path.split("."):
            kind = getattr(kind, name, None)  # a library may be partly imported
        if kind is not None:
            yield kind, get, set_


def _access_to(generator: Any) -> _Access:
    for kind, get, set_ in _kinds():
        if isinstance(generator, kind):
            return get, set_
    raise TypeError(f"Got a {type(generator).__name__}, expected a generator of random numbers.")


def _kind_name(generator: Any) -> str:
    bits = getattr(generator, "bit_generator", generator)
    return " ".join(dict.fromkeys((type(generator).__name__, type(bits).__name__)))


def _python_state(generator: Any) -> tuple[Any, ...]:
    version, numbers, gauss = generator.getstate()
    return version, np.array(numbers, np.uint32), gauss


def _set_python_state(generator: Any, state: tuple[Any, ...]) -> None:
    version, numbers, gauss = state
    generator.setstate((version, tuple(map(int, numbers)), gauss))


def _legacy_state(generator: np.random.RandomState) -> Any:
    return generator.get_state(legacy=False)


def _numpy_state(generator: np.random.Generator) -> dict[str, Any]:
    return _bits_state(generator.bit_generator)


def _set_numpy_state(generator: np.random.Generator, state: dict[str, Any]) -> None:
    _set_bits_state(generator.bit_generator, state)


def _bits_state(bits: Any) -> dict[str, Any]:
    return {"drawn": bits.state, "spawned": getattr(bits.seed_seq, "n_children_spawned", 0)}


def _set_bits_state(bits: Any, state: dict[str, Any]) -> None:
    bits.state = state["drawn"]
    seeds = bits.seed_seq
    missing = state["spawned"] - getattr(seeds, "n_children_spawned", 0)
    if missing > 0:
        seeds.spawn(missing)
    elif missing < 0:
        # Spawning cannot be undone, except as NumPy 2 unpickles.
        if np.lib.NumpyVersion(np.__version__) < "2.0.0":
            raise ValueError(
                f"A generator has spawned {-missing} more than in the state to restore, and "
                f"NumPy {np.__version__} cannot undo that. Install numpy>=2."
            )
        again = type(seeds)(**{**seeds.state, "n_children_spawned": state["spawned"]})
        bits.__setstate__((state["drawn"], again))


def _variable_value(generator: Any) -> np.ndarray[Any, Any]:
    return np.array(generator.state)


def _set_variable_value(generator: Any, state: np.ndarray[Any, Any]) -> None:
    generator.state.assign(state)


def _torch_state(generator: Any) -> np.ndarray[Any, Any]:
    return np.array(generator.get_state().numpy())


def _set_torch_state(generator: Any, state: np.ndarray[Any, Any]) -> None:
    generator.set_state(sys.modules["torch"].from_numpy(np.array(state)))


def _children(value: Any, *, is_root: bool) -> Iterator[tuple[str, Any]]:
    """Yield (step of the path, object) for each object that a value refers to."""
    if isinstance(value, dict):
        pairs = list(value.items())
        yield from ((f"[{key!r}]", each) for key, each in pairs if type(each) not in _LEAVES)
    elif isinstance(value, list | tuple | deque):
        items = enumerate(list(value))
        yield from ((f"[{number}]", each) for number, each in items if type(each) not in _LEAVES)
    elif isinstance(value, functools.partial):
        yield from (("", value.func), ("", value.args), ("", value.keywords))
    elif isinstance(value, MethodType | BuiltinMethodType):
        yield from (("", value.__self__), ("", getattr(value, "__func__", None)))
    elif isinstance(value, staticmethod | classmethod):
        yield "", value.__func__
    elif isinstance(value, property):
        yield "", value.fget
    if isinstance(value, FunctionType):
        yield from _of_function(value)
    elif is_root or not _is_opaque(value):
        yield from _of_object(value)


def _is_opaque(value: Any) -> bool:
    if isinstance(value, ModuleType | MethodType | type):
        return True
    if "_candle_trainer" in getattr(value, "__dict__", ()):
        return True
    layer = getattr(sys.modules.get("keras"), "Layer", ())
    return is_of_library(type(value)) and not isinstance(value, layer)


def is_of_library(kind: type | FunctionType) -> bool:
    """Whether a class or function belongs to a package that holds none of the user's state."""
    module = kind.__module__ or ""
    return module.partition(".")[0] in _LIBRARIES and not module.startswith("torch.utils.data")


def _of_object(value: Any) -> Iterator[tuple[str, Any]]:
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        pairs = list(attributes.items())
        yield from ((f".{name}", each) for name, each in pairs if type(each) not in _LEAVES)
    for kind in type(value).__mro__[:-1]:
        if is_of_library(kind):
            continue
        for name, each in list(vars(kind).items()):
            if inspect.ismemberdescriptor(each):  # of __slots__
                yield f".{name}", getattr(value, name, None)
            elif type(each) not in _LEAVES:
                yield f".{name}", each


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    if function.__module__ and function.__module__.partition(".")[0] in _LIBRARIES:
        return
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from ((f".{number}", each) for number, each in enumerate(function.__defaults__ or ()))
    for name in _global_names(function.__code__):
        each = function.__globals__.get(name)
        same_file = getattr(each, "__globals__", None) is function.__globals__
        if same_file or not isinstance(each, FunctionType | MethodType):
            yield f".{name}", each


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _global_names(each)


def global_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's, Keras's and torch's global generators."""
    torch = sys.modules.get("torch")
    generator = global_seed_generator()
    return {
        "python": _python_state(random),
        "numpy": tuple(np.random.get_state()),
        "keras": None if generator is None else keras.ops.convert_to_numpy(generator.state),
        "torch": None if torch is None else torch.random.get_rng_state().numpy(),
    }


def set_global_state(state: dict[str, Any]) -> None:
    """Restore the states of `global_state`, possibly in another process."""
    if state["keras"] is not None:
        global_seed_generator(make=True).state.assign(state["keras"])
    torch = sys.modules.get("torch")
    if torch is not None and state["torch"] is not None:
        torch.random.set_rng_state(torch.from_numpy(np.array(state["torch"])))
    np.random.set_state(state["numpy"])
    _set_python_state(random, state["python"])
