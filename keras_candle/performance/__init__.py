"""Measure a training: throughput, the time of each phase, memory, and cost."""
