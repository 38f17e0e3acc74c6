"""Find a script's uses of keras_candle, and the faults in them."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator

from keras_candle.lint.finding import ERROR, WARNING, Finding, FindingKind
from keras_candle.lint.names import Function, Module, argument, constant
from keras_candle.lint.script import EVALUATION, TRAINING, Flow, Script, data_of

DECORATORS = ("keras_candle.scalable", "keras_candle.decorator.scalable")
SCALES = ("keras_candle.scale", "keras_candle.decorator.scale")
NOT_USED = FindingKind(
    "candle-not-used",
    WARNING,
    "the script does not use keras_candle",
    "N ranks would run N independent trainings",
    "{remedy}; or, without a change: candle run --auto -np N {script}",
)
NO_MODEL = FindingKind(
    "builder-without-model",
    ERROR,
    "{name}() is decorated and {returns}",
    "@candle.scalable takes the model that the function returns",
    "return model",
)
TRAINED_INSIDE = FindingKind(
    "trained-in-builder",
    ERROR,
    "{call} runs inside the decorated {name}()",
    "the model is scaled when {name}() has returned it: here each rank trains for itself",
    "call it on the model that {name}() returns",
)
NOT_TRAINED = FindingKind(
    "scaled-model-unused",
    WARNING,
    "{text} is not trained afterwards, and another model is",
    "only scaled models train on all ranks together",
    "candle.scale(...) the model that is trained, or decorate the function that builds it",
)
POLICY = FindingKind(
    "precision-set-inside",
    WARNING,
    "{call} sets the dtype policy inside the decorated {name}()",
    "the decorator sets its own policy around the function, and restores the previous one",
    "@candle.scalable(precision={policy})",
)
WHOLE_DATA = FindingKind(
    "whole-data-on-every-rank",
    WARNING,
    "shard=False, and the script does not use the rank",
    "each rank trains on everything that it passes: N ranks see every row N times an epoch",
    "remove shard=False; or pass candle.shard(data)",
)
WARM_UP = FindingKind(
    "warm-up-without-steps",
    ERROR,
    "warmup_epochs is set, and {method} gets data without a known number of steps",
    "the warm-up counts in steps of an epoch",
    "{method}(..., steps_per_epoch=...)",
)
TUNER = FindingKind(
    "tuner-on-every-rank",
    ERROR,
    "{name} searches on every rank",
    "each rank draws trials of its own, builds another model and writes into the same folder",
    "candle.CandleTuner(build_model, objective, max_trials=...), which divides the trials",
)
KINDS = (NOT_USED, NO_MODEL, TRAINED_INSIDE, NOT_TRAINED, POLICY, WHOLE_DATA, WARM_UP, TUNER)
_POLICIES = (
    "keras.config.set_dtype_policy",
    "keras.config.set_global_policy",
    "keras.mixed_precision.set_dtype_policy",
    "keras.mixed_precision.set_global_policy",
)
_TUNERS = (
    *("RandomSearch", "GridSearch", "BayesianOptimization", "Hyperband"),
    *("Tuner", "Sklearn", "SklearnTuner"),
)
_UNKNOWN_STEPS = ("tensorflow.data.Dataset.from_generator",)


@dataclasses.dataclass(frozen=True)
class CandleOptions:
    """The script's `@candle.scalable` and `candle.scale(...)`.

    Attributes:
        decorated: the decorated functions.
        scaled: the calls of `scale`.
        calls: the decorator's calls, where it has arguments, and those of `scale`.
    """

    decorated: tuple[tuple[Module, Function], ...]
    scaled: tuple[tuple[Module, ast.Call], ...]
    calls: tuple[ast.Call, ...]

    @property
    def is_used(self) -> bool:
        """Whether the script uses keras_candle at all."""
        return bool(self.decorated or self.scaled or self.calls)

    def has(self, name: str, value: object) -> bool:
        """Return whether any call gives the argument that literal value."""
        given = [argument(call, name) for call in self.calls]
        return any(isinstance(each, ast.Constant) and each.value == value for each in given)

    def gives(self, name: str) -> ast.expr | None:
        """Return the argument of that name from the first call that has it, else None."""
        return next(filter(None, (argument(call, name) for call in self.calls)), None)


def candle_options(script: Script) -> CandleOptions:
    """Find the uses of keras_candle in a script.

    Args:
        script: the script.
    """
    decorated = [
        (module, function)
        for module, function in script.functions()
        if any(_decorator(module, each) for each in function.decorator_list)
    ]
    named = list(script.calls())
    scaled = [(module, call) for module, call, name in named if name in SCALES]
    calls = [call for _, call, name in named if name in (*SCALES, *DECORATORS)]
    return CandleOptions(tuple(decorated), tuple(scaled), tuple(calls))


def _decorator(module: Module, node: ast.expr) -> bool:
    return module.dotted(node).removesuffix("()") in DECORATORS


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    options = candle_options(script)
    if not options.is_used:
        yield from _not_used(script)
    for module, function in options.decorated:
        yield from _no_model(module, function)
        yield from _inside(script, module, function)
    yield from _not_trained(script, options)
    yield from _whole_data(script, options)
    warm_up = options.gives("warmup_epochs")
    if warm_up is not None and constant(warm_up) != 0:
        yield from _warm_up(script)
    if not script.auto:  # which gives the ranks one seed, and so the same trials
        yield from _tuners(script)


def _not_used(script: Script) -> Iterator[Finding]:
    """Yield one finding, on the line where the first model is compiled."""
    trained = list(script.method_calls("compile"))
    if not trained or not list(script.method_calls(*TRAINING)):
        return
    module, call, model = trained[0]
    function = module.function(call)
    remedy = f"{ast.unparse(model)} = candle.scale({ast.unparse(model)}) on the line after"
    if function is not None and script.returns_model(module, function):
        remedy = f"@candle.scalable above def {function.name}(...) on line {function.lineno}"
    elif ast.unparse(model) == "self":
        remedy = "candle.scale(model) before fit"
    yield NOT_USED.at(module.path, call.lineno, remedy=remedy, script=script.main.path)


def _no_model(module: Module, function: Function) -> Iterator[Finding]:
    returns = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and module.function(node) is function
    ]
    given = [node for node in returns if node.value is not None]
    if not given and not any(isinstance(node, ast.Raise) for node in function.body):
        words = {"name": function.name, "returns": "returns nothing"}
        yield NO_MODEL.at(module.path, function.lineno, **words)
    for node in given:
        if isinstance(node.value, ast.Tuple | ast.List | ast.Dict | ast.Constant):
            words = {"name": function.name, "returns": f"returns {ast.unparse(node.value)}"}
            yield NO_MODEL.at(module.path, node.lineno, **words)


def _inside(script: Script, module: Module, function: Function) -> Iterator[Finding]:
    inside = {id(node) for node in ast.walk(function)}
    for _, call, _ in script.method_calls(*TRAINING, *EVALUATION):
        if id(call) in inside:
            words = {"call": ast.unparse(call.func), "name": function.name}
            yield TRAINED_INSIDE.at(module.path, call.lineno, **words)
    for _, call, name in script.calls():
        if id(call) in inside and name in _POLICIES:
            policy = ast.unparse(call.args[0]) if call.args else "..."
            words = {"call": f"{name}()", "name": function.name, "policy": policy}
            yield POLICY.at(module.path, call.lineno, **words)


def _not_trained(script: Script, options: CandleOptions) -> Iterator[Finding]:
    trained = [(module, ast.unparse(model)) for module, _, model in script.method_calls(*TRAINING)]
    if options.decorated or not trained:
        return
    for module, call in options.scaled:
        names = {ast.unparse(each) for each in call.args[:1]}
        parent = module.parents.get(call)
        if isinstance(parent, ast.Assign):
            names |= {ast.unparse(each) for each in parent.targets}
        used = any(owner is not module or name in names for owner, name in trained)
        passed_on = isinstance(parent, ast.Return | ast.Call | ast.Attribute)
        if not used and not passed_on and module.function(call) is None:
            yield NOT_TRAINED.at(module.path, call.lineno, text=ast.unparse(call))


def _whole_data(script: Script, options: CandleOptions) -> Iterator[Finding]:
    if not options.has("shard", False):
        return
    asks = any(
        script.ranks.depends_on_rank(module, call) or name.endswith("candle.shard")
        for module, call, name in script.calls()
        if name not in DECORATORS
    )
    node = options.gives("shard")
    if not asks and node is not None:
        owner = next(m for m in script.modules if node in m.parents)
        yield WHOLE_DATA.at(owner.path, node.lineno)


def _warm_up(script: Script) -> Iterator[Finding]:
    flow = Flow(script)
    for module, call, _ in script.method_calls("fit"):
        if argument(call, "steps_per_epoch") is not None:
            continue
        for expression in data_of(call)[:1]:
            if any(_has_no_steps(*source) for source in flow.sources(module, expression)):
                yield WARM_UP.at(module.path, call.lineno, method=ast.unparse(call.func))


def _tuners(script: Script) -> Iterator[Finding]:
    for module, call, dotted in script.calls():
        package, _, name = dotted.rpartition(".")
        if name in _TUNERS and package.partition(".")[0] in ("keras_tuner", "kerastuner"):
            yield TUNER.at(module.path, call.lineno, name=ast.unparse(call.func))


def _has_no_steps(module: Module, call: ast.Call) -> bool:
    if module.dotted(call.func) in _UNKNOWN_STEPS:
        return True
    repeats = isinstance(call.func, ast.Attribute) and call.func.attr == "repeat"
    return repeats and not call.args and not call.keywords
