"""Which assignments a name may get its value from: Python's scopes and the order of statements."""

from __future__ import annotations

import ast

import pytest

from keras_candle.lint.names import Module

# Lines of `x = ...`, numbered from 1, then the lines where x is read: the lines it comes from.
READ = [
    ("x = 1|use(x)|x = 2|use(x)", {2: {1}, 4: {3}}),
    ("x = 1|if a:|  x = 2|  use(x)|else:|  use(x)|use(x)", {4: {3}, 6: {1}, 7: {1, 3}}),
    ("if a:|  x = 1|else:|  x = 2|use(x)", {5: {2, 4}}),
    ("x = 1|if a:|  x = 2|  raise E|use(x)", {5: {1}}),
    ("x = 0|for i in a:|  use(x)|  x = 4|use(x)", {3: {1, 4}, 5: {1, 4}}),
    ("while True:|  x = 2|  if x:|    break|use(x)", {3: {2}, 5: {2}}),
    ("for x in a:|  use(x)", {2: {1}}),
    ("x = 1|x += 2|use(x)", {3: {1, 2}}),
    ("try:|  x = 2|except E:|  x = 4|use(x)", {5: {2, 4}}),
    ("x = 1|try:|  x = 3|finally:|  use(x)", {5: {1, 3}}),
    ("with a as x, b(x) as c:|  use(x)", {1: {1}, 2: {1}}),
    ("if (x := a):|  use(x)|use(x)", {2: {1}, 3: {1}}),
    ("match a:|  case [x]:|    use(x)", {3: {2}}),
    ("import x|use(x)|def x(): pass|use(x)", {2: {1}, 4: {3}}),
    # A function reads what its name holds where the function is used.
    ("x = 1|def f():|  use(x)|f()|x = 5|f()", {3: {1, 5}}),
    ("x = 1|def f():|  use(x)|f()|x = 5|def f():|  use(x)|f()", {3: {1}, 7: {5}}),
    ("x = 1|def f():|  use(x)|def g():|  f()|g()|x = 7", {3: {1}}),
    ("x = 1|def f(x):|  use(x)", {3: {2}}),
    ("x = 1|def f(a=x):|  x = 3|  use(x)|f()", {2: {1}, 4: {3}}),
    ("x = 1|def f():|  global x|  x = 4|f()|use(x)", {6: {1, 4}}),
    ("def g():|  x = 2|  def f():|    nonlocal x|    x = 5|  use(x)", {6: {2, 5}}),
    ("x = 1|class A:|  x = 3|  use(x)|  def f(self):|    use(x)", {4: {3}, 6: {1}}),
    ("x = 1|use([x for x in x])|use(x)", {2: {1, 2}, 3: {1}}),
    ("x = 1|f = lambda x: use(x)|use(x)", {2: {2}, 3: {1}}),
]


@pytest.mark.parametrize(("source", "expected"), READ)
def test_where_a_name_gets_its_value(source, expected):
    module = Module("m.py", source.replace("|", "\n"))
    found = {}
    for node in module.nodes:
        if isinstance(node, ast.Name) and node.id == "x" and isinstance(node.ctx, ast.Load):
            lines = {each.node.lineno for each in module.definitions(node)}
            found.setdefault(node.lineno, set()).update(lines)
    assert {line: found[line] for line in expected} == expected


def test_a_variable_with_the_name_of_a_package_is_not_the_package():
    source = "import random\nrandom.random()\nrandom = make()\nrandom.random()\n"
    module = Module("m.py", source)
    names = {call.lineno: module.dotted(call.func) for call in module.calls}
    assert names == {2: "random.random", 3: "make", 4: "<random>.random"}
