"""Findings about loops that apply gradients outside of a model's `fit`."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator

from keras_candle.lint.batch_values import step_functions
from keras_candle.lint.candle_usage import Scaled, candle_options
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, FindingKind
from keras_candle.lint.frameworks import is_refused_by_auto, trains_elsewhere
from keras_candle.lint.names import Module, argument
from keras_candle.lint.objects import Origin, Origins
from keras_candle.lint.script import Script

RAW_LOOP = FindingKind(
    "optimizer-out-of-reach",
    ERROR,
    "{call} applies gradients with an optimizer that is no scaled model's",
    "keras_candle averages the gradients of a scaled model's optimizers; these stay each rank's "
    "own, and the ranks' models drift apart",
    "put the loop's body into train_step of a keras.Model subclass and call fit{or_auto}",
)
MODEL_LOOP = FindingKind(
    "loop-by-hand",
    WARNING,
    "{call} applies gradients outside of fit",
    "a scaled model's optimizer averages them, but the data of such a loop are not sharded and the "
    "ranks start from different weights",
    "put the loop's body into train_step and call fit; or loop over candle.shard(data), after "
    "keras.utils.set_random_seed(0)",
)
AUTO_LOOP = FindingKind(
    "loop-not-sharded",
    INFO,
    "{call} applies gradients outside of fit",
    "--auto averages them, and each rank works on all of the loop's data: no faster than one rank",
    "import keras_candle as candle, and loop over candle.shard(data); or put the loop's body into "
    "train_step and call fit",
)
KINDS = (RAW_LOOP, MODEL_LOOP, AUTO_LOOP)

_APPLY = ("apply_gradients", "apply")
# Horovod's wrappers have their own findings.
_AVERAGING = ("allreduce", "DistributedGradientTape", "DistributedOptimizer")
_FOREIGN_OPTIMIZERS = (
    "tensorflow.train.",
    "tensorflow.compat.v1.train.",
    "optax.",
    "torch.",
    "flax.",
)


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    if trains_elsewhere(script):
        return
    in_fit = {id(node) for step in step_functions(script, "model") for node in ast.walk(step.node)}
    scaled = Scaled(script)
    for module, call, optimizer in _applications(script):
        if id(call) in in_fit or not _is_optimizer(script, module, call, optimizer):
            continue
        if not any(_is_averaged(module, each) for each in (optimizer, *call.args)):
            of_model = _is_scaled_models(script, scaled, module, call, optimizer)
            shown = f"{ast.unparse(call.func)}(...)"
            yield loop_finding(script, module.path, call.lineno, shown, of_model=of_model)


def loop_finding(
    script: Script, path: str, line: int, call: str = "", *, of_model: bool
) -> Finding:
    """Make the finding for a loop.

    Args:
        script: the script.
        path: the file of the line that applies gradients.
        line: the line.
        call: how it is shown; the line itself by default.
        of_model: whether the optimizer is a scaled model's.
    """
    shown = call or script.line(path, line)
    if script.auto:
        return AUTO_LOOP.at(path, line, call=shown)
    if of_model:
        return MODEL_LOOP.at(path, line, call=shown)
    auto = f"; or candle run --auto -np N {script.main.path}, which averages them"
    # It would scale the script's own scaled models with options of its own.
    is_possible = not candle_options(script).is_used and not is_refused_by_auto(script)
    or_auto = auto if is_possible else ""
    return RAW_LOOP.at(path, line, call=shown, or_auto=or_auto)


def lines_read(script: Script) -> set[tuple[str, int]]:
    """Return the lines that visibly apply gradients, which `find` has judged."""
    return {
        (module.path, line)
        for module, call, _ in _applications(script)
        for line in range(call.lineno, (call.end_lineno or call.lineno) + 1)
    }


def _applications(script: Script) -> Iterator[tuple[Module, ast.Call, ast.expr]]:
    """Yield the calls of methods of that name, with the object."""
    for module, call, _ in script.calls():
        if isinstance(call.func, ast.Attribute) and call.func.attr in _APPLY:
            yield module, call, call.func.value


def _is_optimizer(script: Script, module: Module, call: ast.Call, optimizer: ast.expr) -> bool:
    """Return whether a call of `apply` gives gradients to a Keras optimizer."""
    origins = script.objects.origins(module, optimizer)
    kinds = [_kind_of_optimizer(script, each) for each in origins]
    if any(kinds) or None not in kinds:
        return any(kinds)
    words = {keyword.arg for keyword in call.keywords}
    if call.func.attr == "apply_gradients":  # type: ignore[attr-defined]
        return bool(call.args) or "grads_and_vars" in words
    return ast.unparse(optimizer).endswith("optimizer")


def _kind_of_optimizer(script: Script, origin: Origin) -> bool | None:
    """Return whether an origin makes a Keras optimizer; None where it cannot be known."""
    if origin.path[-1:] == (".optimizer",):
        return True
    known = script.objects.class_of(origin)
    if known is not None:
        return known[1] in {each for _, each in script.classes("optimizer")}
    if origin.path or not isinstance(origin.node, ast.Call):
        return None
    name = origin.module.dotted(origin.node.func)
    if name.startswith(("keras.optimizers.", "keras.mixed_precision.")):
        return True
    return False if name.startswith(_FOREIGN_OPTIMIZERS) else None


def _is_scaled_models(
    script: Script, scaled: Scaled, module: Module, call: ast.Call, optimizer: ast.expr
) -> bool:
    """Return whether an optimizer is that of a scaled model where a call uses it.

    In a script that does not use keras_candle, every compiled model counts: the first advice is
    to scale them all.
    """
    origins = script.objects.origins(module, optimizer)
    owners = frozenset(_owners(origins))
    if owners:
        return scaled.includes(owners) or not scaled.is_used
    for owner, compiled, model in script.method_calls("compile"):
        given = argument(compiled, "optimizer", 0)
        if given is None or not script.may_precede(owner, compiled, module, call):
            continue
        is_its = script.objects.are_same(script.objects.origins(owner, given), origins)
        if is_its and (scaled.includes_model(owner, model) or not scaled.is_used):
            return True
    return False


def _owners(origins: Origins) -> Iterator[Origin]:
    """Yield the models whose attribute an optimizer is."""
    for each in origins:
        if each.path[-1:] == (".optimizer",):
            yield dataclasses.replace(each, path=each.path[:-1])


def _is_averaged(module: Module, gradients: ast.expr) -> bool:
    """Return whether the script averages gradients by itself, on any ranks."""

    def averages(node: ast.AST) -> bool:
        named = isinstance(node, ast.Attribute)
        return named and any(each in node.attr for each in _AVERAGING)  # type: ignore[attr-defined]

    return module.find(gradients, averages) is not None
