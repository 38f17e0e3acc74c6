"""Format the result of `candle verify-resume` as text, as JSON and as an exit code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keras_candle.launch.kill_rounds import ExecutedKill, KillRound
from keras_candle.launch.trial import SEED, TrainingCommand

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
