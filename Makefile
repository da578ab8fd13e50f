# Two commands for a machine with Python 3.11 or newer, pip and make: `make run` and `make test`.
# The environment in .venv is set up by the first of them, and again when the pins or pyproject.toml change.

# The first of these that is 3.11 or newer; `make run PYTHON=/path/to/python` takes another one.
# 3.11 comes first because the pins were tested with it.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.PHONY: help run regimes test test-all lint clean
.DEFAULT_GOAL := help

help:
	@echo "make run       run the main job, configs/split_digits.yaml, and print where its picture is"
	@echo "make regimes   six training regimes on digits, one seed: a table and a heat map"
	@echo "make test      the fast tests, warnings as errors"
	@echo "make test-all  all tests, the slow ones too"
	@echo "make lint      ruff check, ruff format --check, mypy --strict"
	@echo "make clean     remove caches and builds; .venv and results stay"
	@echo "All set up the environment in $(VENV) first, once. PYTHON=... chooses the interpreter."

run: $(READY)
	$(PY) -m benchmarks run configs/split_digits.yaml

regimes: $(READY)
	$(PY) -m benchmarks regimes configs/regimes_digits.yaml --seeds 0 --workers 2

test: $(READY)
	$(PY) -m pytest -m "not slow"

test-all: $(READY)
	$(PY) -m pytest

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The file is written last, so an interrupted set-up is taken up again by the next command.
# --no-deps: exactly the pins, whatever pip would choose; the second line adds what torch needs on this platform (CUDA).
$(READY): requirements.txt pyproject.toml
	@rm -f $@
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then $(new-environment); fi
	$(PIP) install --no-deps -r requirements.txt
	$(PIP) install -c requirements.txt torch
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Some systems ship Python without ensurepip; then their own pip puts pip into the environment.
define new-environment
	py='$(PYTHON)'; \
	if ! "$${py:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
		echo "No Python 3.11 or newer found ($${py:-python3.11, python3}). Install one, or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$py" --version): a few minutes and, with CUDA, 7 GB of disk, once."; \
	"$$py" -m venv --clear $(VENV) 2>/dev/null || { \
		"$$py" -m venv --clear --without-pip $(VENV) && "$$py" -m pip --python $(PY) install --quiet pip; }
endef
