"""A script with the modules that it imports from its folder, its Keras models and data flow."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from keras_candle.lint.names import Function, Module, parse
from keras_candle.lint.rank_branches import Ranks

_MOST_MODULES = 60
_MODELS = (
    "keras.Sequential",
    "keras.Model",
    "keras.applications.",
    "keras.models.",
    "keras.saving.load_model",
    "keras_candle.scale",
)
_NOT_MODELS = ("re.compile", "jax.", "numba.", "torch.")
TRAINING = ("fit", "fit_generator", "train_on_batch")
EVALUATION = ("evaluate", "evaluate_generator", "test_on_batch")
_DATA = ("x", "y", "generator", "sample_weight", "validation_data")
_FURTHEST = 4000


class Script:
    """The modules of a script, with its models, callbacks and builders.

    Args:
        modules: the script's own file first.
    """

    def __init__(self, modules: list[Module]) -> None:
        self.modules = modules
        self.main = modules[0]
        self.ranks = Ranks(modules)
        self._model_classes = self._subclasses(("keras.Model", "keras.Sequential"))
        self._callback_classes = self._subclasses(("keras.callbacks.",))
        self._model_names: set[str] = set()
        self._builders: set[str] = set()
        while self._find_models():
            pass

    def calls(self) -> Iterator[tuple[Module, ast.Call, str]]:
        """Yield every call with its module and the full name of its function."""
        for module in self.modules:
            for call in module.calls:
                yield module, call, module.dotted(call.func)

    def functions(self) -> Iterator[tuple[Module, Function]]:
        """Yield every function and method with its module."""
        for module in self.modules:
            for function in module.functions:
                yield module, function

    def method_calls(self, *names: str) -> Iterator[tuple[Module, ast.Call, ast.expr]]:
        """Yield the calls of these methods on models, with the model's expression."""
        for module in self.modules:
            for call in module.calls:
                function = call.func
                named = isinstance(function, ast.Attribute) and function.attr in names
                if named and self.is_model(module, function.value):  # type: ignore[attr-defined]
                    yield module, call, function.value  # type: ignore[attr-defined]

    def line(self, path: str, number: int) -> str:
        """Return a line's text, without indentation and a final colon."""
        lines = next((each.lines for each in self.modules if each.path == path), [])
        return lines[number - 1].strip().rstrip(":") if 0 < number <= len(lines) else "the line"

    def is_model(self, module: Module, node: ast.expr) -> bool:
        """Return whether an expression is a Keras model, judged from the source."""
        if isinstance(node, ast.Call):
            return self._makes_model(module, node)
        text = ast.unparse(node)
        if text == "self.model":
            return any(each in self._callback_classes for each in _classes_around(module, node))
        if text == "self":
            return any(each in self._model_classes for each in _classes_around(module, node))
        return text in self._model_names

    def model_classes(self) -> Iterator[tuple[Module, ast.ClassDef]]:
        """Yield the script's own subclasses of keras.Model."""
        return self._classes(self._model_classes)

    def callback_classes(self) -> Iterator[tuple[Module, ast.ClassDef]]:
        """Yield the script's own callback classes."""
        return self._classes(self._callback_classes)

    def is_builder(self, name: str) -> bool:
        """Return whether a function of that name returns a model."""
        return name in self._builders

    def _classes(self, wanted: set[ast.ClassDef]) -> Iterator[tuple[Module, ast.ClassDef]]:
        for module in self.modules:
            yield from ((module, node) for node in module.classes if node in wanted)

    def _subclasses(self, bases: tuple[str, ...]) -> set[ast.ClassDef]:
        every = [(module, node) for module in self.modules for node in module.classes]
        found: set[ast.ClassDef] = set()
        before = -1
        while len(found) > before:
            before = len(found)
            names = {node.name for node in found}
            for module, node in every:
                dotted = [module.dotted(base) for base in node.bases]
                if any(_is_one(name, bases) or name.split(".")[-1] in names for name in dotted):
                    found.add(node)
        return found

    def _find_models(self) -> bool:
        """Search once more, as builders may call builders; return whether any were found."""
        before = (len(self._model_names), len(self._builders))
        for module in self.modules:
            for node in module.nodes:
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        self._model_names.update(self._models_of(module, target, node.value))
                elif isinstance(node, ast.Call) and self._compiles(module, node):
                    self._model_names.add(ast.unparse(node.func.value))  # type: ignore[attr-defined]
                elif isinstance(node, ast.Return) and node.value is not None:
                    self._builders.update(self._built(module, node))
        self._model_names.discard("self")
        return before != (len(self._model_names), len(self._builders))

    def _models_of(self, module: Module, target: ast.expr, value: ast.expr) -> Iterator[str]:
        """Yield the assignment targets that are models: model, or the first of model, history."""
        if self._makes_model(module, value):
            yield ast.unparse(target)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Call):
            name = module.dotted(value.func).split(".")[-1]
            for place, each in enumerate(target.elts):
                if f"{name}[{place}]" in self._builders:
                    yield ast.unparse(each)

    def _built(self, module: Module, node: ast.Return) -> Iterator[str]:
        """Yield the function's name if it returns a model, name[i] if the tuple's item i is one."""
        function = module.function(node)
        if function is None or node.value is None:
            return
        if self.is_model(module, node.value):
            yield function.name
        elif isinstance(node.value, ast.Tuple):
            for place, each in enumerate(node.value.elts):
                if self.is_model(module, each):
                    yield f"{function.name}[{place}]"

    def _makes_model(self, module: Module, value: ast.expr) -> bool:
        if not isinstance(value, ast.Call):
            return False
        name = module.dotted(value.func)
        last = name.split(".")[-1]
        own = {node.name for node in self._model_classes} | self._builders
        return _is_one(name, _MODELS) or last in own

    def _compiles(self, module: Module, call: ast.Call) -> bool:
        function = call.func
        if not isinstance(function, ast.Attribute) or function.attr != "compile":
            return False
        if _is_one(module.dotted(function), _NOT_MODELS):
            return False
        given = {keyword.arg for keyword in call.keywords}
        return bool(call.args) or bool(given & {"optimizer", "loss", "metrics"})


