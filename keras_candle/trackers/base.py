"""The interface of trackers, which receive the metrics of a run; their names and packages."""

from __future__ import annotations

import importlib
import math
import re
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from keras_candle.errors import CandleError
from keras_candle.optional import require

FINISHED, INTERRUPTED, FAILED = "finished", "interrupted", "failed"
# name -> its class, and the packages that it needs
_KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "csv": ("run_files.CsvFile", ()),
    "tensorboard": ("run_files.TensorBoard", ("tensorboard",)),
    "wandb": ("wandb.Wandb", ("wandb",)),
    "mlflow": ("mlflow.Mlflow", ("mlflow", "sqlalchemy", "alembic")),
}
# These run in a separate process: their packages block, and some crash.
IN_TRACKER_PROCESS = frozenset({"tensorboard", "wandb", "mlflow"})
# The largest number that each of these holds; the rest get integers of any size.
_LARGEST = {
    "tensorboard": (2 - 2.0**-23) * 2.0**127,
    "wandb": sys.float_info.max,
    "mlflow": sys.float_info.max,
}
MASK = "***"
# The words of a name that make its value a secret, by where they stand in the name.
SECRETS = {
    "anywhere": (
        "access key",
        "access token",
        "api key",
        "auth",
        "auth token",
        "authorization",
        "bearer",
        "credential",
        "encryption key",
        "oauth",
        "passcode",
        "passphrase",
        "passwd",
        "password",
        "private key",
        "pwd",
        "secret",
        "signing key",
        "ssh key",
    ),
    "at the end": ("token",),
    "in a URL's query": ("key", "sig", "signature"),
}
_ANYWHERE, _AT_THE_END, _IN_QUERY = (
    frozenset(word.replace(" ", "") for word in words) for words in SECRETS.values()
)
# Of camelCase, snake_case and kebab-case, without digits.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# A shorter word may end another one by chance.
_LONG = 6
_USER_IN_URL = re.compile(r"(\w://)[^/\s?#]+@")
_ASSIGNED = re.compile(r"(^|[?&#;,\s])([^=?&#;,\s]+)=([^&#;,\s]+)")
_PORTS = {"http": 80, "https": 443}
_WITHIN_S = 2.0


def _print_nothing(_: str) -> None: ...


@dataclass(frozen=True)
class TrackedRun:
    """A run whose metrics are tracked.

    Attributes:
        id: the same for all attempts of the run.
        name: name of the run directory.
        directory: the run directory.
        home: the run directory; for a trial the directory of its search.
        group: the id of the search that a trial belongs to; empty outside of a search.
        config: content of `config.json` and a trial's hyperparameters; secrets are masked.
        from_bytes: offset of the run's first line in the journal.
        tell: prints a message for the user.
    """

    id: str
    name: str
    directory: Path
    home: Path
    group: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    from_bytes: int = 0
    tell: Callable[[str], None] = _print_nothing

    def to_json(self) -> dict[str, Any]:
        """Return all attributes except `tell`, for another process."""
        facts = {name: value for name, value in vars(self).items() if name != "tell"}
        return {**facts, "directory": str(self.directory), "home": str(self.home)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any], tell: Callable[[str], None]) -> TrackedRun:
        """Return the run of a value of `to_json`."""
        paths = {name: Path(facts[name]) for name in ("directory", "home")}
        return cls(**{**facts, **paths}, tell=tell)


@dataclass(frozen=True)
class EpochRow:
    """The metrics of an epoch.

    Attributes:
        step: step of the run, larger than that of the row before.
        values: by name.
        time_s: when the epoch ended, in seconds since 1970.
    """

    step: int
    values: Mapping[str, float]
    time_s: float


class Tracker(ABC):
    """Receives the metrics of a run, on root.

    All methods are called from one thread, which is not the training's. An error in them is
    reported once, and stops nothing: `start` is called again some time later. Open nothing in
    `__init__`, since Keras Tuner copies callbacks.

    Example:
        >>> class Printing(Tracker):
        ...     def log(self, values, step):
        ...         print(step, values)
        >>> Printing().log({"epoch": 1, "loss": 0.5}, 12)
        12 {'epoch': 1, 'loss': 0.5}
    """

    def start(self, run: TrackedRun) -> int | None:  # noqa: ARG002 - for subclasses
        """Begin, or begin again after a failure or a new attempt.

        Args:
            run: the run to track.

        Returns:
            The last step of the run that the tracker's storage holds, -1 for none: the journal's
            rows after it follow. None where that is unknown: the rows that this object has not
            received follow.
        """
        return None

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of an epoch.

        Args:
            values: by name; `epoch` counts from 1.
            step: step of the run, larger than in the last call.
        """

    def log_epochs(self, rows: Iterable[EpochRow]) -> Iterator[int]:
        """Log epochs; a tracker that keeps their times or sends several at once has its own way.

        Args:
            rows: epochs that the tracker does not hold yet.

        Yields:
            The last step that was logged, after each part.
        """
        for row in rows:
            self.log(row.values, row.step)
            yield row.step

    def log_config(self, config: Mapping[str, Any]) -> None:  # noqa: B027 - not all keep it
        """Log the run's configuration; called after each `start`."""

    def log_file(self, path: Path) -> None:  # noqa: B027 - not all keep files
        """Log a file of the run; called at its end."""

    def close(self, status: str) -> None:  # noqa: B027 - not all hold something open
        """Close the run.

        Args:
            status: "finished", "interrupted" (the same command resumes it) or "failed".
        """


