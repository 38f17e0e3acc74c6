"""Settings of a job: from the command line, else candle.toml, a system's profile, defaults.

Directives and lines of the environment are added up, the profile's first.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_candle.cluster.job_script import BATCH_SYSTEMS, REQUEUE_BY
from keras_candle.errors import LaunchError

FILE = "candle.toml"
_SYSTEMS = Path(__file__).parent / "systems"
_UNSET: Any = None

# name -> (type, default, meaning)
SETTINGS: dict[str, tuple[type, Any, str]] = {
    "system": (str, _UNSET, "profile of a known system, for the values that are not given"),
    "scheduler": (str, _UNSET, "slurm, pbs, lsf or flux; the one on PATH if there is exactly one"),
    "name": (str, _UNSET, "name of the job and its folder; the program's by default"),
    "nodes": (int, 1, "number of nodes"),
    "ranks_per_node": (int, 1, "ranks on each node"),
    "ranks": (int, _UNSET, "number of all ranks; nodes x ranks per node by default"),
    "gpus_per_rank": (int, _UNSET, "GPUs for each rank"),
    "cores_per_rank": (int, _UNSET, "cores for each rank"),
    "walltime": (str, _UNSET, "limit, hours:minutes:seconds; the queue's own by default"),
    "account": (str, _UNSET, "account or project that pays"),
    "queue": (str, _UNSET, "queue or partition"),
    "queue_option": (str, _UNSET, "option that chooses the queue, as --qos"),
    "chunk": (str, _UNSET, "PBS: what to ask for on each node, in place of cores and GPUs"),
    "whole_nodes": (bool, False, "LSF: ask for nodes, not for slots"),
    "directives": (list, (), "directive for the scheduler as it is, --directive=--constraint=gpu"),
    "environment": (list, (), "line of shell before the program, as it is"),
    "stage_environment": (bool, False, "unpack the Python environment on each node's own disk"),
    "array": (str, _UNSET, "N or N%%M: a job array of N elements, M of them at once"),
    "requeue_by": (str, "command", "how a job that exits with 75 is requeued"),
    "max_restarts": (int, 0, "restarts inside the job, see candle run"),
    "engine": (str, _UNSET, "what carries the collectives, see candle run"),
}
_ADDED = ("directives", "environment")
_CHOICES = {
    "scheduler": tuple(BATCH_SYSTEMS),
    "requeue_by": REQUEUE_BY,
    "engine": ("auto", "horovod", "mpi"),
}
_LEAST = {"gpus_per_rank": 0, "max_restarts": 0}


@dataclass(frozen=True)
class Setting:
    """A value and its origin.

    Attributes:
        value: None where nobody gave one.
        origin: "command line", "candle.toml", "profile NAME" or "default"; several with + between.
    """

    value: Any
    origin: str


def resolve_settings(given: Mapping[str, Any], directory: Path) -> dict[str, Setting]:
    """Return all settings with their origins.

    Args:
        given: those of the command line; None and () for what is not given.
        directory: the working directory, where candle.toml may be.

    Raises:
        LaunchError: candle.toml cannot be read, or a value is none that the setting takes.
    """
    sources = [("command line", given), (FILE, read_file(directory / FILE))]
    system = next((source["system"] for _, source in sources if source.get("system")), None)
    if system is not None:
        content = profile(system)
        mark = ", untested" if content.pop("untested", False) else ""
        sources.append((f"profile {system}{mark}", content))
    settings = {name: _resolved(name, sources) for name in SETTINGS}
    for name, setting in settings.items():
        _check_value(name, setting)
    return settings


def profile(system: str) -> dict[str, Any]:
    """Return the settings of a known system, and `untested` where no job has run there.

    Raises:
        LaunchError: there is no profile of it.
    """
    if system not in profiles():
        raise LaunchError(
            f"there is no profile of the system {system!r}{_nearest(system, profiles())}. There "
            f"are {', '.join(profiles())}; for another one write its settings into {FILE}"
        )
    return tomllib.loads((_SYSTEMS / f"{system}.toml").read_text())


def profiles() -> list[str]:
    """Return the names of the systems that have a profile."""
    return sorted(path.stem for path in _SYSTEMS.glob("*.toml"))


def read_file(path: Path) -> dict[str, Any]:
    """Return the settings of candle.toml; none where there is no such file.

    Raises:
        LaunchError: it cannot be read, or has an unknown key or a value of another type.
    """
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as cause:
        raise LaunchError(f"{path} cannot be read: {cause}") from cause
    except tomllib.TOMLDecodeError as cause:
        raise LaunchError(f"{path} is not valid TOML: {cause}") from cause
    for name, value in content.items():
        if name not in SETTINGS:
            raise LaunchError(
                f"{path} has an unknown key {name!r}{_nearest(name, SETTINGS)}. Known are "
                f"{', '.join(SETTINGS)}"
            )
        _check_type(path, name, value)
    return content


def _check_type(path: Path, name: str, value: Any) -> None:
    expected = SETTINGS[name][0]
    if expected is list:
        fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
    else:
        # For Python a bool is an int, for TOML it is not.
        fits = type(value) is expected
    if not fits:
        examples = {int: "2", str: '"..."', bool: "true", list: '["...", "..."]'}
        example = '"02:00:00"' if name == "walltime" else examples[expected]
        raise LaunchError(f"{path}: {name} got {value!r}; expected {name} = {example}")


def _resolved(name: str, sources: list[tuple[str, Mapping[str, Any]]]) -> Setting:
    having = [(origin, source[name]) for origin, source in sources if _has(source, name)]
    if name in _ADDED and having:
        having.reverse()
        added = tuple(line for _, lines in having for line in lines)
        return Setting(added, " + ".join(origin for origin, _ in having))
    return Setting(having[0][1], having[0][0]) if having else Setting(SETTINGS[name][1], "default")


def _has(source: Mapping[str, Any], name: str) -> bool:
    return source.get(name) is not None and source[name] != ()


def _check_value(name: str, setting: Setting) -> None:
    value, option = setting.value, f"{name.replace('_', '-')} ({setting.origin})"
    choices = _CHOICES.get(name)
    if choices and value is not None and value not in choices:
        raise LaunchError(
            f"{option} got {value!r}{_nearest(value, choices)}; expected one of "
            f"{', '.join(choices)}"
        )
    least = _LEAST.get(name, 1)
    if SETTINGS[name][0] is int and value is not None and value < least:
        raise LaunchError(f"{option} got {value}; expected {least} or more")


def _nearest(word: str, known: Any) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
