"""Numbers, durations and sizes as people read them."""

from __future__ import annotations

import pytest

from keras_candle.report.formats import duration, exact, memory, percent, short, shortened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (short(0.123456), "0.1235"),
        (short(1234567), "1.235M"),
        (short(1e-7), "1e-7"),
        (short(3.0), "3"),
        (short(12345.6, 6), "12.3456k"),
        (short(float("inf")), "inf"),
        (exact(0.1 + 0.2), "0.3"),
        (exact(25088.0), "25088"),
        (duration(0.0123), "12.3 ms"),
        (duration(75), "1 min 15 s"),
        (duration(7300), "2 h 1 min"),
        (duration(0), "0 s"),
        (memory(3.4e8), "324 MiB"),
        (memory(12), "12 B"),
        (percent(0.62), "62%"),
        (percent(0.001), "0.1%"),
        (shortened("batch_normalisation", 10), "batch_nor…"),
        (shortened("two\n lines", 10), "two lines"),
    ],
)
def test_values_are_short_and_keep_their_size(text, expected):
    assert text == expected
