"""Findings about losses over pairs of rows, or of more rows of a batch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from keras_candle.lint.batch_values import (
    Entry,
    StepFunction,
    calls_in,
    last_name,
    parameters,
    reached_from,
    step_functions,
    values_in,
)
from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.finding import ERROR, WARNING, Finding, FindingKind
from keras_candle.lint.names import Function, Module, argument, constant
from keras_candle.lint.script import Script

IN_STEP = FindingKind(
    "loss-over-pairs",
    WARNING,
    "{text} combines the rows of a batch with each other",
    "the step of a rank sees its own rows only: no row is combined with those of other ranks",
    "gather before it what goes into the loss, {gathered}; take the number of rows from "
    "tf.shape({rows})[0]",
)
IN_STEP_GLOBAL = FindingKind(
    "loss-over-divided-pairs",
    ERROR,
    "{text} combines the rows of a batch with each other",
    'with batch="global" a rank has 1/N of the rows: the pairs of rows on two ranks are missing '
    "from the loss",
    IN_STEP.remedy,
)
COMPILED = FindingKind(
    "compiled-loss-over-pairs",
    WARNING,
    "the compiled loss {name} combines the rows of a batch with each other: {text}",
    'with batch="replica" each rank combines its own rows only',
    "@candle.scalable(exact_loss=True), which computes it from the rows of all ranks",
)
KINDS = (IN_STEP, IN_STEP_GLOBAL, COMPILED)

_PRODUCTS = ("matmul", "dot", "inner")
_TRANSPOSES = ("transpose", "matrix_transpose", "swapaxes")
_MINING = (
    "tensorflow_addons.losses.Triplet",
    "tensorflow_addons.losses.triplet_",
    "tensorflow_addons.losses.npairs",
    "tensorflow_addons.losses.NPairs",
    "tensorflow_addons.losses.LiftedStruct",
    "tensorflow_addons.losses.lifted_struct",
    "tensorflow_similarity.losses.",
    "keras_cv.losses.SimCLRLoss",
)
# What is done with a matrix of all pairs of rows, and hardly with other matrices.
_OF_PAIRS = (
    *("diag_part", "set_diag", "diagonal", "npairs_loss", "logsumexp", "reduce_logsumexp"),
    *("sparse_categorical_crossentropy", "categorical_crossentropy"),
    *("SparseCategoricalCrossentropy", "CategoricalCrossentropy"),
    *("sparse_softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits"),
)
_NUMBERED = ("eye", "range", "arange")
_LOSS_METHODS = ("call", "__call__")


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    options = candle_options(script)
    if options.has("shard", False):
        return
    steps = [each for each in step_functions(script, "model", "layer") if _has_loss(each)]
    seen: set[Function] = set()
    for step in steps:
        for node in _pairs(step):
            seen.add(step.node)
            kind = IN_STEP_GLOBAL if options.has("batch", "global") else IN_STEP
            rows = list(dict.fromkeys(ast.unparse(_rows(side)) for side in _sides(node)))
            calls = ", ".join(f"candle.gather_rows({each})" for each in rows)
            words = {"gathered": f"{', '.join(rows)} = {calls}", "rows": rows[0]}
            yield kind.at(step.module.path, node.lineno, text=ast.unparse(node), **words)
    if not options.has("batch", "global") and not options.has("exact_loss", True):
        yield from _compiled(script, seen)


def _has_loss(step: StepFunction) -> bool:
    """Return whether a function computes a loss itself; of those that `call` runs some do."""
    if step.entry.name != "call":
        return True
    return any(last_name(call.func) == "add_loss" for call in calls_in(step.node))


def _compiled(script: Script, seen: set[Function]) -> Iterator[Finding]:
    for module, call, _ in script.method_calls("compile"):
        loss = argument(call, "loss", 1)
        if loss is None:
            continue
        for each in calls_in(loss):
            if module.dotted(each.func).startswith(_MINING):
                text = ast.unparse(each)
                name = last_name(each.func)
                yield COMPILED.at(module.path, each.lineno, name=name, text=text)
        for owner, function, name in _loss_functions(script, module, loss):
            start = StepFunction(owner, function, Entry(owner, None, name), parameters(function))
            for step in reached_from(script, [start]):
                for node in _pairs(step) or _quotients(step):
                    if step.node not in seen:
                        text = ast.unparse(node)
                        yield COMPILED.at(step.module.path, node.lineno, name=name, text=text)


def _loss_functions(
    script: Script, module: Module, loss: ast.expr
) -> Iterator[tuple[Module, Function, str]]:
    """Yield the script's functions that a compiled loss runs: also a class's call."""
    for each in _alternatives(loss):
        called = each.func if isinstance(each, ast.Call) else each
        for owner, function in script.objects.functions(module, called):
            inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef)]
            for made in inner if isinstance(each, ast.Call) else [function]:
                yield owner, made, function.name
        for origin in script.objects.origins(module, each):
            known = script.objects.class_of(origin)
            for owner, base in script.objects.bases(*known) if known else ():
                for method in base.body:
                    if isinstance(method, ast.FunctionDef) and method.name in _LOSS_METHODS:
                        yield owner, method, base.name


def _alternatives(loss: ast.expr) -> list[ast.expr]:
    """Return the losses in a list or dict of losses, else the loss."""
    if isinstance(loss, ast.List | ast.Tuple):
        return loss.elts
    return loss.values if isinstance(loss, ast.Dict) else [loss]


def _pairs(step: StepFunction) -> list[ast.expr]:
    """Return the first place of a function that combines rows, as a list of at most one."""
    found = [node for node in ast.walk(step.node) if isinstance(node, ast.expr)]
    products = [each for each in found if _is_product(step, each) and _is_of_pairs(step, each)]
    further = [each for each in found if _is_mask(step, each) or _mines(step, each)]
    return sorted(products or further, key=lambda each: each.lineno)[:1]


def _quotients(step: StepFunction) -> Sequence[ast.expr]:
    """Return the first quotient of sums over the batch, as of a Dice loss or a masked mean."""

    def sums(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Call)
            and last_name(node.func) in ("sum", "reduce_sum")
            and argument(node, "axis", 1) is None
            and any(map(step.holds_batch, node.args))
        )

    return [
        node
        for node in ast.walk(step.node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if all(step.comes_from(side, sums, values_in) for side in (node.left, node.right))
    ][:1]


def _mines(step: StepFunction, node: ast.expr) -> bool:
    """Return whether a node calls a loss of a package that chooses pairs from the batch."""
    if not isinstance(node, ast.Call) or not any(map(step.holds_batch, node.args)):
        return False
    return step.module.dotted(node.func).startswith(_MINING)


def _rows(side: ast.expr) -> ast.expr:
    """Return the tensor of rows in a side of a matrix of pairs."""
    while True:
        if isinstance(side, ast.Call) and side.args:
            side = side.args[0]
        elif isinstance(side, ast.List | ast.Tuple) and side.elts:
            side = side.elts[0]
        elif isinstance(side, ast.Subscript) or (
            isinstance(side, ast.Attribute) and side.attr == "T"
        ):
            side = side.value
        else:
            return side


def _sides(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.Compare) and len(node.comparators) == 1:
        return [node.left, *node.comparators]
    return node.args[:2] if isinstance(node, ast.Call) and len(node.args) > 1 else []


def _is_mask(step: StepFunction, node: ast.AST) -> bool:
    """Return whether a node compares or subtracts rows at two axes, as x[:, None] - x[None, :]."""
    operators = ast.Sub | ast.Eq | ast.NotEq
    is_one = (isinstance(node, ast.BinOp) and isinstance(node.op, operators)) or (
        isinstance(node, ast.Compare) and isinstance(node.ops[0], operators)
    )
    if isinstance(node, ast.Call):
        is_one = last_name(node.func) in ("equal", "not_equal", "subtract")
    sides = _sides(node) if is_one else []
    if len(sides) < 2 or not all(map(step.holds_batch, sides)):
        return False
    axes = [_new_axis(each) for each in sides]
    if set(axes) == {0, 1}:
        return True
    # labels == tf.transpose(labels)
    turned = [each for each in sides if _is_transposed(step.module, each)]
    return len(turned) == 1 and len({ast.unparse(_rows(each)) for each in sides}) == 1


def _new_axis(node: ast.expr) -> int | None:
    """Return the place of the axis that an expression adds, None where it adds none."""
    if isinstance(node, ast.Call) and last_name(node.func) == "expand_dims":
        place = constant(argument(node, "axis", 1))
        return place if isinstance(place, int) else None
    if not isinstance(node, ast.Subscript):
        return None
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    new = [place for place, each in enumerate(items) if _is_new_axis(each)]
    return new[0] if len(new) == 1 else None


def _is_new_axis(node: ast.expr) -> bool:
    is_none = isinstance(node, ast.Constant) and node.value is None
    return is_none or last_name(node) == "newaxis"


def _is_product(step: StepFunction, node: ast.AST) -> bool:
    """Return whether a node multiplies rows of the batch with the transpose of such."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        turned = _is_transposed(step.module, node.right) or _is_transposed(step.module, node.left)
    elif isinstance(node, ast.Call) and last_name(node.func) in _PRODUCTS:
        given = [argument(node, f"transpose_{side}") for side in "ab"]
        turned = any(constant(each) is True for each in given) or any(
            _is_transposed(step.module, each) for each in node.args[:2]
        )
    elif isinstance(node, ast.Call) and last_name(node.func) == "einsum":
        return _is_einsum(step, node)
    else:
        return False
    return turned and all(map(step.holds_batch, _sides(node)))


