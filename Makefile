# Everything a developer or CI runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The CPU build of torch, where the folder is there; elsewhere pip takes the ordinary package.
WHEELS := $(wildcard ../shared/wheels)
export PIP_FIND_LINKS := $(if $(WHEELS),$(abspath $(WHEELS)),$(PIP_FIND_LINKS))

.DEFAULT_GOAL := help
.PHONY: help install test test-unit test-long test-gpu lint format generate cluster-up cluster-down bench demo lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(STAMP) ## Make .venv with every extra, at the pinned versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

test: lint ## Lint, then every test tier but `long` and `gpu`: unit, integration, cluster
	$(BIN)/python hack/suite.py

test-unit: install ## The unit tier alone, under a minute
	$(BIN)/pytest -m unit

test-long: install ## Proof that takes many minutes
	$(BIN)/pytest -m long

test-gpu: install ## What needs one CUDA device
	$(BIN)/pytest -m gpu

lint: install ## ruff, mypy strict, import contracts, stale generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m opt_api.generate --check
	$(BIN)/python hack/figures.py --check

format: install ## Format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: install ## Write CRDs, JSON schemas, reference docs, the chart's files and the pages of figures
	$(BIN)/python -m opt_api.generate
	$(BIN)/python hack/chart/generate.py
	$(BIN)/python hack/figures.py

cluster-up: install ## Build what is missing and start a real three-node cluster; it stays up
	hack/cluster/up

cluster-down: install ## Stop the cluster and remove every trace of it
	hack/cluster/down

bench: install ## Every benchmark in full; writes benchmarks/results/
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,bench]'
	hack/bench
	$(BIN)/python hack/figures.py

demo: install ## From raw text to a trained, resumed and answering model, on this machine
	hack/demo

lock: install ## Pin the versions that are installed now
	hack/lock $(BIN)/python > constraints.txt.new && mv constraints.txt.new constraints.txt

clean: ## Remove the virtual environment and caches of this tree
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
