"""Find the reason why a training step on the shards of a batch differs from one on the batch.

On one rank the step's gradients on a batch are compared with those on its shards. Without a draw
and with batch normalisation's statistics held, the average of the shards' gradients by rows is the
batch's, unless a layer or a loss depends on several rows at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_candle.errors import CandleError
from keras_candle.keras_private.models import (
    KerasTrainer,
    get_keras_mask,
    global_seed_generator,
    layers_of,
    moments_of,
    replace_moments,
    seed_generators,
    set_keras_mask,
)
from keras_candle.training.replica import build_model
from keras_candle.training.step_context import watch_gathers
from keras_candle.verification.trial_step import State, intercept_gradients, one_line, without_noise

# (kind of fact, what has it)
Found = tuple[str, str]
# Relative to the largest number; sums in another order differ by 1e-6, 16-bit ones by 1e-2.
_TOLERANCE, _TOLERANCE_16_BITS = 1e-3, 5e-2
_STATEFUL = (
    *("RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal"),
    *("ParameterizedTruncatedNormal", "RandomGamma", "RandomPoisson", "RandomPoissonV2"),
    *("Multinomial", "RandomShuffle", "RngReadAndSkip"),
)
_STATELESS = (
    *("StatelessRandom", "StatelessTruncated", "StatelessParameterized"),
    *("StatelessMultinomial", "StatelessShuffle"),
)


def probe_step(model: Any, batch: Any, size: int) -> list[Found]:
    """Run a model's training step on a batch and on its shards; the state is restored.

    Args:
        model: a compiled model on one rank.
        batch: the argument of a step.
        size: the number of shards.

    Returns:
        (kind, what) of each reason, a key of `comparison.EXPLANATIONS` and the layers or functions
        that have it.
    """
    try:
        build_model(model, batch)
    except CandleError:  # it needs a step that runs
        return []
    probe = _Probe(model, batch, size)
    found = [("unseeded", each) for each in probe.draws()]
    failure = probe.failure()
    if failure:
        return [*found, ("not_rows", failure)]
    found += [("across_rows", each) for each in probe.layers_across_rows()]
    return found if any(kind == "across_rows" for kind, _ in found) else [*found, *probe.losses()]


class _Probe:
    def __init__(self, model: Any, batch: Any, size: int) -> None:
        self._model, self._batch, self._size = model, batch, size
        self._rows = _rows(batch)
        self._state = State(model)
        precise = all(
            each.compute_dtype not in ("float16", "bfloat16") for each in layers_of(model)
        )
        self._tolerance = _TOLERANCE if precise else _TOLERANCE_16_BITS
        self._gradients: dict[str, Any] = {}
        self._inner: Any = None  # the innermost layer whose call raised
        self._draws = False  # whether the last step has moved a seed generator
        self._seeds = [each.state for each in _generators(model)]

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """The model without noise, its gradients not applied, its state restored afterwards."""
        with without_noise(self._model), intercept_gradients(self._keep), _held(self._model):
            try:
                yield
            finally:
                self._state.restore()

    def _keep(self, _: Any, gradients: Any, variables: Any) -> None:
        given = variables or self._model.trainable_variables
        for variable, gradient in zip(given, gradients, strict=True):
            if gradient is not None:
                self._gradients[variable.path] = gradient

    def draws(self) -> list[str]:
        """The draws of a step that come from no seed generator of a layer."""
        ranges: list[tuple[Any, Any, int, int]] = []

        def around(plain: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
            graph = tf.compat.v1.get_default_graph()
            first = len(graph.get_operations())
            outputs = plain(layer, *args, **kwargs)
            ranges.append((graph, layer, first, len(graph.get_operations())))
            return outputs

        step = tf.function(self._model.train_step, autograph=False)
        try:
            with intercept_gradients(lambda *_: None), _around_calls(around):
                graph = step.get_concrete_function(self._batch).graph
        except Exception:  # a step that runs eagerly only
            return []
        known = {id(each.state.value) for each in _generators(self._model)}
        found = []
        for each in {id(of): of for of in (graph, *(one[0] for one in ranges))}.values():
            for number, operation in enumerate(each.get_operations()):
                cause = _unseeded(operation, known)
                if cause:
                    # Inner calls end, and are listed, before outer ones.
                    owner = (
                        of for g, of, low, high in ranges if g is each and low <= number < high
                    )
                    found.append(f"{self._name(next(owner, None))} by {cause}")
        return list(dict.fromkeys(found))

    def failure(self) -> str:
        """The error of the step on a shard; "" where all succeed, or the whole batch fails, too."""
        if self._run(self._batch) or self._rows < self._size:
            return ""
        for rank in range(self._size):
            error = self._run(self._shard(self._batch, rank))
            if error:
                return f"{self._name(self._inner)}: {error}"
        return ""

    def layers_across_rows(self) -> list[str]:
        """The layers that compute a row of their output from several rows of the input."""
        found: list[Any] = []
        busy = False

        def around(plain: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
            nonlocal busy
            before = len(found)
            outputs = plain(layer, *args, **kwargs)
            is_normalization = isinstance(layer, keras.layers.BatchNormalization)
            if not busy and len(found) == before and not is_normalization:
                busy = True
                try:
                    call = functools.partial(plain, layer)
                    if self._mixes_rows(call, args, kwargs, outputs):
                        found.append(layer)
                finally:
                    busy = False
            return outputs

        with _around_calls(around):
            self._run(self._batch)
        return list(dict.fromkeys(map(self._name, found)))

    def _mixes_rows(self, call: Callable[..., Any], args: Any, kwargs: Any, outputs: Any) -> bool:
        if _rows((args, kwargs)) != self._rows:
            return False
        try:
            again = call(*args, **kwargs)
            own, rest = self._shard((args, kwargs), 0)
            of_shard = call(*own, **rest)
        except Exception:  # found by `failure`, if the step needs it
            return False
        whole = [each for each in _tensors(outputs) if _has(each, self._rows)]
        if not self._equal(whole, [each for each in _tensors(again) if _has(each, self._rows)]):
            return False  # it draws, or has a state
        expected = [each[:: self._size] for each in whole]
        rows = len(range(0, self._rows, self._size))
        found = [each for each in _tensors(of_shard) if _has(each, rows)]
        return len(expected) == len(found) and not self._equal(expected, found)

    def losses(self) -> list[Found]:
        """The training step or loss whose gradient is no mean over rows, where it is the user's."""
        place = _loss_of(self._model)
        if not place or self._rows < self._size:
            return []
        with watch_gathers() as gathered:
            whole, again = (self._gradients_of(self._batch) for _ in range(2))
        shards = [self._gradients_of(self._shard(self._batch, rank)) for rank in range(self._size)]
        if gathered or not whole or any(each.keys() != whole.keys() for each in shards):
            return []  # it takes the rows of all ranks
        if not self._equal(list(whole.values()), list(again.values())):
            return []  # it draws
        rows = [len(range(rank, self._rows, self._size)) for rank in range(self._size)]
        names = list(whole)
        expected = [whole[name] for name in names]
        mean, total = (
            [sum(w * each[name] for w, each in zip(weights, shards, strict=True)) for name in names]
            for weights in ([each / self._rows for each in rows], [1.0] * self._size)
        )
        if self._equal(expected, mean):
            return []
        return [("sum_of_rows" if self._equal(expected, total) else "loss_across_rows", place)]

    def _gradients_of(self, batch: Any) -> dict[str, NDArray[Any]]:
        """The gradients of a batch by the variable's path; none where its step fails or draws."""
        if self._run(batch) or self._draws:
            return {}
        dense = {name: tf.convert_to_tensor(each) for name, each in self._gradients.items()}
        return {name: _array(each) for name, each in dense.items()}

    def _run(self, batch: Any) -> str:
        """Run a step eagerly; return its error on one line, "" without one."""
        self._gradients, self._inner = {}, None

        def around(plain: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
            try:
                return plain(layer, *args, **kwargs)
            except Exception:
                self._inner = self._inner or layer
                raise

        with ExitStack() as stack:
            stack.enter_context(self._quiet())
            stack.enter_context(_around_calls(around))
            before = [_array(each) for each in self._seeds]
            try:
                self._model.train_step(batch)
                after = [_array(each) for each in self._seeds]
                self._draws = any(map(np.any, map(np.not_equal, before, after)))
            except Exception as error:  # whatever the user's step raises
                return one_line(error)
        return ""

    def _shard(self, structure: Any, rank: int) -> Any:
        """The rows of one rank, r, r + N, ..., in all tensors with as many rows as the batch."""

        def rows(value: Any) -> Any:
            if not _has(value, self._rows):
                return value
            own, mask = value[rank :: self._size], get_keras_mask(value)
            if mask is not None:
                set_keras_mask(own, mask[rank :: self._size])
            return own

        return keras.tree.map_structure(rows, structure)

    def _equal(self, expected: Sequence[Any], found: Sequence[Any]) -> bool:
        pairs = [(_array(a), _array(b)) for a, b in zip(expected, found, strict=True)]
        if any(a.shape != b.shape for a, b in pairs):
            return False
        largest = max((float(np.max(np.abs(a), initial=0.0)) for a, _ in pairs), default=0.0)
        return all(
            np.allclose(a, b, rtol=0, atol=self._tolerance * largest, equal_nan=True)
            for a, b in pairs
        )

    def _name(self, layer: Any) -> str:
        if layer is None:
            return f"{type(self._model).__name__}.train_step"
        return f"{type(layer).__name__} {layer.name!r}"


def _loss_of(model: Any) -> str:
    """The place of a loss of the user's own that is no compiled one; "" without one."""
    kind = type(model)
    for name, plain in (("train_step", KerasTrainer), ("compute_loss", keras.Model)):
        if getattr(kind, name) is not getattr(plain, name):
            return f"{kind.__name__}.{name}"
    own = [each for each in layers_of(model) if each is not model and not _is_of_keras(each)]
    return ", ".join(f"{type(each).__name__} {each.name!r}" for each in own)


def _is_of_keras(layer: Any) -> bool:
    return type(layer).__module__.partition(".")[0] == "keras"


def _generators(model: Any) -> list[Any]:
    return [each for layer in layers_of(model) for each in seed_generators(layer)]


def _unseeded(operation: Any, known: set[int]) -> str:
    """The reason why an operation draws without a seed generator of a layer; "" where not."""
    kind = str(operation.type)
    if kind in _STATEFUL:
        return kind
    if not kind.startswith(_STATELESS) or kind.startswith("StatelessRandomGet"):
        return ""
    sources = list(_sources(operation.inputs[1:], operation.graph))
    if any(each is None or id(each) in known for each in sources):
        return ""
    common = global_seed_generator()
    if common is not None and any(each is common.state.value for each in sources):
        return f"{kind} from Keras's global generator"
    return f"{kind} with a seed of its own"


def _sources(tensors: Sequence[Any], graph: Any) -> Iterator[Any]:
    """The variables from which tensors are computed; None for what comes from outside unknown."""
    captured = {id(inner): outer for outer, inner in getattr(graph, "captures", ())}
    variables = {id(each.handle): each for each in getattr(graph, "variables", ())}
    waiting, seen = list(tensors), set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if tensor.op.type == "Placeholder":
            yield variables.get(id(captured.get(id(tensor))))
        waiting += list(tensor.op.inputs)


@contextmanager
def _held(model: Any) -> Iterator[None]:
    """Normalise batches by the moving statistics, which depend on no row."""
    kind = keras.layers.BatchNormalization
    layers = [each for each in layers_of(model) if isinstance(each, kind)]
    before = [(each, moments_of(each)) for each in layers]
    for layer in layers:
        replace_moments(layer, lambda *_, layer=layer: (layer.moving_mean, layer.moving_variance))
    try:
        yield
    finally:
        for layer, moments in before:
            replace_moments(layer, moments)


@contextmanager
def _around_calls(around: Callable[..., Any]) -> Iterator[None]:
    """Pass each call of a layer to around(plain, layer, args, kwargs)."""
    plain = keras.Layer.__call__

    @functools.wraps(plain)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return around(plain, layer, args, kwargs)

    keras.Layer.__call__ = call
    try:
        yield
    finally:
        keras.Layer.__call__ = plain


def _tensors(structure: Any) -> list[Any]:
    return [each for each in keras.tree.flatten(structure) if keras.ops.is_tensor(each)]


def _rows(structure: Any) -> int:
    """The length of the first axis of the first tensor that has one; 0 without any."""
    shapes = [each.shape for each in _tensors(structure)]
    return next((int(each[0]) for each in shapes if len(each)), 0)


def _has(value: Any, rows: int) -> bool:
    return bool(keras.ops.is_tensor(value) and len(value.shape) and value.shape[0] == rows)


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(value, "float64")), np.float64)
