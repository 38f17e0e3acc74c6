"""Weights & Biases: on its server where reachable, else in files for a later `wandb sync`."""

from __future__ import annotations

import contextlib
import netrc
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keras_candle.optional import load
from keras_candle.trackers.base import (
    FINISHED,
    INTERRUPTED,
    EpochRow,
    TimedTracker,
    TrackedRun,
    UnreachableError,
    holds,
    reach,
)

# What WANDB_MODE may be, and what it is to us.
_MODES = {
    "online": "online",
    "run": "online",
    "shared": "shared",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
_PROJECT = "keras_candle"
# W&B's own keys in a row, and one that it drops; metrics of such names get the prefix logs/.
_TAKEN = frozenset({"_step", "_timestamp", "_runtime", "_wandb", ""})
_KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
# Without command line, environment, output, code and machine data.
_SETTINGS = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "host",
    "init_timeout": 15.0,
    "program": "keras_candle",
    "silent": True,
    "symlink": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": 1.0,
}
# The format is LevelDB's log: blocks of records, each with CRC, length and kind.
_FILE_HEADER_BYTES, _HEADER_BYTES, _BLOCK_BYTES = 7, 7, 32768
_WHOLE, _LAST = 1, 4


class Wandb(TimedTracker):
    """Logs to one run on the server, or to offline directories that `wandb sync` merges."""

    def __init__(self) -> None:
        self._live: Any = None

    def start(self, run: TrackedRun) -> int:
        """Find the last step on the server or in the files of earlier attempts."""
        self.close(INTERRUPTED)  # after a failure
        _set_environment()
        self._package = load("wandb", "trackers='wandb'")
        self._run = run
        self._config: Mapping[str, Any] = run.config
        self._folder = run.directory / "wandb"
        # From the environment and from W&B's own files.
        self._settings = self._package.setup().settings
        self._mode = _MODES[self._settings.mode]
        if self._mode in ("online", "shared"):
            try:
                _check_server(self._settings.base_url)
                held = int(self._open().starting_step) - 1
                self._set_aside(held)
                return held
            except Exception as cause:
                self._go_offline(cause)
        return last_step(self._folder, run.id)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Keep the configuration, and update that of an open run."""
        self._config = config
        if self._live is not None:
            self._live.config.update(dict(config), allow_val_change=True)

    def log_epochs(self, rows: Iterable[EpochRow]) -> Iterator[int]:
        """Log epochs with their times."""
        for row in rows:
            values = {
                f"logs/{name}" if name in _TAKEN else name: value
                for name, value in row.values.items()
                if holds("wandb", value)
            }
            self._open().log({**values, "_timestamp": row.time_s}, step=row.step, commit=True)
            yield row.step

    def log_file(self, path: Path) -> None:
        """Save a file with the run, where it is open."""
        if self._live is not None:
            self._live.save(str(path), base_path=str(path.parent), policy="now")

    def close(self, status: str) -> None:
        """Finish the run; mark one that will be resumed as interrupted."""
        if self._live is not None:
            live, self._live = self._live, None
            if status == INTERRUPTED:
                live.mark_preempting()
            live.finish(exit_code=0 if status == FINISHED else 1)
            self._package.teardown()  # the next run may have another environment

    def _open(self) -> Any:
        """Open the run; offline with its first metrics, since each start makes a directory."""
        if self._live is None:
            run, known = self._run, self._package.Settings.model_fields
            settings = {name: value for name, value in _SETTINGS.items() if name in known}
            self._live = self._package.init(
                dir=str(run.directory),
                id=run.id,
                name=run.name,
                project=self._settings.project or _PROJECT,
                group=f"{run.home.name}-{run.group}" if run.group else None,
                job_type="trial" if run.group else None,
                mode=self._mode,
                resume="allow",
                config=dict(self._config),
                settings=self._package.Settings(**settings),
            )
        return self._live

    def _set_aside(self, held: int) -> None:
        """Rename offline files that were never synced: their rows go to the server now."""
        if held < last_step(self._folder, self._run.id):
            for path in self._folder.glob(f"offline-run-*-{self._run.id}*"):
                path.rename(path.with_name(f"sent-{path.name}"))

    def _go_offline(self, cause: Exception) -> None:
        self._mode = "offline"
        with contextlib.suppress(Exception):
            self._package.teardown(exit_code=1)
        run = self._run
        # In a search only the first trial reports this.
        kept = (
            f"{run.home}/*/wandb/offline-run-*"
            if run.group
            else f"{self._folder}/offline-run-*-{run.id}"
        )
        run.tell(f"wandb: the run is kept offline: {cause}. To send it: wandb sync {kept}")


def _set_environment() -> None:
    """Without error reports; empty variables are none, and a mode may have capitals."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        if not os.environ[name].strip():
            del os.environ[name]
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    if given := os.environ.get("WANDB_MODE"):
        mode = given.strip().lower()
        if mode not in _MODES:
            raise ValueError(f"WANDB_MODE is {given!r}, expected one of {', '.join(_MODES)}")
        os.environ["WANDB_MODE"] = mode


def _check_server(server: str) -> None:
    """Raise an error where there is no key or no server."""
    host = urlsplit(server).hostname or ""
    found = None
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        file = os.environ.get("NETRC") or Path("~/.netrc").expanduser()
        found = netrc.netrc(str(file)).authenticators(host)
    if found is None and not any(os.environ.get(name) for name in _KEYS):
        raise UnreachableError(f"no key for {host} (WANDB_API_KEY, or wandb login)")
    reach(server)


def last_step(folder: Path, run_id: str) -> int:
    """Return the last step in the files of all attempts of a run; -1 for none.

    Args:
        folder: `wandb` in a run directory.
        run_id: id of the run.
    """
    records = load("wandb.proto.wandb_internal_pb2", "trackers='wandb'")
    held = -1
    for path in folder.glob(f"*run-*-{run_id}*/run-{run_id}.wandb"):
        for data in _records(path.read_bytes()):
            record = records.Record.FromString(data)
            if record.HasField("history"):
                held = max(held, record.history.step.num)
    return held


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the records up to the first that is damaged or truncated."""
    at, parts = _FILE_HEADER_BYTES, b""
    while at + _HEADER_BYTES <= len(data):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEADER_BYTES:
            at += left
            continue
        crc = int.from_bytes(data[at : at + 4], "little")
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += _HEADER_BYTES
        if zlib.crc32(data[at - 1 : at + length]) != crc:
            return
        parts += data[at : at + length]
        at += length
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""