def _is_einsum(step: StepFunction, call: ast.Call) -> bool:
    """Return whether a sum has the form "ae,pe->ap": two matrices, the product over columns."""
    given = constant(call.args[0]) if call.args else None
    if not isinstance(given, str) or len(call.args) != 3:
        return False
    inputs, _, output = given.replace(" ", "").partition("->")
    one, _, two = inputs.partition(",")
    is_one = len(one) == len(two) == len(output) == 2 and one[1] == two[1]
    return is_one and output == one[0] + two[0] and all(map(step.holds_batch, call.args[1:]))


def _is_transposed(module: Module, node: ast.expr) -> bool:
    """Return whether an expression is the transpose of a matrix."""
    values = [node, *(module.bound(node) if isinstance(node, ast.Name) else [])]
    for each in values:
        if isinstance(each, ast.Attribute) and each.attr == "T":
            return True
        if isinstance(each, ast.Call) and last_name(each.func) in _TRANSPOSES:
            axes = argument(each, "perm", 1) or argument(each, "axes", 1)
            return axes is None or ast.unparse(axes) in ("[1, 0]", "(1, 0)")
    return False


def _is_of_pairs(step: StepFunction, product: ast.AST) -> bool:
    """Return whether a product's use shows that its rows and columns are rows of the batch."""

    def holds(node: ast.AST) -> bool:
        return step.comes_from(node, lambda each: each is product, _elementwise)

    calls = calls_in(step.node)
    if any(_is_use_of_pairs(call) and any(map(holds, _arguments(call))) for call in calls):
        return True
    used = [each.value for each in ast.walk(step.node) if isinstance(each, ast.Return | ast.Assign)]
    numbered = any(last_name(call.func) in _NUMBERED for call in calls)
    return numbered and any(value is not None and holds(value) for value in used)


def _is_use_of_pairs(call: ast.Call) -> bool:
    made = call.func.func if isinstance(call.func, ast.Call) else call.func
    return last_name(made) in _OF_PAIRS or "loss" in last_name(made).lower()


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(word.value for word in call.keywords)]


_ELEMENTWISE = ("divide", "multiply", "exp", "cast", "subtract", "add", "maximum", "concat")


def _elementwise(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of an expression of which each number goes into a number of its value."""
    waiting = [node]
    for each in waiting:  # grows as it goes
        yield each
        if isinstance(each, ast.BinOp | ast.UnaryOp | ast.List | ast.Tuple):
            waiting += ast.iter_child_nodes(each)
        elif isinstance(each, ast.Call) and last_name(each.func) in (*_ELEMENTWISE, "concatenate"):
            waiting += each.args
