# Quire's commands. `make help` lists them.
#
# MODEL  what `make serve` serves: a folder, a hub id, or the bundled `folio`
# HOST, PORT, ARGS  where, and any further flags of `quire serve`
# PIP_ARGS  further arguments of pip, for example an index that has the build of torch you want

MODEL ?= folio
HOST ?= 127.0.0.1
PORT ?= 8000
ARGS ?=
PIP_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadgroup
SAME_ARGS ?= --prompts 200 --jobs 2
BENCH_ARGS ?= --jobs peers --repeat 3
BENCH_PEERS_ARGS ?= --rounds 3
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
NATIVE := $(shell find native -type f)

# Compiled files make a second start fast; an environment that forbids them is for other projects.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install install-dev serve test check format same bench bench-peers-setup bench-peers clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(INSTALLED)  ## Install what is missing and serve MODEL on HOST:PORT
	@exec $(BIN)/quire serve $(MODEL) --host $(HOST) --port $(PORT) $(ARGS)

test: $(INSTALLED_DEV)  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

same: $(INSTALLED_DEV)  ## Prove that answers never depend on circumstances (SAME_ARGS), about an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.same.run $(SAME_ARGS)
	$(BIN)/python -m tests.same.served --chats 64

check: $(INSTALLED_DEV)  ## Lint, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/mypy quire
	$(BIN)/lint-imports --config importlinter.ini

format: $(INSTALLED_DEV)  ## Sort imports and fix what ruff can fix
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)  ## Race the other engines where they are set up, or else run their jobs (BENCH_ARGS)
	@if ls benchmarks/.scratch/peers/*/.installed > /dev/null 2>&1; then $(MAKE) --no-print-directory bench-peers; \
	  else $(BIN)/quire bench throughput $(BENCH_ARGS); fi

bench-peers-setup: $(INSTALLED_DEV)  ## Make the other engines' environments and files (once; long)
	PIP_ARGS="$(PIP_ARGS)" bash benchmarks/peers/setup.sh

bench-peers: $(INSTALLED)  ## Race other engines (BENCH_PEERS_ARGS) on a quiet machine; it says how long
	$(BIN)/python -m benchmarks.peers.race $(BENCH_PEERS_ARGS)

install: $(INSTALLED)  ## Install the package and what it needs into .venv
install-dev: $(INSTALLED_DEV)  ## The same, and what tests and checks need

clean:  ## Remove caches and builds; .venv and the peers' environments stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find quire tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No python3.11 or python3 found: install one, or say PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else 1)' \
	  || { echo "Quire needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) -V). Say PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	$(PIP) -e .
	@$(BIN)/python -m compileall -q quire
	@touch $@

$(INSTALLED_DEV): pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	$(PIP) -e '.[dev]'
	@$(BIN)/python -m compileall -q quire
	@touch $(INSTALLED) $@
