# Needs make and Python 3.11 or newer, nothing else: `make demo` and `make test` set themselves up.
# Another Python: make PYTHON=python3.13 test        Arguments for pytest: make test ARGS="-k ledger"

PYTHON ?= python3
ARGS ?=
MINUTES ?= 30
SEED ?=
# Processes that test at once: as many as there are processors. WORKERS=0: one, in order.
WORKERS ?= logical

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# Touched when an installation is complete; older than the lock, it is done again.
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Each process of a test would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help setup demo test test-matrix unit nightly check fix schema clients mutants shell psql bench soak lock secrets clean

help:
	@echo 'make setup    .venv with everything in it, .venv/bin/ailydian among it'
	@echo 'make demo     documents ingested, embedded and searched, on servers of its own'
	@echo 'make test     all tests, on all processors; ARGS="-k name" for some, WORKERS=0 for one process'
	@echo 'make test-matrix  tests of queries and commands on the oldest Postgres that is promised'
	@echo 'make unit     the tests that need no servers, in half a minute'
	@echo 'make check    format, lint, types, functions of the schema'
	@echo 'make schema   schema.sql and rights.txt, from the chapters in shared/schema'
	@echo 'make clients  clients of the HTTP API for Python and TypeScript, in build/clients'
	@echo 'make mutants  each policy, grant and tenant of the schema broken once: who notices'
	@echo 'make fix      format, and mend what the linter can mend'
	@echo 'make shell    Python with the pool open, on the embedded servers or on DATABASE_URL'
	@echo 'make psql     psql on the same database'
	@echo 'make bench    the benchmarks, each beside its floor'
	@echo 'make nightly  properties and state machines with a hundred times as many examples'
	@echo 'make soak     faults in random order while jobs flow; MINUTES=30 SEED=7'
	@echo 'make lock     requirements.lock anew, from pyproject.toml'
	@echo 'make secrets  passwords and keys of docker-compose.yml, in secrets/ and .env'
	@echo 'make clean    remove what make made; data in .ailydian stays'

setup: $(STAMP)
	@:

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Python 3.11 or newer is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	    echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install" >&2; \
	    echo "the package python3-venv, or name another Python: make PYTHON=..." >&2; exit 1; }
	@echo 'Installing into $(VENV) ...'
	@$(PIP) install --quiet --require-hashes --requirement requirements.lock
	@PYTHONWARNINGS=ignore $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	@$(BIN)/ailydian demo

test: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadgroup $(ARGS)

# On the newest one they run in `make test`, and a chosen part of them on the oldest too.
test-matrix: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadgroup --postgres 16 \
	    tests/integration tests/machines $(ARGS)

# Few examples, small inputs; what is left out or drawn less runs in `make test`.
unit: $(STAMP)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 8 --hypothesis-profile=quick \
	    -m 'not servers and not thorough and not benchmark' tests/unit tests/test_house.py $(ARGS)

nightly: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --hypothesis-profile=nightly \
	    -o timeout=0 tests/machines tests/unit $(ARGS)

check: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m tests.support.routines

schema: $(STAMP)
	@$(BIN)/python -m shared.schema schema.sql
	@$(BIN)/python -m tests.support.rights

clients: $(STAMP)
	@$(BIN)/python -m producers.web.clients build/clients

mutants: $(STAMP)
	@$(BIN)/python -m tests.support.mutants

fix: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

shell: $(STAMP)
	@$(BIN)/python -m tests.support.shell

psql: $(STAMP)
	@$(BIN)/python -m tests.support.shell --sql

bench: $(STAMP)
	@$(BIN)/ailydian bench all

soak: $(STAMP)
	@$(BIN)/python -m tests.acceptance.faults.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# No addresses, no comments: where packages come from is pip's configuration, not the lock's. The
# second one is what an image carries: no servers, no tests, and what builds the package.
COMPILE := pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
    --no-annotate --no-emit-index-url --no-emit-find-links --system-certs --quiet
lock:
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	$(PYTHON) -m venv "$$tools" && \
	"$$tools/bin/python" -m pip --disable-pip-version-check install --quiet uv && \
	"$$tools/bin/uv" $(COMPILE) --extra dev --extra embedded --output-file requirements.lock && \
	"$$tools/bin/uv" $(COMPILE) --extra image --constraint requirements.lock \
	    --output-file workers/requirements.lock

secrets:
	@$(PYTHON) producers/operations/compose_secrets.py

clean:
	@rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find shared producers workers tests -name __pycache__ -type d -prune -exec rm -rf {} +
