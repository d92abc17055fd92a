# The verbs of this project; `make help` lists them.
# Every setting is an environment variable XGW_…; `make status` shows them all.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down status logs reset test test-full test-debezium simulate bench demo token lint fmt lock install

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STACK := $(BIN)/python -m infra.stack
CODE := api price_service order_service exchange_gateway outbox_relay infra tests

ifneq ($(strip $(TAPE)),)
export XGW_TAPE := $(TAPE)
endif

help: ## list the verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(INSTALLED) ## install what is missing, start everything, print addresses and tokens (TAPE=file.parquet)
	@$(STACK) up

down: $(INSTALLED) ## end everything that `make up` started
	@$(STACK) down

status: $(INSTALLED) ## what runs, on which ports, with which settings (JSON=1 for programs)
	@$(STACK) status $(if $(JSON),--json)

logs: $(INSTALLED) ## follow the logs (NAME=api for one process)
	@$(STACK) logs $(NAME)

reset: $(INSTALLED) ## end everything and drop all data; asks first (YES=1 does not)
	@$(STACK) reset $(if $(YES),--yes)

token: $(INSTALLED) ## print a bearer token: ROLE=investor|back_office|operator [ACCOUNT=n]
	@$(if $(ROLE),,echo 'error: ROLE is missing: make -s token ROLE=investor|back_office|operator [ACCOUNT=n]' >&2; exit 2)
	@$(STACK) token --role $(ROLE) $(if $(ACCOUNT),--account $(ACCOUNT))

demo: $(INSTALLED) ## the whole system in one process, without any server
	@$(BIN)/python -m api.demo

install: $(INSTALLED) ## install the servers, start nothing
	@$(STACK) install

test: lint install ## lint, types and all tests; real servers on ports of their own
	@$(BIN)/pytest -m "not full and not debezium"

test-debezium: $(INSTALLED) install ## a stock Debezium connector in the relay's place publishes the same records
	@$(BIN)/pytest -m debezium tests/real/test_debezium.py

test-full: lint install ## the long proofs: kills, soaks, foreign clients
	@$(BIN)/pytest -m full

simulate: $(INSTALLED) ## bad days on the twins in virtual time: SEEDS=n ORDERS=m FROM=seed
	@$(BIN)/python -m tests.simulation $(if $(SEEDS),--seeds $(SEEDS)) $(if $(ORDERS),--orders $(ORDERS)) $(if $(FROM),--from $(FROM))

bench: $(INSTALLED) ## measure on real servers; prints a table, writes bench-results.json
	@$(BIN)/python -m tests.bench

lint: $(INSTALLED) ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

fmt: $(INSTALLED) ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: ## write requirements.lock anew from pyproject.toml
	@command -v uv >/dev/null || { echo 'error: `uv` is missing: pip install uv' >&2; exit 1; }
	@uv pip compile pyproject.toml --extra dev --generate-hashes --no-header --no-emit-index-url --output-file requirements.lock

# The packages, once per change of the lock file. The stamp is written last, so an interrupted install is done again.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'error: Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11 $(or $(MAKECMDGOALS),up)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo 'installing python3-venv with apt-get …' >&2; apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; } || \
		{ echo 'error: Python has no `venv`: install the package python3-venv as root' >&2; exit 1; }
	@echo 'installing the Python packages into $(VENV) (about a minute) …' >&2
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e . >&2
	@touch $@
