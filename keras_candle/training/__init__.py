"""What data parallelism adds to Keras."""