class TimedTracker(Tracker):
    """A tracker that keeps the times of epochs: `log_epochs` logs them."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of an epoch that has just ended."""
        for _ in self.log_epochs([EpochRow(step, values, time.time())]):
            pass

    @abstractmethod
    def log_epochs(self, rows: Iterable[EpochRow]) -> Iterator[int]:
        """See `Tracker`."""


def check_trackers(trackers: object) -> tuple[str | Tracker, ...]:
    """Validate the argument `trackers` of CandleCallback.

    Args:
        trackers: a name, a Tracker, or several of them.

    Returns:
        The names and Trackers.

    Raises:
        CandleError: for any other value, and for one that is given twice.

    Example:
        >>> check_trackers("csv")
        ('csv',)
    """
    given = [trackers] if isinstance(trackers, str | Tracker) else trackers
    if not isinstance(given, Sequence):
        raise CandleError(
            f"trackers={trackers!r}, expected a name, a candle.Tracker, or a list of them."
        )
    for each in given:
        if not isinstance(each, Tracker) and each not in _KNOWN:
            raise CandleError(
                f"trackers={trackers!r}: got {each!r}, expected one of "
                f"{', '.join(map(repr, _KNOWN))} or an instance of a subclass of candle.Tracker."
            )
    for place, each in enumerate(given):
        if each in given[:place]:
            named = repr(each) if isinstance(each, str) else f"one {type(each).__name__} object"
            raise CandleError(
                f"trackers has {named} twice, so each epoch would be logged twice. Remove one."
            )
    return tuple(given)


def names_of(trackers: Sequence[str | Tracker]) -> dict[str, str | Tracker]:
    """Return trackers by name: a Tracker's is that of its class; further ones are numbered."""
    counts: Counter[str] = Counter()
    found = {}
    for each in trackers:
        name = each if isinstance(each, str) else type(each).__name__
        counts[name] += 1
        found[name if counts[name] == 1 else f"{name} {counts[name]}"] = each
    return found


def holds(tracker: str, value: Any) -> bool:
    """Whether a tracker can hold a value.

    Args:
        tracker: name of the tracker.
        value: of a metric.

    Example:
        >>> holds("csv", 10**400), holds("mlflow", 10**400), holds("mlflow", 0.5)
        (True, False, True)
    """
    if value is None or isinstance(value, str):
        return False
    return not _LARGEST.get(tracker, math.inf) < abs(value) < math.inf


def check_packages(trackers: Sequence[str | Tracker]) -> None:
    """Check that the packages of named trackers are installed, without importing them.

    Raises:
        CandleError: with the command that installs a missing one.
    """
    for each in trackers:
        if isinstance(each, str):
            for package in _KNOWN[each][1]:
                require(package, f"trackers={each!r}")


def make(name: str) -> Tracker:
    """Create the tracker of a name."""
    module, _, kind = _KNOWN[name][0].partition(".")
    tracker: Tracker = getattr(importlib.import_module(f"keras_candle.trackers.{module}"), kind)()
    return tracker


def redacted(value: Any, key: str = "") -> Any:
    """Mask the values of names that `SECRETS` lists, in texts and URLs too, and users of URLs.

    Args:
        value: a JSON value.
        key: its key.

    Example:
        >>> redacted({"rate": 0.1, "API_KEY": "x", "tokens": 512, "to": "s3://me:pw@host/a?sig=x"})
        {'rate': 0.1, 'API_KEY': '***', 'tokens': 512, 'to': 's3://***@host/a?sig=***'}
    """
    if value is not None and not isinstance(value, bool) and _is_secret(key):
        is_count = isinstance(value, int | float) and not _is_secret(key, endings=frozenset())
        return value if is_count else MASK
    if isinstance(value, Mapping):
        return {name: redacted(each, str(name)) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    if isinstance(value, str):
        return _ASSIGNED.sub(_without_secret, _USER_IN_URL.sub(rf"\1{MASK}@", value))
    return value


def _is_secret(name: str, endings: frozenset[str] = _AT_THE_END) -> bool:
    words = [each.lower() for each in _WORD.findall(name)]
    runs = {
        "".join(words[begin:end]).removesuffix("s")
        for begin in range(len(words))
        for end in range(begin + 1, len(words) + 1)
    }
    is_glued = any(
        word.removesuffix("s").endswith(secret)
        for word in words
        for secret in _ANYWHERE
        if len(secret) >= _LONG
    )
    return is_glued or bool(_ANYWHERE & runs) or (bool(words) and words[-1] in endings)


def _without_secret(found: re.Match[str]) -> str:
    before, name, value = found.groups()
    endings = _AT_THE_END | _IN_QUERY if before in ("?", "&", "#") else _AT_THE_END
    return f"{before}{name}={MASK if _is_secret(name, endings) else value}"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to one with names like paths.

    Example:
        >>> flat({"fit": {"epochs": 3}, "ranks": 2})
        {'fit/epochs': 3, 'ranks': 2}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}/"))
        else:
            found[f"{prefix}{name}"] = value
    return found


class UnreachableError(OSError):
    """A server cannot be reached; an immediate retry is useless."""


def reach(url: str, within_s: float = _WITHIN_S) -> None:
    """Open a connection to a server, or to the proxy in front of it, and close it again.

    Args:
        url: URL of the server.
        within_s: timeout of the connection.

    Raises:
        UnreachableError: when the connection fails.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(host):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme, 443)
    try:
        socket.create_connection((host, port), timeout=within_s).close()
    except OSError as cause:
        raise UnreachableError(f"{host} port {port} cannot be reached ({cause})") from cause
