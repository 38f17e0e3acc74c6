"""Find the rank that stops making progress, and end the job instead of letting it hang.

A separate process watches each rank: unlike a thread in the rank, it also detects a process that
is frozen or holds Python's lock. The watchers of a node report to one of them, and the nodes' to
the root's, which also notices when a node is not heard any more.
"""
