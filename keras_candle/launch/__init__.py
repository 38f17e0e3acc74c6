"""The `candle` command: start, supervise and check jobs. Imports no Keras, TensorFlow or NumPy."""
