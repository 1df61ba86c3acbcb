# The commands of a checkout. Each makes the environment first, which needs python3 3.11 or later;
# `make PYTHON=python3.12 demo` takes another one. CI calls the same targets.

PYTHON ?= python3
ARGS ?=
# Tests wait more than they compute.
JOBS ?= $(shell expr $$(nproc) + 1)
export PYTHON
# Every process that a test starts would compile all of DPP anew, half a second of processor.
unexport PYTHONDONTWRITEBYTECODE
bin := .venv/bin

# One index for the lock: a local one, or a directory of wheels, would leave its own files alone in
# the list of hashes, and other machines could not install from it. A package that only an earlier
# Python needs is missing in a lock made on a later one; tests/test_lock.py tells.
lock-env := env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL -u PIP_CONSTRAINT PIP_CONFIG_FILE=/dev/null \
  CUSTOM_COMPILE_COMMAND="make lock"
lock := $(lock-env) $(bin)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(ARGS)

.PHONY: help demo test lint bench bench-throughput bench-submits bench-audit bench-frozen bench-failpoints bench-waiters chaos sim fuzz mutants lock schema env clean

help:
	@echo "make demo    a node with embedded PostgreSQL, and one paid run from start to audit"
	@echo "make test    every test, one more at once than there are cores (JOBS=1: one); ARGS='-k intake' picks some"
	@echo "make lint    ruff, mypy, flake8-async, import-linter"
	@echo "make bench   runs a second, from batch submit to COMPLETED; and single submits, beside a peer"
	@echo "make bench-throughput, bench-submits   one of the two, with ARGS"
	@echo "make bench-audit   seconds a million transfers, of the whole audit and of one look"
	@echo "make bench-frozen   what the others wait while one tenant's row is held"
	@echo "make bench-failpoints   what inert failpoints cost a run"
	@echo "make bench-waiters   what held clients cost, and how soon they hear of an end"
	@echo "make chaos   a storm over three nodes; SECONDS=600 SEED=7 sets its length and repeats it"
	@echo "make sim     several nodes on a virtual clock, one seed after the other; ARGS='--seeds 2000'"
	@echo "make fuzz    hostile requests against a node; REQUESTS=30000 SEED=7 sets how many, and repeats"
	@echo "make mutants every seeded bug, two at a time, and whether the tests catch it"
	@echo "make lock    resolve the dependencies anew; ARGS='--upgrade-package trio' moves one"
	@echo "make schema  write sql/schema.sql and sql/catalog.txt from the migrations"
	@echo "make env     .venv alone, which all of the above make first"
	@echo "make clean   remove .venv, caches and builds"

demo: env
	@$(bin)/dpp demo $(ARGS)

test: env
	@scripts/test-programs
	@$(bin)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist worksteal $(if $(REPORT),--junitxml='$(REPORT)') $(ARGS)

lint: env
	@REPORT='$(REPORT)' scripts/lint

bench: env
	@$(bin)/python -m bench.throughput
	@$(bin)/python -m bench.submits

bench-throughput: env
	@$(bin)/python -m bench.throughput $(ARGS)

bench-submits: env
	@$(bin)/python -m bench.submits $(ARGS)

bench-audit: env
	@$(bin)/python -m bench.audit $(ARGS)

bench-frozen: env
	@$(bin)/python -m bench.frozen $(ARGS)

bench-failpoints: env
	@$(bin)/python -m bench.failpoints $(ARGS)

bench-waiters: env
	@$(bin)/python -m bench.waiters $(ARGS)

sim: env
	@$(bin)/python -m tests.sim.run $(ARGS)

fuzz: env
	@$(bin)/python -m tests.fuzz.run --requests $(or $(REQUESTS),1000000) $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

mutants: env
	@$(bin)/python -m tests.fault.mutants.run $(ARGS)

chaos: env
	@$(bin)/python -m tests.fault.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

lock: env
	@echo "lock: what DPP runs with"
	@$(lock) --output-file requirements.lock pyproject.toml
	@echo "lock: what a checkout tests, lints and builds with"
	@$(lock) --extra test --extra lint --extra build --extra bench --constraint requirements.lock \
	  --output-file requirements-dev.lock pyproject.toml

schema: env
	@$(bin)/python scripts/generate-schema

env:
	@scripts/make-env

clean:
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
