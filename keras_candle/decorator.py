"""`@candle.scalable` and `candle.scale(model)`: make a Keras model train on N ranks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, TypeVar, overload

from keras_candle import engine as engines
from keras_candle.cluster import launchers
from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.training.options import Scaling, ScalingOptions, with_overrides
from keras_candle.when_imported import when_imported

Build = TypeVar("Build", bound=Callable[..., Any])


def rank() -> int:
    """Return this process's number among the ranks, from 0 to size() - 1."""
    return engines.current().rank


def size() -> int:
    """Return the number of ranks."""
    return engines.current().size


def local_rank() -> int:
    """Return this process's number among the ranks of its node."""
    return engines.current().local_rank


def is_root() -> bool:
    """Return whether this is rank 0, which alone should write files."""
    return engines.current().is_root


@overload
def scalable(build: Build) -> Build: ...
@overload
def scalable(
    *,
    precision: str | None = None,
    learning_rate_scaling: Scaling = "linear",
    warmup_epochs: float = 0,
    batch: str = "replica",
    sync_batch_norm: bool = False,
    compression: str | None = None,
    shard: bool = True,
    engine: str = "auto",
    shard_predict: bool = False,
    guard: bool | int = True,
    exact_loss: bool = False,
    sum_embedding_slices: bool = False,
) -> Callable[[Build], Build]: ...
def scalable(  # noqa: PLR0913 - the public contract
    build: Any = None,
    *,
    precision: str | None = None,
    learning_rate_scaling: Scaling = "linear",
    warmup_epochs: float = 0,
    batch: str = "replica",
    sync_batch_norm: bool = False,
    compression: str | None = None,
    shard: bool = True,
    engine: str = "auto",
    shard_predict: bool = False,
    guard: bool | int = True,
    exact_loss: bool = False,
    sum_embedding_slices: bool = False,
) -> Any:
    """Make a function that builds a compiled Keras model train correctly on N ranks.

    On one rank and with default arguments nothing changes, to the bit.

    Args:
        build: the function; it returns a `keras.Model`, compiled there or later.
        precision: None (keep the dtype policy), "float32", "mixed_float16", "mixed_bfloat16", or
            "auto" for one that all ranks' hardware speeds up. The global policy is set while the
            function runs and restored afterwards.
        learning_rate_scaling: "linear" or "sqrt" in the growth of the global batch, None, or a
            function of the number of ranks that returns the factor. With batch="global" the
            batch does not grow, and the named rules give 1.
        warmup_epochs: number of epochs in which the learning rate rises linearly from the base
            to the scaled one.
        batch: "replica": `fit`'s batch_size is the replica batch size. "global": it is the global
            batch size.
        sync_batch_norm: whether batch normalisation in training takes its statistics from the
            samples of all ranks.
        compression: None, or "fp16" to send dense gradients in 16 bits.
        shard: whether `fit` and `evaluate` take the whole data and give each rank its shard.
            False: each rank passes its own shard, in equal numbers of steps.
        engine: "auto", "horovod", "mpi" or "single".
        shard_predict: whether `predict` shards arrays too; every rank gets all predictions either
            way. Then `predict` must be called on all ranks.
        guard: whether the ranks' weights, optimizer variables, learning rate and loss scale are
            compared after the first steps and after each epoch. A number: every so many steps too.
        exact_loss: whether compiled losses are computed from the samples of all ranks together,
            which gathers targets and predictions in each step. With batch="global" a loss that
            returns one number for the batch, or otherwise looks across samples, always is.
        sum_embedding_slices: whether the gradient's slices of one embedding row are added up before
            they are sent and before the optimizer gets them, on one rank too. Less is sent and
            updated. Adam and its like then square the sum of a row's slices, not each of them, so
            that the training is another one than Keras's own; with plain SGD nothing changes.

    Returns:
        The decorated function, or a decorator if only arguments are given. Its models are plain
        Keras models.

    Raises:
        CandleError: for an unknown value, and when a call of the function does not return a
            Keras model.
        EngineError: when a call of the function cannot find the ranks or the engine.

    Example:
        >>> import keras
        >>> @scalable(precision="float32")
        ... def build_model(units=4):
        ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
        ...     model.compile("sgd", "mse")
        ...     return model
        >>> build_model(units=2).output_shape
        (None, 2)
    """
    options = with_overrides(
        ScalingOptions(
            precision,
            learning_rate_scaling,
            warmup_epochs,
            batch,
            sync_batch_norm,
            compression,
            shard,
            engine,
            shard_predict,
            guard,
            exact_loss,
            sum_embedding_slices,
        )
    )
    if build is None:
        return functools.partial(_decorate, options=options)
    if not callable(build):
        raise CandleError(
            f"candle.scalable got {build!r}, expected a function that builds a model. "
            "For an existing model call candle.scale(model)."
        )
    return _decorate(build, options)


