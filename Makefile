# `make help` lists the commands. Each makes what it needs first, so any of them may be the first.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTHON := $(BIN)/python

PORT ?= 8501
# More arguments for pytest: make test ARGS="-k averaging -x"
ARGS ?=

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: runtime ## Open the dashboard on a sample (PORT=8501)
	@scripts/run_dashboard.sh $(PORT)

.PHONY: test
test: dev browser ## Run the checks of `make lint`, then all tests (ARGS= for pytest)
	@scripts/test.sh $(ARGS)

.PHONY: lint
lint: dev ## Check style, types and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: dev ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: samples
samples: runtime ## Make the datasets in sample_data/ anew
	$(PYTHON) -m scripts.make_samples

.PHONY: screenshots
screenshots: dev browser ## Take the pictures in docs/images/ anew
	$(PYTHON) -m scripts.screenshots

.PHONY: bench
bench: dev browser peers ## Measure into benchmarks/RESULTS.md (ARGS=finiteness measures one topic)
	$(PYTHON) -m benchmarks $(ARGS)

.PHONY: lock
lock: ## Resolve requirements.txt and requirements-dev.txt anew (UPGRADE=1: newest versions)
	@scripts/lock.sh $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## Remove the environment and everything else that was made here
	rm -rf .venv .venv-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: runtime dev browser peers
runtime:
	@scripts/environment.sh runtime
dev:
	@scripts/environment.sh dev
browser: dev
	@scripts/install_browser.sh
peers: dev
	@scripts/peers_environment.sh
