"""`python -m keras_candle.verification.compare_resumes ONE OTHER`: compare two final states."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from keras_candle.verification.event_log import FIT, read_attempt
from keras_candle.verification.final_state import final_states
from keras_candle.verification.resume_causes import causes_of
from keras_candle.verification.resume_comparison import compare


def main(one: str, other: str) -> int:
    """Writes a JSON object to stdout.

    Args:
        one: folder with what the ranks of a training told that was not killed.
        other: likewise, of the last start of one that was.

    Returns:
        0.
    """
    whole, parts = read_attempt(Path(one)), read_attempt(Path(other))
    differences = compare(whole, parts)
    remarks = [remark for line in whole.lines(FIT) for remark in line["remarks"]]
    kinds = [each.kind for each in differences]
    told = {
        "differences": [asdict(each) for each in differences],
        "causes": causes_of(kinds, remarks) if differences else [],
        "fits": sum(len(final_states(path)) for path in whole.directories.values()),
    }
    sys.stdout.write(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