def scale(model: Any, **options: Any) -> Any:
    """Make a Keras model train correctly on N ranks, before or after it is compiled.

    Args:
        model: a `keras.Model`.
        **options: the arguments of `scalable`. A precision must be the model's own: layers take
            theirs when they are made.

    Returns:
        The same model.

    Raises:
        CandleError: when `model` is not a Keras model, or for an unknown argument or value.
        EngineError: when the ranks or the engine cannot be found.
    """
    checked = _options(options)
    _check_model(model, "candle.scale got")
    policy = model.dtype_policy.name
    if checked.precision not in (None, policy):
        raise CandleError(
            f"candle.scale got precision={checked.precision!r} for a model of {policy!r}. Layers "
            "take their precision when they are made: use @candle.scalable on the function that "
            "makes them, or keras.config.set_dtype_policy before."
        )
    engine = engines.start(checked.engine)
    _pin(engine)
    return _scale(model, checked, engine)


def _decorate(build: Any, options: ScalingOptions) -> Any:
    if launchers.promised_size() > 1:
        when_imported("keras", _watch_models)

    @functools.wraps(build)
    def build_scaled(*args: Any, **kwargs: Any) -> Any:
        engine = engines.start(options.engine)
        _pin(engine)
        with _precision_scope(options.precision, engine):
            model = build(*args, **kwargs)
        _check_model(model, f"{build.__name__}() returned")
        return _scale(model, options, engine)

    return build_scaled


def _watch_models(_: ModuleType) -> None:
    """Watch for models that are trained without being scaled, also before the first is scaled."""
    from keras_candle.training.keras_methods import call_trainers

    call_trainers()


# On one rank a program imports no more of Keras than it does itself.


def _pin(engine: Engine) -> None:
    if engine.size > 1 or engine.local_size > 1:
        from keras_candle import backend

        backend.current().pin(engine)


def _precision_scope(precision: str | None, engine: Engine) -> AbstractContextManager[None]:
    if precision is None:
        return nullcontext()
    from keras_candle.training.precision import precision_scope

    return precision_scope(precision, engine)


def _scale(model: Any, options: ScalingOptions, engine: Engine) -> Any:
    if engine.size == 1 and not options.sum_embedding_slices:
        return model
    from keras_candle.training.trainer import scale_model

    return scale_model(model, options, engine)


def _check_model(model: Any, what: str) -> None:
    import keras

    if not isinstance(model, keras.Model):
        raise CandleError(f"{what} {model!r}, expected a keras.Model.")


def _options(given: dict[str, Any]) -> ScalingOptions:
    unknown = set(given) - set(ScalingOptions.__dataclass_fields__)
    if unknown:
        raise CandleError(
            f"Unknown argument {', '.join(sorted(unknown))}; expected "
            f"{', '.join(ScalingOptions.__dataclass_fields__)}."
        )
    return with_overrides(ScalingOptions(**given))
