"""`python -m keras_candle.verification.compare_resumes WHOLE KILLED`: compare two final states."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from keras_candle.verification.event_log import FIT, read_attempt
from keras_candle.verification.final_state import final_states
from keras_candle.verification.resume_causes import causes_of
from keras_candle.verification.resume_comparison import compare


def main(whole_folder: str, killed_folder: str) -> int:
    """Compare a training without kills and one with kills; write a JSON object to stdout.

    Args:
        whole_folder: event log of the training without kills.
        killed_folder: event log of the last attempt of the training with kills.

    Returns:
        0.
    """
    whole, killed = read_attempt(Path(whole_folder)), read_attempt(Path(killed_folder))
    differences = compare(whole, killed)
    caveats = [caveat for line in whole.lines(FIT) for caveat in line["remarks"]]
    kinds = [each.kind for each in differences]
    result = {
        "differences": [each.to_json() for each in differences],
        "causes": causes_of(kinds, caveats) if differences else [],
        "fits": sum(len(final_states(path)) for path in whole.directories.values()),
    }
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
