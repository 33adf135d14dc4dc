# make train | make test | make check   (each sets up .venv once; `make help` lists the rest)
VENV ?= .venv
PYTHON ?=
ARGS ?=
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup train ablation test slow check format docs bench release-check clean
.DELETE_ON_ERROR:

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 24
	@echo "  variables: PYTHON=python3.11 (3.10 to 3.12)  VENV=.venv  ARGS=\"seed=1\" (train, ablation, bench)  TORCH_INDEX=URL (pip index for torch)"

$(VENV)/.ready: pyproject.toml constraints.txt
	@scripts/setup "$(VENV)" $(PYTHON)

setup: $(VENV)/.ready ## create .venv (the others do it when needed)

train: setup ## pixel SAC + return contrast on cartpole, about ten minutes on two cores
	@$(RUN) -m rlrep.train env=dmc_cartpole aux=return_contrast preset=cpu $(ARGS)

ablation: setup ## six tasks, five arms, five seeds, a report: some three hours on two cores
	@$(RUN) -m rlrep.bench suite=dmc100k preset=cpu out=runs/ablation compile=default "seeds=[3,4,5,6,7]" $(ARGS)
	@$(RUN) -m rlrep.report runs/ablation out=report/ablation

test: setup ## the test suite (minutes)
	@$(RUN) -m pytest -m "not slow" -n auto --maxprocesses 8 --dist loadfile

slow: setup ## the long tests: kill -9 twenty times, learning
	@$(RUN) -m pytest -m slow --timeout=3600

check: setup ## format, lint, types, architecture, README tables
	@$(RUN) -m ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m mypy
	@$(RUN) -m pytest -q tests/test_architecture.py
	@$(RUN) -m benchmarks.tables --check

format: setup ## rewrite to the house format
	@$(RUN) -m ruff check --quiet --fix-only .
	@$(RUN) -m ruff format .

docs: setup ## the documentation site, in site/ (docs ARGS="serve" shows it while you write)
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs $(or $(ARGS),build --strict --quiet)

bench: setup ## rlrep.bench: a grid of runs, a small one by default (bench ARGS="suite=dmc100k preset=cpu")
	@$(RUN) -m rlrep.bench suite=toy $(ARGS)

release-check: setup ## sdist and wheel by plain pip under each Python that is there (ARGS="python3.11"): install, train, report
	@$(RUN) scripts/release_check.py $(ARGS)

clean: ## remove caches and build products (not .venv, not runs/)
	@rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path "./$(VENV)" -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
