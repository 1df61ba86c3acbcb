# The commands of a checkout. Each makes the environment first, which needs python3 3.11 or later;
# `make PYTHON=python3.12 demo` takes another one. CI calls the same targets.

PYTHON ?= python3
ARGS ?=
# Tests wait more than they compute: with one more than there are cores, both were idle at times.
JOBS ?= $(shell expr 2 \* $$(nproc))
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

.PHONY: help demo test test-pgbouncer test-pgbouncer-session test-alerts test-systemd test-binary lint dist binary bench bench-start bench-throughput bench-submits bench-steady bench-audit bench-frozen bench-report bench-noisy bench-failpoints bench-waiters bench-claims bench-scaling kills restarts bench-pools chaos sim fuzz mutants lock schema env clean runbooks bench-restore predeploy predeploy-fast

help:
	@echo "make demo    a node with embedded PostgreSQL, and one paid run from start to audit"
	@echo "make test    every test, two at once a core (JOBS=1: one); ARGS='-k intake' picks some"
	@echo "make test-pgbouncer   the functional part of them through PgBouncer, on Debian's PostgreSQL 15"
	@echo "make test-pgbouncer-session   the smoke test and a storm through its session mode"
	@echo "make test-systemd   the units under a real systemd, in a container: as root on Debian, else skipped"
	@echo "make test-alerts   faults on real nodes, the alert of each, and the dashboards: on a real Prometheus"
	@echo "make test-binary   builds the binary, and tries it where there is no Python"
	@echo "make binary  dist/dpp, DPP that needs no Python, its archive, and all that make dist makes"
	@echo "make dist    sdist and wheel in dist/, and SHA256SUMS"
	@echo "make runbooks   each runbook followed, with its fault in place: what was typed, and whether it mends; JSON=FILE"
	@echo "make lint    ruff, mypy, flake8-async, import-linter"
	@echo "make predeploy   lint, tests, secrets, licences, known holes, migrations, doctor; stops at a failure"
	@echo "make predeploy-fast   the same without lint and tests; offline it says what it did not look at"
	@echo "make bench   runs a second, from batch submit to COMPLETED; single submits, beside a peer; a steady load"
	@echo "make bench-start   from the command to ready, of the checkout and of the binary"
	@echo "make bench-throughput, bench-submits   one of the two, with ARGS"
	@echo "make bench-steady   what clients wait at 100 requests a second, half of them submits"
	@echo "make bench-audit   seconds a million transfers, of the whole audit and of one look"
	@echo "make bench-frozen   what the others wait while one tenant's row is held"
	@echo "make bench-report   what a claim costs while a report of ten minutes holds a snapshot"
	@echo "make bench-noisy   what the others' runs wait while one tenant holds 90 % of the queue"
	@echo "make bench-failpoints   what inert failpoints cost a run"
	@echo "make bench-waiters   what held clients cost, and how soon they hear of an end"
	@echo "make bench-restore   a disk that is lost under load, and what comes back: RPO and RTO; RUNS=1000"
	@echo "make bench-pools   what it costs to keep no connections, and to come through a pooler"
	@echo "make bench-claims   a claim of a hundred beside a million queued runs, and on empty tables"
	@echo "make bench-scaling   one, two, three nodes on one PostgreSQL, and what a run costs each part"
	@echo "make kills   three nodes behind a balancer, one killed every 10 s; SECONDS=300 SEED=7 ARGS='--broken redis,sqs,s3'"
	@echo "make restarts   three nodes behind a balancer, restarted in turn, with one client retry"
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

# The functional suite through PgBouncer, in transaction mode with two server connections, on Debian's
# PostgreSQL 15.
pooled := tests/store/test_entrance.py tests/store/test_contract.py tests/store/test_races.py \
  tests/store/test_key_races.py tests/store/test_commit.py tests/store/test_unknown_commits.py \
  tests/store/test_faults.py \
  tests/http/api tests/node/test_smoke_guide.py tests/node/test_cancel.py tests/node/test_limits.py
# Of the API what never comes to the database, and what is fuzzed or guesses against the clock.
not-pooled := $(patsubst %,--ignore tests/http/api/test_%.py, \
  auth bad_inputs headers openapi options schemathesis strictness)
test-pgbouncer: env
	@scripts/test-programs
	@TEST_POOLER=transaction $(bin)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist worksteal \
	  $(not-pooled) -k 'not hypercorn and not TestFake' \
	  $(if $(REPORT),--junitxml='$(REPORT)') $(or $(ARGS),$(pooled))

