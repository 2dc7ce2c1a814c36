# The verbs of the house. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Also where the shell forbids it bytecode is kept: a run of the tests starts some 800 Pythons, and
# each would compile everything that it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

# One lock, hashed, no index address in it; the stamp says which lock is installed.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: install
install: $(VENV)/.installed ## make .venv from the hashed lock

.PHONY: up
up: install ## start everything; ARGS="..." goes to tollway up
	@exec $(BIN)/tollway up $(ARGS)

.PHONY: down
down: install ## stop what `make up ARGS=--detach` started
	@$(BIN)/tollway down $(ARGS)

.PHONY: fix
fix: install ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: check
check: install ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: install check ## everything CI runs; needs no network, no Docker, no key
	$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

# Real clients, in an environment of their own; Node's where there is npm, which CI must have.
CLIENTS := .venv-conformance
NODE_CLIENTS := tests/conformance/node

$(CLIENTS)/.installed: tests/conformance/requirements.lock $(wildcard $(NODE_CLIENTS)/package*.json)
	@test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	$(BIN)/uv pip install --quiet --python $(CLIENTS)/bin/python --require-hashes -r $<
	@! command -v npm >/dev/null || npm ci --prefix $(NODE_CLIENTS) --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: npm-in-ci
npm-in-ci:
	@test -z "$(CI)" || command -v npm >/dev/null || \
	  { echo "with CI set the clients for Node are tested too: there must be node and npm" >&2; exit 1; }

.PHONY: conformance
conformance: npm-in-ci install $(CLIENTS)/.installed ## real clients through the gateway; ARGS="-k anthropic"
	$(BIN)/python tests/conformance/run.py $(CLIENTS)/bin/python $(ARGS)

LONG_FORMS := $(BIN)/python -m pytest -n 3 --dist worksteal -m long_form --long --timeout 1800

.PHONY: drill
drill: install ## seeds of faults against the whole product, then the tests' long forms; ARGS="--seeds 2"
	$(BIN)/python -m drill $(ARGS)
	$(if $(filter --list --prove --only,$(ARGS)),,$(LONG_FORMS))

.PHONY: fuzz
fuzz: install ## hostile requests against 8001 and 8003 for minutes; ARGS="--hypothesis-seed=7"
	$(BIN)/python -m pytest tests/control/test_admin_fuzz.py --hypothesis-profile=fuzz --timeout=0 $(ARGS)

.PHONY: docs
docs: install ## write docs/settings.md anew
	$(BIN)/python docs/settings_table.py

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate

.PHONY: lock
lock: ## write both locks anew, from pyproject.toml and tests/conformance/requirements.in
	$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	$(COMPILE) tests/conformance/requirements.in -o tests/conformance/requirements.lock

.PHONY: clean
clean: ## remove the environment, caches and the local data directory
	rm -rf $(VENV) $(CLIENTS) $(NODE_CLIENTS)/node_modules .tollway .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: bench
bench: install ## Tollway beside nginx, LiteLLM and TensorZero; ARGS=--quick, ARGS=--help
	@exec $(BIN)/python -m bench $(ARGS)
