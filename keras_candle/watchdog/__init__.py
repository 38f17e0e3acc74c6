"""Finds the rank that stops making progress, and ends the job instead of letting it hang.

A process of its own watches each rank: it sees what a thread in the rank could not tell, a process
that is frozen or holds Python's lock. Those of the other ranks report to the root's.
"""
