# Every target makes the environment first (.venv, from requirements/*.lock); that takes no time when nothing changed.
#   DEVICE=cpu|cuda   which lock to install; found by itself (nvidia-smi) if not given
#   PYTHON=python3.12 which Python makes the environment
#   ARGS="..."        further arguments of quickstart and the tests, e.g. make quickstart ARGS="seed=1"

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# The first free one of runs/quickstart, runs/quickstart-2, ...: a finished run is never overwritten.
free = $(shell n=$(1); i=2; while [ -e "runs/$$n" ]; do n="$(1)-$$i"; i=$$((i + 1)); done; echo "$$n")
# Tests that start no engines and no browser: they run two at a time.
PURE := tests/rewards tests/curricula tests/envs tests/fuzz tests/learner tests/integrations
# A name of benchmarks/*.py to run that one alone.
BENCH ?= *

.DEFAULT_GOAL := help
.PHONY: help setup quickstart quickstart-vision test test-slow test-gpu fuzz check format bench docs lock doctor clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make or update the environment
	@$(PYTHON) scripts/setup.py $(if $(DEVICE),--device $(DEVICE))

quickstart: setup ## train a small policy with curriculum sampling and show that it got better
	$(call train,quickstart,configs/quickstart.yaml)

quickstart-vision: setup ## the same with a vision-language policy and pictures
	$(call train,quickstart-vision,configs/quickstart_vision.yaml)

define train
@run="$(or $(NAME),$(call free,$(1)))"; \
if [ "$$run" != "$(1)" ]; then echo "this run goes to runs/$$run"; fi; \
$(BIN)/rlcs train $(2) name="$$run" $(ARGS)
endef

test: check ## check, then run the tests, a true run of Ray and vLLM among them
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	RLCS_FUZZ_SECONDS=60 $(BIN)/python -m pytest -n 2 --dist loadfile $(PURE)
	RLCS_REQUIRE_E2E=1 $(BIN)/python -m pytest tests $(PURE:%=--ignore %)
endif

test-slow: setup ## run the tests that take long
	$(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

test-gpu: setup ## run the tests that need a GPU
	$(BIN)/python -m pytest -m gpu $(ARGS)

fuzz: setup ## try the readers of files on damaged ones for MINUTES=60 each, from SEED=1000000 on (ARGS="-k dataset": those alone)
	RLCS_FUZZ_SECONDS=$$((60 * $(or $(MINUTES),60))) RLCS_FUZZ_SEED=$(or $(SEED),1000000) \
		$(BIN)/python -m pytest tests/fuzz --timeout 0 -s $(ARGS)

check: setup ## ruff, mypy and bandit
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive rlcs scripts rewards curricula envs 2> >(grep -v "nosec encountered" >&2)

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## run the benchmarks (BENCH=NAME: that one alone)
	@set -e; for file in benchmarks/$(BENCH).py; do echo "== $$file"; $(BIN)/python "$$file" $(ARGS); done

docs: ## build the documentation into site/
	@$(PYTHON) scripts/setup.py $(if $(DEVICE),--device $(DEVICE)) --docs
	$(BIN)/mkdocs build --strict

lock: ## resolve requirements/*.lock anew (DEVICE=cuda: that one; UPGRADE=1: to the newest releases)
	@$(PYTHON) scripts/lock.py $(or $(DEVICE),cpu) $(if $(UPGRADE),--upgrade)

doctor: setup ## print what was found on this machine and what is wrong with it
	@$(BIN)/rlcs doctor

clean: ## remove the environment and all caches; runs stay
	rm -rf .venv build dist site rlcs.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
