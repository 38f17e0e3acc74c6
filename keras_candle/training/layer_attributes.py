"""The state of layers that is no weight: numbers, arrays, tensors and variables in attributes.

A constant that a layer draws in `__init__` is treated as an initial weight is: every rank takes the
root's. A variable that Keras does not know as a weight, such as a `tf.Variable`, may change in
training, and is compared again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints.manifest import digest
from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError, DivergenceError
from keras_candle.keras_private.models import graph_constants, layers_of
from keras_candle.random_state import is_of_library
from keras_candle.training.gradients import outermost_optimizers

Put = Callable[[Any], None]
_NUMBERS = (int, float, complex, np.number)
# These have a state of their own that differs by rank, or hold no constants of the computation.
_OPAQUE = (
    keras.optimizers.Optimizer,
    keras.metrics.Metric,
    keras.callbacks.Callback,
    keras.random.SeedGenerator,
    keras.utils.PyDataset,
)
# Names that TensorFlow adds to attributes for its checkpoints.
_OF_TENSORFLOW = "_self_"


@dataclass(frozen=True)
class Attribute:
    """A value that a layer holds beside its weights.

    Attributes:
        place: the layer's number and the value's positions, the same on ranks with equal models.
        layer: the layer's class and name.
        path: the attribute, such as "scales[2]".
        value: a number, array, tensor or variable.
        put: replaces the value; None where that is impossible.
    """

    place: tuple[Any, ...]
    layer: str
    path: str
    value: Any
    put: Put | None

    @property
    def is_variable(self) -> bool:
        """Whether a training step can change it."""
        return _is_variable(self.value)

    def replace(self, value: Any) -> None:
        """Replace the value on this rank."""
        if self.put is not None:
            self.put(value)

    def facts(self, engine: Engine) -> _Facts:
        """Return what the ranks compare."""
        array = _array(self.value)
        form = f"variable {array.shape}" if self.is_variable else "value"
        is_rank = isinstance(self.value, int) and self.value in (engine.rank, engine.local_rank)
        is_number = isinstance(self.value, _NUMBERS)
        key = (*self.place, form)
        return _Facts(key, self.layer, self.path, _digest(array), is_rank, is_number)


class _Facts(NamedTuple):
    key: tuple[Any, ...]
    layer: str
    path: str
    digest: str
    is_rank: bool  # a rank's own number, which differs on purpose
    is_number: bool


class LayerAttributes:
    """Compares what the ranks' layers hold beside weights; its methods are collectives.

    Args:
        model: the model.
        engine: connects the ranks.

    Attributes:
        has_variables: whether any rank has held a variable so far; the same on all ranks.
    """

    def __init__(self, model: Any, engine: Engine) -> None:
        self._model, self._engine = model, engine
        self.has_variables = self._reported = False

    def take_root_values(self) -> bool:
        """Replace what differs from the root's.

        Returns:
            Whether anything was replaced on this rank.

        Raises:
            DivergenceError: on every rank, where a value cannot be replaced, or where only some
                ranks have an array, a tensor or a variable.
        """
        differing = self._differing(attributes_of)
        if not differing:
            return False
        for each in (each for each in differing if each.put is None):
            raise DivergenceError(
                f"{each.path} of {each.layer} differs by rank and cannot be replaced. {_SEED}"
            )
        self._replace(differing)
        first = differing[0]
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        self._engine.print_on_root(
            f"{first.path} of {first.layer}{more} is no weight and differs by rank; all ranks take "
            f"the root's. {_SEED}"
        )
        return not self._engine.is_root

    def reconcile_variables(self, *, refuse: bool) -> None:
        """Compare the variables in attributes; refuse those that differ, or take the root's.

        Raises:
            DivergenceError: on every rank, naming the first one that differs, if `refuse`.
        """
        differing = self._differing(_variables_of)
        if not differing:
            return
        problem = _changed(differing[0])
        if refuse:
            raise DivergenceError(problem)
        self._replace(differing)
        if not self._reported:
            self._reported = True
            self._engine.print_on_root(
                f"{problem} At the end of each epoch all ranks take the root's."
            )

    def _differing(self, search: Callable[[Any], list[Attribute]]) -> list[Attribute]:
        """This rank's attributes that differ by rank, in the same order on all ranks."""
        found: list[Attribute] = []
        facts: list[_Facts] = []

        def summary() -> tuple[str, bool]:
            found.extend(search(self._model))
            facts.extend(each.facts(self._engine) for each in found)
            of_all = repr([(each.key, each.digest) for each in facts])
            return digest(of_all.encode()), any(each.is_variable for each in found)

        summaries = self._engine.gather_results(summary, CandleError)
        self.has_variables |= any(each for _, each in summaries)
        if len({each for each, _ in summaries}) == 1:
            return []
        known = {of.key: each for of, each in zip(facts, found, strict=True)}
        return [known[key] for key in _compare(self._engine.gather_objects(facts))]

    def _replace(self, differing: Sequence[Attribute]) -> None:
        own = [each.value for each in differing]
        values = self._engine.broadcast([_portable(each) for each in own])

        def put() -> None:
            for each, value, before in zip(differing, values, own, strict=True):
                is_tensor = keras.ops.is_tensor(before) and not each.is_variable
                each.replace(keras.ops.convert_to_tensor(value) if is_tensor else value)

        self._engine.gather_results(put, DivergenceError)


