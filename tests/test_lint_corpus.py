"""What `candle check --no-run` finds in tests/lint_corpus, against the faults marked there.

    python -m tests.test_lint_corpus        # each finding that is wrong, each fault that is missed

`# fault: KIND` marks what goes wrong on two ranks at its line, `# fault: KIND, KIND` what either
name fits. `# place: KIND` marks another line at which the same fault may be reported, and
`# note: KIND` true information. A finding is true if its statement has a mark of its kind.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from keras_candle.lint import read
from keras_candle.lint.finding import Finding
from keras_candle.lint.script import load, shown

CORPUS = Path(__file__).parent / "lint_corpus"
SCRIPTS = sorted(path for path in CORPUS.glob("*.py") if path.name != "conftest.py")
PROJECTS = sorted(CORPUS.glob("*/train.py"))
# The codes of findings that are true at a mark of each kind.
CODES = {
    "assign": {"update-without-optimizer"},
    "backend": {"other-backend"},
    "batch-constant": {"batch-constant", "batch-constant-in-last-step"},
    "batch-norm": {"batch-norm-local", "batch-norm-synchronized"},
    "batch-state": {"state-of-the-batch", "variable-of-the-batch"},
    "builder": {"builder-without-model", "trained-in-builder", "precision-set-inside"},
    "callback-test": {"callback-test-not-needed"},
    "clock": {"loop-ends-by-clock"},
    "counter": {"own-step-counter"},
    "data": {"unseeded-data", "unseeded-split"},
    "folder": {"folder-made-twice", "folder-made-in-a-race"},
    "framework": {"no-keras", "ranks-of-a-cluster"},
    "generator": {"unseeded-data", "unseeded-batches"},
    "horovod": {
        *("horovod-import", "horovod-init", "horovod-rank", "horovod-optimizer", "horovod-tape"),
        *("horovod-callback", "horovod-collective", "gpu-pinned-by-hand"),
        *("learning-rate-scaled-twice", "steps-divided-by-ranks", "epochs-divided-by-ranks"),
    },
    "layer-constant": {"layer-constant"},
    "loop": {"loop-by-hand", "optimizer-out-of-reach"},
    "metric": {"metric-state"},
    "model-draw": {"unseeded-model"},
    "optimizer": {"optimizer-out-of-reach", "optimizer-of-a-part", "loop-by-hand"},
    "order": {"unseeded-data", "unseeded-split"},
    "pairs": {"loss-over-pairs", "loss-over-divided-pairs", "compiled-loss-over-pairs"},
    "rank-branch": {
        *("collective-on-some-ranks", "callback-on-some-ranks", "own-callback-on-some-ranks"),
        "model-differs-by-rank",
    },
    "rank-seed": {"seed-differs-by-rank"},
    "rate": {"learning-rate-not-scaled"},
    "reduction": {"loss-not-reduced"},
    "remove": {"removed-on-every-rank"},
    "scaled-twice": {
        *("learning-rate-scaled-twice", "batch-divided-by-ranks", "batch-multiplied-by-ranks"),
        *("steps-divided-by-ranks", "epochs-divided-by-ranks"),
    },
    "sharded": {"sharded-by-hand"},
    "stateful": {"stateful-layer"},
    "strategy": {"distribution-strategy"},
    "sum": {"loss-is-a-sum"},
    "tuner": {"tuner-on-every-rank"},
    "unscaled": {"model-not-scaled", "scaled-model-unused"},
    "write": {"write-on-every-rank"},
    "xla": {"jit-compile"},
}
# The share of true findings, and the faults of each kind that may be missed.
PRECISION = 0.98
MISSED = {
    "pairs": 1,
}
NOT_SCALED = "candle-not-used"
MARK = re.compile(r"\s*# (fault|place|note): ([a-z, -]+)$")


class Mark(NamedTuple):
    """What a comment says about its line."""

    role: str
    kinds: tuple[str, ...]
    line: int


class Verdict(NamedTuple):
    """A script's marks against its findings."""

    name: str
    true: list[Finding]
    wrong: list[Finding]
    found: list[Mark]
    missed: list[Mark]
    not_scaled: bool
    """Whether it was reported that the script uses none of keras_candle."""


def marks_of(source: str) -> list[Mark]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    matches = ((each, MARK.match(each.string)) for each in tokens if each.type == tokenize.COMMENT)
    return [
        Mark(match[1], tuple(match[2].split(", ")), token.start[0])
        for token, match in matches
        if match
    ]


def without_marks(source: str) -> str:
    return "\n".join(MARK.sub("", line) for line in source.splitlines()) + "\n"


def statements_of(source: str) -> dict[int, int]:
    """For each line, the first line of the innermost statement that it belongs to.

    Of a compound statement only the lines before its body count.
    """
    lines: dict[int, int] = {}
    # Breadth first: what is inside comes later and wins.
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            body = getattr(node, "body", None)
            last = max(first, body[0].lineno - 1) if body else node.end_lineno or first
            lines.update(dict.fromkeys(range(first, last + 1), first))
    return lines


def fits(finding: Finding, mark: Mark) -> bool:
    return any(finding.code in CODES[kind] for kind in mark.kinds)


