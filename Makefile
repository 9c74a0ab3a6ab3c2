# make demo   set up and run the quickstart notebook in a real kernel
# make test   set up, lint, type-check and test
# make lab    open JupyterLab on the quickstart
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test check lab format clean torture slow

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)))' \
	  || { echo "omlx_jupyter needs Python 3.11 to 3.13; run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lab: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet -e '.[lab]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.lab

demo: $(VENV)/.lab
	$(BIN)/python -m tools.demo

lab: $(VENV)/.lab
	$(BIN)/jupyter lab example_notebooks/quickstart.ipynb

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest

# 1,000 kills at random moments; about a quarter of an hour
torture: $(VENV)/.dev
	OMLX_TORTURE_KILLS=1000 $(BIN)/python -m pytest tests/stress/test_kill.py -k killed_at_random -s --timeout=7200

# tests that take minutes: real encoder sizes
slow: $(VENV)/.dev
	$(BIN)/python -m pytest tests/slow -m slow --timeout=1800

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) artifacts build dist
