"""Precision audit: compare a batch's step in float32, mixed_float16 and mixed_bfloat16.

`candle audit-precision` runs a script with this module's `prepare` called first. The script runs
guarded until its first training has its batches. Then the audit replaces the training, writes its
result, and the process ends.
"""

from __future__ import annotations

import json
import os
from types import ModuleType
from typing import NoReturn

from keras_candle.errors import CandleError
from keras_candle.launcher_messages import AUDIT_PRECISION
from keras_candle.lint.dry_run import guard_files
from keras_candle.when_imported import when_imported


def prepare() -> None:
    """Install the audit in this process, before the script begins."""
    journal = guard_files()
    result = os.open(os.environ[AUDIT_PRECISION], os.O_WRONLY | os.O_CREAT)

    def hook(keras: ModuleType) -> None:
        from keras_candle.precision_audit.audit import FirstTraining, at_first_training, audit
        from keras_candle.precision_audit.layers import watch_layers
        from keras_candle.precision_audit.switching import watch_casts

        def act(training: FirstTraining) -> NoReturn:
            try:
                facts = audit(training)
            except CandleError as error:
                facts = {"error": str(error)}
            os.write(result, json.dumps(facts).encode())
            # Not by an exception: the script might catch it.
            os._exit(0)

        watch_layers(keras, journal.is_own)
        watch_casts(keras, journal.is_own)
        at_first_training(keras, journal, act)

    when_imported("keras", hook)