# What a pooler in session mode lets through is what a server does; so the smoke test and a storm are enough.
test-pgbouncer-session: env
	@scripts/test-programs
	@TEST_POOLER=session $(bin)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist worksteal \
	  $(if $(REPORT),--junitxml='$(REPORT)') $(or $(ARGS),tests/store/test_entrance.py tests/node/test_smoke_guide.py tests/fault/test_chaos.py)

test-systemd: env
	@REPORT='$(REPORT)' scripts/test-systemd $(ARGS)

# Faults on real nodes, and a real Prometheus that tells of each: mostly waiting.
test-alerts: env
	@scripts/test-programs
	@$(bin)/python -m pytest $(if $(REPORT),--junitxml='$(REPORT)') tests/monitoring/faults.py $(ARGS)

# The binary is built only where it is not yet of this wheel.
test-binary: binary
	@TEST_BINARY=$(CURDIR)/dist/dpp $(bin)/python -m pytest tests/binary --timeout 300 $(if $(REPORT),--junitxml='$(REPORT)') $(ARGS)

dist: env
	@scripts/make-dist

binary: dist
	@scripts/make-binary

# Each runbook followed on a fault of its own: minutes, mostly of waiting. JSON=FILE writes the table there, too.
runbooks: env
	@scripts/test-programs
	@$(if $(JSON),JSON='$(JSON)') $(bin)/python -m pytest -n 0 -s -q tests/monitoring/follow.py $(ARGS)

lint: env
	@REPORT='$(REPORT)' scripts/lint

predeploy: env
	@$(bin)/python scripts/predeploy $(ARGS)

predeploy-fast: env
	@REPORT='$(REPORT)' $(bin)/python scripts/predeploy --fast --offline-ok $(ARGS)

bench: env
	@$(bin)/python -m bench.throughput
	@$(bin)/python -m bench.submits
	@$(bin)/python -m bench.steady

bench-start: env
	@$(bin)/python -m bench.start $(ARGS)

bench-throughput: env
	@$(bin)/python -m bench.throughput $(ARGS)

bench-submits: env
	@$(bin)/python -m bench.submits $(ARGS)

bench-steady: env
	@$(bin)/python -m bench.steady $(ARGS)

bench-audit: env
	@$(bin)/python -m bench.audit $(ARGS)

bench-frozen: env
	@$(bin)/python -m bench.frozen $(ARGS)

bench-report: env
	@$(bin)/python -m bench.report $(ARGS)

bench-noisy: env
	@$(bin)/python -m bench.noisy $(ARGS)

bench-failpoints: env
	@$(bin)/python -m bench.failpoints $(ARGS)

bench-waiters: env
	@$(bin)/python -m bench.waiters $(ARGS)

# The drill with more runs than `make test` has, and its figures.
bench-restore: env
	@RUNS=$(or $(RUNS),1000) $(bin)/python -m pytest -n 0 -s -q tests/node/test_restore_drill.py -k lost_disk $(ARGS)

bench-pools: env
	@$(bin)/python -m bench.pools $(ARGS)

sim: env
	@$(bin)/python -m tests.sim.run $(ARGS)

fuzz: env
	@$(bin)/python -m tests.fuzz.run --requests $(or $(REQUESTS),1000000) $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

mutants: env
	@$(bin)/python -m tests.fault.mutants.run $(ARGS)

bench-claims: env
	@$(bin)/python -m bench.claims $(ARGS)

bench-scaling: env
	@$(bin)/python -m bench.scaling $(ARGS)

kills: env
	@$(bin)/python -m tests.fault.rollout kills --seconds $(or $(SECONDS),300) $(if $(SEED),--seed $(SEED)) $(ARGS)

restarts: env
	@$(bin)/python -m tests.fault.rollout restarts $(if $(SEED),--seed $(SEED)) $(ARGS)

chaos: env
	@$(bin)/python -m tests.fault.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

lock: env
	@echo "lock: what DPP runs with"
	@$(lock) --output-file requirements.lock pyproject.toml
	@echo "lock: what a checkout tests, lints and builds with"
	@$(lock) --extra test --extra lint --extra supply --extra build --extra bench --constraint requirements.lock \
	  --output-file requirements-dev.lock pyproject.toml

schema: env
	@$(bin)/python scripts/generate-schema

env:
	@scripts/make-env

clean:
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
