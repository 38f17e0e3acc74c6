"""The scripts are run by tests/precision_audit; importing one would train it."""

collect_ignore_glob = ["*.py"]
