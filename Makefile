# Two commands do all the set-up: `make demo` and `make test`. Everything lands in .venv; nothing else on the machine changes,
# but that `make test` installs the `nft` binary where it may (tests compare with it; Portway itself does not need it).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help setup demo test lint format bench clean

help:
	@echo "make demo    a cluster of two nodes, and a walk along the road from a client to a pod"
	@echo "make test    every test             make lint    ruff, mypy --strict, import-linter, codespell"
	@echo "make setup   the set-up alone       make bench   the start-up figures on this machine"

setup: $(READY)

$(READY): pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Portway needs Python 3.11 or later; $(PYTHON) is older. Run: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments. On Debian: apt install python3-venv"; exit 1; }
	@echo "making $(VENV) and installing what is needed (about a minute the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

demo: setup
	@$(BIN)/python examples/01-the-road-opens/demo.py

test: setup
	@.ci/nft
	@$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/codespell src tests docs examples bench README.md CHANGELOG.md

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/portway bench startup

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache src/portway/objects/schema.bin
