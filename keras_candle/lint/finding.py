"""A finding about a script: place, severity, description, reason and remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

ERROR = "error"
"""The severity of a wrong result, a refusal or a hang on several ranks."""
WARNING = "warning"
"""The severity of a script that is slow, or does not do what users expect."""
INFO = "note"
"""The severity of information, printed as "note"."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault, or a piece of information, on a line of a script.

    Attributes:
        path: the file.
        line: the line in it, 0 for the file as a whole.
        code: the name of its kind.
        severity: ERROR, WARNING or INFO.
        what: the fault, in one line.
        reason: its effect on several ranks.
        remedy: the change to make.
    """

    path: str
    line: int
    code: str
    severity: str
    what: str
    reason: str
    remedy: str

    def text(self) -> str:
        """Format the finding in three lines."""
        head = f"{self.path}:{self.line}: {self.severity}: {self.what} [{self.code}]"
        return f"{head}\n    why: {self.reason}\n    do:  {self.remedy}"


@dataclasses.dataclass(frozen=True)
class FindingKind:
    """A kind of finding, with format strings for its three texts.

    Attributes:
        code: its name.
        severity: ERROR, WARNING or INFO.
        what: the fault, in one line.
        reason: its effect on several ranks.
        remedy: the change to make, if possible as a line of code.
    """

    code: str
    severity: str
    what: str
    reason: str
    remedy: str

    def at(self, path: str, line: int, **words: object) -> Finding:
        """Make a finding of this kind.

        Example:
            >>> kind = FindingKind("late", INFO, "{who} is late", "{who} waits", "start {who}")
            >>> kind.at("train.py", 3, who="x").what
            'x is late'
        """
        texts = (text.format(**words) for text in (self.what, self.reason, self.remedy))
        return Finding(path, line, self.code, self.severity, *texts)


def in_order(findings: Iterable[Finding], main: str) -> list[Finding]:
    """Sort findings by line, the script's own file first, and drop duplicates of a line.

    Args:
        findings: in any order.
        main: the script's path.
    """
    unique: dict[tuple[str, int, str], Finding] = {}
    for each in findings:
        unique.setdefault((each.path, each.line, each.code), each)
    return sorted(unique.values(), key=lambda f: (f.path != main, f.path, f.line, f.code))
