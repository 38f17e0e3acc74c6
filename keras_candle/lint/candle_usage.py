"""Find a script's uses of keras_candle, and the faults in them."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Iterator

from keras_candle.lint.finding import ERROR, WARNING, Finding, FindingKind
from keras_candle.lint.frameworks import is_refused_by_auto, trains_elsewhere
from keras_candle.lint.names import Function, Module, argument, constant
from keras_candle.lint.objects import Origin
from keras_candle.lint.script import EVALUATION, TRAINING, Flow, Script, data_of

DECORATORS = ("keras_candle.scalable", "keras_candle.decorator.scalable")
SCALES = ("keras_candle.scale", "keras_candle.decorator.scale")
NOT_USED = FindingKind(
    "candle-not-used",
    WARNING,
    "the script does not use keras_candle{models}",
    "N ranks would run N independent trainings",
    "{remedy}{or_auto}",
)
NOT_SCALED = FindingKind(
    "model-not-scaled",
    WARNING,
    "{model} is trained and not scaled",
    "each rank trains a copy of its own on all of its data: only scaled models train together",
    "{remedy}",
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
KINDS = (
    *(NOT_USED, NOT_SCALED, NO_MODEL, TRAINED_INSIDE, NOT_TRAINED, POLICY, WHOLE_DATA, WARM_UP),
    TUNER,
)
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


class Scaled:
    """The models that a script scales.

    Args:
        script: the script.
    """

    def __init__(self, script: Script) -> None:
        self._objects = script.objects
        options = candle_options(script)
        self.is_used = options.is_used
        self._builders = {function for _, function in options.decorated}
        given = [(module, call.args[0]) for module, call in options.scaled if call.args]
        for module, function in options.decorated:
            given += [(module, value) for value in self._objects.returned(function)]
        given += [
            (module, call) for module, call, _ in script.calls() if self._is_built(module, call)
        ]
        self._origins = frozenset(
            origin for module, node in given for origin in self._objects.origins(module, node)
        )

    def _is_built(self, module: Module, call: ast.Call) -> bool:
        """Return whether a call makes a scaled model: build(), candle.scalable(build)()."""
        made = [call.func, *(module.bound(call.func) if isinstance(call.func, ast.Name) else [])]
        if any(isinstance(each, ast.Call) and _decorator(module, each) for each in made):
            return True
        called = self._objects.functions(module, call.func) if self._builders else []
        return any(function in self._builders for _, function in called)

    def includes(self, origins: Iterable[Origin]) -> bool:
        """Return whether a model of these origins may be scaled."""
        return self._objects.are_same(origins, self._origins)

    def builds(self, module: Module, node: ast.AST) -> bool:
        """Return whether a node is in a decorated function."""
        return any(each in self._builders for each in module.ancestors(node))

    def includes_model(self, module: Module, node: ast.expr) -> bool:
        """Return whether an expression may be a scaled model."""
        return self.includes(self._objects.origins(module, node))


def _decorator(module: Module, node: ast.expr) -> bool:
    return module.dotted(node).replace("()", "") in DECORATORS


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    options = candle_options(script)
    if not options.is_used:
        yield from _not_used(script)
    else:
        unused = list(_not_trained(script, options))
        yield from unused or _not_scaled(script)
    for module, function in options.decorated:
        yield from _no_model(module, function)
        yield from _inside(script, module, function)
    yield from _whole_data(script, options)
    warm_up = options.gives("warmup_epochs")
    if warm_up is not None and constant(warm_up) != 0:
        yield from _warm_up(script)
    if not script.auto:  # which gives the ranks one seed, and so the same trials
        yield from _tuners(script)


def _not_used(script: Script) -> Iterator[Finding]:
    """Yield one finding for all models that are trained, on the line of the first."""
    models = _trained_models(script)
    if script.auto or not models or trains_elsewhere(script):
        return
    (module, call, _), *_ = models
    shown = [
        f"{ast.unparse(model)} on {_place(script, owner, call.lineno)}"
        for owner, call, model in models
    ]
    remedies = dict.fromkeys(_how_to_scale(script, *each) for each in models)
    auto = f"; or, without a change: candle run --auto -np N {script.main.path}"
    finding = NOT_USED.at(
        module.path,
        call.lineno,
        models=f" and trains {len(shown)} models: {', '.join(shown)}" if shown[1:] else "",
        remedy=" and ".join(remedies),
        or_auto="" if is_refused_by_auto(script) else auto,
    )
    more = {each.lineno for owner, each, _ in models if owner is module} - {call.lineno}
    yield dataclasses.replace(finding, more=tuple(sorted(more)))


def _trained_models(script: Script) -> list[tuple[Module, ast.Call, ast.expr]]:
    """Return the calls of `compile` of models that are trained, one for each model."""
    origins = script.objects.origins
    trained = [origins(module, model) for module, _, model in script.method_calls(*TRAINING)]
    compiled = list(script.method_calls("compile")) if trained else []
    found = {
        origins(module, model): (module, call, model)
        for module, call, model in reversed(compiled)
        if any(script.objects.are_same(origins(module, model), each) for each in trained)
    }
    order = {module: place for place, module in enumerate(script.modules)}
    models = list(found.values()) or compiled
    return sorted(models, key=lambda each: (order[each[0]], each[1].lineno))


def _how_to_scale(script: Script, module: Module, call: ast.Call, model: ast.expr) -> str:
    """Return the change that scales a model after a call of `compile`."""
    function, name = module.function(call), ast.unparse(model)
    if function is not None and script.returns_model(module, function):
        place = _place(script, module, function.lineno)
        return f"@candle.scalable above def {function.name}(...) on {place}"
    if name == "self":
        return "candle.scale(model) before fit"
    return f"candle.scale({name}) after {_place(script, module, call.end_lineno or call.lineno)}"


def _place(script: Script, module: Module, line: int) -> str:
    return f"line {line}" if module is script.main else f"{module.path}:{line}"


def _not_scaled(script: Script) -> Iterator[Finding]:
    """Yield the models that are trained beside scaled ones."""
    scaled = Scaled(script)
    compiled = list(script.method_calls("compile"))
    for module, fit, model in [] if script.auto else script.method_calls(*TRAINING):
        for origin in script.objects.origins(module, model):
            parts = script.objects.parts(origin)
            is_made_here = any(isinstance(e.node, ast.Call) and not e.path for e in parts)
            if not is_made_here or scaled.includes([origin]) or scaled.builds(module, fit):
                continue
            at = (module, fit, model)
            for owner, call, each in compiled:
                if script.objects.are_same(script.objects.origins(owner, each), [origin]):
                    at = (owner, call, each)
                    break
            words = {"model": ast.unparse(at[2]), "remedy": _how_to_scale(script, *at)}
            yield NOT_SCALED.at(at[0].path, at[1].lineno, **words)


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
