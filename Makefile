# Every target needs only Python 3.11+, a JDK 17+ and Maven; the rest is set up on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help up down demo test test-all simulate lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml producer_lib/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 16))' || \
	  { echo "kcsync needs Python 3.11 to 3.15; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..."; exit 2; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ./producer_lib -e .
	@touch $@

demo: $(READY) ## play the whole way on real servers and prove the result from Keycloak (KEEP=1 leaves it running)
	@$(BIN)/python -m compose.demo $(if $(KEEP),--keep)

up: $(READY) ## start Kafka, MariaDB, Keycloak and Zipkin
	@$(BIN)/python -m compose.native up

down: $(READY) ## stop exactly what was started here
	@$(BIN)/python -m compose.native down --all

test: $(READY) ## unit and integration tests on real servers (at most 10 minutes)
	@$(BIN)/python -m tests -m "not long"

test-all: $(READY) ## the same and the longer proofs
	@$(BIN)/python -m tests

simulate: $(READY) ## random schedules of faults on simulated servers: SEEDS=2000; see one again by SEED=n
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),1000) $(if $(SEED),--seed $(SEED)) $(if $(MODE),--mode $(MODE))

lint: $(READY) ## ruff, mypy strict, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(READY) ## let ruff format and fix what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## measure; one scenario alone by ONLY=name
	@$(BIN)/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY))

clean: ## remove what the targets above made (downloads stay in the cache)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m compose.native down --all --quiet; fi
	@rm -rf $(VENV) .stack build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
