"""Findings about lines that distribute the training by hand."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from keras_candle.distribution_apis import REFUSED_STRATEGIES, REPLACED_STRATEGIES
from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, FindingKind
from keras_candle.lint.frameworks import trains_elsewhere
from keras_candle.lint.names import Module, argument
from keras_candle.lint.script import EVALUATION, TRAINING, Script

IMPORT = FindingKind(
    "horovod-import",
    WARNING,
    "horovod is imported",
    "keras_candle starts its engine itself; with the mpi engine, Horovod sees one rank only",
    "import keras_candle as candle",
)
INIT = FindingKind(
    "horovod-init",
    WARNING,
    "{call}() starts Horovod",
    "keras_candle's engine starts it where it is needed",
    "remove the line",
)
RANKS = FindingKind(
    "horovod-rank",
    WARNING,
    "{call}() asks Horovod",
    "only the current engine knows the ranks; Horovod returns 0 of 1 under the mpi engine",
    "candle.{name}()",
)
OPTIMIZER = FindingKind(
    "horovod-optimizer",
    ERROR,
    "{call} wraps the optimizer",
    "gradients would be averaged twice, the second time after the clipping",
    "remove the line{and_scale}",
)
TAPE = FindingKind(
    "horovod-tape",
    ERROR,
    "{call} wraps a GradientTape",
    "Horovod averages gradients that keras_candle averages again, or does not average at all",
    "with the model's own optimizer inside train_step, a plain tf.GradientTape is enough",
)
CALLBACK = FindingKind(
    "horovod-callback",
    ERROR,
    "{call} is Horovod's version of a feature of keras_candle",
    "it works on Horovod's ranks, and does not support Keras 3's variables",
    "{remedy}",
)
COLLECTIVE = FindingKind(
    "horovod-collective",
    WARNING,
    "{call}() is a collective of Horovod",
    "under the mpi engine Horovod sees one rank only",
    "candle.engine.current() has allreduce, allgather, broadcast and barrier for NumPy arrays; "
    "start weights and metrics need none of them",
)
PINNING = FindingKind(
    "gpu-pinned-by-hand",
    WARNING,
    "{call} chooses this rank's GPU",
    "keras_candle gives each rank of a node one GPU; a second choice may find no such GPU",
    "remove the line",
)
STRATEGY = FindingKind(
    "distribution-strategy",
    ERROR,
    "{call} divides the work",
    "keras_candle divides it too, and refuses a model that was built in a strategy",
    "build the model outside of the strategy's scope, and remove the strategy",
)
_CALLBACKS = {
    "BroadcastGlobalVariablesCallback": "remove it: every rank starts from the root's weights",
    "MetricAverageCallback": "remove it: metrics are those of the whole data",
    "LearningRateWarmupCallback": "@candle.scalable(warmup_epochs=...)",
    "LearningRateScheduleCallback": "keras.callbacks.LearningRateScheduler(...)",
    "BestModelCheckpoint": "keras.callbacks.ModelCheckpoint(..., save_best_only=True)",
    "SyncBatchNormalization": "keras.layers.BatchNormalization(synchronized=True)",
    "CommitStateCallback": "keras.callbacks.BackupAndRestore(...)",
}
_ELASTIC = "candle.CandleCallback(...), with candle run --max-restarts K"
_ASKS = {"rank": "rank", "size": "size", "local_rank": "local_rank"}
_COLLECTIVES = ("allreduce", "allgather", "broadcast", "grouped_allreduce", "alltoall", "join")
RATE = FindingKind(
    "learning-rate-scaled-twice",
    ERROR,
    "the learning rate is multiplied by the number of ranks: {text}",
    "keras_candle multiplies it too, where the optimizer uses it",
    "give the learning rate of one rank; or use @candle.scalable(learning_rate_scaling=None)",
)
BATCH_DIVIDED = FindingKind(
    "batch-divided-by-ranks",
    ERROR,
    "the batch size is divided by the number of ranks: {text}",
    "with batch='replica' the learning rate is scaled for a global batch that does not grow; with "
    "batch='global' keras_candle divides it itself",
    "batch_size=<the global batch size> with @candle.scalable(batch='global')",
)
BATCH_MULTIPLIED = FindingKind(
    "batch-multiplied-by-ranks",
    WARNING,
    "the batch size is multiplied by the number of ranks: {text}",
    "fit's batch_size is one rank's: the global batch would grow with the square of the ranks",
    "batch_size=<one rank's batch size>, or @candle.scalable(batch='global')",
)
STEPS = FindingKind(
    "steps-divided-by-ranks",
    ERROR,
    "{name} is divided by the number of ranks: {text}",
    "keras_candle divides the steps itself: each epoch would see only a part of the data",
    "{name}=<the steps that one rank would take>, or remove it",
)
EPOCHS = FindingKind(
    "epochs-divided-by-ranks",
    WARNING,
    "the number of epochs is divided by the number of ranks: {text}",
    "an epoch is the whole data on any number of ranks: the model would see them fewer times",
    "epochs=<as on one rank>",
)
NOT_SCALED = FindingKind(
    "learning-rate-not-scaled",
    INFO,
    "learning_rate_scaling=None with batch='replica'",
    "the global batch grows with the ranks and the learning rate stays",
    "@candle.scalable(batch='global') keeps both as on one rank",
)
_STEPS = ("steps_per_epoch", "validation_steps", "steps")
_RATES = ("learning_rate", "initial_learning_rate", "lr")
_PRODUCT = (ast.Mult,)
_QUOTIENT = (ast.Div, ast.FloorDiv)


KINDS = (
    *(IMPORT, INIT, RANKS, OPTIMIZER, TAPE, CALLBACK, COLLECTIVE, PINNING, STRATEGY),
    *(RATE, BATCH_DIVIDED, BATCH_MULTIPLIED, STEPS, EPOCHS, NOT_SCALED),
)


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    if trains_elsewhere(script):
        return
    yield from _horovod(script)
    yield from _scaling(script)


def _horovod(script: Script) -> Iterator[Finding]:
    for module in script.modules:
        for line, name in module.import_lines():
            if name.split(".")[0] == "horovod":
                yield IMPORT.at(module.path, line)
    scales = script.auto or candle_options(script).is_used
    and_scale = "" if scales else ", and put @candle.scalable on the function that builds the model"
    for module, call, dotted in script.calls():
        package, _, name = dotted.rpartition(".")
        shown = ast.unparse(call.func)
        kind = _kind(dotted) if dotted.startswith("horovod.") and "()" not in dotted else None
        if kind is not None:
            words = {"call": shown, "name": name, "remedy": _CALLBACKS.get(name, _ELASTIC)}
            yield kind.at(module.path, call.lineno, and_scale=and_scale, **words)
        pins = name == "set_visible_devices" and package.startswith("tensorflow.config")
        if pins and any(script.ranks.depends_on_rank(module, each) for each in call.args):
            yield PINNING.at(module.path, call.lineno, call=shown)
        if _is_strategy(package, name) and not (script.auto and _is_for_auto(dotted)):
            yield STRATEGY.at(module.path, call.lineno, call=shown)


def _kind(dotted: str) -> FindingKind | None:
    name = dotted.rpartition(".")[2]
    if ".elastic." in dotted:
        return CALLBACK
    exact = {
        "init": INIT,
        "DistributedOptimizer": OPTIMIZER,
        "DistributedAdasumOptimizer": OPTIMIZER,
        "DistributedGradientTape": TAPE,
        **dict.fromkeys(_CALLBACKS, CALLBACK),
        **dict.fromkeys(_ASKS, RANKS),
        **dict.fromkeys(_COLLECTIVES, COLLECTIVE),
    }
    if name.startswith("broadcast_"):
        return COLLECTIVE
    return exact.get(name)


def _is_for_auto(dotted: str) -> bool:
    """Return whether --auto replaces a strategy, or refuses it with a finding of its own."""
    strategy = dotted.removeprefix("tensorflow.distribute.")
    return strategy in REPLACED_STRATEGIES + REFUSED_STRATEGIES


def _is_strategy(package: str, name: str) -> bool:
    by_tensorflow = package.startswith("tensorflow.distribute") and name.endswith("Strategy")
    by_keras = package == "keras.distribution" and name in ("set_distribution", "DataParallel")
    by_torch = name == "DistributedDataParallel"
    return by_tensorflow or by_keras or by_torch


def _scaling(script: Script) -> Iterator[Finding]:
    options = candle_options(script)
    if not options.has("learning_rate_scaling", None):
        yield from _rates(script)
    elif not options.has("batch", "global"):
        module = script.main
        node = options.gives("learning_rate_scaling")
        yield NOT_SCALED.at(module.path, node.lineno if node else 0)
    yield from _batches(script, global_batch=options.has("batch", "global"))
    for module, call, _ in script.method_calls(*TRAINING, *EVALUATION):
        for name in _STEPS:
            for node in _by_size(script, module, argument(call, name), _QUOTIENT):
                yield STEPS.at(module.path, node.lineno, name=name, text=ast.unparse(node))
        for node in _by_size(script, module, argument(call, "epochs"), _QUOTIENT):
            yield EPOCHS.at(module.path, node.lineno, text=ast.unparse(node))


def _rates(script: Script) -> Iterator[Finding]:
    for module in script.modules:
        for node in module.nodes:
            for value in _rate_values(module, node):
                for product in _by_size(script, module, value, _PRODUCT):
                    yield RATE.at(module.path, product.lineno, text=ast.unparse(product))


def _rate_values(module: Module, node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that become a learning rate."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Attribute) and target.attr in _RATES:
                yield node.value
    if not isinstance(node, ast.Call):
        return
    name = module.dotted(node.func)
    if name.startswith("keras.optimizers."):
        given = [argument(node, rate) for rate in _RATES]
        given.append(argument(node, "", 0))
        yield from (each for each in given if each is not None)
    elif name == "keras.callbacks.LearningRateScheduler":
        yield from node.args[:1]
        yield from _function_named(module, node)


def _function_named(module: Module, call: ast.Call) -> Iterator[ast.expr]:
    names = {each.id for each in call.args if isinstance(each, ast.Name)}
    for function in module.functions:
        if function.name in names:
            returns = [each for each in ast.walk(function) if isinstance(each, ast.Return)]
            yield from (each.value for each in returns if each.value is not None)


def _batches(script: Script, *, global_batch: bool) -> Iterator[Finding]:
    for module, call, name in script.calls():
        size = argument(call, "batch_size")
        if size is None and name.endswith(".batch"):
            size = argument(call, "", 0)
        for node in _by_size(script, module, size, _QUOTIENT):
            yield BATCH_DIVIDED.at(module.path, node.lineno, text=ast.unparse(node))
        if not global_batch:
            for node in _by_size(script, module, size, _PRODUCT):
                yield BATCH_MULTIPLIED.at(module.path, node.lineno, text=ast.unparse(node))


def _by_size(
    script: Script, module: Module, value: ast.expr | None, operators: tuple[type, ...]
) -> Iterator[ast.BinOp]:
    """Yield the operation with the number of ranks that a value comes from, if any."""
    if value is None:
        return

    def is_operation(node: ast.AST) -> bool:
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, operators):
            return False
        sides = (node.left, node.right) if ast.Mult in operators else (node.right,)
        return any(_is_size(script, module, side) for side in sides)

    found = module.find(value, is_operation)
    if isinstance(found, ast.BinOp):
        yield found


def _is_size(script: Script, module: Module, node: ast.expr) -> bool:
    direct: Callable[[ast.AST], bool] = lambda each: isinstance(each, ast.BinOp)  # noqa: E731
    if module.find(node, direct, depth=0) is not None:
        return False  # the operation inside is the one to show
    return script.ranks.depends_on_size(module, node)
