"""Launchers and schedulers: rank facts and the time that a job has left."""
