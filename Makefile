# Every target makes .venv when it is missing or when what it was made from has changed.
#
#   make report   judge 600 random cases, train on real data, write the page reports/latest/index.html
#   make test     the tests, and the examples in the docstrings
#   make check    ruff and mypy
#   make docs     the documentation, into build/docs/html, with every example in it run
#   make bench    speed, measured against the frameworks' own, what each check of the judge costs, and what is found of the zoo
#   make train    train on real data alone
#   make selftest plant faults and count what is found, beside five other tools, and false alarms: into reports/latest
#   make clean    remove what the targets made
#
# Settings: PYTHON (3.11 or newer), CASES, DTYPES, NETWORKS and MUTATED (of the selftest), SEED, RUN (the report's folder),
# ZOO_SEEDS (of the zoo's right layers in bench), PYTEST_ARGS, and TORCH_INDEX, an index of packages to look for torch in
# besides the usual one, for instance PyTorch's own of builds without CUDA.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := report
.PHONY: report test check docs bench train selftest clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
PYTEST_ARGS ?= -n 2 --dist worksteal
CASES ?= 600
DTYPES ?= all
NETWORKS ?= 200
MUTATED ?= 10
ZOO_SEEDS ?= 100
SEED ?= 1
RUN ?= reports/latest

BIN := .venv/bin
INSTALLED := .venv/.installed
SPHINX := $(BIN)/sphinx-build --nitpicky --fail-on-warning --keep-going --quiet -d build/docs/trees

report: $(INSTALLED)
	@# A mismatch (exit code 1) belongs on the page and ends the target red; any other failure ends it at once.
	@red=0; \
	mismatch() { code=$$?; [ $$code -eq 1 ] || exit $$code; red=1; }; \
	$(BIN)/harness run --cases $(CASES) --dtypes $(DTYPES) --seed $(SEED) --out $(RUN) || mismatch; \
	$(BIN)/harness train --out $(RUN) || mismatch; \
	$(BIN)/harness report $(RUN) || mismatch; \
	exit $$red

test: $(INSTALLED)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(INSTALLED)
	@echo "ruff: mistakes and style"
	@$(BIN)/ruff check .
	@echo "ruff: format"
	@$(BIN)/ruff format --check .
	@echo "mypy: types"
	@$(BIN)/mypy

docs: $(INSTALLED)
	@# A fresh environment: what a page shows is to come from the code as it is now.
	@$(SPHINX) --fresh-env -b html docs build/docs/html
	@$(SPHINX) -b doctest docs build/docs/doctest
	@echo "wrote build/docs/html/index.html"

bench: $(INSTALLED)
	@# All tables are printed before a requirement that one of them fails ends the target red.
	@red=0; \
	$(BIN)/python -m benchmarks.reference_speed || red=1; \
	$(BIN)/python -m benchmarks.run_speed || red=1; \
	$(BIN)/python -m benchmarks.judge_speed || red=1; \
	$(BIN)/python -m benchmarks.check_speed || red=1; \
	$(BIN)/python -m benchmarks.zoo --seeds $(ZOO_SEEDS) || red=1; \
	exit $$red

train: $(INSTALLED)
	@$(BIN)/harness train

selftest: $(INSTALLED)
	@$(BIN)/harness selftest --networks $(NETWORKS) --mutated $(MUTATED) --against all --seed $(SEED) --out $(RUN)

clean:
	rm -rf .venv build dist reports/latest .harness .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find harness reference_layers tests benchmarks docs examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "no python3 was found; Python 3.11 or newer is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit("Python 3.11 or newer is needed, %s is %d.%d: make PYTHON=/path/to/python" \
	  % (sys.executable, *sys.version_info[:2]) if sys.version_info < (3, 11) else 0)'
	@echo "making .venv with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv .venv
	@echo "installing the frameworks and tools of constraints.txt, which takes minutes the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --extra-index-url ,$(TORCH_INDEX)) \
	  -c constraints.txt -e '.[all,test,dev,docs]'
	@touch $@
