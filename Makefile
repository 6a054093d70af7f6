# make train [ARGS="model=linear optim.lr=1"]     make test [ARGS="-k losses"]
# Both make .venv if it is missing and install into it the exact versions of constraints.txt.

PYTHON ?= $(shell command -v python3 || command -v python)
BIN := .venv/bin

.PHONY: train test

train: .venv/installed
	$(BIN)/python train.py $(ARGS)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e ".[dev]"
	touch $@
