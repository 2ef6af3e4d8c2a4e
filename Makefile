SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
export PYTHON
BIN := .venv/bin
REPORT ?= report.html
MODEL := .cache/models/SmolLM2-135M-Instruct

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z][a-z0-9-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.cpu $(MODEL)/config.json ## make .venv with vLLM for the CPU, and the embedded model

.PHONY: generate
generate: setup ## answer a dataset: the environment wins over .env, and .env over the embedded default
	@$(BIN)/python scripts/generate

.PHONY: generate-all
generate-all: ## the same for each model of MODEL_IDS: in containers, or processes after `make setup`
	@$(PYTHON) scripts/generate-all

.PHONY: report
report: .venv/.cpu ## the answers of RESULTS="folder-or-repo ..." side by side, in one HTML file: REPORT=report.html
	@$(BIN)/python -m job.report $(RESULTS) --output $(REPORT)

##@ Develop

.PHONY: test
test: setup .venv/.dev ## all tests, with the real engine on the CPU
	@$(BIN)/pytest -m "not vllm and not image" --numprocesses 2 --dist worksteal
	@$(BIN)/pytest -m vllm tests/e2e/test_make_generate.py
	@$(BIN)/pytest -m vllm --ignore tests/e2e/test_make_generate.py --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: test-fast
test-fast: .venv/.cpu .venv/.dev ## the unit tests, in seconds
	@$(BIN)/pytest -q tests/unit tests/contract -m "not slow" --numprocesses 2 --dist worksteal

.PHONY: test-report
test-report: .venv/.cpu .venv/.dev ## use the report in a headless Chromium as a person does, and try to break out of it
	@scripts/test-report

.PHONY: check
check: .venv/.cpu .venv/.dev ## lint, format, types, import direction, scripts, generated documents
	@scripts/check

.PHONY: torture
torture: .venv/.cpu .venv/.dev ## a hundred SIGKILLs, then signals, full disks and twins too: the same bytes after all
	@$(BIN)/python -m tests.torture --kills 100 --seed 1
	@$(BIN)/python -m tests.torture --kills 300 --seed 2 --everything

.PHONY: torture-vllm
torture-vllm: setup .venv/.dev ## the same with the real engine, half a minute a start
	@$(BIN)/python -m tests.torture --kills 20 --seed 1 --rows 60 --engine vllm

.PHONY: soak
soak: .venv/.cpu .venv/.dev ## twenty million rows: memory and handles do not grow
	@$(BIN)/python -m tests.soak

.PHONY: power
power: .venv/.cpu .venv/.dev ## a hundred SIGKILLs and thousands of power cuts: what the log called safe is there
	@$(BIN)/python -m tests.power --kills 100 --cuts 4000 --seed 1

.PHONY: fuzz
fuzz: .venv/.cpu .venv/.dev ## twenty thousand settings, templates, datasets and run folders that nobody would think of
	@$(BIN)/python -m tests.fuzz --cases 20000 --seed 1

.PHONY: races
races: .venv/.cpu .venv/.dev ## twenty times two jobs that publish into one repository at the same moment
	@$(BIN)/python -m tests.races --races 20 --seed 1

.PHONY: meetings
meetings: .venv/.cpu .venv/.dev ## fifty runs of several shards that share no folder and meet on the Hub, killed at any moment
	@$(BIN)/python -m tests.meetings --rounds 50 --seed 1

.PHONY: document
document: .venv/.cpu ## write docs/configuration.md and .env.example from the settings
	@$(BIN)/python scripts/document-settings

.PHONY: audit
audit: ## look up the pinned packages among the known vulnerabilities, on the internet
	@scripts/audit

.PHONY: lock
lock: ## lock requirements/*.in anew
	@scripts/lock

##@ Ship

.PHONY: image
image: ## build the container image: VARIANT, IMAGE and BASE_IMAGE as in docs/image.md
	@scripts/image

.PHONY: test-image
test-image: setup .venv/.dev ## build the CPU image on a stand-in for the base and hold it against docs/image.md, as root on Debian
	@scripts/test-image

.PHONY: k8s-jobs
k8s-jobs: .venv/.cpu .venv/.dev ## write k8s/rendered/jobs.yaml: a Kubernetes Job for each model of MODEL_IDS
	@$(BIN)/python scripts/k8s-jobs

##@ Measure

.PHONY: bench-overhead
bench-overhead: setup ## the job's generation phase against a bare LLM.generate
	@$(BIN)/python -m benchmarks.overhead

.PHONY: bench-scale
bench-scale: .venv/.cpu ## 10k, 100k and 1M rows with the echo engine
	@$(BIN)/python -m benchmarks.scale

.PHONY: bench-report
bench-report: .venv/.cpu .venv/.dev ## size and waits of the report on three models, 334 and 50k rows, in a headless Chromium
	@$(BIN)/python -m benchmarks.report

.PHONY: bench-publish
bench-publish: .venv/.cpu .venv/.dev ## publish 100k, 1M and 10M rows to the Hub of the tests
	@$(BIN)/python -m benchmarks.publish

.PHONY: bench-reproducibility
bench-reproducibility: setup .venv/.dev ## which answers depend on what else is answered, at both levels of REPRODUCIBILITY
	@$(BIN)/python -m benchmarks.reproducibility

.PHONY: bench-gpu
bench-gpu: ## on a GPU, with a PYTHON that has vLLM for it: start-up, throughput, three models at once, bitwise, signals
	@$(PYTHON) -m benchmarks.gpu $(PARTS)

.PHONY: bench-shards
bench-shards: .venv/.cpu .venv/.dev ## publish 10M rows of 10 and of 100 shards that share no folder
	@$(BIN)/python -m benchmarks.shards

# What the targets above stand on.

.venv/.cpu: requirements/cpu.txt requirements/model.txt requirements/torch-cpu.txt scripts/setup
	@scripts/setup cpu
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.cpu
	@scripts/setup dev
	@touch $@

$(MODEL)/config.json: scripts/embedded_model.py | .venv/.cpu
	@$(BIN)/python scripts/embedded_model.py $(MODEL)
	@touch $@
