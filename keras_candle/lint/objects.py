"""Follow an expression of a script to the objects that it may be: the places that make them."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Iterator

from keras_candle.lint.names import Binding, Function, Module

Class = tuple[Module, ast.ClassDef]
_ADDS = ("add", "append", "appendleft", "insert")
_LONGEST_PATH = 6
_MOST_ORIGINS = 200
_UNCHANGED = ("keras_candle.scale", "keras_candle.decorator.scale")


@dataclasses.dataclass(frozen=True)
class Origin:
    """A place that makes an object, or brings one into the script.

    Attributes:
        module: its module.
        node: the call or literal that makes it, a parameter, or the module for a name that nothing
            in it binds.
        path: what is taken of it, step by step: ".name" an attribute, "[0]" an item, "[]" any.
    """

    module: Module
    node: ast.AST
    path: tuple[str, ...] = ()


Origins = frozenset[Origin]
_NONE: Origins = frozenset()


class Objects:
    """The objects of a script's expressions.

    Args:
        modules: the script's.
    """

    def __init__(self, modules: list[Module]) -> None:
        self._modules = modules
        self._methods: dict[str, list[tuple[Module, Function]]] = {}
        self._returned: dict[Function, list[ast.expr]] = {}
        self._calls: dict[Function, list[tuple[Module, ast.Call]]] | None = None
        self._assigned: dict[str, list[tuple[Module, ast.Attribute, ast.expr]]] = {}
        self._stored: list[tuple[Module, ast.expr, str, ast.expr]] = []
        self._families: dict[ast.ClassDef, list[Class]] = {}
        self._local: dict[ast.AST, Origins] = {}
        self._known: set[ast.AST] = set()
        self._visited: set[ast.AST] = set()
        self._stack: set[ast.AST] = set()
        self._count, self._is_cyclic = 0, False
        self._full: dict[ast.AST, Origins] = {}
        self._made: dict[Origin, Origins] = {}
        for module in modules:
            self._index(module)

    def _index(self, module: Module) -> None:
        for function in module.functions:
            self._returned[function] = []
            if isinstance(module.parents[function], ast.ClassDef):
                self._methods.setdefault(function.name, []).append((module, function))
        for node in module.nodes:
            if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) and node.value is not None:
                scope = module.function(node)
                if scope is not None:
                    self._returned[scope].append(node.value)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self._index_target(module, target, node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self._index_target(module, node.target, node.value)
            elif isinstance(node, ast.Call) and node.args:
                self._index_addition(module, node)

    def _index_addition(self, module: Module, call: ast.Call) -> None:
        if isinstance(call.func, ast.Attribute) and call.func.attr in _ADDS:
            self._stored.append((module, call.func.value, "", call.args[-1]))

    def _index_target(self, module: Module, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Attribute):
            self._assigned.setdefault(target.attr, []).append((module, target, value))
        elif isinstance(target, ast.Subscript):
            self._stored.append((module, target.value, ast.unparse(target.slice), value))

    def origins(self, module: Module, node: ast.AST) -> Origins:
        """Return the origins of an expression's object, with parameters followed to the callers."""
        if node not in self._full:
            local = self._origins(module, node)
            self._full[node] = frozenset(self._expanded(local))
        return self._full[node]

    def may_be(self, module: Module, node: ast.AST | None, value: object) -> bool:
        """Return whether an expression may be a literal of that value, also by an argument."""
        return node is not None and any(
            isinstance(each.node, ast.Constant) and not each.path and each.node.value is value
            for each in self.origins(module, node)
        )

    def parts(self, origin: Origin) -> Origins:
        """Return an origin with those in functions of the script that are the same object."""
        found = {origin}
        waiting = [origin]
        for each in waiting:  # grows as it goes
            inner = self._inner(each) - found
            waiting += inner
            found |= inner
        return frozenset(found)

    def _inner(self, origin: Origin) -> Origins:
        """Return what makes an object in the functions that its origin calls."""
        if origin not in self._made and origin.path:
            *path, step = origin.path
            owners = self._inner(dataclasses.replace(origin, path=tuple(path)))
            self._made[origin] = frozenset(self._with_path(owners, (step,)))
        return self._made.get(origin, _NONE)

    def are_same(self, first: Iterable[Origin], second: Iterable[Origin]) -> bool:
        """Return whether two expressions may be the same object."""
        return any(self._is_same(one, two) for one in first for two in second)

    def _is_same(self, one: Origin, two: Origin) -> bool:
        if two in self.parts(one) or one in self.parts(two):
            return True
        if one.path != two.path:
            return False
        classes = [self.class_of(dataclasses.replace(each, path=())) for each in (one, two)]
        is_self = isinstance(one.node, ast.arg) or isinstance(two.node, ast.arg)
        if not is_self or None in classes:
            return False
        return classes[0] in self.family(classes[1][1])  # type: ignore[index]

    def class_of(self, origin: Origin) -> Class | None:
        """Return the script's class of which an origin makes an instance; also that of `self`."""
        if origin.path:
            return None
        if isinstance(origin.node, ast.arg):
            return self._class_of_self(origin.module, origin.node)
        if isinstance(origin.node, ast.Call):
            return next(self.classes(origin.module, origin.node.func), None)
        return None

    def _class_of_self(self, module: Module, parameter: ast.arg) -> Class | None:
        function = module.function(parameter)
        owner = module.parents.get(function) if function else None
        if function is None or not isinstance(owner, ast.ClassDef):
            return None
        given = [*function.args.posonlyargs, *function.args.args]
        is_static = any(module.dotted(each) == "staticmethod" for each in function.decorator_list)
        return (module, owner) if given[:1] == [parameter] and not is_static else None

    def classes(self, module: Module, node: ast.AST) -> Iterator[Class]:
        """Yield the script's classes that an expression may name."""
        for owner, definition in self._definitions(module, node):
            if isinstance(definition, ast.ClassDef):
                yield owner, definition

    def family(self, owner: ast.ClassDef) -> list[Class]:
        """Return a class with its base classes and subclasses in the script."""
        if not self._families:
            self._families = self._related_classes()
        return self._families[owner]

    def bases(self, module: Module, owner: ast.ClassDef) -> list[Class]:
        """Return a class with all its base classes in the script."""
        found = [(module, owner)]
        for module_, each in found:  # grows as it goes
            above = [known for base in each.bases for known in self.classes(module_, base)]
            found += [known for known in above if known not in found]
        return found

    def _related_classes(self) -> dict[ast.ClassDef, list[Class]]:
        every = [(module, node) for module in self._modules for node in module.classes]
        above = {each: self.bases(*each) for each in every}
        below = {each: [inner for inner in every if each in above[inner]] for each in every}
        return {each[1]: list(dict.fromkeys([*above[each], *below[each]])) for each in every}

    def functions(self, module: Module, called: ast.expr) -> list[tuple[Module, Function]]:
        """Return the script's functions that a called expression may be."""
        found = [
            (owner, definition)
            for owner, definition in self._definitions(module, called)
            if isinstance(definition, Function)
        ]
        if found or not isinstance(called, ast.Attribute):
            return found
        methods = self._methods.get(called.attr, [])
        if not methods or module.is_imported(called):
            return []
        classes = {
            node
            for origin in self._origins(module, called.value)
            if (known := self.class_of(origin)) is not None
            for _, node in self.family(known[1])
        }
        return [each for each in methods if not classes or each[0].parents[each[1]] in classes]

    def _definitions(
        self, module: Module, node: ast.AST, depth: int = 4
    ) -> Iterator[tuple[Module, ast.AST]]:
        """Yield the functions and classes that an expression names."""
        if isinstance(node, ast.Name):
            for each in module.definitions(node):
                if isinstance(each.node, Function | ast.ClassDef):
                    yield module, each.node
                elif each.value is not None and not each.place and not each.iterates and depth:
                    yield from self._definitions(module, each.value, depth - 1)
        elif isinstance(node, ast.Call) and len(node.args) == 1 and depth:
            # tf.function(step), candle.scalable(build)
            yield from self._definitions(module, node.args[0], depth - 1)
        if isinstance(node, ast.Name | ast.Attribute) and module.is_imported(node):
            package, _, name = module.dotted(node).rpartition(".")
            for candidate in self._modules:
                if candidate is not module and candidate.is_named(package):
                    yield from ((candidate, each) for each in candidate.top_level(name))

    def returned(self, function: Function) -> list[ast.expr]:
        """Return the expressions that a function returns or yields."""
        return self._returned[function]

    def arguments(self, module: Module, parameter: ast.arg) -> Iterator[tuple[Module, ast.expr]]:
        """Yield what a parameter gets where the script calls its function, and its default."""
        function = module.function(parameter)
        if function is None:
            return
        for owner, call in self.calls_of(function):
            yield from self._argument(owner, call, module, function, parameter)
        default = _default(function, parameter)
        if default is not None:
            yield module, default

    def _argument(
        self, owner: Module, call: ast.Call, module: Module, function: Function, given: ast.arg
    ) -> Iterator[tuple[Module, ast.expr]]:
        """Yield the argument that one call gives a parameter."""
        by_name = [word.value for word in call.keywords if word.arg == given.arg]
        names = [*function.args.posonlyargs, *function.args.args]
        if by_name or given not in names:
            yield from ((owner, value) for value in by_name)
            return
        index = names.index(given) - (self._class_of_self(module, names[0]) is not None)
        before = call.args[: index + 1]
        if 0 <= index < len(call.args) and not any(isinstance(e, ast.Starred) for e in before):
            yield owner, call.args[index]

    def calls_of(self, function: Function) -> list[tuple[Module, ast.Call]]:
        """Return the script's calls of a function; of __init__, those of the class."""
        if self._calls is None:
            self._calls = {}
            for module in self._modules:
                for call in module.calls:
                    for _, called in self._called(module, call):
                        self._calls.setdefault(called, []).append((module, call))
        return self._calls.get(function, [])

    def _called(self, module: Module, call: ast.Call) -> Iterator[tuple[Module, Function]]:
        """Yield the functions that a call runs; of a class, its __init__."""
        yield from self.functions(module, call.func)
        for _, owner in self.classes(module, call.func):
            yield from self._init(owner)

    def _init(self, owner: ast.ClassDef) -> Iterator[tuple[Module, Function]]:
        methods = self._methods.get("__init__", [])
        for module, node in self.family(owner):
            yield from (each for each in methods if module.parents.get(each[1]) is node)

    def _origins(self, module: Module, node: ast.AST) -> Origins:
        """Return the origins of an expression's object, parameters among them."""
        if node in self._known or node in self._visited:
            self._is_cyclic |= node in self._stack
            return self._local.get(node, _NONE)
        if self._stack:
            return self._visit(module, node)
        # Of objects that are made from themselves, as in a loop: until nothing more is found.
        before = -1
        while before < self._count and (before < 0 or self._is_cyclic):
            before, self._is_cyclic = self._count, False
            self._visited.clear()
            self._visit(module, node)
        self._known |= self._visited
        return self._local[node]

    def _visit(self, module: Module, node: ast.AST) -> Origins:
        self._visited.add(node)
        self._stack.add(node)
        found = frozenset(self._find(module, node)) | self._local.get(node, _NONE)
        self._stack.remove(node)
        self._count += len(found) - len(self._local.get(node, _NONE))
        self._local[node] = found
        return found

    def _find(self, module: Module, node: ast.AST) -> Iterator[Origin]:
        imported = list(self._imported(module, node))
        if imported:
            for owner, binding, value in imported:
                yield from self._of_binding(owner, binding, value)
        elif isinstance(node, ast.Name):
            yield from self._of_name(module, node)
        elif isinstance(node, ast.Attribute):
            for origin in self._origins(module, node.value):
                yield from self._of_attribute(origin, node.attr)
        elif isinstance(node, ast.Subscript):
            for origin in self._origins(module, node.value):
                yield from self._of_item(origin, ast.unparse(node.slice))
        elif isinstance(node, ast.Call):
            yield from self._of_call(module, node)
        else:
            yield from self._of_either(module, node)

    def _of_either(self, module: Module, node: ast.AST) -> Iterator[Origin]:
        """Yield the origins of an expression that is one of its parts, or a literal."""
        parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else []
        parts += node.values if isinstance(node, ast.BoolOp) else []
        parts += [node.value] if isinstance(node, ast.NamedExpr | ast.Await | ast.Starred) else []
        for part in parts:
            yield from self._origins(module, part)
        if not parts:
            yield Origin(module, node)

    def _of_name(self, module: Module, name: ast.Name) -> Iterator[Origin]:
        definitions = module.definitions(name)
        if not definitions:
            yield Origin(module, module.tree, (name.id,))
        for each in definitions:
            if each.value is not None:
                yield from self._of_binding(module, each, each.value)
            else:
                yield Origin(module, each.node, (each.name,) if each.imported else ())

    def _imported(
        self, module: Module, node: ast.AST
    ) -> Iterator[tuple[Module, Binding, ast.expr]]:
        """Yield the bindings of a variable that another module of the script has."""
        if isinstance(node, ast.Name | ast.Attribute) and module.is_imported(node):
            package, _, name = module.dotted(node).rpartition(".")
            for candidate in self._modules:
                if candidate is not module and candidate.is_named(package):
                    for binding in candidate.variable(name):
                        if binding.value is not None:
                            yield candidate, binding, binding.value

    def _of_binding(self, module: Module, binding: Binding, value: ast.expr) -> Iterator[Origin]:
        found: Iterable[Origin] = self._origins(module, value)
        if binding.iterates:
            found = [item for each in found for item in self._of_item(each, "")]
        for index in binding.place:
            found = [item for each in found for item in self._of_item(each, str(index))]
        yield from found

    def _of_item(self, origin: Origin, key: str) -> Iterator[Origin]:
        """Yield the origins of an object's item; of any item where the key is ""."""
        found = [(origin.module, each) for each in _elements(origin, key)]
        for module, base, stored_at, value in self._stored:
            if key in (stored_at, "") or not stored_at:
                found += [(module, value)] if origin in self._origins(module, base) else []
        for module, value in found:
            yield from self._origins(module, value)
        if not found:
            yield from _part(origin, f"[{key}]")

    def _of_attribute(self, origin: Origin, name: str) -> Iterator[Origin]:
        """Yield the origins of an object's attribute: those that the script assigns to it."""
        known = self.class_of(origin)
        found = False
        for module, target, value in self._assigned.get(name, ()):
            if not self._assigns_to(module, target.value, origin, known):
                continue
            found = True
            for each in self._origins(module, value):
                yield from self._from_constructor(each, origin)
        if not found:
            yield from _part(origin, f".{name}")

    def _assigns_to(
        self, module: Module, target: ast.expr, origin: Origin, known: Class | None
    ) -> bool:
        owners = self._origins(module, target)
        if origin in owners:
            return True
        classes = [self.class_of(each) for each in owners if isinstance(each.node, ast.arg)]
        return known is not None and any(
            each in self.family(known[1]) for each in classes if each is not None
        )

    def _from_constructor(self, origin: Origin, instance: Origin) -> Iterator[Origin]:
        """Yield what a parameter of __init__ is in the call that made the instance."""
        function = origin.module.function(origin.node)
        is_parameter = isinstance(origin.node, ast.arg) and function is not None
        if is_parameter and function.name == "__init__" and isinstance(instance.node, ast.Call):  # type: ignore[union-attr]
            yield from self._in_call(instance.module, instance.node, origin)
        else:
            yield origin

    def _in_call(self, module: Module, call: ast.Call, origin: Origin) -> Iterator[Origin]:
        """Yield the origins of a function's parameter in one of its calls."""
        parameter, function = origin.node, origin.module.function(origin.node)
        given: list[tuple[Module, ast.expr]] = []
        if isinstance(parameter, ast.arg) and function is not None:
            given = list(self._argument(module, call, origin.module, function, parameter))
            default = _default(function, parameter)
            if not given and default is not None:
                given = [(origin.module, default)]
        for owner, value in given:
            yield from self._with_path(self._origins(owner, value), origin.path)
        if not given:
            yield origin

    def _with_path(self, origins: Iterable[Origin], path: tuple[str, ...]) -> Iterable[Origin]:
        """Return the origins at the end of a path from objects."""
        found = origins
        for step in path:
            if step.startswith("["):
                found = [part for each in found for part in self._of_item(each, step[1:-1])]
            else:
                found = [part for each in found for part in self._of_attribute(each, step[1:])]
        return found

    def _of_call(self, module: Module, call: ast.Call) -> Iterator[Origin]:
        if module.dotted(call.func) in _UNCHANGED and call.args:
            yield from self._origins(module, call.args[0])
            return
        made: set[Origin] = set()
        functions = self.functions(module, call.func)
        for owner, function in functions:
            for value in self._returned[function]:
                for each in self._origins(owner, value):
                    if isinstance(each.node, ast.arg) and owner.function(each.node) is function:
                        yield from self._in_call(module, call, each)
                    elif function in owner.ancestors(each.node):
                        made.add(each)
                    else:
                        yield each
        if made or not functions:
            origin = Origin(module, call)
            self._made[origin] = frozenset(made)
            yield origin

    def _expanded(self, origins: Origins) -> Iterator[Origin]:
        """Yield origins with each parameter replaced by its arguments in all calls."""
        waiting, seen = list(origins), set(origins)
        for origin in waiting:  # grows as it goes
            given: list[tuple[Module, ast.expr]] = []
            if isinstance(origin.node, ast.arg) and len(seen) < _MOST_ORIGINS:
                given = list(self.arguments(origin.module, origin.node))
            if not given:
                yield origin
            for module, value in given:
                found = self._with_path(self._origins(module, value), origin.path)
                new = [each for each in dict.fromkeys(found) if each not in seen]
                waiting += new
                seen.update(new)


def _part(origin: Origin, step: str) -> Iterator[Origin]:
    """Yield an attribute or item of an object; none at the end of a path that has no end."""
    if len(origin.path) < _LONGEST_PATH:  # node = node.next, in a loop
        yield dataclasses.replace(origin, path=(*origin.path, step))


def _elements(origin: Origin, key: str) -> list[ast.expr]:
    """Return an item of a list, tuple or dictionary that is written out; all for a key unknown."""
    node = origin.node
    if origin.path:
        return []
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
        return [node.elt]
    if isinstance(node, ast.DictComp):
        return [node.value]
    if isinstance(node, ast.Dict):
        keys = [ast.unparse(each) if each else "" for each in node.keys]
        return [node.values[keys.index(key)]] if key in keys else node.values
    elements: list[ast.expr] = getattr(node, "elts", [])
    if key.lstrip("-").isdigit() and -len(elements) <= int(key) < len(elements):
        return [elements[int(key)]]
    return elements


def _default(function: Function, parameter: ast.arg) -> ast.expr | None:
    arguments = function.args
    names = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(names) - len(arguments.defaults))
    pairs = [
        *zip(names, [*defaults, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return next((value for name, value in pairs if name is parameter), None)
