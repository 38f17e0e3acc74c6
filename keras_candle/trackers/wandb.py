"""Weights & Biases: on its server where reachable, else in files for a later `wandb sync`."""

from __future__ import annotations

import contextlib
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keras_candle.optional import load
from keras_candle.trackers.base import FINISHED, INTERRUPTED, TrackedRun, Tracker
from keras_candle.trackers.probe import UnreachableError, reach
from keras_candle.trackers.wandb_file import last_step

_SERVER = "https://api.wandb.ai"
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


class Wandb(Tracker):
    """Logs to one run on the server, or to offline directories that `wandb sync` merges."""

    def __init__(self) -> None:
        self._live: Any = None

    def start(self, run: TrackedRun) -> int:
        """Find the last step on the server or in the files of earlier attempts."""
        self.close(INTERRUPTED)  # after a failure
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._package = load("wandb", "trackers='wandb'")
        self._run = run
        self._config: Mapping[str, Any] = run.config
        self._folder = run.directory / "wandb"
        self._mode = os.environ.get("WANDB_MODE", "online")
        if self._mode == "online":
            try:
                _check_server()
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

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of an epoch."""
        self._open().log(dict(values), step=step, commit=True)

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
                project=os.environ.get("WANDB_PROJECT", "keras_candle"),
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


def _check_server() -> None:
    """Raise an error where there is no key or no server."""
    server = os.environ.get("WANDB_BASE_URL", _SERVER)
    host = urlsplit(server).hostname or ""
    found = None
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        file = os.environ.get("NETRC") or Path("~/.netrc").expanduser()
        found = netrc.netrc(str(file)).authenticators(host)
    if found is None and not any(os.environ.get(name) for name in _KEYS):
        raise UnreachableError(f"no key for {host} (WANDB_API_KEY, or wandb login)")
    reach(server)
