"""Tabular data."""
