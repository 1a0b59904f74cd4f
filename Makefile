# `make train` and `make test` work on a fresh machine with Python 3.11 or later: the first run sets
# up .venv, later ones only when the requirements have changed. PYTHON=python3.12 picks another Python.

PYTHON ?= python3
WORKDIR ?= runs/quickstart
TRAIN_ARGUMENTS ?=
# make test TEST_ARGUMENTS="-m ''" runs the slow tests too.
TEST_ARGUMENTS ?=
TEST_WORKERS ?= 2

VENV := .venv
RUN := $(VENV)/bin/python
# Each stamp is written last, so a set-up that was cut off is taken up again.
INSTALLED := $(VENV)/.installed
INSTALLED_FOR_TESTS := $(VENV)/.installed-for-tests
SOURCES := equiformer_jax experiments tests

.PHONY: help train test lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make train   train the quickstart configuration, evaluate it, draw the plots ($(WORKDIR))"
	@echo "make test    run the tests"
	@echo "make lint    check style and types"
	@echo "make format  bring the sources into shape"
	@echo "make clean   remove .venv, caches and build leftovers; keeps what was trained"

train: $(INSTALLED)
	$(RUN) -m experiments.train --config=experiments/configs/quickstart.py --workdir=$(WORKDIR) $(TRAIN_ARGUMENTS)

test: $(INSTALLED_FOR_TESTS)
	$(RUN) -m pytest -n $(TEST_WORKERS) $(TEST_ARGUMENTS)

lint: $(INSTALLED_FOR_TESTS)
	$(RUN) -m ruff check $(SOURCES)
	$(RUN) -m ruff format --check $(SOURCES)
	$(RUN) -m mypy

format: $(INSTALLED_FOR_TESTS)
	$(RUN) -m ruff check --fix $(SOURCES)
	$(RUN) -m ruff format $(SOURCES)

clean:
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' || { \
		echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..."; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) could not make a virtual environment (on Debian: apt install python3-venv)"; \
		exit 1; }
	$(RUN) -m pip install --disable-pip-version-check -r requirements.txt -e .
	@touch $@

$(INSTALLED_FOR_TESTS): $(INSTALLED) requirements-dev.txt
	$(RUN) -m pip install --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@touch $@