def _is_one(name: str, names: tuple[str, ...]) -> bool:
    return any(name == each or (each.endswith(".") and name.startswith(each)) for each in names)


def _classes_around(module: Module, node: ast.AST) -> Iterator[ast.AST]:
    return (each for each in module.ancestors(node) if isinstance(each, ast.ClassDef))


def load(path: str) -> Script:
    """Read a script, and the modules that it imports from its own folder.

    Args:
        path: the script's.

    Raises:
        SyntaxError: the script, or such a module, is not valid Python.
        OSError: it cannot be read.
    """
    main = Path(os.path.realpath(path))
    modules = [parse(main, shown(main))]
    seen = {main}
    for module in modules:  # grows as it goes
        for name in sorted(module.imported_modules()):
            for file in _files(main.parent, name):
                if file not in seen and len(modules) < _MOST_MODULES:
                    seen.add(file)
                    modules.append(parse(file, shown(file)))
    return Script(modules)


def shown(path: str | Path) -> str:
    """Return a path for display: relative to the working directory if below it, else absolute."""
    real = os.path.realpath(path)
    relative = os.path.relpath(real)
    return real if relative.startswith(os.pardir) else relative


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files that importing a name reads: the packages' and the module's own."""
    place = folder
    for part in name.split("."):
        place = place / part
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file


class Flow:
    """Follow expressions of a script to the calls that make their values.

    Args:
        script: the script.
    """

    def __init__(self, script: Script) -> None:
        self._functions: dict[str, list[tuple[Module, Function]]] = {}
        for module, function in script.functions():
            self._functions.setdefault(function.name, []).append((module, function))
        self._callers: dict[str, list[tuple[Module, ast.Call]]] = {}
        # x of random.shuffle(x), where nothing is assigned
        self._changed: dict[tuple[str, str], list[ast.Call]] = {}
        for module, call, dotted in script.calls():
            self._callers.setdefault(dotted.split(".")[-1], []).append((module, call))
            if dotted in ("random.shuffle", "numpy.random.shuffle") and call.args:
                key = (module.path, ast.unparse(call.args[0]))
                self._changed.setdefault(key, []).append(call)

    def sources(self, module: Module, expression: ast.AST) -> Iterator[tuple[Module, ast.Call]]:
        """Yield the calls that an expression's value may come from."""
        for owner, node in self.nodes(module, expression):
            if isinstance(node, ast.Call):
                yield owner, node

    def nodes(self, module: Module, expression: ast.AST) -> Iterator[tuple[Module, ast.AST]]:
        """Yield the expressions, with their parts, that an expression's value may come from."""
        waiting = [(module, expression)]
        seen = {id(expression)}
        for module_, node in waiting:  # grows as it goes
            for each in ast.walk(node):
                yield module_, each
                for further in self._before(module_, each):
                    if id(further[1]) not in seen and len(seen) < _FURTHEST:
                        seen.add(id(further[1]))
                        waiting.append(further)

    def _before(self, module: Module, node: ast.AST) -> Iterator[tuple[Module, ast.AST]]:
        if isinstance(node, ast.Call):
            for owner, function in self._functions.get(_name(node.func), []):
                yield from ((owner, value) for value in _returned(owner, function))
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            for call in self._changed.get((module.path, ast.unparse(node)), []):
                yield module, call
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            values = module.bound(node)
            yield from ((module, value) for value in values)
            if not values:
                yield from self._given(module, node)

    def _given(self, module: Module, name: ast.Name) -> Iterator[tuple[Module, ast.AST]]:
        """Yield the arguments that a parameter gets where its function is called."""
        function = module.function(name)
        if function is None:
            return
        names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        if name.id not in names:
            return
        position = names.index(name.id) - (names[0] in ("self", "cls"))
        for owner, call in self._callers.get(function.name, []):
            by_name = [word.value for word in call.keywords if word.arg == name.id]
            by_place = call.args[position : position + 1] if position >= 0 else []
            yield from ((owner, value) for value in by_name or by_place)


def data_of(call: ast.Call) -> list[ast.expr]:
    """Return the data arguments of a call of fit or train_on_batch."""
    by_name = [word.value for word in call.keywords if word.arg in _DATA]
    return [*call.args[:2], *by_name]


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _returned(module: Module, function: Function) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        gives = isinstance(node, ast.Return | ast.Yield) and module.function(node) is function
        value = getattr(node, "value", None) if gives else None
        if value is not None:
            yield value
