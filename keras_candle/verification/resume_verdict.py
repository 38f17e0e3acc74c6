"""Resume check: train without kills and with them, compare the final states, and judge."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_candle.errors import LaunchError
from keras_candle.run_directory import RunDirectory
from keras_candle.verification.attempt import (
    SEED,
    AttemptOutcome,
    ResumeTrial,
    StartRanks,
    TrainingCommand,
)
from keras_candle.verification.kills import (
    Course,
    ExecutedKill,
    KillRound,
    course_of,
    draw_round,
    run_round,
)

EXACT, NOT_EXACT, NOT_DETERMINISTIC = "EXACT", "NOT EXACT", "NOT DETERMINISTIC"
EXIT_CODES = {EXACT: 0, NOT_EXACT: 1, NOT_DETERMINISTIC: 3}
_MOST_ROWS = 20
_COLUMNS = ("round", "rank", "run directory", "killed at", "resumed from", "lost")
_WIDTHS = (6, 5, 28, 10, 13, 0)


@dataclass(frozen=True)
class Result:
    """The result of a resume check.

    Args:
        training: the command that was started.
        steps: number of its steps without kills.
        directories: names of its run directories.
        rounds: all trainings that were killed.
        again: comparison of a second training without kills with the first; None where none was
            needed.
        seed: of the kills.
    """

    training: TrainingCommand
    steps: int
    directories: Sequence[str]
    rounds: Sequence[KillRound]
    again: Mapping[str, Any] | None
    seed: int

    @property
    def killed(self) -> list[ExecutedKill]:
        """All kills."""
        return [each for one in self.rounds for each in one.killed]

    @property
    def verdict(self) -> str:
        """EXACT, NOT EXACT or NOT DETERMINISTIC."""
        if self.again is not None and self.again["differences"]:
            return NOT_DETERMINISTIC
        differ = any(each.problems() or each.compared["differences"] for each in self.rounds)
        return NOT_EXACT if differ else EXACT

    def sentences(self) -> list[str]:
        """Explain the verdict and what to do, in sentences."""
        if self.verdict == NOT_DETERMINISTIC and self.again is not None:
            return [
                "Two trainings without any kill differ already, so resuming cannot be checked. "
                "Seed the program's random numbers, and make no result depend on the time:",
                *_differences(self.again, ("first", "second")),
            ]
        problems = [line for each in self.rounds for line in each.problems()]
        for one in self.rounds:
            if one.compared["differences"]:
                problems.append(f"round {one.number}, killed {len(one.killed)} times:")
                problems += _differences(one.compared, ("without kills", "with them"))
        if problems:
            return list(dict.fromkeys(problems))
        fits = self.rounds[-1].compared["fits"]
        return [
            f"{_count(len(self.killed), 'kill')} in {_count(len(self.rounds), 'training')}, each "
            "of which ended as the one without kills: weights, optimizer, history, callbacks and "
            f"random numbers of {_count(fits, 'fit')} are equal to the bit.",
            f"At most {_count(max(each.lost for each in self.killed), 'step')} were repeated, "
            "never more than the checkpoint cadence allows; no run directory was damaged.",
        ]


def text(result: Result) -> str:
    """Format the kills, the verdict and its sentences for a terminal."""
    training = result.training
    rows = [_row(each) for each in result.killed]
    shortened = [*rows[: _MOST_ROWS - 2], "  ...", rows[-1]] if len(rows) > _MOST_ROWS else rows
    return "\n".join(
        [
            f"{' '.join(training.program)}: {_count(training.size, 'rank')}, "
            f"{_count(result.steps, 'step')} in {', '.join(result.directories)}; "
            f"{_count(len(rows), 'kill')} (--seed {result.seed}) in "
            f"{_count(len(result.rounds), 'training')}; seed {SEED} for what the program does not "
            "seed itself",
            "",
            _line(_COLUMNS),
            *shortened,
            "",
            result.verdict,
            *(f"  {each}" for each in result.sentences()),
        ]
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _row(killed: ExecutedKill) -> str:
    went_on = killed.newest if killed.went_on is None else killed.went_on
    lost = f"{_count(killed.lost, 'step')}, {killed.lost_s:.2f} s"
    numbers = (killed.round, killed.kill.rank, killed.directory, killed.reached, went_on, lost)
    return _line([str(each) for each in numbers])


def _line(cells: Sequence[str]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
    return f"  {' '.join(padded)}".rstrip()


def _differences(compared: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    found = [
        f"{each['fit']}: {each['kind']} {each['what']}: {each['one']} {names[0]}, "
        f"{each['other']} {names[1]}"
        for each in compared["differences"]
    ]
    return [*found, *(f"perhaps: {each}" for each in compared["causes"])]


def as_json(result: Result) -> str:
    """Format the whole result as JSON."""
    content = {
        "program": result.training.program,
        "ranks": result.training.size,
        "seed": result.seed,
        "steps": result.steps,
        "run_directories": list(result.directories),
        "verdict": result.verdict,
        "sentences": result.sentences(),
        "kills": [
            {**asdict(each), "lost": each.lost, "problems": each.problems()}
            for each in result.killed
        ],
        "rounds": [
            {"kills": len(each.killed), "failure": each.failure, **each.compared}
            for each in result.rounds
        ],
        "without_kills_again": result.again,
    }
    return json.dumps(content, indent=2) + "\n"


@dataclass(frozen=True)
class ResumeCheck:
    """Kills a training at random moments, restarts it, and compares it with itself unkilled.

    Args:
        training: the command to start.
        start_ranks: starts its ranks.
        print_line: gets a line for each attempt.
        kills: number of kills.
        seed: of the kills.
    """

    training: TrainingCommand
    start_ranks: StartRanks
    print_line: Callable[[str], None]
    kills: int
    seed: int

    def run(self, json_file: Path | None = None) -> int:
        """Train without kills and with them, and write the verdict to stdout.

        Args:
            json_file: file for the whole result, or None.

        Returns:
            One of EXIT_CODES, and the program's own exit code if it fails without kills.

        Raises:
            LaunchError: the program cannot be checked.
        """
        training = self.training
        with tempfile.TemporaryDirectory(prefix="candle-verify-resume-") as folder:
            place = Path(folder).resolve()
            ranks, program = _count(training.size, "rank"), " ".join(training.program)
            self.print_line(f"without kills on {ranks}: {program}")
            whole = ResumeTrial(training, self.start_ranks, place / "whole").start()
            if whole.exit_code:
                _write_to_stderr(whole.stderr)
                self.print_line(
                    "it failed without being killed, so there is nothing to compare with"
                )
                return whole.exit_code
            course = _course(whole, program)
            rounds = self._rounds(place, course)
            again = self._compare_all(place, whole, rounds)
            directories = list(whole.events.directories)
        result = Result(training, len(course.moments), directories, rounds, again, self.seed)
        for each in rounds:
            if each.failure:
                _write_to_stderr(each.last.stderr)
        if json_file is not None:
            json_file.write_text(as_json(result))
        sys.stdout.write(text(result) + "\n")
        sys.stdout.flush()
        return EXIT_CODES[result.verdict]

    def _rounds(self, place: Path, course: Course) -> list[KillRound]:
        """Train until so many kills took place. Kills that come too late are drawn again."""
        draws = random.Random(self.seed)  # noqa: S311 - not for secrets
        rounds: list[KillRound] = []
        left = self.kills
        while left > 0 and len(rounds) < 2 * self.kills:
            planned = draw_round(course, left, self.training.size, draws)
            folder = place / f"round-{len(rounds) + 1}"
            rounds.append(
                run_round(self.training, self.start_ranks, folder, course, planned, self.print_line)
            )
            left -= len(rounds[-1].killed)
            if rounds[-1].failure:
                break
        return rounds

    def _compare_all(
        self, place: Path, whole: AttemptOutcome, rounds: list[KillRound]
    ) -> dict[str, Any] | None:
        """Compare the final states; after a difference, compare a second run without kills too."""
        for each in rounds:
            if not each.failure:
                each.compared = _compare(whole, each.last)
            else:
                each.compared = {"differences": [], "causes": [], "fits": 0}
        if not any(each.failure or each.compared["differences"] for each in rounds):
            return None
        self.print_line("the final states differ: training once more without kills")
        again = ResumeTrial(self.training, self.start_ranks, place / "again").start()
        if again.exit_code:
            _write_to_stderr(again.stderr)
            raise LaunchError(
                f"without kills the program ended with code {again.exit_code} the second time, and "
                "with 0 the first. Run it twice by itself, each time in an empty run directory"
            )
        return _compare(whole, again)


def _write_to_stderr(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.flush()


def _course(whole: AttemptOutcome, program: str) -> Course:
    directories = whole.events.directories
    if not directories:
        raise LaunchError(
            f"{program} calls no fit with a CandleCallback, so it would start anew after "
            "each kill. Give fit a candle.CandleCallback(run_directory) among its callbacks"
        )
    events = {name: RunDirectory(path).events() for name, path in directories.items()}
    course = course_of(whole.events, events)
    if len(course.moments) < 2:
        raise LaunchError(
            f"{program} took {len(course.moments)} step in its fits with a "
            "CandleCallback, too few to be killed between. Train for more steps"
        )
    return course


def _compare(first: AttemptOutcome, second: AttemptOutcome) -> dict[str, Any]:
    """Compare in a subprocess: this process imports no NumPy."""
    command = [
        sys.executable,
        "-m",
        "keras_candle.verification.compare_resumes",
        str(first.folder),
        str(second.folder),
    ]
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode:
        _write_to_stderr(done.stderr)
        raise LaunchError("the final states cannot be compared, see above")
    compared: dict[str, Any] = json.loads(done.stdout)
    return compared
