# make demo   set up and run the quickstart notebook in a real kernel
# make test   set up, lint, type-check and test
# make quick  lint, type-check and a test file or more of every room, in less than a minute
# make docs   build the docs as a site and check their links
# make lab    open JupyterLab on the quickstart
# make dist   build the wheel and the sdist, check them, and try the wheel in an empty environment
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test quick dist docs check check-labextension labextension browser fronts lab format clean torture slow scale families mutants minima

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

# The JupyterLab extension: Node comes from a wheel in the environment
NPM := cd labextension && PATH="$(CURDIR)/$(BIN):$$PATH" npm

labextension/node_modules/.done: labextension/package-lock.json $(VENV)/.dev
	$(NPM) ci --no-progress --loglevel=error
	@touch $@

labextension: labextension/node_modules/.done
	$(NPM) run --silent build

check-labextension: labextension
	$(NPM) run --silent types -- --check
	$(NPM) run --silent lint
	$(NPM) run --silent test
	@[ ! -e .git ] || git diff --quiet -- omlx_jupyter/labextension \
	  || { echo "omlx_jupyter/labextension is not what labextension/ builds; commit it anew"; exit 1; }

check: $(VENV)/.dev check-labextension
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# A file's tests stay in one process: they share kernels and checkpoints
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Chosen by files: at least one of every room, none that takes long
QUICK := tests/test_rooms.py tests/test_packaging.py tests/cache/test_planner.py tests/cache/test_ram.py \
  tests/chat tests/engine/test_events.py tests/engine/test_grammar.py tests/engine/test_scheduler.py \
  tests/engine/test_stops.py tests/images/test_boundary.py tests/images/test_source.py \
  tests/kernel/test_kernel.py tests/models/test_detect.py tests/models/test_headers.py \
  tests/models/test_identity.py tests/notebook/test_arguments.py tests/notebook/test_comm.py \
  tests/notebook/test_magics.py tests/notebook/test_settings.py tests/reading

quick: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(QUICK)

# The wheel is built from the sdist and tried from another folder with `-I`: what is installed is what is imported
dist: $(VENV)/.dev
	$(PIP) install --quiet build twine
	rm -rf dist artifacts/dist && mkdir -p artifacts
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m venv artifacts/dist
	artifacts/dist/bin/python -m pip --disable-pip-version-check install --quiet dist/*.whl
	cd artifacts && dist/bin/python -I "$(CURDIR)/tools/try_wheel.py"

# The docs as a site in build/site; a link that leads nowhere fails
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# In Chromium, with the wheel in an environment of its own
browser: $(VENV)/.dev labextension/node_modules/.done
	$(PIP) install --quiet playwright
	rm -rf artifacts/browser && $(PYTHON) -m venv artifacts/browser
	$(PIP) wheel --quiet --no-deps --wheel-dir artifacts/browser/wheel .
	artifacts/browser/bin/python -m pip --disable-pip-version-check install --quiet \
	  "$$(ls artifacts/browser/wheel/*.whl)[lab]"
	OMLX_LAB_PYTHON="$(CURDIR)/artifacts/browser/bin/python" $(BIN)/python -m pytest tests/browser -m "browser and not fronts"

# Voila, Notebook 7 under a base URL and jupyter-collaboration, in an environment that has them
fronts: $(VENV)/.dev labextension/node_modules/.done
	$(PIP) install --quiet playwright
	rm -rf artifacts/fronts && $(PYTHON) -m venv artifacts/fronts
	artifacts/fronts/bin/python -m pip --disable-pip-version-check install --quiet '.[lab]' voila notebook jupyter-collaboration
	OMLX_FRONTS_PYTHON="$(CURDIR)/artifacts/fronts/bin/python" $(BIN)/python -m pytest tests/browser/test_fronts.py -m fronts

# The oldest versions that pyproject.toml allows, in an environment of their own
MINIMA_TESTS := tests/kernel/test_kernel.py tests/kernel/test_quickstart.py tests/notebook/test_magics.py tests/notebook/test_cells.py \
  tests/notebook/test_comm.py tests/engine/test_engine.py tests/images tests/cache/test_ssd.py tests/reading/test_pages.py \
  tests/serve/test_contract.py tests/chat/test_responses.py
minima:
	rm -rf artifacts/minima && mkdir -p artifacts && $(PYTHON) -m venv artifacts/minima
	artifacts/minima/bin/python -m tools.minima lab > artifacts/minima.txt
	artifacts/minima/bin/python -m pip --disable-pip-version-check install --quiet -c artifacts/minima.txt '.[lab]' \
	  pytest pytest-timeout pytest-xdist hypothesis jupyter_client matplotlib nbclient nbconvert openai pandas pydantic trio
	PATH="$(CURDIR)/artifacts/minima/bin:$$PATH" artifacts/minima/bin/python -m pytest -q -n 2 --dist loadfile $(MINIMA_TESTS)

# 1,000 kills at random moments, 20,000 hostile answers a test, a fault in every place of every function,
# 100 damaged cache folders a family, and 10,000 requests of 64 clients; about an hour
torture: $(VENV)/.dev
	OMLX_TORTURE_FUZZ=20000 $(BIN)/python -m pytest tests/notebook/test_markdown_fuzz.py --timeout=3600
	OMLX_TORTURE_MUTATIONS=100 $(BIN)/python -m pytest tests/cache -k "mutations or number_column" -s --timeout=3600
	OMLX_TORTURE_FAULTS=1 $(BIN)/python -m pytest tests/stress/test_faults.py -s
	OMLX_TORTURE_CLIENTS=64 OMLX_TORTURE_REQUESTS=10000 $(BIN)/python -m pytest tests/serve/test_many_clients.py -s --timeout=3600
	OMLX_TORTURE_RUNS=100 $(BIN)/python -m pytest tests/runs -k kills -s --timeout=7200
	OMLX_TORTURE_KILLS=1000 $(BIN)/python -m pytest tests/stress/test_kill.py -k killed_at_random -s --timeout=7200

# tests that take minutes: real encoder sizes
slow: $(VENV)/.dev
	$(BIN)/python -m pytest tests/slow -m slow --timeout=1800

# the how-tos for a million pages with the real Ray and Dask, which aren't in dev: Ray alone has 240 MB and starts slowly
scale: $(VENV)/.dev
	$(PIP) install --quiet -e '.[scale]'
	$(BIN)/python -m pytest tests/scale -m scale --timeout=600

# every family that a tiny checkpoint can be made of, beside mlx-vlm's and mlx-lm's own tokens: docs/families.md
families: $(VENV)/.dev
	$(BIN)/python -m tools.families_doc

# the code broken in one place at a time: do the tests of that place notice? By hand, then by cosmic-ray, which takes
# long: tools/mutation/README.md
mutants: $(VENV)/.dev
	$(BIN)/python -m tools.mutants
	$(BIN)/python -m tools.mutation

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(NPM) run --silent format

clean:
	rm -rf $(VENV) artifacts build dist labextension/lib labextension/node_modules