_SEED = (
    "Draw it from a seed that is the same on every rank, such as keras.utils.set_random_seed(1) at "
    "the start, or make it a weight: self.add_weight(trainable=False)."
)


def _changed(attribute: Attribute) -> str:
    return (
        f"The variable {attribute.path} of {attribute.layer} differs by rank. It is no weight, and "
        "each rank computes it from its own rows. Make it a weight, self.add_weight(name=..., "
        "trainable=False), and compute it from the rows of all ranks, candle.gather_rows(tensor), "
        "or register how the ranks' values combine, candle.register_state_reduction."
    )


def _compare(everyone: Sequence[Sequence[_Facts]]) -> list[tuple[Any, ...]]:
    """Return the keys of the values that differ by rank.

    A number that only some ranks hold is left alone: the root may keep a log in the model.

    Raises:
        DivergenceError: where only some ranks hold anything else.
    """
    keys = [{each.key for each in facts} for facts in everyone]
    on_all = set.intersection(*keys)
    for each in (each for facts in everyone for each in facts):
        if each.key not in on_all and not each.is_number:
            raise DivergenceError(_unequal(each, keys))
    by_key = [{each.key: each for each in facts} for facts in everyone]
    found = []
    for key in (each.key for each in everyone[0] if each.key in on_all):
        values = [of[key] for of in by_key]
        if len({each.digest for each in values}) > 1 and not all(each.is_rank for each in values):
            found.append(key)
    return found


def _unequal(value: _Facts, keys: Sequence[set[tuple[Any, ...]]]) -> str:
    ranks = [rank for rank, known in enumerate(keys) if value.key in known]
    return (
        f"{value.path} of {value.layer} is not the same on all ranks: only {len(ranks)} of "
        f"{len(keys)} ranks hold it in this place and form (ranks "
        f"{', '.join(map(str, ranks[:8]))}). Give the layers of all ranks the same attributes."
    )


def attributes_of(model: Any) -> list[Attribute]:
    """Return the values that the layers of a model hold beside its weights.

    Searched are the attributes of layers, those of their classes, lists, tuples, dicts, objects of
    the program's own classes, what functions enclose, the compiled loss, and constants in the graph
    of a functional model. Left out are what Keras and TensorFlow keep for themselves, text, and
    truth values.

    Args:
        model: a built model.
    """
    return list(_Search(model).run())


def constants_of(model: Any) -> dict[str, list[str]]:
    """Return the floats, arrays and tensors that layers hold beside weights.

    Args:
        model: a built model.

    Returns:
        By place: where it is in words, and a digest.
    """
    return {
        repr(each.place): [f"{each.path} of {each.layer}", _digest(_array(each.value))]
        for each in attributes_of(model)
        if not each.is_variable and not isinstance(each.value, int | np.integer)
    }


def _variables_of(model: Any) -> list[Attribute]:
    return [each for each in attributes_of(model) if each.is_variable]


