# make demo                everything, from nothing to a table and plots, on two CPU cores
# make install             the environment alone, in .venv
# make test                the tests; TESTS=tests/test_grid.py, or other words for pytest, some of them
# make test-slow           those that it leaves out: the documentation's commands, attacks, simulated significance
# make check               ruff and mypy
# make format              what ruff mends by itself
# make docs                the documentation as a site, .site/index.html
# make reference           the tables of docs/commands.md and docs/config.md
# make test-lowest         the tests with the lowest versions that pyproject.toml allows, without physics
# make audit               known vulnerabilities of what is pinned; asks a service on the network
# make sbom                sbom.cdx.json: what the environment holds, with versions and licences
# make update-constraints  constraints.txt and constraints-hashed.txt with the newest versions
# make clean               removes .venv, the site, builds and the caches of the tools
# Each makes the environment that it needs; none needs anything but Python 3.11 or newer.

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
EXTRAS ?= physics,dev
CONSTRAINTS ?= -c constraints.txt
# HASHES=constraints-hashed.txt: with the extras physics, dev and docs, and nothing whose hash that file does not hold
HASHES ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(EXTRAS)

.PHONY: help demo docs reference test test-slow test-lowest check lint types install format clean update-constraints audit sbom
.DEFAULT_GOAL := help

help:
	@sed -n '/^$$/q; s/^# //p' Makefile

$(STAMP): pyproject.toml constraints.txt constraints-hashed.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one or call make PYTHON=/path/to/python3"; exit 1; }
	@test "$$(df -Pk . | awk 'NR == 2 {print $$4}')" -ge 3000000 || \
	  { echo "error: less than 3 GB are free on this disk, of which the environment takes 2"; exit 1; }
	@echo "Installing into $(VENV) (one to three minutes) ..."
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "error: $(PYTHON) makes no environments; install venv (Debian, Ubuntu: python3-venv)"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@if [ -n "$(HASHES)" ]; then \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(HASHES) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . && $(BIN)/python -m pip check; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[$(EXTRAS)]'; \
	fi
	@touch $@

install: $(STAMP)

demo: install
	@test -e runs/demo/scores.nc || test "$$(df -Pk . | awk 'NR == 2 {print $$4}')" -ge 4500000 || \
	  { echo "error: less than 4.5 GB are free on this disk, which the demo takes beside the environment"; exit 1; }
	$(BIN)/emulator run demo
	@echo; echo "What two hours of two cores buy: the network that ships, forecasting from its sample"
	$(BIN)/emulator check-pretrained

test: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(TESTS)

test-slow: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow $(TESTS)

test-lowest:
	@.venv-lowest/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv-lowest
	@.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e '.[dev]'
	.venv-lowest/bin/python -m pytest

docs:
	@$(MAKE) --no-print-directory install EXTRAS=$(EXTRAS),docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Documentation: .site/index.html"

reference: install
	$(BIN)/python docs/reference.py

check: lint types

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-* .site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Later ones of these exclude who may install: soupsieve 4 and pymdown-extensions 13 want Python 3.11.5 (Debian 12 has 3.11.2), and s3fs
# wants python-dateutil 2
update-constraints:
	rm -rf .venv-fresh
	$(MAKE) install VENV=.venv-fresh CONSTRAINTS="'soupsieve<3' 'pymdown-extensions<13' 'python-dateutil<3'" EXTRAS=$(EXTRAS),docs
	@{ sed -n 1p constraints.txt; .venv-fresh/bin/pip freeze --exclude-editable | grep -v '@'; } > constraints.new
	@mv constraints.new constraints.txt
	@.venv-fresh/bin/pip install --quiet --disable-pip-version-check uv
	@{ echo '# constraints.txt with hashes, and what builds the package (make update-constraints). Used by CI.'; \
	  printf 'hatchling\neditables\n' | .venv-fresh/bin/uv pip compile --quiet --universal --python-version 3.11.2 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --constraint constraints.txt \
	  $(foreach extra,physics dev docs,--extra $(extra)) pyproject.toml -; } > constraints.new
	@mv constraints.new constraints-hashed.txt && rm -rf .venv-fresh

audit:
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && \
	  .venv-audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'; }
	.venv-audit/bin/pip-audit --requirement constraints-hashed.txt --require-hashes --disable-pip --strict --progress-spinner off

sbom: install
	@test -x .venv-sbom/bin/cyclonedx-py || { $(PYTHON) -m venv .venv-sbom && \
	  .venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7'; }
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file sbom.cdx.json $(BIN)/python
