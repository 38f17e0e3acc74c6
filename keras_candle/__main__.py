"""`python -m keras_candle` is the `candle` command."""

import sys

from keras_candle.launch.cli import main

sys.exit(main())