class _Search:
    """A search of a model's layers, in the order of the layers."""

    def __init__(self, model: Any) -> None:
        self._model, self._layers = model, layers_of(model)
        optimized = [each for opt in outermost_optimizers(model) for each in opt.variables]
        metrics = [each for metric in model.metrics for each in metric.variables]
        known = [*model.variables, *optimized, *metrics]
        tensors = [getattr(each, "value", None) for each in known]
        self._seen = {id(each) for each in (*self._layers, *known, *tensors)}
        self._kept: list[Any] = []  # so that no new object gets the id of a seen one

    def run(self) -> Iterator[Attribute]:
        for number, layer in enumerate(self._layers):
            self._owner = f"{type(layer).__name__} {layer.name!r}"
            self._is_of_keras = is_of_library(type(layer))
            names = _keras_names(keras.Model if isinstance(layer, keras.Model) else keras.Layer)
            if isinstance(layer, keras.layers.RNN):
                names |= {"states"}  # of the sequences of this rank
            attributes = {k: v for k, v in _attributes(layer).items() if k not in names}
            yield from self._named(attributes, (number,), "", layer)
            for index, constant in enumerate(graph_constants(layer)):
                place = (number, "graph", index)
                yield from self._value(constant, place, "a constant of the graph", None)
        self._owner = f"{type(self._model).__name__} {self._model.name!r}"
        self._is_of_keras = False
        loss = getattr(self._model, "loss", None)
        yield from self._value(loss, ("loss",), "loss", None)

    def _named(
        self, attributes: dict[str, Any], place: tuple[Any, ...], path: str, owner: Any
    ) -> Iterator[Attribute]:
        for name, value in attributes.items():
            # A frozen dataclass refuses setattr; Keras has to know a layer's attributes.
            assign = setattr if isinstance(owner, keras.Layer) else object.__setattr__
            put = partial(assign, owner, name)
            yield from self._value(value, (*place, name), f"{path}.{name}".lstrip("."), put)

    def _value(
        self, value: Any, place: tuple[Any, ...], path: str, put: Put | None
    ) -> Iterator[Attribute]:
        if isinstance(value, _NUMBERS) and not isinstance(value, bool):
            if isinstance(value, int) and self._is_of_keras:
                return  # units and axes, and shapes, whose first number may be a rank's rows
            yield Attribute(place, self._owner, path, value, put)
            return
        if value is None or isinstance(value, str | bytes | bool) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if _is_variable(value):
            yield Attribute(place, self._owner, path, value, value.assign)
        elif _is_array(value):
            yield Attribute(place, self._owner, path, value, put)
        elif isinstance(value, keras.Layer):
            for number, each in enumerate(value.variables):
                yield from self._value(each, (*place, number), f"{path}: {each.path}", None)
        else:
            yield from self._inside(value, place, path, put)

    def _inside(
        self, value: Any, place: tuple[Any, ...], path: str, put: Put | None
    ) -> Iterator[Attribute]:
        if isinstance(value, dict):
            for number, (key, each) in enumerate(list(value.items())):
                own = partial(value.__setitem__, key)
                yield from self._value(each, (*place, number), f"{path}[{key!r}]", own)
        elif isinstance(value, list | deque | tuple):
            whole = list(value)
            for number, each in enumerate(whole):
                item = _put_item(value, whole, number, put)
                yield from self._value(each, (*place, number), f"{path}[{number}]", item)
        elif isinstance(value, partial):
            yield from self._inside((value.func, value.args, value.keywords), place, path, None)
        elif isinstance(value, MethodType):
            yield from self._value(value.__self__, place, path, None)
        elif isinstance(value, FunctionType):
            yield from self._function(value, place, path)
        elif not is_of_library(type(value)) and not isinstance(value, (*_OPAQUE, type)):
            yield from self._named(_attributes(value), place, path, value)

    def _function(
        self, function: FunctionType, place: tuple[Any, ...], path: str
    ) -> Iterator[Attribute]:
        if is_of_library(function):
            return
        names, cells = function.__code__.co_freevars, function.__closure__ or ()
        for name, cell in zip(names, cells, strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            own = partial(setattr, cell, "cell_contents")
            yield from self._value(value, (*place, name), f"{path}'s {name}", own)
        defaults = list(function.__defaults__ or ())
        put = partial(setattr, function, "__defaults__")
        yield from self._inside(tuple(defaults), (*place, "defaults"), f"{path}'s default ", put)


def _attributes(owner: Any) -> dict[str, Any]:
    """The attributes of an object, and those of its classes that are the program's own."""
    found: dict[str, Any] = {}
    for kind in reversed(type(owner).__mro__[:-1]):
        if not is_of_library(kind):
            found |= {k: v for k, v in vars(kind).items() if _is_array(v) or _is_variable(v)}
    found |= getattr(owner, "__dict__", {})
    return {name: each for name, each in found.items() if not name.startswith(_OF_TENSORFLOW)}


_NAMES: dict[type, frozenset[str]] = {}


def _keras_names(kind: type) -> frozenset[str]:
    """The names of the attributes that Keras gives each layer, or model, for itself."""
    if kind not in _NAMES:
        _NAMES[kind] = frozenset(vars(kind()))
    return _NAMES[kind]


def _put_item(sequence: Any, whole: list[Any], number: int, put: Put | None) -> Put | None:
    """A function that replaces an item; a tuple is made anew from `whole`, its present items."""
    if not isinstance(sequence, tuple):
        return partial(sequence.__setitem__, number)
    if put is None:
        return None
    kind = type(sequence)

    def replace(value: Any) -> None:
        whole[number] = value
        put(kind(whole) if kind is tuple else kind(*whole))  # a named tuple

    return replace


def _is_variable(value: Any) -> bool:
    return hasattr(value, "assign") and hasattr(value, "shape") and hasattr(value, "dtype")


def _is_array(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufcUS"
    # The tensor of a step that is being traced has no value.
    return bool(keras.ops.is_tensor(value)) and _array_or_none(value) is not None


def _array_or_none(value: Any) -> NDArray[Any] | None:
    try:
        array = np.asarray(keras.ops.convert_to_numpy(value))
    except Exception:  # of the framework: a symbolic tensor, one of a closed graph
        return None
    return array if array.dtype.kind != "O" else None


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, np.ndarray | int | float | complex | np.number):
        return np.asarray(value)
    return np.asarray(keras.ops.convert_to_numpy(value))


def _digest(array: NDArray[Any]) -> str:
    content = digest(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return f"{array.dtype.str} {array.shape} {content}"


def _portable(value: Any) -> Any:
    """A value that a rank can send: tensors and variables as arrays."""
    return value if isinstance(value, _NUMBERS) else _array(value)
