# Three commands:
#   make quickstart    from raw text to a trained, measured, explained BERT
#   make test          every check and the whole test suite
#   make evidence      what is missing of the tables in docs/evidence.md (hours; in any number of sittings)
#
# Variables, as in `make quickstart MINUTES=10 PYTHON=python3.12`:
#   PYTHON    the Python that makes the environment, 3.11 or newer
#   VENV      where the environment lies
#   INDEX     one more package index, such as the one that holds CPU-only torch
#   PIP_ARGS  anything else that pip should be told
#   MINUTES   how long the quickstart may take
#   OUT       where the quickstart puts everything
#   ARGS      more options of `bothways quickstart`, such as ARGS=--overwrite, or of benchmarks/evidence
#   TABLE     one table of the evidence, such as TABLE=objectives
#   WORKERS   how many processes run the tests

PYTHON ?= python3
VENV ?= .venv
INDEX ?=
PIP_ARGS ?=
MINUTES ?= 4
OUT ?= quickstart
ARGS ?=
TABLE ?=
WORKERS ?= 2

# Python finds itself through PATH, so there has to be one, also where the environment is empty.
export PATH := $(or $(PATH),/usr/local/bin:/usr/bin:/bin)

BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	$(if $(INDEX),--extra-index-url $(INDEX)) $(PIP_ARGS)

.PHONY: help quickstart test check fix evidence constraints clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

quickstart: $(VENV)/.installed
	$(BIN)/bothways quickstart --minutes $(MINUTES) --out $(OUT) $(ARGS)

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pre-commit validate-config .pre-commit-config.yaml

fix: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

evidence: $(VENV)/.installed-test
	$(BIN)/python benchmarks/evidence $(TABLE) $(ARGS)

# What is installed here becomes what is installed everywhere; local builds such as +cpu are the same version.
constraints: $(VENV)/.installed-test
	{ echo "# The versions that Bothways is tested with, all the way down; \`make constraints\` writes them anew."; \
	  $(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+[a-z0-9.]*$$//'; } > constraints.tmp
	mv constraints.tmp constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The package lies in the environment as it lies here (editable), so only a change of what it needs installs again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a few minutes the first time, once."
	$(INSTALL) --editable '.[torch]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a few minutes the first time, once."
	$(INSTALL) --editable '.[torch,hub,tensorboard,test]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Bothways needs Python 3.11 or newer, and '$(PYTHON)' is not: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -f $@; echo "No environment could be made; if venv is missing (Debian, Ubuntu): apt install python3-venv"; exit 1; }
