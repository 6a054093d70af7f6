# make train [ARGS="model=linear optim.lr=1"]     make test [ARGS="-k losses"]     make lint
# Each makes .venv if it is missing and installs the exact versions of constraints.txt.

PYTHON ?= $(shell command -v python3 || command -v python)
BIN := .venv/bin
INSTALL := $(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e

.PHONY: train test lint

train: .venv/installed
	$(BIN)/python train.py $(ARGS)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) ".[dev]"
	touch $@
