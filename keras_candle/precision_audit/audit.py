"""Audit the first training of a script: findings in 16 bits, layers to pin, and the speed-up."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from math import isfinite
from types import ModuleType
from typing import Any, NoReturn

import keras

from keras_candle.errors import CandleError
from keras_candle.lint.dry_run import FactLog, replace_method
from keras_candle.precision_audit.constants import ConstantSearch
from keras_candle.precision_audit.layers import BFLOAT16, FLOAT16, FLOAT32, Part, parts_of
from keras_candle.precision_audit.measurement import Measured, measure, problems_of
from keras_candle.precision_audit.outputs import LOST_SHARE, Counts
from keras_candle.precision_audit.pins import Pinned, PinSearch, PrecisionFinding, owners_of
from keras_candle.precision_audit.step import AuditStep, Bench
from keras_candle.precision_audit.switching import optimizer_in, switched, unwrapped
from keras_candle.training.precision import precision_of_this_node
from keras_candle.training.replica import build_model
from keras_candle.training.step_chain import chain_of
from keras_candle.verification.trial_step import State, intercept_gradients, one_line

Facts = dict[str, Any]
_MOST_BATCHES = 8


def audit(training: FirstTraining) -> Facts:
    """Run a training's steps in all precisions, and restore the model afterwards.

    Args:
        training: the first training of a script.

    Returns:
        The result of the audit, as JSON values; see docs/precision.md.

    Raises:
        CandleError: the model's step fails in float32, run eagerly.
    """
    _check(training.model)
    bench = bench_of(training.model, training.batches[0])
    exact = bench.step(FLOAT32)
    if exact.error:
        raise CandleError(f"A step in float32 that runs eagerly fails: {exact.error}")
    constants = ConstantSearch(bench)
    found = {
        precision: PinSearch(bench, precision, exact, constants).find()
        for precision in (FLOAT16, BFLOAT16)
        if _follows(bench)
    }
    measured = [Measured(FLOAT32)]
    for precision, pinned in found.items():
        measured.append(Measured(precision))
        if pinned.parts:
            measured.append(Measured(precision, pinned.names))
    measure(bench, training.batches, measured)
    return {
        **_subject(training, bench),
        "float32": {
            "not_finite": _not_finite(exact) or _losses_not_finite(exact),
            "own_dtype": _own_dtypes(bench),
        },
        "problems": _problems(bench, measured),
        "precisions": [_precision_facts(bench, exact, *each) for each in found.items()],
        "measured": [dataclasses.asdict(each) for each in measured],
        "auto": precision_of_this_node()._asdict(),
    }


def _check(model: Any) -> None:
    if keras.backend.backend() != "tensorflow":
        raise CandleError(
            f"The audit needs the TensorFlow backend, the script uses {keras.backend.backend()}"
        )
    import tensorflow as tf

    plain = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() or model.distribute_strategy is not plain:
        raise CandleError(
            "The model was made under a tf.distribute strategy, and the audit runs on one device. "
            "Make it outside of the strategy's scope for the audit"
        )


def bench_of(model: Any, batch: Any) -> Bench:
    """Return a bench for a model, and build the model and its optimizers.

    Args:
        model: a compiled model.
        batch: the argument of a step.

    Raises:
        CandleError: the model cannot be built, or its step fails.
    """
    build_model(model, batch)
    parts, state = parts_of(model), State(model)

    def build(optimizer: Any, _: Any, variables: Any) -> None:
        inner = unwrapped(optimizer)
        if not inner.built:
            inner.build(variables)
            inner.built = True

    try:
        with switched(parts, FLOAT32), optimizer_in(model, None), intercept_gradients(build):
            model.train_step(batch)
    except Exception as error:  # whatever the user's step raises
        raise CandleError(
            f"A step in float32 that runs eagerly fails: {one_line(error)}"
        ) from error
    state.restore()
    return Bench(model, batch, parts_of(model), State(model))


def _subject(training: FirstTraining, bench: Bench) -> Facts:
    model = training.model
    arrays = [each for each in keras.tree.flatten(bench.batch) if getattr(each, "shape", None)]
    return {
        "model": f"{type(model).__name__} {model.name!r}",
        "method": training.method,
        "line": training.line,
        "layers": sum(each.follows for each in bench.parts[1:] or bench.parts),
        "batches": len(training.batches),
        "rows": int(arrays[0].shape[0]) if arrays else 0,
    }


def _not_finite(exact: AuditStep) -> list[str]:
    """Layers whose outputs are not finite in float32 either."""
    return [each.part.name for each in exact.outputs.outputs.values() if each.begins]


def _losses_not_finite(exact: AuditStep) -> list[str]:
    return [f"{name} is {value:g}" for name, value in exact.losses.items() if not isfinite(value)]


def _problems(bench: Bench, measured: list[Measured]) -> list[str]:
    """What goes wrong in the short trainings, with pins where there are any."""
    exact = measured[0]
    if not _follows(bench):
        return problems_of(exact, exact, "with the script's own dtypes")
    pinned = {each.precision for each in measured if each.pins}
    return [
        problem
        for each in measured
        if each.pins or each.precision not in pinned
        for problem in problems_of(each, exact, _precision_name(each))
    ]


def _follows(bench: Bench) -> bool:
    return any(each.follows for each in bench.parts)


def _precision_name(measured: Measured) -> str:
    return f"{measured.precision}{', pinned' if measured.pins else ''}"


def _own_dtypes(bench: Bench) -> list[Facts]:
    """Layers with a dtype of their own, which they keep."""
    kept = [
        part
        for part in bench.parts
        if part.is_layer
        and not part.follows
        and not isinstance(part.layer, keras.layers.InputLayer)
        and not part.inside_keras_layer
    ]
    return [{**_layer(part), "dtype": part.layer.dtype_policy.name} for part in kept]


def _precision_facts(bench: Bench, exact: AuditStep, precision: str, pinned: Pinned) -> Facts:
    step = pinned.with_pins or pinned.step
    facts: Facts = {
        "precision": precision,
        "findings": [_finding(each) for each in pinned.findings],
        "pins": [_layer(part) for part in pinned.parts],
        "left": [_finding(each) for each in pinned.left],
        "is_minimal": pinned.is_minimal,
        "loss_scale": step.scale,
        "is_scaled": step.is_scaled,
    }
    if precision == FLOAT16 and step.scale > 1 and not step.error:
        plain = bench.step(precision, pinned.names, exact, scale=1.0)
        facts["lost"], facts["lost_unscaled"] = (
            _lost(step.counts.values()),
            _lost_by_layer(plain, bench),
        )
    return facts


def _lost_by_layer(step: AuditStep, bench: Bench) -> Facts:
    """The fraction of gradients that became 0, of all layers and of those above LOST_SHARE."""
    owners = owners_of(bench.parts)
    counts: dict[str, list[Counts]] = {}
    for path, each in step.counts.items():
        counts.setdefault(owners.get(path, bench.parts[0]).name, []).append(each)
    shares = {name: _lost(each) for name, each in counts.items()}
    layers = {name: share for name, share in shares.items() if share > LOST_SHARE}
    return {"all": _lost(step.counts.values()), "layers": layers}


def _lost(counts: Collection[Counts]) -> float:
    values = sum(each.values for each in counts)
    return sum(each.underflow for each in counts) / max(1, values)


def _finding(finding: PrecisionFinding) -> Facts:
    return {**_layer(finding.part), "what": finding.kind, "said": finding.description}


def _layer(part: Part) -> Facts:
    return {
        "layer": part.name,
        "kind": part.kind,
        "line": part.line,
        "made_by_keras": part.by_keras,
    }


@dataclass(frozen=True)
class FirstTraining:
    """The model and the data of a script's first training.

    Attributes:
        model: a compiled model.
        batches: the arguments of its first steps.
        method: "fit" or "train_on_batch".
        line: the script's file and line that called it.
    """

    model: Any
    batches: list[Any]
    method: str
    line: tuple[str, int] | None


def at_first_training(
    keras_module: ModuleType, journal: FactLog, act: Callable[[FirstTraining], NoReturn]
) -> None:
    """Call `act` instead of the first step; for a process that exists for one audit.

    Args:
        keras_module: Keras, imported by the script.
        journal: knows the script's own lines.
        act: called with the training; it must not return.
    """
    taken = False

    def make(plain: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal taken
        if taken:
            plain(model, *args, **kwargs)
            return

        def take(iterator: Iterator[Any]) -> NoReturn:
            nonlocal taken
            taken = True
            lines = journal.lines()
            batches = list(itertools.islice(_batches(iterator), _MOST_BATCHES))
            # fit reads a tf.data iterator, train_on_batch has one batch.
            method = "fit" if hasattr(iterator, "element_spec") else "train_on_batch"
            chain_of(model).take()
            act(FirstTraining(model, batches, method, lines[0] if lines else None))

        chain_of(model).restore(take)

    replace_method(keras_module.Model, "make_train_function", make)


def _batches(iterator: Iterator[Any]) -> Iterator[Any]:
    """Each batch as the argument of a step: tensors, or None."""
    import keras
    import numpy as np
    import tensorflow as tf

    def plain(value: Any) -> Any:
        if isinstance(value, tf.experimental.Optional):
            return None
        return tf.convert_to_tensor(value) if isinstance(value, np.ndarray) else value

    for batch in iterator:
        yield keras.tree.map_structure(plain, batch)
