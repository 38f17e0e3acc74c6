"""`python -m keras_candle.fault_injection ONE OTHER`: compares what two trainings ended with."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from keras_candle.fault_injection.causes import causes_of
from keras_candle.fault_injection.comparison import compare
from keras_candle.fault_injection.ends import ends_of
from keras_candle.fault_injection.told import FIT, read_start


def main(one: str, other: str) -> int:
    """Writes a JSON object to stdout.

    Args:
        one: folder with what the ranks of a training told that was not killed.
        other: likewise, of the last start of one that was.

    Returns:
        0.
    """
    whole, parts = read_start(Path(one)), read_start(Path(other))
    differences = compare(whole, parts)
    remarks = [remark for line in whole.lines(FIT) for remark in line["remarks"]]
    kinds = [each.kind for each in differences]
    told = {
        "differences": [asdict(each) for each in differences],
        "causes": causes_of(kinds, remarks) if differences else [],
        "fits": sum(len(ends_of(path)) for path in whole.directories.values()),
    }
    sys.stdout.write(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
