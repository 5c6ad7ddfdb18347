# Everything a person or CI does here, by name. `make help` lists it.
# The first interpreter found that Foretell supports; `make PYTHON=...` chooses another.
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do $$p -c "$(SUPPORTED)" 2>/dev/null && echo $$p && break; done)
# The platforms that TensorFlow and SecantusDB have wheels for.
WHEELS := 'Linux x86_64 glibc', 'Linux aarch64 glibc', 'Darwin arm64'
PLATFORM := import platform as p, sys; here = ' '.join([p.system(), p.machine(), p.libc_ver()[0]]).strip(); \
  sys.exit(here not in ($(WHEELS)) and 'Foretell runs on Linux with glibc (x86_64, aarch64) and on macOS on Apple ' \
  'silicon (an arm64 Python), because TensorFlow has no wheels elsewhere; this is ' + here + '.')
VENV := .venv
BIN := $(VENV)/bin
FORETELL := $(BIN)/foretell

.DEFAULT_GOAL := help
.PHONY: help run test lint format train bench-models bench-retrieval bench-serving bench-serving-profile chaos fuzz soak image-check image-clean up down lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/demo.stamp ## show Foretell predicting: embedded stores, a synthetic shop, the shipped model
	@exec $(FORETELL) demo

test: $(VENV)/dev.stamp ## lint, types, architecture, and every test against real stores and a real model
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/dev.stamp ## style, types and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/demo.stamp data/storefront/dataset.json ## retrain and publish the model that ships (half an hour on 2 cores)
	$(FORETELL) train data/storefront --config models/configs/storefront.toml --refit

bench-models: $(VENV)/demo.stamp ## run the published protocols on every data set at hand (hours on 2 cores; goes on where it stopped)
	$(BIN)/python -m benchmarks.models

chaos: $(VENV)/dev.stamp ## break stores, workers and clients under load; a table of what became of the answers (6 minutes)
	$(BIN)/python -m trials.chaos --write

fuzz: $(VENV)/dev.stamp ## 12,000 requests that nobody would send, 100,000 guessed keys, the parsers' properties on 1,000 examples
	$(BIN)/python -m trials.fuzz
	$(BIN)/python -m trials.guesses
	$(BIN)/pytest -m hypothesis --hypothesis-profile=fuzz tests/app tests/models tests/trials

soak: $(VENV)/dev.stamp ## a storm of 20,000 requests given up, then MINUTES (30) of load with plots of memory and latency
	$(BIN)/python -m trials.storm
	$(BIN)/python -m trials.soak --minutes $(or $(MINUTES),30)

bench-retrieval: $(VENV)/demo.stamp ## compare approximate indexes on a million items (half an hour)
	$(BIN)/python -m benchmarks.retrieval $(ARGS)

bench-serving: $(VENV)/demo.stamp ## measure serving against its limit and its peers (needs wrk; ARGS=--help says more)
	$(BIN)/python -m benchmarks.serving $(ARGS)

bench-serving-profile: $(VENV)/demo.stamp ## a flame graph of what a warm prediction costs
	$(BIN)/python -m benchmarks.serving --profile $(ARGS)

image-check: $(VENV)/demo.stamp ## build the image with buildah, start it, predict once (Linux, root; apt-get install buildah debootstrap)
	$(BIN)/python deploy/image/check.py

image-clean: $(VENV)/demo.stamp ## remove what image-check keeps for the next time
	$(BIN)/python deploy/image/check.py --clean

up: ## the service with a real MongoDB and Redis (docker compose)
	docker compose up --build

down: ## stop them; data stays
	docker compose down

data/storefront/dataset.json: | $(VENV)/demo.stamp
	$(FORETELL) import storefront --out data/storefront

lock: ## resolve pyproject.toml into requirements/*.txt (needs uv)
	requirements/compile.sh

clean: ## remove what can be made again; data sets and runs stay
	rm -rf $(VENV) .foretell .pytest_cache .mypy_cache .ruff_cache .hypothesis

# bin/activate is what `venv` writes last; an environment without it was interrupted, and is made anew.
$(VENV)/bin/activate:
	@test -n "$(PYTHON)" || { echo "Foretell needs Python 3.11, 3.12 or 3.13 with venv on the PATH (or make PYTHON=...)." >&2; exit 2; }
	@$(PYTHON) -c "$(PLATFORM)"
	$(PYTHON) -m venv --clear $(VENV)

# One stamp a lock file: the environment is made anew only when the pins change. RECORD is what pip writes last; a
# package without it was interrupted, yet pip would take it for installed.
$(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(VENV)/bin/activate
	@for info in $(VENV)/lib/python*/site-packages/*.dist-info; do test -e "$$info/RECORD" || rm -rf "$$info"; done
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
