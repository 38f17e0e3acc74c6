"""Findings about what trains the script, and whether `candle run --auto` takes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.distribution_apis import HOROVOD_MODULES, REFUSED_STRATEGIES
from keras_candle.lint.finding import ERROR, WARNING, Finding, FindingKind
from keras_candle.lint.names import Module, argument, constant
from keras_candle.lint.script import Script

NO_KERAS = FindingKind(
    "no-keras",
    WARNING,
    "the script trains with {framework}, without Keras",
    "keras_candle trains Keras models",
    "leave the script to its own launcher; or build a Keras model and call fit",
)
CLUSTER = FindingKind(
    "ranks-of-a-cluster",
    WARNING,
    "{package} starts the ranks inside of {cluster}",
    "keras_candle's ranks are started by candle run, mpiexec or srun",
    "leave the script to Horovod; or read the data from files, and start it with candle run",
)
BACKEND = FindingKind(
    "other-backend",
    ERROR,
    "{text} {what}",
    "on several ranks keras_candle trains with TensorFlow",
    "{remedy}",
)
LEGACY = FindingKind(
    "legacy-keras",
    ERROR,
    "{text} chooses Keras 2",
    "keras_candle trains models of Keras 3",
    "remove it, and import keras instead of tf_keras",
)
REFUSED = FindingKind(
    "refused-by-auto",
    ERROR,
    "{call} is refused by --auto",
    "{reason}",
    "{remedy}",
)
KINDS = (NO_KERAS, CLUSTER, BACKEND, LEGACY, REFUSED)

_KERAS = ("keras", "keras_candle", "keras_cv", "keras_hub", "keras_nlp", "keras_tuner", "tf_keras")
_CLUSTERS = {"horovod.spark": "Spark", "horovod.ray": "Ray", "sparkdl": "Spark"}
_NAMES = {"jax": "JAX", "torch": "PyTorch", "mxnet": "MXNet", "tensorflow": "TensorFlow"}
_GRADIENTS = {"jax.grad": "jax", "jax.value_and_grad": "jax", "mxnet.autograd.record": "mxnet"}
_TENSORFLOW = (
    *("GradientTape", "InteractiveSession", "MonitoredSession", "MonitoredTrainingSession"),
    *("Session", "Supervisor", "Estimator"),
)
_SET_TENSORFLOW = 'os.environ["KERAS_BACKEND"] = "tensorflow"'
_USE_FIT = "compile the model and call fit, without a loop or train_step for {name}; then "


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    if not uses_keras(script):
        for module, call, framework in list(_gradients(script))[:1]:
            yield NO_KERAS.at(module.path, call.lineno, framework=_NAMES[framework])
        return
    yield from _clusters(script)
    yield from _backends(script)
    yield from _legacy(script)
    if script.auto:
        for module, call, reason, remedy in refusals(script):
            words = {"call": f"{ast.unparse(call.func)}()", "reason": reason, "remedy": remedy}
            yield REFUSED.at(module.path, call.lineno, **words)


def uses_keras(script: Script) -> bool:
    """Return whether a script uses Keras at all."""
    imported = {name for module in script.modules for name in module.imported_modules()}
    if any(name.split(".")[0] in _KERAS or ".keras" in name for name in imported):
        return True
    return any(name.startswith("keras.") for _, _, name in script.calls())


def trains_elsewhere(script: Script) -> bool:
    """Return whether the script's gradients are not those of Keras on TensorFlow, or its ranks.

    Advice on its lines would not apply: it cannot be followed without another training.
    """
    if not uses_keras(script):
        return any(_gradients(script))
    found = (_clusters(script), _legacy(script), _foreign_gradients(script))
    return any(any(each) for each in found)


def refusals(script: Script) -> Iterator[tuple[Module, ast.Call, str, str]]:
    """Yield the calls that `candle run --auto` refuses, each with its reason and a remedy."""
    for module, call, name in script.calls():
        package, _, last = name.rpartition(".")
        if last == "init" and package in HOROVOD_MODULES:
            reason = "such a script divides its data and learning rate by itself, and --auto would"
            remedy = "remove all of Horovod's lines; or run the script without --auto"
            yield module, call, f"{reason} do it a second time", remedy
        strategy = name.removeprefix("tensorflow.distribute.")
        if strategy != name and strategy in REFUSED_STRATEGIES and not _is_tried(module, call):
            reason = "its workers are not replicas of the script"
            yield module, call, reason, "use tf.distribute.MirroredStrategy(), or no strategy"


def is_refused_by_auto(script: Script) -> bool:
    """Return whether `candle run --auto` cannot train a script."""
    return trains_elsewhere(script) or any(_backends(script)) or any(refusals(script))


def _is_tried(module: Module, call: ast.Call) -> bool:
    """Return whether a call is tried, with another way where it fails."""
    return any(isinstance(each, ast.Try) and bool(each.handlers) for each in module.ancestors(call))


def _clusters(script: Script) -> Iterator[Finding]:
    for module in script.modules:
        for line, name in module.import_lines():
            for package, cluster in _CLUSTERS.items():
                if f"{name}.".startswith(f"{package}."):
                    yield CLUSTER.at(module.path, line, package=package, cluster=cluster)


def _gradients(script: Script) -> Iterator[tuple[Module, ast.Call, str]]:
    """Yield the calls that take gradients, and the framework of each."""
    for module, call, name in script.calls():
        last = name.rpartition(".")[2]
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name in _GRADIENTS:
            yield module, call, _GRADIENTS[name]
        elif method == "backward" and module.imports("torch"):
            yield module, call, "torch"
        elif name.startswith("tensorflow.") and last in _TENSORFLOW:
            yield module, call, "tensorflow"


def _foreign_gradients(script: Script) -> Iterator[tuple[Module, ast.Call, str]]:
    """Yield gradients that are not TensorFlow's, outside of a test for Keras's backend."""
    for module, call, framework in _gradients(script):
        tests = [each.test for each in module.ancestors(call) if isinstance(each, ast.If)]
        if framework != "tensorflow" and not any("backend" in ast.unparse(e) for e in tests):
            yield module, call, framework


def _backends(script: Script) -> Iterator[Finding]:
    gradients = list(_foreign_gradients(script))
    chosen = list(_chosen_backends(script))
    for module, node, name in chosen:
        own = [framework for _, _, framework in gradients if framework == name]
        remedy = _USE_FIT.format(name=_NAMES[name]) if own else ""
        text = {"text": ast.unparse(node), "what": "chooses a backend"}
        yield BACKEND.at(module.path, node.lineno, remedy=remedy + _SET_TENSORFLOW, **text)
    if not chosen:
        for module, call, framework in gradients[:1]:
            words = {"text": f"{ast.unparse(call.func)}()", "remedy": "compile the model and "}
            words |= {"what": f"takes gradients with {_NAMES[framework]}"}
            words["remedy"] += f"call fit, without a loop or train_step for {_NAMES[framework]}"
            yield BACKEND.at(module.path, call.lineno, **words)


def _legacy(script: Script) -> Iterator[Finding]:
    for module in script.modules:
        for line, name in module.import_lines():
            if name.split(".")[0] == "tf_keras":
                yield LEGACY.at(module.path, line, text="import tf_keras")
        for node in module.nodes:
            if _set_variable(module, node, "TF_USE_LEGACY_KERAS") not in (None, "0"):
                text = ast.unparse(node)
                yield LEGACY.at(module.path, node.lineno, text=text)  # type: ignore[attr-defined]


def _chosen_backends(script: Script) -> Iterator[tuple[Module, ast.expr | ast.stmt, str]]:
    for module in script.modules:
        for node in module.nodes:
            value = _backend_of(module, node)
            if isinstance(value, str) and value in ("jax", "torch", "openvino", "numpy"):
                yield module, node, value  # type: ignore[misc]


def _backend_of(module: Module, node: ast.AST) -> object:
    """Return the literal to which a statement or call sets Keras's backend, else None."""
    if isinstance(node, ast.Call) and module.dotted(node.func) == "keras.config.set_backend":
        return constant(argument(node, "backend", 0))
    return _set_variable(module, node, "KERAS_BACKEND")


def _set_variable(module: Module, node: ast.AST, name: str) -> object:
    """Return the literal to which a statement or call sets an environment variable, else None."""
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        named = isinstance(target, ast.Subscript) and constant(target.slice) == name
        return constant(node.value) if named else None
    calls = ("os.environ.setdefault", "os.putenv")
    if isinstance(node, ast.Call) and module.dotted(node.func) in calls:
        given = constant(argument(node, "", 0))
        return constant(argument(node, "", 1)) if given == name else None
    return None
