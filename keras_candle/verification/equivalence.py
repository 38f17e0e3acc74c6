"""Equivalence check: run a program on 1 rank and on N with the same global batches, and compare."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from keras_candle.launcher_messages import OPTIONS, VERIFY
from keras_candle.verification.attempt import (
    SEED,
    StartRanks,
    TrainingCommand,
    recording_variables,
)

# The package whose prepare() the ranks call before the program begins, and which compares.
_RECORDING = "keras_candle.verification"
# The exit code of a comparison that needs the steps on shards, or knows no reason for a failure.
UNDECIDED = 3
# On N ranks these override the arguments of @candle.scalable: batches and learning rate are those
# of one rank.
_ONE_RANKS_BATCHES = {"batch": "global", "learning_rate_scaling": None, "warmup_epochs": 0}


@dataclass(frozen=True)
class EquivalenceCheck:
    """The settings of an equivalence check.

    Args:
        tolerance: the largest relative difference that counts as rounding; None for the default.
        epochs: the largest number of epochs in each fit; None for all.
        exact: leave dropout and noise out, and synchronise batch normalisation.
        json: file for the whole comparison, or None.
    """

    tolerance: float | None = None
    epochs: int | None = None
    exact: bool = False
    json: Path | None = None

    def variables(self, folder: Path, shards: int = 0) -> dict[str, str]:
        """Return the environment variables of ranks that are recorded into a folder.

        Args:
            folder: the folder.
            shards: probe the first step of each training with so many shards; 0 for whole ones.
        """
        scalable = {**_ONE_RANKS_BATCHES, **({"sync_batch_norm": True} if self.exact else {})}
        settings = {
            "folder": str(folder),
            "seed": SEED,
            "epochs": 1 if shards else self.epochs,
            "shards": shards,
            "exact": self.exact,
        }
        return {
            **recording_variables(_RECORDING),
            VERIFY: json.dumps(settings),
            OPTIONS: json.dumps(scalable),
        }

    def terms(self, size: int) -> str:
        """Describe what both runs have in common, for the head of the report."""
        terms = [
            f"1 rank and {size} ranks, the same global batches and learning rate",
            f"seed {SEED} for what the program does not seed itself",
        ]
        if self.epochs is not None:
            terms.append(f"at most {self.epochs} epochs a fit")
        if self.exact:
            terms.append("without dropout and noise, batch normalisation synchronised")
        return "; ".join(terms)


def check_equivalence(
    training: TrainingCommand,
    check: EquivalenceCheck,
    start_ranks: StartRanks,
    print_line: Callable[[str], None],
) -> int:
    """Run a program twice and write the comparison to stdout.

    Args:
        training: the program on N ranks.
        check: the settings.
        start_ranks: starts the ranks.
        print_line: gets a line for each run.

    Returns:
        0 when N ranks train as one does or the reason for the difference is known, 1 when they
        do not, and the program's own exit code when it failed.
    """
    program = " ".join(training.program)
    with tempfile.TemporaryDirectory(prefix="candle-verify-") as place:

        def run(size: int, name: str, shards: int = 0) -> tuple[int, bytes]:
            what = f"{_ranks(size)}, the first steps on {shards} shards" if shards else _ranks(size)
            print_line(f"{what}: {program}")
            folder = Path(place) / name
            folder.mkdir()
            variables = check.variables(folder, shards)
            return start_ranks(replace(training, size=size), variables)

        def compare(*options: str) -> int:
            folders = [f"{place}/one", f"{place}/many", "--size", str(training.size)]
            return _compare([*folders, *options], check, f"{program}: {check.terms(training.size)}")

        for size, name in ((1, "one"), (training.size, "many")):
            failure, stderr = run(size, name)
            if failure:
                break
        outcome = UNDECIDED if failure else compare()
        if outcome == UNDECIDED and not (failure and size == 1):
            run(1, "probe", training.size)
            options = ["--probe", f"{place}/probe", *(["--failed"] if failure else [])]
            outcome = compare(*options)
        if outcome != UNDECIDED:
            return outcome
        # Only on failure: the program's output would get between the report's lines.
        sys.stderr.buffer.write(stderr)
        print_line(f"it failed on {_ranks(size)}, so there is nothing to compare")
        return failure


def _ranks(size: int) -> str:
    return "1 rank" if size == 1 else f"{size} ranks"


def _compare(arguments: list[str], check: EquivalenceCheck, head: str) -> int:
    """Compare in a subprocess: this process imports no NumPy."""
    command = [sys.executable, "-m", _RECORDING, *arguments, "--head", head]
    if check.tolerance is not None:
        command += ["--tolerance", str(check.tolerance)]
    if check.json is not None:
        command += ["--json", str(check.json)]
    return subprocess.run(command, check=False).returncode
