# Everything a person or a machine does with this repository; `make help` explains it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
PYTEST ?= $(BIN)/python -m pytest -n $(JOBS)

.PHONY: help setup lock lint types test test-all run demo schemas down clean

help: ## Show what can be made
	@echo "Variables: PYTHON=python3.12 (for setup), JOBS=4 (tests at a time; each takes a PostgreSQL, a Kafka and 2 GiB), DETACH=1 (for run), UPGRADE=1 (for lock), ALL=1 (for clean), ARGS=… (for tests and demo)"
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Create .venv with the locked packages, fetch the Kafka jars, build the screens (quick when nothing changed)
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON); install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)." >&2; exit 3; }
	@$(PYTHON) infra/local/bootstrap.py

lock: setup ## Resolve requirements/*.in and infra/kafka/jgo.toml anew (UPGRADE=1: newest versions at least a week old)
	@$(PYTHON) infra/local/bootstrap.py lock $(if $(UPGRADE),--upgrade)

lint: setup ## Check format, lint rules and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: setup ## Check types (mypy strict)
	$(BIN)/mypy

test: lint types ## Lint, types, import contracts and all tests but the long ones
	$(PYTEST) -m "not slow" $(ARGS)

test-all: lint types ## The same with the long tests
	$(PYTEST) $(ARGS)

run: setup ## Start the stack and play the bundled patients' journeys; Ctrl-C stops everything (DETACH=1 leaves it up)
	@DETACH="$(DETACH)" infra/local/run.sh $(ARGS)

demo: setup ## Play the bundled patients' journeys on the running stack
	@$(BIN)/wardstream demo $(ARGS)

schemas: setup ## Export JSON Schema and example of every event, and the event table of README.md
	@$(BIN)/wardstream schemas

down: setup ## Stop the stack
	@$(BIN)/wardstream down

clean: ## Remove caches (ALL=1: also the stack with all its data, and .venv)
	@if [ -n "$(ALL)" ] && [ -x $(BIN)/python ]; then $(BIN)/python -m infra.local.destroy && rm -rf .venv; fi
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name .venv -prune -o -name node_modules -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
