"""Checkpoints on disk: atomic folders with a checksum of every tensor and file."""
