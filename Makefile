.DEFAULT_GOAL := help
.PHONY: help demo incident test proofs simulate chaos chaos-long bench chart chart-files containers cluster check format lint types contracts schema lock clean

# Everything runs from one virtual environment in the checkout. Nothing but python3 and make has to be there first.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
MEMBERS := protocol services/runtime services/lead services/specialist services/toolgateway services/cli
UV      := $(shell command -v uv 2>/dev/null)

SEED ?= 7
OUT  ?= incident-$(SEED)
SCHEDULES ?= 100000
# Not from the environment: a model that is paid for is asked for by name.
MODEL := rehearsal

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@if [ -n "$(UV)" ]; then $(UV) venv --quiet --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi

# $(1): a requirements file; $(2): the stamp that says it is installed.
define install
	@echo "installing $(1) into $(VENV)"
	@if [ -n "$(UV)" ]; then \
	    VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --require-hashes -r $(1) && \
	    VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation $(MEMBERS:%=-e ./%); \
	else \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1) && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(MEMBERS:%=-e ./%); \
	fi
	@touch $(2)
endef

$(VENV)/run.stamp: requirements.txt $(MEMBERS:%=%/pyproject.toml) | $(VENV)/bin/python
	$(call install,requirements.txt,$@)

$(VENV)/dev.stamp: requirements-dev.txt $(MEMBERS:%=%/pyproject.toml) | $(VENV)/bin/python
	$(call install,requirements-dev.txt,$@)
	@touch $(VENV)/run.stamp

demo: $(VENV)/run.stamp ## watch a team analyse an incident and survive a kill -9 (no key, no Docker); MODEL=claude with a key
	@$(BIN)/shanty demo --model $(MODEL)

incident: $(VENV)/run.stamp ## write a synthetic incident: make incident SEED=7 OUT=dir
	@$(BIN)/python deploy/teams/incident/evals/generate.py --seed $(SEED) --out $(OUT)

test: $(VENV)/dev.stamp ## run every test
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "not slow"

proofs: $(VENV)/dev.stamp ## the slow proofs: more kills, more seeds
	@$(BIN)/python -m pytest -q -m "slow and not docker and not kubernetes"

bench: $(VENV)/dev.stamp ## a delegation next to bare NATS and to others, on this machine; OUT=bench.json writes the figures
	@PYTHONPATH=tests $(BIN)/python -m bench $(if $(filter file command environment,$(origin OUT)),$(if $(filter incident-%,$(OUT)),,--out $(OUT)))

simulate: $(VENV)/dev.stamp ## play 100,000 schedules of faults with the real engine on a model of the bus
	@PYTHONPATH=tests $(BIN)/python -m simulation --schedules $(SCHEDULES) --processes 2

chaos: $(VENV)/run.stamp ## kill a working team 200 times, on one nats-server and on three, and audit its runs
	@$(BIN)/shanty chaos --seed $(SEED) --kills 140
	@$(BIN)/shanty chaos --seed $(SEED) --kills 60 --nodes 3

chaos-long: $(VENV)/run.stamp ## the same with 2,000 kills
	@$(BIN)/shanty chaos --seed $(SEED) --kills 1400
	@$(BIN)/shanty chaos --seed $(SEED) --kills 600 --nodes 3

chart: $(VENV)/dev.stamp ## lint and render the chart, check it against Kubernetes 1.31 to 1.37, test the alerts
	@$(BIN)/python -m pytest -q tests/chart
	@deploy/prometheus/check.sh

chart-files: ## copy alerts and dashboards into the chart
	@cp deploy/prometheus/rules/*.yml helm/shanty/files/rules/
	@cp deploy/grafana/dashboards/*.json helm/shanty/files/dashboards/

containers: $(VENV)/dev.stamp ## the images and docker compose, on a real Docker engine
	@$(BIN)/python -m pytest -q tests/containers

cluster: $(VENV)/dev.stamp ## the chart on the cluster that SHANTY_TEST_KUBECONFIG names
	@$(BIN)/python -m pytest -q tests/kubernetes

check: format lint types contracts schema test ## all that CI checks: format, lint, types, contracts, schema drift, tests

format: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check .

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check .

types: $(VENV)/dev.stamp
	@$(BIN)/mypy

contracts: $(VENV)/dev.stamp
	@$(BIN)/lint-imports

schema: $(VENV)/dev.stamp
	@$(BIN)/python -m shanty_protocol.schema --check protocol/schema/v1

lock: ## resolve the requirements files anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links $(foreach member,$(MEMBERS),--no-emit-package shanty-$(notdir $(member))) \
	    services/cli/pyproject.toml --group pyproject.toml:build -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links $(foreach member,$(MEMBERS),--no-emit-package shanty-$(notdir $(member))) \
	    services/cli/pyproject.toml --group pyproject.toml:build --group pyproject.toml:dev -c requirements.txt \
	    -o requirements-dev.txt

clean: ## remove the environment and everything a run left behind
	rm -rf $(VENV) .shanty .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
