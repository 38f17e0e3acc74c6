"""Launchers and schedulers: a process's rank and the walltime that a job has left."""
