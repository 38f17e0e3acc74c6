"""Checkpoints on disk: folders that are whole or not there, and that say which byte changed."""
