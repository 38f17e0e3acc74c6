"""All of the project's performance claims, measured anew: both sides, one table.

    python -m examples.benchmarks [NAME]... [--write docs/benchmarks.md] [-- OPTION...]

Each benchmark is a program of its own and runs alone; names run those and no others, with the
options behind `--`. What it claims is printed as it is found. With --write the table of each
benchmark that ran takes the place of its former one in the file, with the date and the machine; the
others' stay. The exit code is 1 when a claim did not hold or a benchmark failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from examples.benchmarks.claims import KEEP_IN, Claim
from examples.benchmarks.search import SUITES

_RANKS = "candle run -np 2 --engine mpi -m examples.benchmarks."
_ALONE = "python -m examples.benchmarks."
_ON_RANKS = ("data_parallel", "data_pipeline", "guard")
_IN_ONE_PROCESS = (
    *("callback_overhead", "checkpoint", "failures", "limited_links", "lint", "precision"),
    *("report", "scaling", "unedited_files"),
)
BENCHMARKS = {
    **{name: _RANKS + name for name in _ON_RANKS},
    **{name: _ALONE + name for name in _IN_ONE_PROCESS},
    "faults": _ALONE + "faults",
    "trackers": _ALONE + "trackers",
    **{f"search_{suite}": f"{_ALONE}search --suite {suite}" for suite in (*SUITES, "cost")},
    "search_ranks": _ALONE + "search_ranks",
    "architecture_search": _ALONE + "architecture_search",
}
_PACKAGES = ("keras", "tensorflow-cpu", "tensorflow", "horovod", "keras-tuner", "optuna")
_HEAD = """# Benchmarks

Written by `python -m examples.benchmarks --write docs/benchmarks.md`. Both sides of a row were
measured in one run; a ratio is ours by the other's. Benchmarks that were not run anew keep their
date.
"""


def run(name: str, options: Sequence[str] = ()) -> tuple[list[Claim], int]:
    """A benchmark's claims and its exit code."""
    program, *words = BENCHMARKS[name].split()
    path = sys.executable if program == "python" else str(Path(sys.executable).parent / program)
    command = [path, *words, *options]
    print(f"\n{name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "claims.jsonl"
        code = subprocess.run(
            command, env={**os.environ, KEEP_IN: str(file)}, check=False
        ).returncode
        lines = file.read_text().splitlines() if file.exists() else []
    return [Claim(**json.loads(line)) for line in lines], code


def table(name: str, command: str, claims: Sequence[Claim], measured: str) -> str:
    """A benchmark's part of the page."""
    rows = [
        f"| {each.what} | {each.value(each.ours)} | {_other(each)} | "
        f"{'' if each.ratio is None else f'{each.ratio:.3g}'} | {each.asked} | "
        f"{'' if not each.asked else 'yes' if each.holds else '**no**'} |"
        for each in claims
    ]
    head = ["| | ours | other | ratio | asked | holds |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([f"## {name}", "", f"`{command}`, {measured}", "", *head, *rows, ""])


def _other(claim: Claim) -> str:
    return "" if claim.theirs is None else f"{claim.peer} {claim.value(claim.theirs)}"


def put(page: str, name: str, part: str) -> str:
    """A page with a benchmark's part in the place of its former one, or at its end."""
    former = re.compile(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if former.search(page):
        return former.sub(lambda _: f"{part}\n", page).rstrip() + "\n"
    return f"{page.rstrip()}\n\n{part}"


def machine() -> str:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE)
        model = found.group(1).strip() if found else model
    packages = [f"{name} {own}" for name in _PACKAGES if (own := _version(name))]
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, " + ", ".join(
        packages
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME")
    parser.add_argument("--write", type=Path, help="the page to write")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options, further = parser.parse_args(words[:end]), words[end + 1 :]
    failed = []
    for name in options.names or BENCHMARKS:
        claims, code = run(name, further)
        if code or not claims or not all(each.holds for each in claims):
            failed.append(name)
        if options.write and claims:
            page = options.write.read_text() if options.write.exists() else _HEAD
            measured = f"{datetime.date.today()}, {machine()}"
            part = table(name, " ".join([BENCHMARKS[name], *further]), claims, measured)
            options.write.write_text(put(page, name, part))
    print(f"\nNot as claimed: {', '.join(failed)}" if failed else "\nAll as claimed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
