"""Python's scopes and the order of statements: which bindings a name may get its value from.

Branches are followed, not values: what either side of a test assigns reaches the line after it, an
assignment that always runs hides those before it, and what a loop assigns later reaches its next
turn. A name that a function takes from outside has the values that it has where the function is
used.
"""

from __future__ import annotations

import ast
import bisect
import dataclasses
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Scope = ast.Module | Function | ast.Lambda | ast.ClassDef | Comprehension
_LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_WITH = (ast.With, ast.AsyncWith)
_TRY = (ast.Try, ast.TryStar)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_HOLDERS = (ast.stmt, ast.ExceptHandler, ast.match_case)
# Parts of functions and classes that the scope around them evaluates.
_OUTSIDE: dict[type[ast.AST], tuple[str, ...]] = {
    ast.FunctionDef: ("decorator_list", "returns"),
    ast.AsyncFunctionDef: ("decorator_list", "returns"),
    ast.ClassDef: ("bases", "keywords", "decorator_list"),
    ast.arguments: ("defaults", "kw_defaults"),
    ast.arg: ("annotation",),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Binding:
    """A place in the source that gives a name its value.

    Attributes:
        name: the name.
        node: the name's node, or that of the import, definition, parameter, handler or pattern.
        value: the expression; None where the value is no expression of this scope.
        place: the positions in `value` that the name gets, as (1,) in `a, name = value`.
        iterates: whether it gets the elements of `value`, as in `for name in value`.
        imported: the full name of what is imported, else "".
        keeps: whether earlier values remain a part of it, as in `name += value`.
    """

    name: str
    node: ast.AST
    value: ast.expr | None = None
    place: tuple[int, ...] = ()
    iterates: bool = False
    imported: str = ""
    keeps: bool = False


class Scopes:
    """The bindings of a module.

    Args:
        tree: the module.
        parents: the parent of each node.
    """

    def __init__(self, tree: ast.Module, parents: dict[ast.AST, ast.AST]) -> None:
        self._tree, self._parents = tree, parents
        self._scope: dict[ast.AST, Scope] = {}
        self._declared: dict[tuple[Scope, str], Scope] = {}  # by global and nonlocal
        self._loads: dict[str, list[ast.Name]] = {}
        self._places: dict[ast.AST, _Place] = {}
        self._variables: dict[tuple[Scope, str], _Variable] = {}
        self._found: dict[ast.AST, list[Binding]] = {}
        nodes = list(self._walk())
        for node in nodes:
            self._declare(node)
        for node in nodes:
            self._bind(node)

    def of(self, node: ast.AST) -> Scope:
        """Return the scope that evaluates a node; for a definition, the scope around it."""
        return self._scope[node]

    def bindings(self, name: ast.Name) -> list[Binding]:
        """Return the bindings from which a name may have its value where it is read."""
        if name not in self._found:
            variable = self._variable(self._scope[name], name.id)
            self._found[name] = variable.bindings if variable else []
            if variable:
                self._found[name] = self._seen_from(name, variable, set())
        return self._found[name]

    def of_module(self, name: str) -> list[Binding]:
        """Return all bindings of a variable of the module itself."""
        variable = self._variables.get((self._tree, name))
        return variable.bindings if variable else []

    def _walk(self) -> Iterator[ast.AST]:
        """Yield all nodes, and record the scope and the block of each."""
        waiting: list[tuple[ast.AST, Scope]] = [(self._tree, self._tree)]
        for node, scope in waiting:  # grows as it goes
            self._scope[node] = scope
            yield node
            for field, value in ast.iter_fields(node):
                inner = self._scope_of_part(node, field, scope)
                for index, child in enumerate(value if isinstance(value, list) else [value]):
                    if isinstance(child, ast.AST) and child._fields:
                        waiting.append((child, inner))
                        if field in _BLOCKS and isinstance(value, list):
                            self._places[child] = (node, field, index)

    def _scope_of_part(self, node: ast.AST, field: str, scope: Scope) -> Scope:
        if field in _OUTSIDE.get(type(node), ()):
            return scope if isinstance(node, Scope) else self._scope[scope]
        if field == "iter" and isinstance(scope, Comprehension) and node is scope.generators[0]:
            return self._scope[scope]
        return node if isinstance(node, Scope) else scope

    def _declare(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self._loads.setdefault(node.id, []).append(node)
        elif isinstance(node, ast.Global):
            scope = self._scope[node]
            self._declared.update({(scope, name): self._tree for name in node.names})
        elif isinstance(node, ast.Nonlocal):
            scope = outer = self._scope[node]
            while outer is scope or not isinstance(outer, Function | ast.Module):
                outer = self._scope[outer]
            self._declared.update({(scope, name): outer for name in node.names})

    def _bind(self, node: ast.AST) -> None:
        for binding in _bindings_of(node):
            here = self._scope[binding.node]
            while isinstance(node, ast.NamedExpr) and isinstance(here, Comprehension):
                here = self._scope[here]
            scope = self._declared.get((here, binding.name), here)
            key = (scope, binding.name)
            if key not in self._variables:
                self._variables[key] = _Variable(scope, self._parents, self._places)
            self._variables[key].add(binding, is_local=scope is here)

    def _variable(self, scope: Scope, name: str) -> _Variable | None:
        """Return the variable that a name means in a scope, None where no scope binds it."""
        here = scope
        while True:
            owner = self._declared.get((here, name), here)
            if here is scope or not isinstance(here, ast.ClassDef):
                found = self._variables.get((owner, name))
                if found is not None:
                    return found
            if here is self._tree:
                return None
            here = self._scope[here]

    def _seen_from(
        self, node: ast.AST, variable: _Variable, visited: set[ast.AST]
    ) -> list[Binding]:
        """Return the bindings of a variable that reach a node of its scope or further inside."""
        scope = self._scope[node]
        if scope is variable.scope or len(variable.bindings) == 1:
            return variable.reaching(node) if scope is variable.scope else variable.bindings
        if isinstance(scope, Comprehension):
            return self._seen_from(scope, variable, visited)
        found: list[Binding] = []
        if isinstance(scope, Function) and scope not in visited:
            visited.add(scope)
            for use in self._uses(scope, variable.scope):
                found += self._seen_from(use, variable, visited)
        return list(dict.fromkeys(found)) or variable.bindings

    def _uses(self, function: Function, inside: Scope) -> Iterator[ast.Name]:
        """Yield the names inside of a scope that may mean a function."""
        for name in self._loads.get(function.name, []):
            within = inside is self._tree or inside in self._around(name)
            if within and any(each.node is function for each in self.bindings(name)):
                yield name

    def _around(self, node: ast.AST) -> Iterator[Scope]:
        scope = self._scope[node]
        while scope is not self._tree:
            yield scope
            scope = self._scope[scope]


_Place = tuple[ast.AST, str, int]


class _Variable:
    """The bindings of a scope's variable, by the statements that hold them.

    Args:
        scope: the scope.
        parents: the parent of each node.
        places: of each statement its parent, the parent's field and the index in it.
    """

    def __init__(
        self, scope: Scope, parents: dict[ast.AST, ast.AST], places: dict[ast.AST, _Place]
    ) -> None:
        self.scope = scope
        self.bindings: list[Binding] = []
        self._parents, self._places = parents, places
        self._at_start: list[Binding] = []  # parameters
        self._at_any_time: list[Binding] = []  # what inner functions assign
        self._own: dict[ast.AST, list[Binding]] = {}
        self._inside: dict[ast.AST, list[Binding]] = {}
        self._blocks: dict[tuple[ast.AST, str], dict[int, ast.AST]] = {}

    def add(self, binding: Binding, *, is_local: bool) -> None:
        """Add a binding, in the order of the source."""
        self.bindings.append(binding)
        node = binding.node
        while not isinstance(node, _HOLDERS):
            node = self._parents[node]
        if not is_local:
            self._at_any_time.append(binding)
            return
        if node is self.scope or not isinstance(self.scope, _ORDERED):
            self._at_start.append(binding)
            return
        self._own.setdefault(node, []).append(binding)
        while node is not self.scope:
            self._inside.setdefault(node, []).append(binding)
            if node in self._places:
                parent, field, index = self._places[node]
                self._blocks.setdefault((parent, field), {})[index] = node
            node = self._parents[node]

    def reaching(self, use: ast.AST) -> list[Binding]:
        """Return the bindings that may hold where a node of the scope is evaluated."""
        found = list(self._at_any_time)
        node = use
        while node is not self.scope:
            if self._in_statement(node, use, found) or self._earlier_in_block(node, found):
                break
            child, node = node, self._parents[node]
            if self._from_parent(node, child, found):
                break
        else:
            found += self._at_start
        return list(dict.fromkeys(found)) or self.bindings

    def _in_statement(self, node: ast.AST, use: ast.AST, found: list[Binding]) -> bool:
        """Add what `with` and `:=` have assigned before the use in the same statement."""
        earlier = [
            each
            for each in self._own.get(node, ())
            if isinstance(node, _WITH) or isinstance(self._parents[each.node], ast.NamedExpr)
            if position(each.node) < position(use)
        ]
        found += earlier
        return bool(earlier)

    def _earlier_in_block(self, node: ast.AST, found: list[Binding]) -> bool:
        """Add what the statements before a node leave; return whether one always assigns."""
        if node not in self._places:
            return False
        parent, field, index = self._places[node]
        return field not in ("handlers", "cases") and self._leaves(parent, field, index, found)

    def _leaves(self, parent: ast.AST, field: str, end: int, found: list[Binding]) -> bool:
        statements = self._blocks.get((parent, field), {})
        places = sorted(statements)
        for place in reversed(places[: bisect.bisect_left(places, end)]):
            found += self._at_end(statements[place])
            if self._assigns(statements[place]):
                return True
        return False

    def _from_parent(self, parent: ast.AST, child: ast.AST, found: list[Binding]) -> bool:
        """Add what a compound statement gives its blocks; return whether it always assigns."""
        _, field, _ = self._places.get(child, (parent, "", 0))
        if not field or isinstance(parent, Function | ast.ClassDef):
            return False
        if parent in self._own:
            found += self._own[parent]
            return True
        if isinstance(parent, _LOOPS) and field == "body":
            found += self._of_blocks(parent, "body")
        elif isinstance(parent, _TRY):
            before = {"handlers": ("body",), "orelse": ("body",), "finalbody": _BLOCKS}
            found += self._of_blocks(parent, *before.get(field, ()))
        return False

    def _of_blocks(self, parent: ast.AST, *fields: str) -> list[Binding]:
        return [
            binding
            for field in fields
            for statement in self._blocks.get((parent, field), {}).values()
            for binding in self._inside[statement]
        ]

    def _at_end(self, statement: ast.AST) -> list[Binding]:
        """Return the bindings in a statement that may hold after it."""
        if not isinstance(statement, (ast.If, *_WITH)):
            return self._inside[statement]
        found: list[Binding] = []
        fields = ("body", "orelse") if isinstance(statement, ast.If) else ("body",)
        blocks = {field: getattr(statement, field) for field in fields}
        always = [
            _ends(block) or self._leaves(statement, field, len(block), found)
            for field, block in blocks.items()
        ]
        return found if all(always) else found + self._own.get(statement, [])

    def _assigns(self, statement: ast.AST) -> bool:
        """Return whether a statement of the block assigns whenever it runs to its end."""
        if statement not in self._inside or isinstance(statement, _LOOPS):
            return False
        if any(not each.keeps for each in self._own.get(statement, ())):
            return True
        if isinstance(statement, ast.If):
            return all(map(self._always, (statement.body, statement.orelse)))
        if isinstance(statement, _WITH):
            return self._always(statement.body)
        if isinstance(statement, _TRY):
            handled = all(self._always(each.body) for each in statement.handlers)
            whole = handled and self._always(statement.body + statement.orelse)
            return whole or self._always(statement.finalbody)
        return False

    def _always(self, block: list[ast.stmt]) -> bool:
        return _ends(block) or any(map(self._assigns, block))


_ORDERED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _ends(block: list[ast.stmt]) -> bool:
    """Return whether nothing runs after a block, as after a return."""
    return bool(block) and isinstance(block[-1], _LEAVES)


def position(node: ast.AST) -> tuple[int, int]:
    """Return a node's line and column."""
    return (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))


def _bindings_of(node: ast.AST) -> Iterator[Binding]:
    """Yield what a node binds itself, without the nodes inside of it."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _of_target(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value:
        yield from _of_target(node.target, node.value)
    elif isinstance(node, ast.AugAssign):
        yield from _of_target(node.target, node.value, keeps=True)
    elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        yield from _of_target(node.target, node.iter, iterates=True)
    elif isinstance(node, ast.withitem) and node.optional_vars:
        yield from _of_target(node.optional_vars, node.context_expr)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from _of_import(node)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
        yield Binding(node.id, node)
    elif isinstance(node, ast.arg):
        yield Binding(node.arg, node)
    else:
        name = getattr(node, "rest" if isinstance(node, ast.MatchMapping) else "name", None)
        if isinstance(name, str) and isinstance(node, _NAMED):
            yield Binding(name, node)


_NAMED = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler),
    *(ast.MatchAs, ast.MatchStar, ast.MatchMapping),
)


def _of_target(
    target: ast.expr,
    value: ast.expr,
    place: tuple[int, ...] = (),
    *,
    iterates: bool = False,
    keeps: bool = False,
) -> Iterator[Binding]:
    if isinstance(target, ast.Name):
        yield Binding(target.id, target, value, place, iterates, keeps=keeps)
    elif isinstance(target, ast.Starred):
        yield from _of_target(target.value, value, place, iterates=iterates)
    elif isinstance(target, ast.Tuple | ast.List):
        parts = _parts(value, len(target.elts)) if not iterates else None
        for index, each in enumerate(target.elts):
            if parts is not None:
                yield from _of_target(each, parts[index])
            else:
                yield from _of_target(each, value, (*place, index), iterates=iterates)


def _parts(value: ast.expr, count: int) -> list[ast.expr] | None:
    """Return the values of `a, b = 1, 2` one by one; None where they are not written out."""
    if not isinstance(value, ast.Tuple | ast.List) or len(value.elts) != count:
        return None
    return None if any(isinstance(each, ast.Starred) for each in value.elts) else value.elts


def _of_import(node: ast.Import | ast.ImportFrom) -> Iterator[Binding]:
    for alias in node.names:
        name = alias.asname or alias.name.partition(".")[0]
        full = alias.name if alias.asname else name
        if isinstance(node, ast.ImportFrom):
            name = alias.asname or alias.name
            full = f"{node.module or ''}.{alias.name}".strip(".")
        yield Binding(name, node, imported=full)
