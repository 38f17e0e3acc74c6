# Everything a fresh machine needs is Python 3.11 or later and git; with a C++ compiler and make
# the Horovod engine is built too, without them the same demo runs over MPI.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HAS_COMPILER := $(shell command -v $${CXX:-g++} c++ 2>/dev/null)

.PHONY: env demo test lint clean

env: $(VENV)/.locked
	@if [ -n "$(HAS_COMPILER)" ]; then \
		$(BIN)/candle build-horovod; \
	else \
		echo "No C++ compiler: Horovod is left out, the mpi engine needs none."; \
	fi

# The locked versions, installed again when they or the project's own file change.
$(VENV)/.locked: pyproject.toml uv.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	$(BIN)/uv sync --frozen --inexact --quiet
	touch $@

demo: env
	$(BIN)/candle demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest keras_candle --doctest-modules

clean:
	rm -rf $(VENV)
