"""From the shell to the ranks. Nothing here imports Keras, TensorFlow or NumPy."""
