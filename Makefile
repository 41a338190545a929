# Everything runs in .venv, which is made on first use and made again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --no-input --progress-bar off --quiet -c constraints.txt
LINKS := qcompiler/passes qcompiler/backends qcompiler/models
DEV_EXTRAS := dev,export,data,minilm,tvm,cuda,report

.DEFAULT_GOAL := help
.PHONY: help test demo bench setup clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 10

test: $(VENV)/.stamp-dev  ## set up .venv and pass every check (ruff, mypy, pytest)
	scripts/check

demo: $(VENV)/.stamp-core  ## set up .venv with the core only and compile a real, trained model
	$(PY) -m qcompiler.demo

bench: $(VENV)/.stamp-dev  ## make bench ASSETS=<folder>: measure against peers and write the tables
	@test -n "$(ASSETS)" || { echo "make bench needs ASSETS=<folder with the models and data>"; exit 2; }
	$(PY) -m benchmarks --assets "$(ASSETS)"

setup: $(VENV)/.stamp-dev  ## only set up .venv for development

clean:  ## remove .venv, build results and caches
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# A source distribution holds the root folders but no symlinks.
$(LINKS):
	ln -s ../$(notdir $@) $@

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "qcompiler needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "make: creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "python3 -m venv failed: on Debian and Ubuntu, apt-get install python3-venv"; rm -rf $(VENV); exit 2; }

# The order-only dependency keeps an existing interpreter (a symlink, older than the sources) from being made again.
$(VENV)/.stamp-core: pyproject.toml constraints.txt | $(PY) $(LINKS)
	@echo "make: installing qcompiler (core)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml constraints.txt | $(PY) $(LINKS)
	@echo "make: installing torch, then qcompiler[$(DEV_EXTRAS)] (some minutes the first time)"
	@$(PIP) torch
	@$(PIP) -e '.[$(DEV_EXTRAS)]'
	@touch $(VENV)/.stamp-core $@
