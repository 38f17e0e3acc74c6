"""The scripts are read by tests/test_lint_corpus.py and never run."""

collect_ignore_glob = ["*.py"]
