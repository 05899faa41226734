# Every verb of the project; `make` alone lists them.
.DEFAULT_GOAL := help
BIN := .venv/bin
PYTEST ?= $(BIN)/pytest
SOURCES := api bench chaos cli core fuzz migrations tests training workers

.PHONY: help setup demo up test check lint types imports check-docker pytest coverage format bench chaos fuzz lock sbom audit clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv with Python 3.11 and the pinned dependencies
	@scripts/setup

demo: setup ## run everything, analyse a sample clip, show its report, end
	@$(BIN)/deepdefend demo

up: setup ## run everything on this machine until Ctrl-C
	@$(BIN)/deepdefend up

test: setup check pytest coverage ## all checks, then all tests with coverage

check: lint types imports check-docker ## every check that is not a test

lint: setup ## style: ruff and its formatter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## types: mypy, strict
	$(BIN)/mypy

imports: setup ## the arrows between the rooms: import-linter
	$(BIN)/lint-imports

check-docker: setup ## Dockerfiles and Compose files
	scripts/check-deploy

pytest: setup ## the tests alone, with coverage; PYTEST_ARGS="-k name" narrows
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=xml $(PYTEST_ARGS)

coverage: ## fail when api and core are covered below 95 % by branch in the last run of the tests
	$(BIN)/coverage report --include='api/*,core/*' --fail-under=95 --format=total

format: setup ## write the style into the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## the benchmarks against the naive baseline
	$(BIN)/python -m bench

fuzz: setup ## damaged media through the real extraction; FILES=2000 SEED=n KEEP=folder
	$(BIN)/python -m fuzz --files $(or $(FILES),2000) $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep $(KEEP))

chaos: setup ## break everything at random under load; JOBS=500 SECONDS=600 SEED=n CHAOS_ARGS="--json file"
	$(BIN)/python -m chaos --jobs $(or $(JOBS),500) --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED)) $(CHAOS_ARGS)

lock: setup ## write requirements.lock from what .venv holds
	scripts/lock

sbom: setup ## write sbom.cdx.json, a bill of materials of requirements.lock
	scripts/sbom

audit: setup ## ask the public databases for known holes in requirements.lock (needs the network)
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip

clean: ## remove .venv, caches and the demo's data
	rm -rf .venv .deepdefend .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf .coverage .coverage.* coverage.xml htmlcov build dist
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
