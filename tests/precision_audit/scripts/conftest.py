"""The scripts of the corpus are run by tests/test_corpus.py; importing one would train it."""

collect_ignore_glob = ["*.py"]