def judged(name: str, source: str, findings: list[Finding]) -> Verdict:
    marks, statement = marks_of(source), statements_of(source)
    true, hit = [], set()
    scored = [each for each in findings if each.code != NOT_SCALED]
    for finding in scored:
        here = [
            mark
            for mark in marks
            if statement.get(mark.line) == statement.get(finding.line) and fits(finding, mark)
        ]
        if here:
            true.append(finding)
            hit |= {fault_of(mark, marks) for mark in here}
    faults = [mark for mark in marks if mark.role == "fault"]
    return Verdict(
        name,
        true,
        [each for each in scored if each not in true],
        [each for each in faults if each in hit],
        [each for each in faults if each not in hit],
        len(scored) < len(findings),
    )


def fault_of(mark: Mark, marks: list[Mark]) -> Mark:
    """The fault that a place belongs to: the nearest one of its kind."""
    if mark.role != "place":
        return mark
    faults = [each for each in marks if each.role == "fault" and set(each.kinds) & set(mark.kinds)]
    return min(faults, key=lambda each: abs(each.line - mark.line), default=mark)


def verdicts(folder: Path) -> list[Verdict]:
    """Judge each script and module, of which the linter sees a copy without marks in a folder."""
    groups = [[path] for path in SCRIPTS]
    groups += [[path, *sorted({*path.parent.rglob("*.py")} - {path})] for path in PROJECTS]
    return [each for files in groups for each in verdicts_of(files, folder)]


def verdicts_of(files: list[Path], folder: Path) -> Iterator[Verdict]:
    """Judge a script, which comes first, with its modules."""
    copies = {path: folder / path.relative_to(CORPUS) for path in files}
    for path, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(without_marks(path.read_text()))
    findings = read(load(str(copies[files[0]])))
    places = [replace(each, line=line) for each in findings for line in lines_of(each)]
    for path, copy in copies.items():
        here = [each for each in places if each.path == shown(copy)]
        name = str(path.relative_to(CORPUS))
        yield judged(name, path.read_text(), here)


def lines_of(finding: Finding) -> tuple[int, ...]:
    return (finding.line, *finding.more)


def counted(marks: Iterable[Mark]) -> Counter[str]:
    return Counter(mark.kinds[0] for mark in marks)


def precision(of: list[Verdict]) -> float:
    true, wrong = sum(len(each.true) for each in of), sum(len(each.wrong) for each in of)
    return true / (true + wrong)


def report(of: list[Verdict]) -> Iterator[str]:
    for each in of:
        for finding in each.wrong:
            yield f"wrong   {each.name}:{finding.line} [{finding.code}] {finding.what}"
        for mark in each.missed:
            yield f"missed  {each.name}:{mark.line} {', '.join(mark.kinds)}"
    found, missed = (
        counted(m for v in of for m in v.found),
        counted(m for v in of for m in v.missed),
    )
    for kind in sorted(found | missed):
        yield f"{kind:15} {found[kind]:3} of {found[kind] + missed[kind]:3} found"
    yield f"{precision(of):.3f} of {sum(len(v.true) + len(v.wrong) for v in of)} findings true"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return verdicts(tmp_path_factory.mktemp("scripts"))


def test_findings_are_true(corpus):
    assert precision(corpus) >= PRECISION, "\n".join(report(corpus))


def test_faults_are_found(corpus):
    missed = counted(mark for each in corpus for mark in each.missed)
    assert not missed - Counter(MISSED), "\n".join(report(corpus))


def test_scripts_that_use_keras_candle_are_not_reported_as_unscaled(corpus):
    uses = {path.name for path in SCRIPTS if "keras_candle" in path.read_text()}
    assert not uses & {each.name for each in corpus if each.not_scaled}


@pytest.mark.parametrize(
    ("code", "line", "true"),
    [
        ("write-on-every-rank", 3, True),
        ("write-on-every-rank", 4, True),  # the rest of the statement
        ("write-on-every-rank", 6, False),  # the statement inside
        ("unseeded-data", 3, False),
    ],
)
def test_a_finding_is_true_at_a_statement_with_a_mark_of_its_kind(code, line, true):
    source = "with (\n    a,\n    open(p, 'w'),  # fault: write\n    b,\n):\n    c()\n"
    verdict = judged("x", source, [Finding("x.py", line, code, "error", "", "", "")])
    assert bool(verdict.true) is bool(verdict.found) is true
    assert bool(verdict.wrong) is bool(verdict.missed) is not true


def test_a_fault_is_found_at_another_place_of_it():
    source = "f(1)  # fault: sum\nf(2)  # fault: sum\nf(3)  # place: sum\n"
    verdict = judged("x", source, [Finding("x.py", 3, "loss-is-a-sum", "error", "", "", "")])
    assert [each.line for each in verdict.found] == [2]


def test_the_marks_are_known_and_the_linter_does_not_see_them():
    for path in CORPUS.rglob("*.py"):
        source = path.read_text()
        assert {kind for mark in marks_of(source) for kind in mark.kinds} <= set(CODES), path
        assert not re.search("# (fault|place|note)", without_marks(source)), path


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(report(verdicts(Path(folder)))))
