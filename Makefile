# Everything from a checkout: `make demo` and `make test` need Python 3.11 or newer and make, nothing before them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= aislot-demo
# a file's tests stay together, because they share what is dear to make
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test quick slow test-cluster check servers cluster stack bench bench-compute install wheel clean
.DEFAULT_GOAL := demo

demo: $(BIN)/aislot
	$(BIN)/aislot demo --dir $(DEMO)

test: $(VENV)/.dev servers
	$(PYTEST) -m "not slow and not cluster"

# a developer's loop: no server, no browser, no process
quick: $(VENV)/.dev
	$(PYTEST) -m "not live and not browser and not command and not slow and not cluster"

slow: $(VENV)/.dev servers
	$(PYTEST) -m slow

# two minutes of a real control plane, with nothing beside it that would make it late
test-cluster: $(VENV)/.dev servers cluster
	$(BIN)/python -m pytest -m cluster tests/test_cluster.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

servers: $(VENV)/.dev
	$(BIN)/python -m tests.servers.build servers

cluster: $(VENV)/.dev
	$(BIN)/python -m tests.servers.build cluster

stack: servers
	$(BIN)/python -m tests.world.stack

bench: servers
	$(BIN)/python -m tests.bench

bench-compute: $(VENV)/.dev
	$(BIN)/python -m tests.bench.compute

install: $(BIN)/aislot

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf $(VENV) $(DEMO) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(BIN)/aislot: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(BIN)/aislot
