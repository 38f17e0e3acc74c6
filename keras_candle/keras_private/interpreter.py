"""What Python itself does at its end, without the end: no public name does it."""

from __future__ import annotations

import atexit
import threading


def finish_program() -> None:
    """Wait for the program's threads, then call its atexit functions, as Python does at its end."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
